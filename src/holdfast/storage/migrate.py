"""Numbered, forward-only migrations: applied once, in order, by one process at a time."""

from __future__ import annotations

import hashlib
import shlex
import time
from typing import NamedTuple

import psycopg

from holdfast.errors import DatabaseError, SchemaMissing, SchemaTooNew, SchemaTooOld
from holdfast.storage.connect import connect_sync
from holdfast.storage.failures import translated
from holdfast.storage.query import Query, Row, run_sync
from holdfast.storage.statements import check_schema, migrations, quoted, script
from holdfast.storage.workers import make_partitions

DAYS_AHEAD = 7
_WAIT_S = 60.0
_ASK_EVERY_S = 0.1


def latest_version() -> int:
    """Returns the schema version this package needs."""
    return migrations()[-1][0]


class Installed(NamedTuple):
    """The newest applied migration, 0 when none is, and the server session that answered."""

    version: int
    session_pid: int


def installed_version() -> Query[Installed]:
    """Reads the newest applied migration; the statement fails when the schema is missing."""
    return Query("schema/version", lambda rows: Installed(rows[0][0] or 0, rows[0][1]))


def expect_version(version: int, schema: str) -> None:
    """Raises unless the installed version is the one this package needs."""
    needed = latest_version()
    what = f"schema {schema!r} has version {version}, this holdfast needs {needed}"
    if version == 0:
        raise SchemaMissing(f"schema {schema!r} is empty", _remedy(schema))
    if version < needed:
        raise SchemaTooOld(what, _remedy(schema))
    if version > needed:
        raise SchemaTooNew(what)


def _remedy(schema: str) -> str:
    option = "" if schema == "holdfast" else f" --schema {shlex.quote(schema)}"
    return f"Run `holdfast db migrate{option}`."


def read_version(dsn: str, schema: str) -> int:
    """Returns the installed version; 0 when the schema is missing."""
    with translated(schema), connect_sync(dsn, "migrate") as conn:
        return _version(conn, schema)


def migrate(dsn: str, schema: str) -> list[int]:
    """Brings the schema to this package's version; returns the versions applied.

    Safe to call from many processes at once and again and again: an advisory lock admits one at a
    time, all in one transaction, and what is applied is skipped. The lock is asked for, never
    waited for inside a statement or a transaction, so that no snapshot is held meanwhile; it ends
    with the transaction, also where a pooler would keep the session.
    """
    check_schema(schema)
    deadline = time.monotonic() + _WAIT_S
    with translated(schema), connect_sync(dsn, "migrate") as conn:
        while (applied := _migrated(conn, schema)) is None:
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"another migration of schema {schema!r} has been running for {_WAIT_S:.0f} s",
                    "Wait for it, or end its session (application_name 'holdfast migrate').",
                )
            time.sleep(_ASK_EVERY_S)
        run_sync(conn, make_partitions(DAYS_AHEAD), schema)
        return applied


def _migrated(conn: psycopg.Connection[Row], schema: str) -> list[int] | None:
    """Applies what is missing in one transaction; None while somebody else does."""
    with conn.transaction():
        if not _locked(conn, schema):
            return None
        current = _version(conn, schema)
        if current > latest_version():
            expect_version(current, schema)
        if current == 0:
            conn.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        applied = []
        for version, name, text in migrations():
            if version > current:
                _apply(conn, schema, version, name, text)
                applied.append(version)
        return applied


def sql(schema: str, *, after: int = 0) -> str:
    """Returns the migrations after a version as one script, for other migration tools."""
    check_schema(schema)
    parts = ["BEGIN;"]
    if after == 0:
        parts.append(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};")
    for version, name, text in migrations():
        if version > after:
            parts += [script(text, schema).strip(), _note(schema, version, name, text) + ";"]
    return "\n\n".join([*parts, "COMMIT;", ""])


def _apply(conn: psycopg.Connection[Row], schema: str, version: int, name: str, text: str) -> None:
    conn.execute(script(text, schema).encode())
    conn.execute(_note(schema, version, name, text).encode())


def _note(schema: str, version: int, name: str, text: str) -> str:
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return (
        f"INSERT INTO {quoted(schema)}.migration (version, name, checksum) "
        f"VALUES ({version}, '{name}', '{checksum}')"
    )


def _version(conn: psycopg.Connection[Row], schema: str) -> int:
    try:
        with conn.transaction():
            return run_sync(conn, installed_version(), schema).version
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return 0


def _locked(conn: psycopg.Connection[Row], schema: str) -> bool:
    digest = hashlib.blake2b(f"{schema}/migrate".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "big") >> 1
    row = conn.execute("SELECT pg_try_advisory_xact_lock(%s)", [key]).fetchone()
    return row is not None and bool(row[0])
