"""Examining the database: bounded questions on a connection of their own, one after the other.

Nothing here needs more rights than a worker has; what a plain role may not see is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psycopg

from holdfast.model.health import (
    ArchiveHealth,
    Driver,
    Holder,
    Server,
    Skew,
    Stopped,
    TableHealth,
    Unreachable,
)
from holdfast.storage.connect import BOUNDED, connect_sync
from holdfast.storage.failures import translated
from holdfast.storage.listen import echo
from holdfast.storage.pooler import Route, route_sync
from holdfast.storage.query import Query, R, Row, run_set_sync

_SAMPLES = 5


def server() -> Query[Server]:
    """Reads which server it is; works without the schema."""
    return Query("inspect/server", lambda rows: Server(*rows[0]))


def database_clock() -> Query[float]:
    """Reads the database's clock, in seconds of the Unix epoch."""
    return Query("inspect/clock", lambda rows: float(rows[0][0]))


def xmin_holders() -> Query[list[Holder]]:
    """Reads who keeps vacuum from removing dead rows, oldest first."""
    return Query("inspect/xmin", lambda rows: [Holder(*row) for row in rows])


def hidden_sessions() -> Query[int]:
    """Counts the sessions whose transactions our role may not see."""
    return Query("inspect/hidden", lambda rows: int(rows[0][0]))


def table_health(schema: str) -> Query[list[TableHealth]]:
    """Reads dead rows and sizes of the hot tables."""
    return Query(
        "inspect/bloat", lambda rows: [TableHealth(*row) for row in rows], {"schema": schema}
    )


def archive_health(schema: str, days: int) -> Query[ArchiveHealth]:
    """Reads whether the archive has its partitions, up to `days` from today."""
    params = {"schema": schema, "days": days}
    return Query("inspect/archive", lambda rows: ArchiveHealth(*rows[0]), params)


def unreachable_jobs(late_s: float) -> Query[list[Unreachable]]:
    """Counts the jobs that no live worker can run and that should have begun `late_s` ago."""
    return Query(
        "inspect/unreachable",
        lambda rows: [Unreachable(*row) for row in rows],
        {"late_s": late_s},
    )


def stopped_jobs() -> Query[list[Stopped]]:
    """Counts the jobs that stopped for a person."""
    return Query("inspect/attention", lambda rows: [Stopped(*row) for row in rows])


def driver() -> Driver:
    """Returns the driver of this process."""
    return Driver(psycopg.__version__, psycopg.pq.__impl__)


class Examination:
    """A connection for questions, each of which ends after five seconds; errors are ours."""

    def __init__(self, dsn: str, schema: str) -> None:
        """Connects; raises `DatabaseUnavailable`."""
        self._dsn = dsn
        self._schema = schema
        with translated(schema):
            self._conn: psycopg.Connection[Row] = connect_sync(dsn, "doctor")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._conn.close()

    @property
    def address(self) -> str:
        """Where we are connected, without the password."""
        info = self._conn.info
        return f"{info.user}@{info.host}:{info.port}/{info.dbname}"

    def ask(self, query: Query[R]) -> R:
        """Returns the answer to one question."""
        with translated(self._schema):
            return run_set_sync(self._conn, query, self._schema, BOUNDED)

    def round_trip_s(self) -> float:
        """Returns the quickest of a few round trips."""
        return min(_timed(lambda: self.ask(server()))[1] for _ in range(_SAMPLES))

    def skew(self) -> Skew:
        """Compares the clocks, by the quickest of a few round trips.

        The database read its clock somewhere between question and answer: half of the round trip
        is what the result may be wrong by.
        """
        best = Skew(0.0, float("inf"))
        for _ in range(_SAMPLES):
            asked_at = time.time()
            there, took = _timed(lambda: self.ask(database_clock()))
            if took / 2 < best.error_s:
                best = Skew(there - (asked_at + took / 2), took / 2)
        return best

    def route(self) -> Route:
        """Finds out what lies between us and the server."""
        with translated(self._schema):
            return route_sync(self._conn, self._dsn)

    def notification_s(self) -> float | None:
        """Returns how long a notification took to another connection; None: it got lost."""
        with translated(self._schema):
            return echo(self._dsn, self._schema)


def _timed(work: Callable[[], R]) -> tuple[R, float]:
    begun = time.monotonic()
    result = work()
    return result, time.monotonic() - begun
