"""A database operation as a value, and the only two places that touch a cursor.

A pure function returns a `Query[R]`: statement, parameters, row decoder. `run_async` and `run_sync`
run it. So the async and the sync side share one definition and no operation is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.rows import tuple_row

from holdfast.storage.statements import statement

R = TypeVar("R")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Query(Generic[R]):
    """One statement with its parameters; `decode` turns the rows into the result."""

    name: str
    decode: Callable[[Sequence[Row]], R]
    params: Mapping[str, object] = field(default_factory=dict)
    prepare: bool = False


async def run_async(
    conn: psycopg.AsyncConnection[Any], query: Query[R], schema: str, *, prepare: bool = True
) -> R:
    """Runs one query: one statement, one round trip; the caller owns the transaction."""
    cursor = psycopg.AsyncCursor(conn, row_factory=tuple_row)
    await cursor.execute(
        statement(query.name, schema), query.params, prepare=_prepare(query, prepare)
    )
    return query.decode(await cursor.fetchall() if cursor.description else [])


def run_sync(
    conn: psycopg.Connection[Any], query: Query[R], schema: str, *, prepare: bool = True
) -> R:
    """Runs one query: one statement, one round trip; the caller owns the transaction."""
    cursor = psycopg.Cursor(conn, row_factory=tuple_row)
    cursor.execute(statement(query.name, schema), query.params, prepare=_prepare(query, prepare))
    return query.decode(cursor.fetchall() if cursor.description else [])


def _prepare(query: Query[Any], allowed: bool) -> bool | None:  # noqa: FBT001
    """True: at once. None: when it has been run often. False: never, not even then."""
    if not allowed:
        return False
    return query.prepare or None


async def run_pipeline(
    conn: psycopg.AsyncConnection[Row],
    queries: Sequence[Query[Any]],
    schema: str,
    *,
    settings: str | None = None,
) -> list[Any]:
    """Runs several queries in one round trip and one transaction: all of them or none.

    Needs an autocommit connection: between two syncs of a pipeline the server has one implicit
    transaction. `settings` is a statement that sets something for that transaction only.
    """
    if len(queries) == 1 and settings is None:
        return [await run_async(conn, queries[0], schema)]
    cursors = []
    async with conn.pipeline():
        if settings is not None:
            await conn.execute(settings.encode())
        for query in queries:
            cursor = conn.cursor()
            await cursor.execute(
                statement(query.name, schema), query.params, prepare=query.prepare or None
            )
            cursors.append(cursor)
    return [
        query.decode(await cursor.fetchall() if cursor.description else [])
        for query, cursor in zip(queries, cursors, strict=True)
    ]


def run_set_sync(conn: psycopg.Connection[Any], query: Query[R], schema: str, settings: str) -> R:
    """Runs one query in one round trip after a statement that sets something for it alone."""
    with conn.pipeline():
        conn.execute(settings.encode())
        cursor = psycopg.Cursor(conn, row_factory=tuple_row)
        cursor.execute(statement(query.name, schema), query.params, prepare=query.prepare or None)
    return query.decode(cursor.fetchall() if cursor.description else [])


def nothing(rows: Sequence[Row]) -> None:
    """Decodes a statement whose rows nobody needs."""
