"""asyncpg: a connection, or one that a pool lends."""

from __future__ import annotations

from typing import Any

from holdfast.storage.callers.adapter import Adapter, Kind, Params, class_names
from holdfast.storage.callers.render import render
from holdfast.storage.query import Row


class AsyncpgAdapter(Adapter):
    """Sends texts that the statement casts, so that no codec of the caller's is asked."""

    def kind(self, conn: object) -> Kind | None:
        """Knows Connection and what `pool.acquire()` gives; a pool itself has no transaction."""
        known = {"Connection", "PoolConnectionProxy"}
        return "async" if class_names(conn, "asyncpg") & known else None

    async def fetch(self, conn: Any, text: str, params: Params) -> list[Row]:
        """Runs on an asyncpg connection."""
        statement, values = render(text, params, "numeric_dollar")
        return [tuple(record) for record in await conn.fetch(statement, *values)]
