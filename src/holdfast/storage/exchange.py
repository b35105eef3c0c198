"""The one connection through which a worker process writes and claims.

Several statements travel in one pipeline: one round trip, one transaction, one commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from holdfast.storage.connect import HOT_IN_TRANSACTION, connect_async, set_hot
from holdfast.storage.failures import (
    is_connection_loss,
    is_transient,
    translate,
    translate_value,
)
from holdfast.storage.jobs import disown
from holdfast.storage.pooler import route_async
from holdfast.storage.query import Query, Row, run_pipeline


class Rejected(Exception):
    """The database will not store this batch as it is; nothing of it was written."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(str(cause))


class Exchange:
    """A connection that is opened on demand and replaced when it breaks."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn = dsn
        self._schema = schema
        self._conn: psycopg.AsyncConnection[Row] | None = None
        self._settings: str | None = None

    async def open(self) -> None:
        """Connects, unless connected."""
        if self._conn is None or self._conn.closed:
            conn = await connect_async(self._dsn, "worker")
            try:
                shared = (await route_async(conn, self._dsn)).is_shared
                if not shared:
                    await set_hot(conn)
            except BaseException:
                await conn.close()
                raise
            # In a session that changes hands, each transaction brings its settings along.
            self._settings = HOT_IN_TRANSACTION if shared else None
            self._conn = conn

    async def close(self) -> None:
        """Closes the connection; the next statement opens another."""
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def send(self, queries: Sequence[Query[Any]]) -> list[Any]:
        """Runs the statements in one transaction and one round trip.

        Raises `Rejected` when the values are at fault; anything else means that it is not known
        whether the statements were carried out, and the connection is replaced.
        """
        await self.open()
        assert self._conn is not None
        try:
            return await self._run(queries)
        except psycopg.Error as error:
            if is_connection_loss(error) or self._conn.broken:
                await self.close()
                raise psycopg.OperationalError(str(error)) from error
            if is_transient(error):
                raise
            raise Rejected(translate(error, self._schema)) from error
        except (ValueError, TypeError) as error:
            # Raised while a parameter was written down; what went out before it is committed,
            # and can be sent again.
            await self.close()
            raise Rejected(translate_value(error)) from error
        except BaseException:
            # Cancelled in mid-protocol: the connection's state is unknown.
            await self.close()
            raise

    async def disown(self, worker_id: int, known: Iterable[tuple[int, int]]) -> list[int]:
        """Hands back jobs that the worker owns but does not know."""
        await self.open()
        (moved,) = await self._run([disown(worker_id, self._schema, known)])
        assert isinstance(moved, list)
        return moved

    async def _run(self, queries: Sequence[Query[Any]]) -> list[Any]:
        assert self._conn is not None
        return await run_pipeline(self._conn, queries, self._schema, settings=self._settings)
