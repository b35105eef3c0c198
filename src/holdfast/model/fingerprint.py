"""A fingerprint of a step's inputs, by which a replay notices that it is not the recorded run.

A false alarm stops a job for a person, so only what is certain counts: the contents of plain data,
models, dataclasses and enums; of any other object just the name of its type (a client or a
connection is a new object in each process). Names of types go without their module, which is
`__main__` in one process and `jobs` in the next. No `hash()`, `id()` or `repr()` of a user's
object takes part. A token says what kind it is and where
it ends, so that ["ab"] and ["a", "b"] differ.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from holdfast.model.text import type_name

MAX_DEPTH: Final = 64
_VERSION: Final = b"holdfast.inputs.1"


def fingerprint(args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
    """Return 16 bytes that are the same in every process for the same inputs; never raises.

    The order of dicts and sets does not count; 1, 1.0, True and "1" differ. Below 64 levels only
    types count. A dataclass's fields count when they do for `==`; a field that raises counts as
    unreadable. (What is not an `Exception`, such as an interruption of the thread, passes.)

    >>> fingerprint(({"a": 1, "b": 2},), {}) == fingerprint(({"b": 2, "a": 1},), {})
    True
    >>> fingerprint((1,), {}) == fingerprint((True,), {})
    False
    """
    tokens = _Tokens()
    content = tokens.of(tuple(args), 0) + tokens.of(dict(kwargs), 0)
    return blake2b(_VERSION + content, digest_size=16).digest()


class _Tokens:
    """Turns values into tokens; keeps those of containers, so that shared ones cost once."""

    __slots__ = ("active", "known")

    def __init__(self) -> None:
        # The value is kept beside its token: an id is only unique as long as its object lives.
        self.known: dict[int, tuple[object, bytes]] = {}
        self.active: set[int] = set()

    def of(self, value: Any, depth: int) -> bytes:
        try:
            write = _EXACT.get(type(value))
            if write is not None:
                return write(value)
            return self._container_or_other(value, depth)
        except Exception:
            return _token(b"unreadable", _type_name(value))

    def _container_or_other(self, value: Any, depth: int) -> bytes:
        found = self.known.get(id(value))
        if found is not None:
            return found[1]
        if id(value) in self.active:
            return _token(b"cycle", _type_name(value))
        if depth >= MAX_DEPTH:
            return _token(b"deep", _type_name(value))
        self.active.add(id(value))
        try:
            token = self._contents(value, depth + 1)
        finally:
            self.active.discard(id(value))
        self.known[id(value)] = (value, token)
        return token

    def _contents(self, value: Any, depth: int) -> bytes:
        kind = type(value)
        write = _CONTAINERS.get(kind)
        if write is not None:
            return _token(kind.__name__.encode(), b"", write(self, value, depth))
        if issubclass(kind, Enum):
            name = _read(value, "_name_") or _read(value, "_value_")  # a flag of unknown bits
            return _token(b"enum", _type_name(value), self.of(name, depth))
        if BaseModel in kind.__mro__:
            return self._fields(b"model", value, _model_fields(value), depth)
        if is_dataclass(kind):
            names = [field.name for field in fields(kind) if field.compare]
            return self._fields(b"dataclass", value, names, depth)
        for base, write_base in _CONTAINERS.items():
            if issubclass(kind, base):
                contents = write_base(self, value, depth)
                return _token(base.__name__.encode(), _type_name(value), contents)
        return _other(value)

    def _fields(self, label: bytes, value: Any, names: Iterable[str], depth: int) -> bytes:
        parts = []
        for name in sorted(names):
            try:
                content = self.of(_read(value, name), depth)
            except Exception:
                content = _token(b"unreadable")
            parts.append(_text(name) + content)
        if label == b"model":
            extra = _read(value, "__pydantic_extra__")
            parts.append(self.of(extra or {}, depth))
        return _token(label, _type_name(value), _digest(parts))

    def sequence(self, value: Any, depth: int) -> bytes:
        iterate = tuple.__iter__ if issubclass(type(value), tuple) else list.__iter__
        return _digest([self.of(item, depth) for item in iterate(value)])

    def mapping(self, value: Any, depth: int) -> bytes:
        of = self.of
        return _digest(
            sorted([of(key, depth) + of(item, depth) for key, item in dict.items(value)])
        )

    def unordered(self, value: Any, depth: int) -> bytes:
        iterate = set.__iter__ if issubclass(type(value), set) else frozenset.__iter__
        return _digest(sorted([self.of(item, depth) for item in iterate(value)]))


_CONTAINERS: Final[dict[type, Callable[[_Tokens, Any, int], bytes]]] = {
    dict: _Tokens.mapping,
    list: _Tokens.sequence,
    tuple: _Tokens.sequence,
    set: _Tokens.unordered,
    frozenset: _Tokens.unordered,
}


def _token(label: bytes, *parts: bytes) -> bytes:
    return b"%s(%s)" % (label, b"".join([b"%d:%s" % (len(part), part) for part in parts]))


def _digest(tokens: list[bytes]) -> bytes:
    # No separators: a token says itself where it ends.
    return blake2b(b"".join(tokens), digest_size=16).digest()


def _text(value: str) -> bytes:
    data = str.encode(value, "utf-8", "surrogatepass")
    return b"str(%d:%s)" % (len(data), data)


def _integer(value: int) -> bytes:
    # Hexadecimal has no limit on its length, and int's own method no override.
    return b"int(%b)" % int.__format__(value, "x").encode()


def _float(value: float) -> bytes:
    canonical = value if value == value else float("nan")
    return b"float(%b)" % struct.pack(">d", canonical)


def _by_text(label: bytes, text: Callable[[Any], str]) -> Callable[[Any], bytes]:
    return lambda value: _token(label, text(value).encode())


_EXACT: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"none",
    bool: lambda value: b"true" if value else b"false",
    int: _integer,
    float: _float,
    complex: lambda value: _token(b"complex", _float(value.real), _float(value.imag)),
    str: _text,
    bytes: lambda value: _token(b"bytes", value),
    bytearray: lambda value: _token(b"bytes", bytes(value)),
    Decimal: _by_text(b"decimal", str),
    Fraction: _by_text(b"fraction", str),
    UUID: _by_text(b"uuid", str),
    date: _by_text(b"date", date.isoformat),
    timedelta: _by_text(b"timedelta", repr),
    range: _by_text(b"range", repr),
}
# Their text may ask a user's tzinfo, which may raise: so they go through the guarded way.
_BY_TEXT: Final[dict[type, Callable[[Any], bytes]]] = {
    datetime: _by_text(b"datetime", datetime.isoformat),
    time: _by_text(b"time", time.isoformat),
    PurePath: _by_text(b"path", PurePath.__str__),
    str: _text,
    int: _integer,
    float: _float,
    bytes: lambda value: _token(b"bytes", bytes.__getitem__(value, slice(None))),
}


def _other(value: Any) -> bytes:
    kind = type(value)
    if kind in (FunctionType, BuiltinFunctionType, MethodType):
        return _token(b"function", _text(value.__qualname__))
    if issubclass(kind, type):
        return _token(b"type", _text(type.__dict__["__qualname__"].__get__(value)))
    for base, write in _BY_TEXT.items():
        if issubclass(kind, base):
            own_name = kind is base or base is PurePath
            return _token(b"scalar", b"" if own_name else _type_name(value), write(value))
    return _token(b"object", _type_name(value))


def _type_name(value: object) -> bytes:
    return type_name(value).encode()


def _read(value: object, name: str) -> object:
    """Return an attribute without the user's `__getattr__` or `__getattribute__`."""
    return object.__getattribute__(value, name)


def _model_fields(value: BaseModel) -> list[str]:
    stored = _read(value, "__dict__")
    # A cached property lives in the same dict, but only once it has been asked for.
    return [name for name in type(value).model_fields if name in stored]  # type: ignore[operator]
