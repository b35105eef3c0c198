"""Operations inside the caller's own transaction, on whatever connection the caller has.

One statement for each operation, written for psycopg and sent in the style of the caller's driver.
We never begin, commit, roll back or retry there. What would abort the transaction is asked before,
by statements that cannot fail, or comes back as a row (`try_enqueue`): so it stays usable.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from holdfast.errors import DatabaseError, InvalidOption, SchemaMissing
from holdfast.model.text import shown
from holdfast.storage.callers.adapter import Adapter, Kind
from holdfast.storage.callers.asyncpg import AsyncpgAdapter
from holdfast.storage.callers.dbapi import DbapiAdapter
from holdfast.storage.callers.psycopg import PsycopgAdapter
from holdfast.storage.callers.sqlalchemy import SqlalchemyAdapter
from holdfast.storage.failures import translated_all
from holdfast.storage.migrate import expect_version, installed_version
from holdfast.storage.query import Query, R, Row
from holdfast.storage.statements import statement

_ADAPTERS: tuple[Adapter, ...] = (
    PsycopgAdapter(),
    SqlalchemyAdapter(),
    AsyncpgAdapter(),
    DbapiAdapter(),  # knows by methods what the others know by name: asked last
)
_ACCEPTED = (
    "Pass a connection, not a pool or an engine: of psycopg, asyncpg or SQLAlchemy (Session, "
    "Connection, AsyncSession, AsyncConnection), a DB-API connection or cursor, or that of "
    "ctx.transaction()."
)


class Callers:
    """Runs operations on callers' connections; knows which schemas it has seen installed."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def run(self, conn: object, query: Query[R], schema: str, *, call: str) -> R:
        """Runs on an async connection; `call` is what the user called, for the error."""
        adapter = _adapter(conn, "async", call)

        async def fetch(asked: Query[Any]) -> Sequence[Row]:
            with translated_all(schema):
                return await adapter.fetch(conn, statement(asked.name, schema), asked.params)

        if schema not in self._seen:
            _expect_usable(await fetch(installed(schema)), schema)
            self._note(schema, await fetch(installed_version()))
        return query.decode(await fetch(query))

    def run_sync(self, conn: object, query: Query[R], schema: str, *, call: str) -> R:
        """Runs on a blocking connection; `call` is what the user called, for the error."""
        adapter = _adapter(conn, "blocking", call)

        def fetch(asked: Query[Any]) -> Sequence[Row]:
            with translated_all(schema):
                return adapter.fetch_sync(conn, statement(asked.name, schema), asked.params)

        if schema not in self._seen:
            _expect_usable(fetch(installed(schema)), schema)
            self._note(schema, fetch(installed_version()))
        return query.decode(fetch(query))

    def _note(self, schema: str, rows: Sequence[Row]) -> None:
        expect_version(installed_version().decode(rows).version, schema)
        self._seen.add(schema)


def check_pairing(kind: Kind, wanted: Kind, call: str) -> None:
    """Raises unless an async connection is used by an async call, and a blocking one by its twin.

    `call` is the name of the function called, with or without `_sync`.
    """
    if kind != wanted:
        name = call.removesuffix("_sync") + ("_sync" if kind == "blocking" else "")
        article = "an" if kind == "async" else "a"
        raise InvalidOption(f"conn is {article} {kind} connection", f"Call {name}() with it.")


def _adapter(conn: object, wanted: Kind, call: str) -> Adapter:
    for adapter in _ADAPTERS:
        kind = adapter.kind(conn)
        if kind is not None:
            check_pairing(kind, wanted, call)
            return adapter
    raise InvalidOption(f"conn={shown(conn)} is not a connection holdfast can use", _ACCEPTED)


def installed(schema: str) -> Query[Any]:
    """Asks whether a schema is there and may be used, by a statement that cannot fail."""
    return Query("schema/installed", list, {"schema": schema})


def _expect_usable(rows: Sequence[Row], schema: str) -> None:
    """Raises for what the next statement would fail on, aborting the caller's transaction."""
    if not rows:
        raise SchemaMissing(
            f"schema {schema!r} is not installed in the database of this connection",
            f"Run `holdfast db migrate --schema {shlex.quote(schema)}` (or set HOLDFAST_SCHEMA).",
        )
    if rows[0] != (True,):
        raise DatabaseError(
            f"the role of this connection may not use schema {schema!r}",
            "GRANT USAGE ON SCHEMA, and SELECT, INSERT, UPDATE, DELETE on its tables, to the role.",
            "42501",
        )
