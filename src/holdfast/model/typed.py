"""Codecs 2 and 3: values with models, dataclasses, enums …, read back through an annotation.

A step's result must be after a crash what it was before, or a job fails only on its replay, where
nobody tests it. Pydantic alone does not see to that: by an annotation of the base class a derived
model loses its fields, `Any` turns a model into a dict, NaN becomes null. So each value is read
back at once and compared, and refused when types changed.

Codec 2 is pydantic's JSON. What it does not bring back (bytes and NaN in models, keys that are
tuples) is tried as codec 3: pydantic's Python form, written as tagged JSON. Fields are stored by
name, never by alias, since an alias for writing may differ from the one for reading.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import to_jsonable_python

from holdfast.errors import Unserialisable
from holdfast.model import tagged
from holdfast.model.tagged import NotPlain, Path, key_step, where
from holdfast.model.text import error_line, type_name

JSON: Final = 2
PYTHON: Final = 3

HINT: Final = (
    "Annotate the function's return type with what it returns: a model, dataclass, enum …, "
    "exactly that class (before Python 3.12 a TypedDict must be the one of typing_extensions); "
    "or return plain data: dict, list, tuple, str, int …"
)
_MISSING: Final = object()


def dump(value: object, adapter: TypeAdapter[object], found: NotPlain) -> tuple[bytes, int]:
    """Return the stored form and its codec, having read it back; else raise `Unserialisable`.

    `found` is the first value that is not plain: it says where, when pydantic does not. A value
    that differs only where a model's own serialiser changed it is accepted.

    >>> from enum import Enum
    >>> Color = Enum("Color", "RED BLUE")
    >>> dump([Color.BLUE], TypeAdapter(list[Color]), NotPlain(Color.BLUE, (None, "[0]")))
    (b'[2]', 2)
    """
    accepted: tuple[bytes, int] | None = None
    reason: str | None = None
    for codec, (write, read) in _FORMS.items():
        try:
            data = write(value, adapter)
            change = _worst_change(value, read(data, adapter))
        except Exception as error:
            reason = reason or f"{where(found.path)} ({found.kind_name}): {error_line(error)}"
            continue
        if change is None:
            return data, codec
        if change.grave:
            reason = f"{where(change.path)}: {change.what}"
        else:
            accepted = accepted or (data, codec)
    if accepted is None:
        raise Unserialisable(f"a value cannot be stored: {reason}", HINT)
    return accepted


def load(data: bytes, codec: int, adapter: TypeAdapter[object]) -> object:
    """Return the value; some `Exception` when the data does not fit the annotation.

    >>> from datetime import timedelta
    >>> load(b'"P1D"', 2, TypeAdapter(timedelta))
    datetime.timedelta(days=1)
    """
    _, read = _FORMS[codec]
    return read(data, adapter)


# Warnings off: reading back and comparing finds what they are about, and more.
def _write_json(value: object, adapter: TypeAdapter[object]) -> bytes:
    return adapter.dump_json(value, by_alias=False, round_trip=True, warnings=False)


def _read_json(data: bytes, adapter: TypeAdapter[object]) -> object:
    return adapter.validate_json(data, by_alias=False, by_name=True)


def _write_python(value: object, adapter: TypeAdapter[object]) -> bytes:
    plain = adapter.dump_python(value, by_alias=False, round_trip=True, warnings=False)
    return tagged.dump(plain, foreign=to_jsonable_python)


def _read_python(data: bytes, adapter: TypeAdapter[object]) -> object:
    # strict=False: an enum or a path is stored as text, which a strict model takes from JSON only.
    return adapter.validate_python(tagged.load(data), strict=False, by_alias=False, by_name=True)


_Form = tuple[
    Callable[[object, TypeAdapter[object]], bytes], Callable[[bytes, TypeAdapter[object]], object]
]
_FORMS: Final[dict[int, _Form]] = {
    JSON: (_write_json, _read_json),
    PYTHON: (_write_python, _read_python),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Change:
    """One difference between a value and what comes back; a grave one is refused."""

    path: Path
    what: str
    grave: bool


def _worst_change(value: object, back: object) -> _Change | None:
    mild = None
    for change in _changes(value, back, None):
        if change.grave:
            return change
        mild = mild or change
    return mild


def _changes(value: object, back: object, path: Path) -> Iterator[_Change]:
    if type(value) is not type(back):
        if type(value) is int and type(back) is float and value == back:
            return  # annotated as float
        what = f"{type_name(value)} would come back as {type_name(back)}"
        yield _Change(path, what, grave=True)
        return
    children, others = _children(value), _children(back)
    if children is None or others is None:
        yield from _leaf_change(value, back, path)
        return
    if not _same_keys(children, others):
        what = f"{type_name(value)} would come back with other items"
        yield _Change(path, what, grave=True)
        return
    for key, child in children.items():
        step = key_step(key) if isinstance(value, dict) else key
        yield from _changes(child, others[key], (path, step))


def _same_keys(children: dict[Any, object], others: dict[Any, object]) -> bool:
    # By type too: a member of a StrEnum equals its text.
    return {(type(key), key) for key in children} == {(type(key), key) for key in others}


def _children(value: object) -> dict[Any, object] | None:
    """Return the parts of a value by key or step in a path; None for a leaf."""
    if isinstance(value, (list, tuple)):
        return {f"[{i}]": item for i, item in enumerate(value)}
    if isinstance(value, dict):
        return value
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        names = [name for name, field in fields.items() if not field.exclude]
        return {f".{name}": getattr(value, name, _MISSING) for name in names} | {
            f".{name}": item for name, item in (value.model_extra or {}).items()
        }
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {f".{name}": getattr(value, name, _MISSING) for name in names}
    return None


def _leaf_change(value: object, back: object, path: Path) -> Iterator[_Change]:
    if value is back or value == back or value != value:
        return
    if isinstance(value, (Secret, SecretStr, SecretBytes)):
        yield _Change(path, f"{type_name(value)} would be stored as asterisks", grave=True)
        return
    holds_others = isinstance(value, Collection) and not isinstance(value, (str, bytes, bytearray))
    what = f"{type_name(value)} would come back with another value"
    yield _Change(path, what, grave=holds_others)
