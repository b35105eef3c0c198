"""Durations as users write them ("5m", 30, timedelta) and as people read them ("3 min 20 s").

Everything inside holdfast is seconds as a float; the border reads the other forms once. Units are
exact lengths: there is no month and no year, and a day is 24 hours whatever the clocks do.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final, TypeAlias

from holdfast.errors import InvalidOption
from holdfast.model.text import shown

Duration: TypeAlias = float | int | str | timedelta
"""What every option that is a length of time accepts; a bare number is seconds."""

MAX_SECONDS: Final = 10 * 365.25 * 86_400
_UNIT_SECONDS: Final = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_PART: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-z]+)\s*")
_BARE_NUMBER: Final = re.compile(r"\s*(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*")
_MAX_TEXT: Final = 100
_HINT: Final = (
    'Write seconds (30, 0.5), a string ("500ms", "30s", "5m", "2h", "1d", "1w", "1h30m") '
    "or a datetime.timedelta; at most 10 years."
)


def seconds(value: Duration, *, field: str) -> float:
    """Return the length in seconds: finite, from 0 to 10 years; anything else is refused.

    Raises `InvalidOption` naming `field` and the value. Parts of a string go from large to small
    units, each at most once.

    >>> seconds("1h30m", field="timeout"), seconds(timedelta(days=1), field="timeout")
    (5400.0, 86400.0)
    >>> seconds("5 parsecs", field="timeout")
    Traceback (most recent call last):
        ...
    holdfast.errors.InvalidOption: [HF-101] timeout='5 parsecs': unknown unit 'parsecs'
      hint: Write seconds (30, 0.5), a string ("500ms", "30s", ...
    """
    try:
        amount = _read(value)
        _check_range(amount)
    except ValueError as error:
        raise InvalidOption(f"{field}={shown(value)}: {error}", _HINT) from None
    return amount


def describe(seconds: float) -> str:
    """Return text of at most two units, rounded to the smaller one; never raises.

    >>> [describe(s) for s in (0.45, 12, 200, 7500, 273_600)]
    ['450 ms', '12 s', '3 min 20 s', '2 h 5 min', '3 d 4 h']
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0:
        return f"-{describe(-seconds)}"
    if 0 < seconds < 0.9995:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 9.95:
        return f"{round(seconds, 1):g} s"
    return _two_units(seconds)


def _read(value: object) -> float:
    """Return the seconds of any accepted form; `ValueError` says what is wrong with it."""
    if isinstance(value, bool):
        raise ValueError("a truth value is not a duration")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("longer than 10 years") from None
    raise ValueError(f"{type(value).__name__} is not a duration")


def _parse(text: str) -> float:
    if not text.strip():
        raise ValueError("empty")
    if len(text) > _MAX_TEXT:
        raise ValueError("too long for a duration")
    if text.lstrip().startswith("-"):
        raise ValueError("negative")
    if _BARE_NUMBER.fullmatch(text):
        return float(text)
    total, position, previous = 0.0, 0, math.inf
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise ValueError("not a duration")
        unit_s = _UNIT_SECONDS.get(part[2])
        if unit_s is None:
            raise ValueError(f"unknown unit {part[2]!r}")
        if unit_s >= previous:
            raise ValueError("units must go from large to small, each once")
        total += float(part[1]) * unit_s
        position, previous = part.end(), unit_s
    return total


def _check_range(amount: float) -> None:
    if math.isnan(amount):
        raise ValueError("not a number")
    if amount < 0:
        raise ValueError("negative")
    if amount > MAX_SECONDS:
        raise ValueError("longer than 10 years")


def _two_units(amount: float) -> str:
    # Each time rounded to the smaller unit first, so that 3599.7 s reads "1 h", not "59 min 60 s".
    whole_s, minutes, hours = round(amount), round(amount / 60), round(amount / 3_600)
    if whole_s < 60:
        return f"{whole_s} s"
    if whole_s < 3_600:
        return _pair(whole_s, 60, "min", "s")
    if minutes < 24 * 60:
        return _pair(minutes, 60, "h", "min")
    return _pair(hours, 24, "d", "h")


def _pair(amount: int, base: int, large: str, small: str) -> str:
    count, rest = divmod(amount, base)
    return f"{count} {large} {rest} {small}" if rest else f"{count} {large}"
