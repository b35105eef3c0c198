"""What is written for programs: one JSON document, or one JSON line for each item of a list."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from pydantic_core import from_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


_STORED_AS_JSON = ("args", "meta")
# Says how the row was read, not what the job is.
_LEFT_OUT = frozenset({"now"})


def write(document: object) -> None:
    """Writes one JSON document on one line of standard output, in ASCII."""
    click.echo(dump(document))


def write_lines(documents: Iterable[object]) -> None:
    """Writes one line of JSON for each document."""
    for document in documents:
        write(document)


def dump(document: object, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """Returns strict JSON: NaN and the infinities become strings, datetimes ISO 8601.

    >>> dump({"a": float("nan")})
    '{"a": "nan"}'
    """
    return json.dumps(
        _finite(document),
        allow_nan=False,
        default=_default,
        ensure_ascii=ascii_only,
        indent=indent,
    )


def record(value: DataclassInstance) -> dict[str, Any]:
    """Returns a value's fields by name; what is stored as JSON text becomes JSON."""
    fields = dataclasses.fields(value)
    found = {f.name: getattr(value, f.name) for f in fields if f.name not in _LEFT_OUT}
    for name in _STORED_AS_JSON:
        if isinstance(found.get(name), str):
            found[name] = stored(found[name])
    return found


def stored(text: str) -> object:
    """Returns the value of a stored JSON text; the text itself when it is beyond our parser.

    >>> stored('{"a": 1}'), stored("[" * 500 + "]" * 500)[:3]
    ({'a': 1}, '[[[')
    """
    try:
        return from_json(text)
    except ValueError:
        return text


def _default(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
