"""Notifications: one connection that listens, reconnects, and says when it may have missed some.

A notification only wakes; the tables have the truth. So a lost one costs time, never a job.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence

import psycopg
from psycopg import sql

from holdfast.storage.connect import connect_async, connect_sync
from holdfast.storage.failures import CONNECTION_ERRORS, translated
from holdfast.storage.pooler import route_async, route_sync
from holdfast.storage.query import Query, R, Row, run_sync

log = logging.getLogger("holdfast.listen")

_PROBE_S = 60.0
_POLL_BLIND_S = 0.5
_ECHO_S = 2.0
_MAX_BACKOFF_S = 5.0


class Listener:
    """Listens on channels for as long as `run` runs.

    `heard(kind, payload)` is called for every notification, `caught_up()` after each connect and
    now and then: whoever waits should look for itself. `listening` says whether it works now.
    """

    def __init__(
        self,
        dsn: str,
        schema: str,
        kinds: Sequence[str],
        *,
        heard: Callable[[str, str], None],
        caught_up: Callable[[], None],
    ) -> None:
        self._dsn = dsn
        self._channels = {f"{schema}:{kind}": kind for kind in kinds}
        self._heard = heard
        self._caught_up = caught_up
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Listens until cancelled; survives every loss of the connection and says so once.

        Where sessions are shared no notification would ever arrive: then it never listens.
        """
        failures = 0
        while True:
            try:
                async with await connect_async(self._dsn) as conn:
                    deaf = (await route_async(conn, self._dsn)).is_shared
                    if not deaf:
                        await self._subscribe(conn)
                        failures = 0
                        await self._receive(conn)
                if deaf:
                    await asyncio.Event().wait()
            except CONNECTION_ERRORS as error:
                self.listening.clear()
                failures += 1
                if failures == 1:
                    log.warning("listen.lost polling instead, reconnecting: %s", error)
                await asyncio.sleep(_backoff(failures))

    async def _subscribe(self, conn: psycopg.AsyncConnection[Row]) -> None:
        for channel in self._channels:
            await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self.listening.set()
        self._caught_up()

    async def _receive(self, conn: psycopg.AsyncConnection[Row]) -> None:
        while True:
            async for notice in conn.notifies(timeout=_PROBE_S):
                kind = self._channels.get(notice.channel)
                if kind is not None:
                    self._heard(kind, notice.payload)
            # A half-open connection looks like silence: ask, and look for what was missed.
            await conn.execute("SELECT 1")
            self._caught_up()


def _backoff(failures: int) -> float:
    return random.uniform(0.5, 1.0) * min(_MAX_BACKOFF_S, 0.1 * 2.0 ** min(failures, 10))


def wait_sync(
    dsn: str,
    schema: str,
    kind: str,
    begin: Query[None],
    look: Query[list[R]],
    pauses: Iterator[float],
) -> R:
    """Listens, runs `begin`, and returns the first row `look` finds, blocking.

    Looks again after each notification, and after each pause; where no notification would arrive,
    after half a second at the latest.
    """
    with translated(schema), connect_sync(dsn, "result") as conn:
        deaf = route_sync(conn, dsn).is_shared
        if not deaf:
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"{schema}:{kind}")))
        run_sync(conn, begin, schema)
        for pause in pauses:
            found = run_sync(conn, look, schema)
            if found:
                return found[0]
            if deaf:
                time.sleep(min(pause, _POLL_BLIND_S))
                continue
            for _ in conn.notifies(timeout=pause, stop_after=1):
                pass
    raise AssertionError("pauses never end")


def echo(dsn: str, schema: str) -> float | None:
    """Returns the seconds from a NOTIFY to its arrival at another connection; None: it got lost.

    Not for shared sessions: the LISTEN would stay in one of them.
    """
    channel = f"{schema}:echo"
    with connect_sync(dsn, "doctor") as ours, connect_sync(dsn, "doctor") as other:
        ours.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        sent = time.monotonic()
        other.execute("SELECT pg_notify(%s, '')", [channel])
        for _ in ours.notifies(timeout=_ECHO_S, stop_after=1):
            return time.monotonic() - sent
    return None
