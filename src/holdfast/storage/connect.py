"""Opening connections: one place that knows their parameters."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from holdfast.errors import InvalidSettings
from holdfast.storage.query import Row

_DEFAULTS = {"connect_timeout": "5", "application_name": "holdfast", "client_encoding": "utf8"}

# A statement of the hot path must never read a whole table, whatever the statistics say: a plan
# that was cached while the table was empty would, for as long as the connection lives. The generic
# plan is made once, so that no statement is planned again for its parameters.
_HOT = (
    "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; SET jit = off; "
    # Somebody's open transaction may hold the row of one job: the others must not wait for it.
    "SET lock_timeout = '200ms'"
)

# For the connection that holds a supervisor's lock: the client notices a cut network before the
# server does, so that it stops its jobs before anybody may take them.
_LEASE_OPTIONS = {
    "connect_timeout": "2",
    "keepalives_idle": "3",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "3000",
}
_LEASE_SERVER = (
    "SET tcp_user_timeout = 5000; SET tcp_keepalives_idle = 3; "
    "SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; SET statement_timeout = 5000"
)


def complete_dsn(dsn: str, **extra: str) -> str:
    """Returns `dsn` with our defaults where it says nothing."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error as error:
        raise InvalidSettings(
            f"the DSN cannot be read: {str(error).strip()}",
            "It looks like postgresql://user:password@host:5432/database.",
        ) from error
    return make_conninfo(dsn, **{k: v for k, v in {**_DEFAULTS, **extra}.items() if k not in given})


async def connect_async(dsn: str) -> psycopg.AsyncConnection[Row]:
    """Opens a plain autocommit connection."""
    return await psycopg.AsyncConnection.connect(complete_dsn(dsn), autocommit=True)


async def connect_hot(dsn: str, purpose: str) -> psycopg.AsyncConnection[Row]:
    """Opens the connection of a worker's exchange: settled plans, no sequential scans."""
    conn = await psycopg.AsyncConnection.connect(
        complete_dsn(dsn, application_name=f"holdfast {purpose}"), autocommit=True
    )
    await conn.execute(_HOT)
    return conn


def connect_sync(dsn: str, purpose: str = "") -> psycopg.Connection[Row]:
    """Opens a plain autocommit connection, blocking."""
    name = f"holdfast {purpose}".strip()
    return psycopg.connect(complete_dsn(dsn, application_name=name), autocommit=True)


def connect_lease(dsn: str) -> psycopg.Connection[Row]:
    """Opens the connection of a supervisor's lock and heartbeats, blocking."""
    options = {**_LEASE_OPTIONS, "application_name": "holdfast lease"}
    conn = psycopg.connect(complete_dsn(dsn, **options), autocommit=True)
    conn.execute(_LEASE_SERVER)
    return conn
