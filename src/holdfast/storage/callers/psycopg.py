"""psycopg 3: its connections and its cursors, blocking and async."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from holdfast.storage.callers.adapter import Adapter, Kind, Params
from holdfast.storage.query import Row


class PsycopgAdapter(Adapter):
    """Runs on a cursor of its own, so that no row factory and no fetch of the caller is disturbed.

    Never prepares: whether the connection goes through a pooler is the caller's business.
    """

    def kind(self, conn: object) -> Kind | None:
        """Knows Connection, AsyncConnection, and their cursors."""
        if isinstance(conn, (psycopg.AsyncConnection, psycopg.AsyncCursor)):
            return "async"
        return "blocking" if isinstance(conn, (psycopg.Connection, psycopg.Cursor)) else None

    async def fetch(self, conn: Any, text: str, params: Params) -> list[Row]:
        """Runs on an AsyncConnection, or on that of a cursor."""
        async with psycopg.AsyncCursor(_connection(conn), row_factory=tuple_row) as cursor:
            return await (await cursor.execute(text, params, prepare=False)).fetchall()

    def fetch_sync(self, conn: Any, text: str, params: Params) -> list[Row]:
        """Runs on a Connection, or on that of a cursor."""
        with psycopg.Cursor(_connection(conn), row_factory=tuple_row) as cursor:
            return cursor.execute(text, params, prepare=False).fetchall()


def _connection(conn: Any) -> Any:
    return conn if isinstance(conn, psycopg.BaseConnection) else conn.connection
