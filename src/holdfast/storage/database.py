"""The pools of an application: one async per event loop, one blocking per process.

Both open on first use and check the schema's version then. A statement runs in autocommit; a
caller that needs a transaction borrows a connection.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import psycopg
import psycopg_pool

from holdfast.storage.connect import complete_dsn, connect_async, connect_sync
from holdfast.storage.failures import translated
from holdfast.storage.migrate import expect_version, installed_version
from holdfast.storage.pooler import Route, prepare_threshold, route_async, route_sync
from holdfast.storage.query import Query, R, Row, run_async, run_sync

_TIMEOUT_S = 10.0
_TRUSTED_S = 1.0
_TRIES = 4


class _Rested:
    """Which pooled connections have rested so long that the server may have gone meanwhile.

    Only those are probed before they are lent: probing each time would double every round trip.
    """

    def __init__(self) -> None:
        self._used: weakref.WeakKeyDictionary[object, float] = weakref.WeakKeyDictionary()

    def is_due(self, conn: object) -> bool:
        """Returns whether to probe, and notes that the connection is used now."""
        now = time.monotonic()
        due = now - self._used.get(conn, 0.0) > _TRUSTED_S
        self._used[conn] = now
        return due


class Database:
    """An async pool that opens itself on first use; bound to one event loop."""

    def __init__(self, dsn: str, schema: str, *, max_size: int = 10) -> None:
        self.dsn = dsn
        self.schema = schema
        self.route = Route.DIRECT
        """What lies between us and the server; known once the pool is open."""
        self._max_size = max_size
        self._pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Row]] | None = None
        self._opening = asyncio.Lock()
        self._rested = _Rested()

    async def open(self) -> None:
        """Connects and checks the schema; raises at once when either is wrong."""
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await self._opened()

    async def _opened(self) -> psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Row]]:
        with translated(self.schema):
            # Probed by a plain connection: a pool would retry in the background for its whole
            # timeout and then say only that it timed out.
            async with await connect_async(self.dsn) as conn:
                installed = await run_async(conn, installed_version(), self.schema)
                expect_version(installed.version, self.schema)
                self.route = await route_async(conn, self.dsn, installed.session_pid)
            pool = psycopg_pool.AsyncConnectionPool(
                complete_dsn(self.dsn),
                kwargs={
                    "autocommit": True,
                    "prepare_threshold": prepare_threshold(self.route),
                },
                min_size=0,
                max_size=self._max_size,
                timeout=_TIMEOUT_S,
                open=False,
                check=self._check,
            )
            await pool.open()
        return pool

    async def _check(self, conn: psycopg.AsyncConnection[Row]) -> None:
        if self._rested.is_due(conn):
            await psycopg_pool.AsyncConnectionPool.check_connection(conn)

    async def close(self) -> None:
        """Closes every connection; the next use opens again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def run(self, query: Query[R]) -> R:
        """Runs one query in a transaction of its own; the driver's errors come out as ours."""
        with translated(self.schema):
            async with self.connection() as conn:
                return await run_async(conn, query, self.schema)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
        """Lends a connection; what the block raises comes out unchanged."""
        await self.open()
        assert self._pool is not None
        async with self._pool.connection() as conn:
            yield conn


class BlockingDatabase:
    """A blocking pool that opens itself on first use; usable from any thread."""

    def __init__(self, dsn: str, schema: str, *, max_size: int = 10) -> None:
        self.dsn = dsn
        self.schema = schema
        self.route = Route.DIRECT
        """What lies between us and the server; known once the pool is open."""
        self._max_size = max_size
        self._pool: psycopg_pool.ConnectionPool[psycopg.Connection[Row]] | None = None
        self._opening = threading.Lock()
        self._rested = _Rested()

    def open(self) -> None:
        """Connects and checks the schema; raises at once when either is wrong."""
        if self._pool is None:
            with self._opening:
                if self._pool is None:
                    self._pool = self._opened()

    def _opened(self) -> psycopg_pool.ConnectionPool[psycopg.Connection[Row]]:
        with translated(self.schema):
            with connect_sync(self.dsn) as conn:
                installed = run_sync(conn, installed_version(), self.schema)
                expect_version(installed.version, self.schema)
                self.route = route_sync(conn, self.dsn, installed.session_pid)
            pool = psycopg_pool.ConnectionPool(
                complete_dsn(self.dsn),
                kwargs={
                    "autocommit": True,
                    "prepare_threshold": prepare_threshold(self.route),
                },
                min_size=0,
                max_size=self._max_size,
                timeout=_TIMEOUT_S,
                open=False,
                check=self._check,
            )
            pool.open()
        return pool

    def _check(self, conn: psycopg.Connection[Row]) -> None:
        if self._rested.is_due(conn):
            psycopg_pool.ConnectionPool.check_connection(conn)

    def close(self) -> None:
        """Closes every connection; the next use opens again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def run(self, query: Query[R]) -> R:
        """Runs one query in a transaction of its own."""
        with translated(self.schema), self.connection() as conn:
            return run_sync(conn, query, self.schema)

    def run_for_sure(self, query: Query[R]) -> R:
        """Runs one query again when a rival's locks made the server end it: a deadlock."""
        for _ in range(_TRIES):
            with (
                translated(self.schema),
                suppress(psycopg.errors.DeadlockDetected),
                self.connection() as conn,
            ):
                return run_sync(conn, query, self.schema)
        return self.run(query)

    def run_all(self, queries: Sequence[Query[R]]) -> list[R]:
        """Runs several queries, one after the other, on one connection."""
        with translated(self.schema), self.connection() as conn:
            return [run_sync(conn, query, self.schema) for query in queries]

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Row]]:
        """Lends a connection; what the block raises comes out unchanged."""
        self.open()
        assert self._pool is not None
        with self._pool.connection() as conn:
            yield conn
