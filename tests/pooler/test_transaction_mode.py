"""Everything works behind a real PgBouncer in transaction mode, whose sessions change hands.

The pool has three server sessions for some ten clients, so that they really are shared.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql

from fixtures.looking import counters, ended, instantly, outcomes, reached
from fixtures.pgbouncer import Pooled
from fixtures.running import eventually, journal_of, running
from holdfast import BlockingContext, Context, Holdfast, JobCancelled
from holdfast.runtime import lease
from holdfast.storage.migrate import latest_version, migrate, read_version
from holdfast.storage.workers import Registration

DEFAULTS = ("on", "0", "on", "0", "auto")


@pytest.fixture
def app(pooled: Pooled) -> Iterator[Holdfast]:
    """An application whose every connection goes through the pooler, which is clean at the end."""
    application = Holdfast(pooled.dsn, schema=pooled.schema)
    yield application
    application.close_sync()
    assert_clean(pooled)


def assert_clean(pooled: Pooled) -> None:
    """No setting, prepared statement, LISTEN or lock is left, and nothing met a stranger's."""
    found = pooled.pgbouncer.leftovers()
    assert len({row[0] for row in found}) == pooled.pgbouncer.size
    assert {row[1:6] for row in found} == {DEFAULTS}
    assert {row[6:] for row in found} == {(0, 0, 0)}
    assert "prepared statement" not in pooled.pgbouncer.log


@asynccontextmanager
async def bustle(pooled: Pooled, clients: int = 6) -> AsyncIterator[None]:
    """Strangers who use the pooled sessions in between, and would trip over what is left there."""
    done = asyncio.Event()

    async def use() -> None:
        async with await psycopg.AsyncConnection.connect(pooled.dsn, autocommit=True) as conn:
            conn.prepare_threshold = None
            while not done.is_set():
                cursor = await conn.execute("SHOW enable_seqscan")
                assert await cursor.fetchone() == ("on",)
                await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(use())
        yield
        done.set()


# --- The schema -----------------------------------------------------------------------------------


def test_f28_migrating_needs_no_session_of_its_own(pooled: Pooled) -> None:
    schema = f"{pooled.schema}-new"
    try:
        assert migrate(pooled.dsn, schema) == list(range(1, latest_version() + 1))
        assert migrate(pooled.dsn, schema) == []
        assert read_version(pooled.dsn, schema) == latest_version()
        assert_clean(pooled)
    finally:
        pooled.direct.admin.execute(
            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
        )


async def test_f28_migrations_through_the_pooler_admit_one_at_a_time(pooled: Pooled) -> None:
    schema = f"{pooled.schema}-new"
    try:
        async with bustle(pooled), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(asyncio.to_thread(migrate, pooled.dsn, schema)) for _ in range(5)
            ]
        applied = sorted((task.result() for task in tasks), key=len)
        assert applied == [[], [], [], [], list(range(1, latest_version() + 1))]
        assert_clean(pooled)
    finally:
        pooled.direct.admin.execute(
            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
        )


# --- Jobs -----------------------------------------------------------------------------------------


async def test_f28_jobs_with_steps_waits_and_failures_run_while_strangers_use_the_sessions(
    app: Holdfast, pooled: Pooled
) -> None:
    async def one(n: int) -> int:
        return n

    @app.job(backoff=instantly)
    async def work(ctx: Context, n: int) -> int:
        values = await ctx.map(one, list(range(5)), key=str)
        await ctx.progress(1, 2, "half")
        await ctx.sleep(0.01)
        if ctx.attempt == 1 and n % 3 == 0:
            raise RuntimeError("once more")
        return n + await ctx.step(one, sum(values))

    async with bustle(pooled), running(app, queues={"default": 20}):
        first = await work.enqueue(0)
        many = await app.enqueue_many([work.new(n) for n in range(1, 40)])
        last = await asyncio.to_thread(work.enqueue_sync, 40)
        handles = [first, *many, last]
        results = await asyncio.gather(*(handle.result(timeout=30) for handle in handles))
        assert results == [n + 10 for n in range(41)]
        assert await asyncio.to_thread(last.result_sync, timeout=10) == 50
    assert counters(pooled.direct, first.id) == ("completed", 1, 0, 0)
    assert len(journal_of(pooled.direct, first.id)) == 7
    assert pooled.execute("SELECT count(*) FROM holdfast.job") == [(0,)]


async def test_f28_a_parked_job_resumes_and_progress_is_kept(app: Holdfast, pooled: Pooled) -> None:
    @app.job()
    async def park(ctx: Context) -> str:
        await ctx.progress(0.5, "before")
        await ctx.sleep("1h")
        return "woken"

    async with running(app):
        handle = await park.enqueue()
        job = await ended(app, handle.id, "waiting")
        assert (job.progress, job.progress_text) == (0.5, "before")
        pooled.direct.move_time("1 hour")
        assert await handle.result(timeout=10) == "woken"


async def test_f28_a_running_job_is_cancelled_by_polling(app: Holdfast) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @app.job()
    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        assert await handle.cancel("enough") == "executing"
        await reached(stopped)
        with pytest.raises(JobCancelled, match="enough"):
            await handle.result(timeout=10)


async def test_f28_a_transaction_step_commits_once_with_the_users_rows(
    app: Holdfast, pooled: Pooled
) -> None:
    book = sql.Identifier(pooled.schema, "book")
    insert = sql.SQL("INSERT INTO {} (title) VALUES (%s) RETURNING id").format(book)

    @app.job(backoff=instantly)
    async def write(ctx: Context, title: str) -> int:
        async with ctx.transaction("save") as conn:
            row = await (await conn.execute(insert, [title])).fetchone()
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        return row[0]

    @app.job(backoff=instantly)
    def write_blocking(ctx: BlockingContext, title: str) -> int:
        with ctx.transaction("save") as conn:
            row = conn.execute(insert, [title]).fetchone()
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        return row[0]

    pooled.execute("CREATE TABLE holdfast.book (id serial, title text)")
    try:
        async with bustle(pooled), running(app):
            handles = [await write.enqueue(f"a{n}") for n in range(10)]
            handles += [await write_blocking.enqueue(f"b{n}") for n in range(5)]
            for handle in handles:
                await handle.result(timeout=20)
        titles = [row[0] for row in pooled.execute("SELECT title FROM holdfast.book")]
        assert sorted(titles) == sorted([f"a{n}" for n in range(10)] + [f"b{n}" for n in range(5)])
    finally:
        pooled.execute("DROP TABLE holdfast.book")


async def test_f28_a_rejected_row_fails_alone_and_leaves_the_session_usable(
    app: Holdfast, pooled: Pooled
) -> None:
    """An error in the middle of an exchange ends its transaction, settings and all."""
    pooled.execute(
        "CREATE FUNCTION holdfast.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE check_violation USING MESSAGE = 'not this one'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON holdfast.step FOR EACH ROW "
        "WHEN (NEW.key LIKE '%bad%') EXECUTE FUNCTION holdfast.refuse()"
    )

    async def good() -> int:
        return 1

    async def bad() -> int:
        return 2

    @app.job(max_attempts=1)
    async def work(ctx: Context, *, wrong: bool) -> int:
        return await ctx.step(bad if wrong else good)

    try:
        async with running(app, queues={"default": 20}):
            handles = await app.enqueue_many([work.new(wrong=n % 5 == 0) for n in range(20)])
            good_ones = [h for n, h in enumerate(handles) if n % 5]
            results = [await handle.result(timeout=20) for handle in good_ones]
            assert results == [1] * 16
            await ended(app, handles[0].id, "discarded")
    finally:
        pooled.execute("DROP TRIGGER refuse ON holdfast.step; DROP FUNCTION holdfast.refuse()")


# --- Workers --------------------------------------------------------------------------------------


async def test_f28_two_workers_share_the_jobs_and_hold_no_lock(
    app: Holdfast, pooled: Pooled, caplog: pytest.LogCaptureFixture
) -> None:
    @app.job()
    async def work(n: int) -> int:
        await asyncio.sleep(0.05)
        return n

    with caplog.at_level(logging.WARNING, "holdfast"):
        async with running(app, queues={"default": 2}), running(app, queues={"default": 2}):
            handles = await app.enqueue_many([work.new(n) for n in range(30)])
            assert [await handle.result(timeout=20) for handle in handles] == list(range(30))
            locks = "SELECT lock_key FROM holdfast.worker"
            assert pooled.execute(locks) == [(None,), (None,)]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all(line.startswith("worker.pooled behind a pooler in transaction") for line in said)


async def test_f28_a_dead_worker_is_known_by_its_lease_row(app: Holdfast, pooled: Pooled) -> None:
    @app.job()
    async def work() -> str:
        return "rescued"

    handle = await work.enqueue()
    pooled.execute(
        "INSERT INTO holdfast.worker (id, supervisor_id, pid, host, app, started_at, renewed_at,"
        " expires_at, queues, job_names) VALUES (77, 77, 1, 'gone', 'gone', now(), now(),"
        " now() - interval '1 second', '{}', '{}')"
    )
    pooled.execute(
        "UPDATE holdfast.job SET state = 'executing', worker_id = 77, epoch = 1,"
        " started_at = now() WHERE id = %s",
        [handle.id],
    )
    async with running(app):
        assert await handle.result(timeout=25) == "rescued"
    assert outcomes(pooled.direct, handle.id)[0] == ("crashed", "crash")


async def test_f28_an_outage_of_the_pooler_is_survived(app: Holdfast, pooled: Pooled) -> None:
    released = asyncio.Event()

    @app.job()
    async def work() -> str:
        await released.wait()
        return "done"

    async with running(app):
        handle = await work.enqueue()
        await ended(app, handle.id, "executing")
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%s)"
        pids = [row[0] for row in pooled.pgbouncer.leftovers()]
        pooled.execute(terminate, [pids])
        released.set()
        await eventually(lambda: counters(pooled.direct, handle.id)[0] == "completed", within=20)


async def test_f28_a_pooler_that_refuses_does_not_stop_the_clock_of_the_lease(
    db, pgbouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that refuses lets nobody take our jobs; past a pooler others may still reach it."""
    monkeypatch.setattr(lease, "GIVE_UP_S", 2.5)
    bouncer = pgbouncer("transaction")
    lost: list[set[int]] = []
    keeper = lease.LeaseKeeper(bouncer.dsn, db.schema, lost=lost.append)
    await asyncio.to_thread(keeper.start)
    try:
        new = Registration(1, keeper.supervisor_id, 1, "h", "a", None, {}, [], lease.LEASE_S)
        await asyncio.to_thread(keeper.register, new)
        await asyncio.to_thread(bouncer.close)
        await eventually(lambda: lost == [{1}])
    finally:
        await asyncio.to_thread(keeper.stop)
