"""A pooler is recognised by what it does: busy or idle, and without a trace in its sessions."""

import asyncio
from contextlib import ExitStack

import psycopg
import pytest

from holdfast import Holdfast
from holdfast.errors import DatabaseError
from holdfast.storage import pooler
from holdfast.storage.connect import connect_async, connect_sync
from holdfast.storage.database import BlockingDatabase, Database
from holdfast.storage.pooler import Route, route_async, route_sync


async def asked(dsn: str) -> Route:
    """What an async connection finds out, remembering nothing."""
    pooler._known.pop(dsn, None)
    async with await connect_async(dsn) as conn:
        return await route_async(conn, dsn)


def asked_blocking(dsn: str) -> Route:
    """What a blocking connection finds out, remembering nothing."""
    pooler._known.pop(dsn, None)
    with connect_sync(dsn) as conn:
        return route_sync(conn, dsn)


@pytest.mark.parametrize(
    ("mode", "route"), [("transaction", Route.TRANSACTION), ("session", Route.SESSION)]
)
async def test_f28_an_idle_pooler_is_recognised_by_either_kind_of_connection(
    pgbouncer, mode: str, route: Route
) -> None:
    bouncer = pgbouncer(mode, 10)
    assert await asked(bouncer.dsn) is route
    # Also from a thread, and from a coroutine that blocks its loop.
    assert await asyncio.to_thread(asked_blocking, bouncer.dsn) is route
    assert asked_blocking(bouncer.dsn) is route
    assert {row[6:] for row in bouncer.leftovers()} == {(0, 0, 0)}


async def test_f28_a_direct_connection_is_recognised_with_one_question(db) -> None:
    assert await asked(db.dsn) is Route.DIRECT
    assert asked_blocking(db.dsn) is Route.DIRECT
    pooler._known.pop(db.dsn)
    for database in (Database(db.dsn, db.schema), BlockingDatabase(db.dsn, db.schema)):
        opening = database.open()
        if opening is not None:
            await opening
        assert database.route is Route.DIRECT
        closing = database.close()
        if closing is not None:
            await closing


async def test_f28_a_pool_that_others_keep_busy_is_recognised_and_listens_to_nothing(
    pgbouncer,
) -> None:
    bouncer = pgbouncer("transaction", 4)
    done = asyncio.Event()

    async def bustle() -> None:
        async with await psycopg.AsyncConnection.connect(bouncer.dsn, autocommit=True) as conn:
            conn.prepare_threshold = None
            while not done.is_set():
                await conn.execute("SELECT pg_sleep(random() * 0.004)")

    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(bustle())
        found = [await asked(bouncer.dsn) for _ in range(10)]
        done.set()
    assert found == [Route.TRANSACTION] * 10
    assert [row[7] for row in bouncer.leftovers()] == [0] * 4


async def test_f28_the_echo_decides_where_the_sessions_do_not_tell(
    pgbouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unseen(ours: object, other: object) -> bool:
        return False

    monkeypatch.setattr(pooler, "_shares_sessions", unseen)
    for mode, route in (("transaction", Route.TRANSACTION), ("session", Route.SESSION)):
        bouncer = pgbouncer(mode)
        assert await asked(bouncer.dsn) is route
        assert [row[7] for row in bouncer.leftovers()] == [0] * bouncer.size


async def test_f28_a_pooler_that_gives_us_no_second_session_in_time_counts_as_transaction_mode(
    pgbouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler, "_PROBE_S", 0.5)
    bouncer = pgbouncer("session", 2)
    with ExitStack() as held:
        held.enter_context(psycopg.connect(bouncer.dsn)).execute("SELECT 1")
        assert await asked(bouncer.dsn) is Route.TRANSACTION


async def test_f28_statement_mode_is_refused_with_the_remedy(pgbouncer, db) -> None:
    bouncer = pgbouncer("statement")
    app = Holdfast(bouncer.dsn, schema=db.schema)
    with pytest.raises(DatabaseError, match="statement mode") as caught:
        await app.__aenter__()
    assert "pool_mode = transaction" in caught.value.hint
    await app.close()
