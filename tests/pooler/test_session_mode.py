"""Behind a PgBouncer in session mode everything is as without it: LISTEN, the lock, and no word."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from fixtures.pgbouncer import Pgbouncer
from fixtures.running import eventually, running
from holdfast import Context, Holdfast, JobCancelled
from holdfast.runtime import worker


@pytest.fixture
def bouncer(pgbouncer) -> Pgbouncer:
    return pgbouncer("session", 20)


@pytest.fixture
def app(bouncer: Pgbouncer, db) -> Iterator[Holdfast]:
    application = Holdfast(bouncer.dsn, schema=db.schema)
    yield application
    application.close_sync()


async def test_f28_session_mode_has_notifications_and_the_lock(
    app: Holdfast, bouncer: Pgbouncer, db, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    # Without notifications nothing would be found within the test's patience.
    monkeypatch.setattr(worker, "_POLL_LISTENING_S", 600.0)
    started = asyncio.Event()

    async def one() -> int:
        return 1

    @app.job()
    async def work(ctx: Context) -> int:
        return await ctx.step(one)

    @app.job()
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING, "holdfast"):
        async with running(app):
            key = await eventually(lambda: db.execute("SELECT lock_key FROM holdfast.worker"))
            assert key[0][0] is not None
            await eventually(lambda: listeners(db) >= 1)
            for _ in range(10):
                assert await (await work.enqueue()).result(timeout=20) == 1
            assert await asyncio.to_thread(work.enqueue_sync().result_sync, timeout=20) == 1
            handle = await endless.enqueue()
            await eventually(started.is_set)
            await handle.cancel()
            with pytest.raises(JobCancelled):
                await handle.result(timeout=20)
    assert caplog.records == []
    # The pooler resets a session that is given back: the lock went with its owner.
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND pid = %s"
    for row in bouncer.leftovers():
        assert row[6:] == (0, 0, 0)
        assert db.value(held, [row[0]]) == 0


def listeners(db) -> int:
    return db.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'")
