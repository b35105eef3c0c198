"""Codec 1: JSON that describes itself, for trees of Python's plain types and nothing else.

What JSON has a form for is written as it is; the rest becomes `{"$hf": tag, "v": …}`, so a tuple
comes back as a tuple without any annotation. Types count exactly: a subclass (a NamedTuple, an
IntEnum) is not plain, because it would come back as its base. Nearly all values are plain JSON, so
the writer first looks for a reason to tag (a few set operations per container) and mostly leaves
the work to pydantic_core.

Changed on the way: a bytearray comes back as bytes, a zone as its fixed offset, `fold` is dropped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

from pydantic_core import PydanticSerializationError, from_json, to_json

from holdfast.errors import TooLarge, Unserialisable
from holdfast.model.text import shown, type_name

MAX_DEPTH: Final = 199
"""Levels of JSON: a tuple or set counts as two, a dict that needs a tag as three.

The parser ends at 200; one level is kept for a leaf with a tag.
"""
MAX_VALUES: Final = 32 * 1024 * 1024
"""Each takes two bytes at least, so more cannot fit; stops what doubles itself by sharing."""

Path: TypeAlias = "tuple[Path, object] | None"
"""Where in a tree: a step (a `str` as it is shown) and the path before it; None is the root."""

_TAG: Final = "$hf"
_TAG_IN_DATA: Final = b'"$hf"'
_STR: Final = frozenset({str})
_ATOMS: Final = frozenset({type(None), bool, int, float, str})
# Python and pydantic_core parse integers of at most 4,300 digits.
_PARSED_DIGITS: Final = 4_000
_LONG_NUMBER: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % _PARSED_DIGITS)
_SHORT_INT_BITS: Final = 13_000


class NotPlain(Exception):
    """The tree has a value of a type that this codec does not write; `path` says where."""

    def __init__(self, value: object, path: Path) -> None:
        self.kind_name = type_name(value)
        self.path = path
        super().__init__(f"{self.kind_name} at {where(path)}")


def dump(value: object, *, foreign: Callable[[object], object] | None = None) -> bytes:
    """Return the JSON of a plain tree; `NotPlain` for any other, unless `foreign` replaces it.

    >>> dump({"a": 1, "b": (2.5, None)})
    b'{"a":1,"b":{"$hf":"tuple","v":[2.5,null]}}'
    """
    if type(value) in _ATOMS or _is_json(value):
        try:
            data = to_json(value, inf_nan_mode="constants")
        except PydanticSerializationError:
            pass  # a lone surrogate
        else:
            if len(data) < _PARSED_DIGITS or not _LONG_NUMBER.search(data):
                return data
    tree = _Tagger(foreign).tag(value, None, 1)
    return to_json(tree, inf_nan_mode="constants")


def load(data: bytes) -> Any:
    """Return the value that was dumped; some `Exception` when the data is not a dump.

    >>> load(b'{"$hf":"tuple","v":[1,2]}')
    (1, 2)
    """
    value = from_json(data)
    return _untag(value) if _TAG_IN_DATA in data else value


def where(path: Path) -> str:
    """Return a path as text.

    >>> where((((None, ".items"), "[3]"), ".when"))
    '$.items[3].when'
    """
    steps = []
    while path is not None:
        path, step = path
        steps.append(str(step))
    return "$" + "".join(reversed(steps))


def key_step(key: object) -> str:
    """Return the step of a path that goes through a key of a dict.

    >>> key_step("when"), key_step("two words"), key_step(7)
    ('.when', "['two words']", '[7]')
    """
    return f".{key}" if type(key) is str and key.isidentifier() else f"[{shown(key)}]"


def _is_json(value: object) -> bool:
    """Return whether the tree is JSON already: nothing to tag, not too deep, not too wide."""
    stack: list[tuple[Any, int]] = [(value, 1)]
    seen = 0
    while stack:
        container, depth = stack.pop()
        if type(container) is dict:
            if _TAG in container or not _STR.issuperset(map(type, container)):
                return False
            nested = [item for item in container.values() if type(item) not in _ATOMS]
        elif type(container) is list:
            nested = [item for item in container if type(item) not in _ATOMS]
        else:
            return False
        if nested:
            seen += len(container)
            if depth >= MAX_DEPTH or seen > MAX_VALUES:
                return False
            stack += [(item, depth + 1) for item in nested]
    return True


class _Tagger:
    """Builds the JSON tree of a value; one instance for one value."""

    __slots__ = ("foreign", "left")

    def __init__(self, foreign: Callable[[object], object] | None) -> None:
        self.foreign = foreign
        self.left = MAX_VALUES

    def tag(self, value: object, path: Path, depth: int) -> object:
        kind = type(value)
        if kind is str:
            return _tag_str(value)  # type: ignore[arg-type] # a str by its exact type
        if kind is int:
            return _tag_int(value)  # type: ignore[arg-type]
        if kind in _ATOMS:
            return value
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return {_TAG: scalar[0], "v": scalar[1](value)}
        if kind is list:
            return self._items(value, path, depth)
        if kind is dict:
            return self._mapping(value, path, depth)  # type: ignore[arg-type]
        if kind in _SEQUENCES:
            return {_TAG: kind.__name__, "v": self._items(value, path, depth + 1)}
        return self._foreign(value, path, depth)

    def _foreign(self, value: object, path: Path, depth: int) -> object:
        if self.foreign is None:
            raise NotPlain(value, path)
        replaced = self.foreign(value)
        if type(replaced) is type(value):
            raise NotPlain(value, path)
        return self.tag(replaced, path, depth + 1)

    def _items(self, value: Any, path: Path, depth: int) -> list[object]:
        self._enter(len(value), path, depth)
        return [self.tag(item, (path, f"[{i}]"), depth + 1) for i, item in enumerate(value)]

    def _mapping(self, value: dict[object, object], path: Path, depth: int) -> object:
        if _TAG not in value and all(type(key) is str and _is_utf8(key) for key in value):
            self._enter(len(value), path, depth)
            return {
                key: self.tag(item, (path, key_step(key)), depth + 1) for key, item in value.items()
            }
        self._enter(2 * len(value), path, depth + 2)
        pairs = []
        for key, item in value.items():
            step = (path, key_step(key))
            pairs.append([self.tag(key, step, depth + 3), self.tag(item, step, depth + 3)])
        return {_TAG: "dict", "v": pairs}

    def _enter(self, count: int, path: Path, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Unserialisable(
                f"a value is nested deeper than {MAX_DEPTH} levels or contains itself",
                f"It begins at {where(path)[:100]}. Store a flat form, with identifiers for links.",
            )
        self.left -= count
        if self.left < 0:
            raise TooLarge(
                f"a value has more than {MAX_VALUES:,} items, counting shared ones each time",
                "Store it elsewhere and return a reference to it.",
            )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _tag_str(value: str) -> object:
    # Escapes would not do: JSON joins \ud83d\ude00, two lone surrogates, into one character.
    if _is_utf8(value):
        return value
    return {_TAG: "str", "v": _to_base64(value.encode("utf-8", "surrogatepass"))}


def _tag_int(value: int) -> object:
    if value.bit_length() <= _SHORT_INT_BITS:
        return value
    return {_TAG: "int", "v": hex(value)}


def _to_base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _microseconds(value: timedelta) -> int:
    return (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds


_SEQUENCES: Final = frozenset({tuple, set, frozenset})
_SCALARS: Final[dict[type, tuple[str, Callable[[Any], object]]]] = {
    bytes: ("bytes", _to_base64),
    bytearray: ("bytes", _to_base64),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", _microseconds),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
}
_UNTAG: Final[dict[str, Callable[[Any], object]]] = {
    "tuple": lambda items: tuple(map(_untag, items)),
    "set": lambda items: set(map(_untag, items)),
    "frozenset": lambda items: frozenset(map(_untag, items)),
    "dict": lambda pairs: {_untag(key): _untag(item) for key, item in pairs},
    "str": lambda text: _from_base64(text).decode("utf-8", "surrogatepass"),
    "int": lambda text: int(text, 16),
    "bytes": _from_base64,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda amount: timedelta(microseconds=amount),
    "decimal": Decimal,
    "uuid": UUID,
}


def _untag(node: Any) -> object:
    if type(node) is list:
        return [_untag(item) for item in node]
    if type(node) is not dict:
        return node
    if _TAG not in node:
        return {key: _untag(item) for key, item in node.items()}
    read = _UNTAG.get(node[_TAG])
    if read is None or node.keys() != {_TAG, "v"}:
        raise ValueError(f"unknown tag {shown(node[_TAG])}")
    return read(node["v"])
