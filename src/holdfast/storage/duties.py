"""Periodic housekeeping: rows that any worker may take, one at a time, without a leader.

On a connection of its own, opened when something is due: a heartbeat must not wait for it. Each
step is a short transaction, and skips what somebody else has locked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from holdfast.storage.connect import connect_sync
from holdfast.storage.failures import translated
from holdfast.storage.query import run_sync
from holdfast.storage.queues import drop_partition, prune
from holdfast.storage.workers import claim_duty, make_partitions

_PRUNED_AT_ONCE = 1000


def do_duties(dsn: str, schema: str, *, days_ahead: int, stopping: Callable[[], bool]) -> None:
    """Does what is due and nobody else does, until there is no more or `stopping` says so."""
    with translated(schema), connect_sync(dsn, "duties") as conn:
        while not stopping() and (name := run_sync(conn, claim_duty(), schema)) is not None:
            if name == "partitions":
                run_sync(conn, make_partitions(days_ahead), schema)
            elif name == "prune":
                _prune(conn, schema, stopping)


def _prune(conn: psycopg.Connection[Any], schema: str, stopping: Callable[[], bool]) -> None:
    while not stopping() and run_sync(conn, drop_partition(), schema) is not None:
        pass
    while not stopping() and run_sync(conn, prune(_PRUNED_AT_ONCE), schema) is not None:
        pass
