"""A step that is a transaction: the user's rows and the journal row commit together.

On replay the body runs again, but its statements do not: their recorded results are returned in
order. So the rows are written exactly once, and values read in the body are the same again.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import psycopg
from psycopg import sql

from holdfast.errors import LeaseLost, NonDeterminism
from holdfast.model.writes import StepWrite
from holdfast.storage.database import Database
from holdfast.storage.query import Query, R, Row, run_async
from holdfast.storage.statements import statement
from holdfast.storage.steps import load, record

Statement = str | bytes | sql.SQL | sql.Composed
Params = Sequence[Any] | dict[str, Any] | None
Outcome = tuple[bytes, list[tuple[Any, ...]] | None, int]
"""What is recorded of one statement: digest of its text, rows or None, row count."""


class Rows:
    """The result of one statement of a transaction step, already fetched."""

    def __init__(self, rows: list[tuple[Any, ...]] | None, rowcount: int) -> None:
        self._rows = rows
        self._next = 0
        self.rowcount = rowcount

    async def fetchone(self) -> tuple[Any, ...] | None:
        """Returns the next row, or None when there is none left."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """Returns up to `size` further rows."""
        rows = self._all()[self._next : self._next + size]
        self._next += len(rows)
        return rows

    async def fetchall(self) -> list[tuple[Any, ...]]:
        """Returns all further rows."""
        return await self.fetchmany(len(self._all()))

    async def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        while (row := await self.fetchone()) is not None:
            yield row

    def _all(self) -> list[tuple[Any, ...]]:
        if self._rows is None:
            raise psycopg.ProgrammingError("the statement returned no rows")
        return self._rows


class StepConnection:
    """The connection of a `ctx.transaction()`: runs statements, or replays what they returned."""

    def __init__(
        self, conn: psycopg.AsyncConnection[Row] | None, schema: str, recorded: list[Outcome]
    ) -> None:
        self._conn = conn
        self._schema = schema
        self._recorded = recorded
        self._position = 0

    @property
    def replayed(self) -> bool:
        """True when this transaction was committed in an earlier run."""
        return self._conn is None

    async def execute(self, query: Statement, params: Params = None) -> Rows:
        """Runs one statement and returns its rows; recorded ones come from the journal."""
        return await self._run(query, params, _text(query))

    async def _run(self, query: Statement, params: Params, text: bytes) -> Rows:
        digest = hashlib.blake2b(text, digest_size=8).digest()
        if self._conn is None:
            return Rows(*self._replay(text, digest))
        cursor = await self._conn.execute(query, params)
        rows = list(await cursor.fetchall()) if cursor.description else None
        self._recorded.append((digest, rows, cursor.rowcount))
        return Rows(rows, cursor.rowcount)

    async def executemany(self, query: Statement, params_seq: Sequence[Any]) -> None:
        """Runs one statement once for each set of parameters."""
        for params in params_seq:
            await self.execute(query, params)

    async def run_query(self, query: Query[R]) -> R:
        """Runs one operation of holdfast as part of this transaction."""
        text = statement(query.name, self._schema)
        # Known by its name: what we say in SQL for it may change between versions.
        rows = await self._run(text, dict(query.params), query.name.encode())
        return query.decode(await rows.fetchall() if rows._rows is not None else [])

    def _replay(self, text: bytes, digest: bytes) -> tuple[list[tuple[Any, ...]] | None, int]:
        place, self._position = self._position, self._position + 1
        recorded = self._recorded[place] if place < len(self._recorded) else None
        if recorded is None or recorded[0] != digest:
            raise NonDeterminism(
                f"statement {place + 1} of a committed transaction step is not the one that ran "
                f"then: {text[:200].decode('utf-8', 'replace')!r}",
                "The rows are committed already: make the statements of the block what they were, "
                "then retry the job.",
            )
        return recorded[1], recorded[2]


class TransactionSource(Protocol):
    """Opens transaction steps and loads large recorded results."""

    def transaction(self) -> Any:
        """Returns an async context manager for a `StepConnection`."""

    async def load(self, job_id: int, key: str) -> bytes | None:
        """Returns a recorded result that did not come along with the claim."""


class PoolSource:
    """Transactions on the worker's own pool."""

    def __init__(self, database: Database, worker_id: int) -> None:
        self._database = database
        self._worker_id = worker_id

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[OpenTransaction]:
        """Begins a transaction; it commits at the end of the block, or rolls back if that raises.

        A lost lease makes `finish` raise, which rolls back: a zombie commits nothing.
        """
        async with self._database.connection() as conn, conn.transaction():
            yield OpenTransaction(conn, self._database.schema, self._worker_id)

    async def load(self, job_id: int, key: str) -> bytes | None:
        """Returns a recorded result that did not come along with the claim."""
        return await self._database.run(load(job_id, key))


class OpenTransaction:
    """A running transaction step: the user's connection, and the journal row that ends it."""

    def __init__(self, conn: psycopg.AsyncConnection[Row], schema: str, worker_id: int) -> None:
        self._conn = conn
        self._schema = schema
        self._worker_id = worker_id
        self.recorded: list[Outcome] = []
        self.connection = StepConnection(conn, schema, self.recorded)

    @property
    def is_lost(self) -> bool:
        """Whether the connection broke: what the block raised came from that."""
        return self._conn.closed

    async def finish(self, write: StepWrite) -> None:
        """Writes the journal row, if the job is still ours."""
        written = await run_async(self._conn, record(self._worker_id, [write]), self._schema)
        if not written:
            raise LeaseLost(f"job {write.job_id} belongs to another worker now")


def replaying(outcomes: list[Outcome], schema: str) -> StepConnection:
    """Returns a connection that runs nothing and returns what was recorded."""
    return StepConnection(None, schema, outcomes)


def _text(query: Statement) -> bytes:
    if isinstance(query, bytes):
        return query
    return query.encode() if isinstance(query, str) else query.as_bytes(None)
