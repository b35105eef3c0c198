"""When a failed attempt or step runs again: Oban's curve, a step's own rule, the server's wish.

Randomness and the clock come in as arguments: `jitter` is a number in [-1, 1] that moves a delay
by up to 10 %, so that jobs which failed together do not come back together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Final, TypeAlias

from holdfast.errors import Cancel, Discard, DurabilityError, InvalidOption, Snooze
from holdfast.model.durations import Duration, seconds
from holdfast.model.text import shown

Backoff: TypeAlias = Callable[[int, BaseException], Duration]
"""A user's own rule: (number of failures so far, the error) to the delay before the next try."""

ONE_DAY_S: Final = 86_400.0
_JITTER_SHARE: Final = 0.1
_SEARCHED_ERRORS: Final = 50
_SEARCHED_HEADERS: Final = 500
# Raised on purpose, or about the job's code: the same call would only end the same way.
_NEVER_RETRIED: Final = (Cancel, Discard, Snooze, DurabilityError)


def default_delay(failure: int, jitter: float) -> float:
    """Return `15 + 2**failure` seconds ± 10 %, at most a day, for any number of failures.

    >>> default_delay(1, 0.0), default_delay(4, 0.0), default_delay(10**9, 1.0)
    (17.0, 31.0, 86400.0)
    """
    # 2**17 s is more than a day: a larger exponent would only overflow.
    return _jittered(15.0 + 2.0 ** min(max(failure, 0), 17), jitter, cap=ONE_DAY_S)


def retry_after(error: BaseException, *, wall_clock: Callable[[], datetime]) -> float | None:
    """Return how many seconds the server behind an error asked us to wait, at most a day.

    Looks at `retry_after` on the error, then at the headers `retry-after-ms` and `Retry-After` of
    `error.response` and of the error itself; then at the members of an exception group and at
    the cause. None when nobody asked. Whatever the attributes hold or raise, this does not raise.
    `wall_clock` returns an aware datetime; it is asked only for a `Retry-After` that is a date.

    >>> class RateLimited(Exception):
    ...     headers = {"retry-after": "7"}
    >>> retry_after(RateLimited(), wall_clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    7.0
    """
    for candidate in islice(_related(error), _SEARCHED_ERRORS):
        wait_s = _asked_by(candidate, wall_clock)
        if wait_s is not None:
            return min(max(wait_s, 0.0), ONE_DAY_S)
    return None


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast a step is tried again inside one attempt; valid once built.

    `attempts` counts the first try. The delay before the second try is `delay`, then it grows by
    `factor` up to `max_delay`. Only errors of the classes in `on` are tried again, and never
    `Cancel`, `Discard`, `Snooze`, a `DurabilityError`, or what is not an `Exception`.

    >>> [Retry(5, delay="2s").delay_s(failure, jitter=0.0) for failure in (1, 2, 3)]
    [2.0, 4.0, 8.0]
    >>> Retry(3, on=(OSError,)).wants(ValueError())
    False
    """

    attempts: int = 3
    _: KW_ONLY
    delay: Duration = 1.0
    factor: float = 2.0
    max_delay: Duration = 60.0
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        _check_attempts(self.attempts)
        _check_factor(self.factor)
        _check_classes(self.on)
        seconds(self.delay, field="Retry.delay")
        seconds(self.max_delay, field="Retry.max_delay")

    def delay_s(self, failure: int, jitter: float) -> float:
        """Return the seconds to wait after the `failure`-th failure (1 is the first)."""
        cap = seconds(self.max_delay, field="Retry.max_delay")
        try:
            # As floats: an int to the power of a large one would be computed to its last digit.
            growth = float(self.factor) ** max(failure - 1, 0)
            grown = seconds(self.delay, field="Retry.delay") * growth
        except OverflowError:
            grown = cap
        return _jittered(min(grown, cap), jitter, cap=cap)

    def wants(self, error: BaseException) -> bool:
        """Return whether this error is tried again, attempts permitting."""
        if isinstance(error, _NEVER_RETRIED) or not isinstance(error, Exception):
            return False
        return isinstance(error, self.on)


def _jittered(delay_s: float, jitter: float, *, cap: float) -> float:
    share = _JITTER_SHARE * max(-1.0, min(1.0, jitter))
    return min(delay_s * (1.0 + share), cap)


def _check_attempts(attempts: object) -> None:
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        hint = "Write how often to try in all: 1 never tries again, 3 is the default."
        raise InvalidOption(f"Retry.attempts={shown(attempts)}: not a whole number above 0", hint)


def _check_factor(factor: object) -> None:
    number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
    if not number or not 1.0 <= factor <= 1_000.0:  # type: ignore[operator] # a number by now
        hint = "1 keeps the delay as it is, 2 doubles it each time."
        raise InvalidOption(f"Retry.factor={shown(factor)}: not a number from 1 to 1000", hint)


def _check_classes(classes: object) -> None:
    hint = "Write a tuple of exception classes, such as on=(OSError, TimeoutError)."
    if not isinstance(classes, tuple) or not classes:
        raise InvalidOption(f"Retry.on={shown(classes)}: not a tuple of exception classes", hint)
    for item in classes:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise InvalidOption(f"Retry.on has {shown(item)}: not an exception class", hint)


def _related(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the members of its group and its causes, each once, nearest first."""
    queue, seen = [error], {id(error)}
    for current in queue:  # the list grows while it is read
        yield current
        members = _attribute(current, "exceptions")
        found = members[:_SEARCHED_ERRORS] if type(members) is tuple else ()
        for other in (*found, _attribute(current, "__cause__")):
            if isinstance(other, BaseException) and id(other) not in seen:
                seen.add(id(other))
                queue.append(other)


def _asked_by(error: BaseException, wall_clock: Callable[[], datetime]) -> float | None:
    wait_s = _wait_of(_attribute(error, "retry_after"))
    if wait_s is not None:
        return wait_s
    for owner in (_attribute(error, "response"), error):
        headers = _wanted_headers(_attribute(owner, "headers"))
        wait_ms = _wait_of(headers.get("retry-after-ms"))
        if wait_ms is not None:
            return wait_ms / 1000.0
        value = headers.get("retry-after")
        wait_s = _wait_of(value)
        if wait_s is None:
            wait_s = _until_date(value, wall_clock)
        if wait_s is not None:
            return wait_s
    return None


def _attribute(owner: object, name: str) -> object:
    try:
        return getattr(owner, name, None)
    except Exception:
        return None


def _wanted_headers(headers: object) -> dict[str, object]:
    """Return the headers of interest by lower-case name, from whatever acts like a mapping."""
    wanted: dict[str, object] = {}
    try:
        pairs: Iterable[tuple[object, object]] = headers.items()  # type: ignore[attr-defined]
        for key, value in islice(pairs, _SEARCHED_HEADERS):
            name = _as_text(key)
            if name is not None and name.lower() in ("retry-after", "retry-after-ms"):
                wanted.setdefault(name.lower(), value)
    except Exception:
        return wanted
    return wanted


def _wait_of(value: object) -> float | None:
    """Return a number of seconds (or milliseconds), or None for anything but a finite number."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, timedelta):
            value = value.total_seconds()
        text = _as_text(value)
        number = float(value if text is None else text)  # type: ignore[arg-type] # or TypeError
    except Exception:
        return None
    return number if math.isfinite(number) else None


def _until_date(value: object, wall_clock: Callable[[], datetime]) -> float | None:
    try:
        text = _as_text(value)
        if text is None:
            return None
        moment = parsedate_to_datetime(text)
        # "-0000" means UTC of unknown origin and is parsed as a naive time.
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return (aware - wall_clock()).total_seconds()
    except Exception:
        return None


def _as_text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None
