"""JSON on its way into a `jsonb` column: finds what would be refused there, or not be read back.

PostgreSQL has no NUL in text; our parser reads 200 levels and integers of 4,300 digits, fewer than
the writer writes; and NaN and infinities have no JSON form. Looking for all that must cost nothing
for ordinary values, so each look has a cheap reason to be left out.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from holdfast.errors import TooLarge, Unserialisable
from holdfast.model.text import shown, storable

MAX_DEPTH: Final = 200
"""Levels of lists and objects, the outermost included."""

_NUL: Final = "\\u0000"
_REPLACED: Final = "\ufffd"
# What is shorter can neither be too deep nor have too long a number.
_SAFE_LENGTH: Final = 2 * MAX_DEPTH
_DIGITS: Final = 4_300
_LONG_NUMBER: Final = re.compile(rf"(?<![0-9])[0-9]{{{_DIGITS + 1}}}")
_NUL_HINT: Final = "PostgreSQL cannot store NUL in JSON; remove it, or pass bytes."
_EVEN: Final = frozenset({type(None), bool, int, str, bytes})
_ATOMS: Final = _EVEN | {float}
_MIB: Final = 1024 * 1024


def is_doubtful(text: str) -> bool:
    """Return whether `check_json` could have anything to say; asked for each job."""
    if _NUL in text or _REPLACED in text:
        return True
    # Brackets in strings count too: they only cost the second look.
    return len(text) > _SAFE_LENGTH and (
        text.count("[") + text.count("{") > MAX_DEPTH or len(text) > _DIGITS
    )


def check_json(text: str, *, field: str, source: object = None) -> None:
    """Guarantee that a JSON text can be stored as jsonb and read back; `Unserialisable` says why.

    `source` is the value it was written from: a lone surrogate in a key is in the text no more.

    >>> check_json('{"a":["\\\\u0000"]}', field="meta")
    Traceback (most recent call last):
        ...
    holdfast.errors.Unserialisable: [HF-105] meta: a[0] contains a NUL character
      hint: PostgreSQL cannot store NUL in JSON; remove it, or pass bytes.
    """
    _check_limits(text, field)
    if _NUL in text and (path := _find_nul(from_json(text))) is not None:
        raise Unserialisable(
            f"{field}: {storable(path, limit=200)} contains a NUL character", _NUL_HINT
        )
    # pydantic refuses a lone surrogate in a value, but writes U+FFFD for one in a key.
    if _REPLACED in text and _has_surrogate(source):
        raise Unserialisable(
            f"{field}: a key contains a lone surrogate, which is no character",
            "It comes from undecodable bytes: decode them with errors='replace', or pass bytes.",
        )


def too_large(data: bytes, *, field: str, cap: int) -> TooLarge:
    """Return the error for a JSON object beyond its cap: names the field, its size and the cap.

    >>> too_large(b'{"a":"xxxxxxxxxx","b":1}', field="arguments", cap=16 * 2**20).message
    "arguments are 24 bytes, most of it 'a'; the most is 16.0 MiB"
    """
    parts = from_json(data)
    heaviest = max(parts, key=lambda key: len(to_json(parts[key])))
    return TooLarge(
        f"{field} are {_size(len(data))}, most of it {shown(heaviest)}; the most is {_size(cap)}",
        "Store large data elsewhere (a file, a bucket, a table) and pass a reference to it.",
    )


def may_have_odd_floats(values: Mapping[str, object]) -> bool:
    """Return False when at a glance there is none: the usual case, asked for each job."""
    return not _EVEN.issuperset(map(type, values.values()))


def odd_floats(value: object) -> Counter[str]:
    """Return how often NaN and the infinities are among the parts of a value.

    Looks into containers, models and dataclasses. The value must not contain itself.

    >>> sorted(odd_floats({"a": [1.5, float("nan")], "b": float("-inf")}).items())
    [('-inf', 1), ('nan', 1)]
    """
    return Counter(
        float.__repr__(item)
        for item in _leaves(value)
        if isinstance(item, float) and not math.isfinite(item)
    )


def _has_surrogate(value: object) -> bool:
    return any(
        isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item)
        for item in _leaves(value)
    )


def _leaves(value: object) -> Iterator[object]:
    """Yields what is in a value but no container, keys included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) in _ATOMS:
            yield item
        elif parts := _parts(item):
            stack += parts
        else:
            yield item


def _check_limits(text: str, field: str) -> None:
    deep = text.count("[") + text.count("{") > MAX_DEPTH
    long = len(text) > _DIGITS and _LONG_NUMBER.search(text) is not None
    if not (deep or long):
        return
    try:
        from_json(text)
    except ValueError as error:
        if "recursion" in str(error):
            raise Unserialisable(
                f"{field}: nested deeper than {MAX_DEPTH} levels",
                "Store a flat form, with identifiers for links.",
            ) from None
        raise Unserialisable(
            f"{field}: a whole number has more than {_DIGITS} digits",
            "Pass it as a string, or in hexadecimal.",
        ) from None


def _find_nul(value: object) -> str | None:
    stack: list[tuple[object, str]] = [(value, "")]
    while stack:
        item, where = stack.pop()
        if isinstance(item, str) and "\x00" in item:
            return where or "(key)"
        if isinstance(item, dict):
            stack += [(key, f"{where}.{shown(key)}".lstrip(".")) for key in item if "\x00" in key]
            stack += [(part, f"{where}.{key}".lstrip(".")) for key, part in item.items()]
        elif isinstance(item, list):
            stack += [(part, f"{where}[{i}]") for i, part in enumerate(item)]
    return None


def _parts(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = [getattr(value, name, None) for name, field in fields.items() if not field.exclude]
        return [*kept, *(value.model_extra or {}).values()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return []


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.1f} MiB" if size_bytes >= _MIB else f"{size_bytes:,} bytes"
