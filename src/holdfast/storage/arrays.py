"""Arrays as statement parameters, always of one type: a type per batch would be a plan per batch.

psycopg picks the type of a list by its values (smallint[] here, bigint[] there), and each
combination is a prepared statement of its own. Numbers therefore travel as array literals of no
type, which the statement casts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def numbers(values: Iterable[float | int | None]) -> str:
    """Returns an array literal of numbers and NULLs."""
    return "{" + ",".join(["NULL" if v is None else repr(v) for v in values]) + "}"


def booleans(values: Iterable[bool]) -> str:
    """Returns an array literal of booleans."""
    return "{" + ",".join(["t" if v else "f" for v in values]) + "}"


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Returns a batch of equal tuples, transposed."""
    return [list(column) for column in zip(*rows, strict=True)]
