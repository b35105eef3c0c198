"""Results in a form that needs no application: as plain JSON values, whatever type they had."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from holdfast.app.client import Client
from holdfast.model.codec import decode
from holdfast.storage import jobs

# Reads what was written by an annotation without the classes that it names.
_ANYTHING: TypeAdapter[object] = TypeAdapter(Any)


def result_of(client: Client, job_id: int) -> object:
    """Returns a completed job's result as JSON values; None when there is none (yet). Blocking.

    Raises `Undecodable` when the stored bytes are damaged or of a newer holdfast.
    """
    for ending in client.find_sync(jobs.endings([job_id])):
        if ending.data is not None and ending.codec is not None:
            return readable(decode(ending.data, ending.codec, _ANYTHING))
    return None


def readable(value: object) -> object:
    """Returns a value as JSON values: models and dataclasses by field name, bytes in base64.

    >>> readable({"pages": (1, 2), "raw": b"\\xff"})
    {'pages': [1, 2], 'raw': '_w=='}
    """
    plain: object = to_jsonable_python(value, by_alias=False, bytes_mode="base64", fallback=repr)
    return plain
