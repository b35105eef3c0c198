"""The connection of a supervisor: its session lock, its heartbeats, its rescues."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import psycopg

from holdfast.storage.connect import BOUNDED, connect_lease, set_lease
from holdfast.storage.failures import translated
from holdfast.storage.pooler import Route, route_sync
from holdfast.storage.query import Query, R, Row, run_set_sync, run_sync
from holdfast.storage.workers import (
    Beat,
    Registration,
    beat,
    register,
    release,
    take_lock,
    worker_exists,
)


class LeaseConnection:
    """A connection with a session lock; reopened on demand; usable from any thread.

    Behind a pooler in transaction mode there is no lock: it would stay with a session of the
    pooler's when we are dead, and we would look alive. Then only the lease row counts.
    """

    def __init__(self, dsn: str, schema: str, supervisor_id: int) -> None:
        self._dsn = dsn
        self._schema = schema
        self._supervisor_id = supervisor_id
        self._conn: psycopg.Connection[Row] | None = None
        self._guard = threading.RLock()
        self._locked = False
        self._route = Route.DIRECT

    @property
    def is_direct(self) -> bool:
        """Whether what refuses a connection is the server itself, and nothing before it."""
        return self._route is Route.DIRECT

    def open(self) -> None:
        """Connects and takes the lock, unless connected."""
        with self._guard, translated(self._schema):
            if self._conn is None or self._conn.closed:
                self._conn = self._connected()
                self._locked = False
            if not self._locked and not self._route.is_shared:
                # Refused while the server has not noticed that our last session is gone: the lock
                # is still ours in the eyes of the others, and each heartbeat asks again.
                query = take_lock(self._schema, self._supervisor_id)
                self._locked = run_sync(self._conn, query, self._schema)

    def _connected(self) -> psycopg.Connection[Row]:
        conn = connect_lease(self._dsn)
        try:
            self._route = route_sync(conn, self._dsn)
            if not self._route.is_shared:
                set_lease(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def close(self) -> None:
        """Closes the connection, which gives the lock back."""
        with self._guard:
            conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def register(self, new: Registration) -> None:
        """Adds a worker's row."""
        with self._guard:
            self.open()
            self._run(register(new, self._schema, locked=not self._route.is_shared))

    def beat(self, *, lease_s: float, grace_s: float) -> Beat:
        """Renews the leases and reports on everybody else's."""
        return self._run(beat(self._supervisor_id, lease_s=lease_s, grace_s=grace_s))

    def release(self, worker_ids: Sequence[int], **how: Any) -> dict[int, str]:
        """Takes the jobs of dead workers away from them."""
        return self._run(release(worker_ids, self._schema, **how))

    def exists(self, worker_id: int) -> bool:
        """Whether the worker still has a row."""
        return self._run(worker_exists(worker_id))

    def _run(self, query: Query[R]) -> R:
        with self._guard, translated(self._schema):
            self.open()
            assert self._conn is not None
            if self._route.is_shared:
                return run_set_sync(self._conn, query, self._schema, BOUNDED)
            return run_sync(self._conn, query, self._schema)
