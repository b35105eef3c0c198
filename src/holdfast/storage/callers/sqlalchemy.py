"""SQLAlchemy: sessions and connections, blocking and async, on any driver for PostgreSQL."""

from __future__ import annotations

from typing import Any

from holdfast.storage.callers.adapter import Adapter, Kind, Params, class_names
from holdfast.storage.callers.render import render
from holdfast.storage.query import Row


class SqlalchemyAdapter(Adapter):
    """Runs on the session's own connection, in the style of its driver."""

    def kind(self, conn: object) -> Kind | None:
        """Knows Session, Connection, AsyncSession, AsyncConnection, and scoped sessions."""
        names = class_names(conn, "sqlalchemy")
        if names & {"AsyncSession", "async_scoped_session", "AsyncConnection"}:
            return "async"
        return "blocking" if names & {"Session", "scoped_session", "Connection"} else None

    async def fetch(self, conn: Any, text: str, params: Params) -> list[Row]:
        """Runs on an AsyncSession or AsyncConnection."""
        if not hasattr(conn, "exec_driver_sql"):
            conn = await conn.connection()
        result = await conn.exec_driver_sql(*render(text, params, conn.dialect.paramstyle))
        return [tuple(row) for row in result]

    def fetch_sync(self, conn: Any, text: str, params: Params) -> list[Row]:
        """Runs on a Session or Connection."""
        if not hasattr(conn, "exec_driver_sql"):
            conn = conn.connection()
        result = conn.exec_driver_sql(*render(text, params, conn.dialect.paramstyle))
        return [tuple(row) for row in result]
