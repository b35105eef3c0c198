"""Recognising a connection pooler between us and the server, such as PgBouncer.

Behind a pooler the process id that came with the connection is invented, and differs from the one
the server answers with. In its *session* mode everything works as without it. In its *transaction*
mode each transaction may run in another server session, shared with other clients: whatever one
leaves behind there (a setting, a session lock, a prepared statement, a LISTEN) meets strangers or
outlives its owner, so nothing may be left, and notifications never arrive.

Found out once for each DSN and process, by what the pooler does, not by what it says it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from secrets import token_hex
from typing import Any

import psycopg
from psycopg import sql

from holdfast.errors import DatabaseError
from holdfast.storage.connect import connect_async
from holdfast.storage.query import Query, Row, run_async, run_sync

log = logging.getLogger("holdfast.pooler")

_PROBE_S = 3.0
_ECHO_S = 1.0
_CLEAN_TRIES = 50
_CLEAN_PAUSE_S = 0.02


class Route(Enum):
    """What lies between us and the server."""

    DIRECT = "direct"
    SESSION = "session"
    TRANSACTION = "transaction"

    @property
    def is_shared(self) -> bool:
        """Whether server sessions change hands between transactions: nothing may stay in them."""
        return self is Route.TRANSACTION


_known: dict[str, Route] = {}


def session_pid() -> Query[int]:
    """Reads which server session answers."""
    return Query("schema/session", lambda rows: int(rows[0][0]))


async def route_async(
    conn: psycopg.AsyncConnection[Row], dsn: str, pid: int | None = None
) -> Route:
    """Returns the route of `dsn`, to which `conn` is connected, and fits the connection to it.

    `pid` is the answer of `session_pid` where another statement has brought it along. Raises
    `DatabaseError` behind a pooler in statement mode, with which transactions are impossible.
    """
    route = _known.get(dsn)
    if route is None:
        answered = await run_async(conn, session_pid(), "") if pid is None else pid
        direct = answered == conn.info.backend_pid
        route = _known[dsn] = Route.DIRECT if direct else await _probed(dsn)
    _fit(conn, route)
    return route


def route_sync(conn: psycopg.Connection[Row], dsn: str, pid: int | None = None) -> Route:
    """Returns the route of `dsn`, blocking; see `route_async`."""
    route = _known.get(dsn)
    if route is None:
        answered = run_sync(conn, session_pid(), "") if pid is None else pid
        direct = answered == conn.info.backend_pid
        route = _known[dsn] = Route.DIRECT if direct else _blocking(_probed(dsn))
    _fit(conn, route)
    return route


def prepare_threshold(route: Route) -> int | None:
    """Returns after how many runs a statement may be prepared by itself; None: none may be."""
    return None if route.is_shared else 5


def _fit(conn: psycopg.AsyncConnection[Row] | psycopg.Connection[Row], route: Route) -> None:
    conn.prepare_threshold = prepare_threshold(route)


def _blocking(work: Coroutine[Any, Any, Route]) -> Route:
    """Runs the probe for a blocking caller, in whatever thread or event loop it may be."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _probed(dsn: str) -> Route:
    """Returns the mode of the pooler that `dsn` leads to.

    Bounded; a pooler that does not answer in time counts as one in transaction mode, because what
    we do there works in every mode.
    """
    try:
        async with (
            asyncio.timeout(_PROBE_S),
            await connect_async(dsn) as ours,
            await connect_async(dsn) as other,
        ):
            shared = await _shares_sessions(ours, other) or not await _hears(ours, other)
    except TimeoutError:
        shared = True
    except psycopg.Error as error:
        if "statement pooling mode" not in str(error):
            raise
        raise DatabaseError(
            "the pooler before the database is in statement mode, which allows no transactions",
            "Set pool_mode = transaction, or session, for this database, or connect directly.",
        ) from error
    return Route.TRANSACTION if shared else Route.SESSION


async def _shares_sessions(
    ours: psycopg.AsyncConnection[Row], other: psycopg.AsyncConnection[Row]
) -> bool:
    """Whether the server session we were in is seen to serve another client, or we another one.

    Certain when true, and nothing is left behind. Otherwise the pooler may just be busy.
    """
    before = await run_async(ours, session_pid(), "")
    async with other.transaction():
        if await run_async(other, session_pid(), "") == before:
            return True
        return await run_async(ours, session_pid(), "") != before


async def _hears(ours: psycopg.AsyncConnection[Row], other: psycopg.AsyncConnection[Row]) -> bool:
    """Whether a notification from one connection reaches the other."""
    channel = f"holdfast probe {token_hex(8)}"
    async with ours.pipeline():
        # One round trip is one transaction: both run in the same server session.
        await ours.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        cursor = await ours.execute("SELECT pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    try:
        await other.execute("SELECT pg_notify(%s, '')", [channel])
        return any([True async for _ in ours.notifies(timeout=_ECHO_S, stop_after=1)])
    finally:
        await _stop_listening(ours, channel, row[0])


async def _stop_listening(conn: psycopg.AsyncConnection[Row], channel: str, pid: int) -> None:
    """Ends the LISTEN in the server session that has it, if the pooler gives it to us again."""
    unlisten = sql.SQL("UNLISTEN {}").format(sql.Identifier(channel))
    for _ in range(_CLEAN_TRIES):
        async with conn.pipeline():
            await conn.execute(unlisten)
            cursor = await conn.execute("SELECT pg_backend_pid()")
        row = await cursor.fetchone()
        if row is not None and row[0] == pid:
            return
        await asyncio.sleep(_CLEAN_PAUSE_S)
    log.warning("pooler.probe_left session %d listens to a channel that nobody uses", pid)
