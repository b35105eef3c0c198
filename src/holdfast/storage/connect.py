"""Opening connections: one place that knows their parameters."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from holdfast.errors import InvalidSettings
from holdfast.storage.query import Row

_DEFAULTS = {"connect_timeout": "5", "application_name": "holdfast", "client_encoding": "utf8"}

# A statement of the hot path must never read a whole table, whatever the statistics say: a plan
# that was cached while the table was empty would, for as long as the connection lives. The generic
# plan is made once, so that no statement is planned again for its parameters.
_HOT = {
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    # Somebody's open transaction may hold the row of one job: the others must not wait for it.
    "lock_timeout": "200ms",
}

# For the connection that holds a supervisor's lock: the client notices a cut network before the
# server does, so that it stops its jobs before anybody may take them.
_LEASE_OPTIONS = {
    "connect_timeout": "2",
    "keepalives_idle": "3",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "3000",
}
_LEASE_SOCKET = {
    "tcp_user_timeout": "5000",
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
}
_BOUND = {"statement_timeout": "5000"}


def _in_session(settings: Mapping[str, str]) -> str:
    """Returns the statements that set something for as long as the connection lives."""
    return "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())


def _in_transaction(settings: Mapping[str, str]) -> str:
    """Returns the statement that sets something until the end of its transaction."""
    calls = (f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return f"SELECT {', '.join(calls)}"


HOT_IN_TRANSACTION = _in_transaction(_HOT)
"""What begins each transaction of a worker's exchange where nothing may stay in the session."""
BOUNDED = _in_transaction(_BOUND)
"""What bounds one statement where nothing may stay in the session."""


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


async def connect_async(dsn: str, purpose: str = "") -> psycopg.AsyncConnection[Row]:
    """Opens a plain autocommit connection, which prepares nothing until its route is known."""
    name = f"holdfast {purpose}".strip()
    return await psycopg.AsyncConnection.connect(
        complete_dsn(dsn, application_name=name), autocommit=True, prepare_threshold=None
    )


async def connect_hot(dsn: str, purpose: str) -> psycopg.AsyncConnection[Row]:
    """Opens a connection to the server itself as a worker's exchange does; for measurements."""
    conn = await connect_async(dsn, purpose)
    conn.prepare_threshold = 5
    await set_hot(conn)
    return conn


async def set_hot(conn: psycopg.AsyncConnection[Row]) -> None:
    """Makes a connection one of an exchange's."""
    await conn.execute(_in_session(_HOT).encode())


def connect_sync(dsn: str, purpose: str = "") -> psycopg.Connection[Row]:
    """Opens a plain autocommit connection, blocking; it prepares nothing."""
    name = f"holdfast {purpose}".strip()
    return psycopg.connect(
        complete_dsn(dsn, application_name=name), autocommit=True, prepare_threshold=None
    )


def connect_lease(dsn: str) -> psycopg.Connection[Row]:
    """Opens the connection of a supervisor's lock and heartbeats, blocking."""
    options = {**_LEASE_OPTIONS, "application_name": "holdfast lease"}
    return psycopg.connect(complete_dsn(dsn, **options), autocommit=True, prepare_threshold=None)


def set_lease(conn: psycopg.Connection[Row]) -> None:
    """Sets the server's side of a supervisor's connection."""
    conn.execute(_in_session({**_LEASE_SOCKET, **_BOUND}).encode())
