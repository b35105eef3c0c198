"""Notifications: one connection that listens, reconnects, and says when it may have missed some.

A notification only wakes; the tables have the truth. So a lost one costs time, never a job.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

from holdfast.storage.connect import connect_async
from holdfast.storage.failures import CONNECTION_ERRORS
from holdfast.storage.query import Row

log = logging.getLogger("holdfast.listen")

_PROBE_S = 20.0
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
        """Listens until cancelled; survives every loss of the connection and says so once."""
        failures = 0
        while True:
            try:
                async with await connect_async(self._dsn) as conn:
                    await self._subscribe(conn)
                    failures = 0
                    await self._receive(conn)
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
