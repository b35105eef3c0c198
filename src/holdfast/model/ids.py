"""Ids of jobs: whole numbers that the database can hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from holdfast.errors import InvalidOption
from holdfast.model.text import shown

MAX_ID: Final = 2**63 - 1
_HINT: Final = "A job's id is a whole number ≥ 1: `handle.id`, or the first column of `jobs list`."


def check_id(value: object, *, field: str = "job id") -> int:
    """Return the id as an exact `int`, or raise `InvalidOption` naming the value.

    >>> check_id(7)
    7
    >>> check_id(2**63)
    Traceback (most recent call last):
        ...
    holdfast.errors.InvalidOption: [HF-101] job id=9223372036854775808 is not the id of a job
      hint: A job's id is a whole number ≥ 1: ...
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_ID:
        raise InvalidOption(f"{field}={shown(value)} is not the id of a job", _HINT)
    return int(value)


def check_ids(values: object, *, field: str = "job id") -> list[int]:
    """Return the ids as a list, or raise `InvalidOption` naming the first that is none.

    >>> check_ids((3, 4))
    [3, 4]
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidOption(f"{field}={shown(values)} is not a list of job ids", _HINT)
    return [check_id(value, field=field) for value in values]
