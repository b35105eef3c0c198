"""Lost leases, foreign encodings, code that lives on: the worker goes on and nobody hangs."""

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fixtures.desk import Desk
from fixtures.looking import counters, eventually_awaited, outcomes
from fixtures.proxy import proxy
from fixtures.running import eventually, running
from holdfast import BlockingContext, Context, Holdfast, LeaseLost, UsageError, step
from holdfast.runtime.lease import GRACE_S, LEASE_S, new_identity
from holdfast.storage.lease import LeaseConnection
from holdfast.storage.workers import lock_key


@pytest.fixture
def latin1(server) -> Iterator[str]:
    """The DSN of a database of this test's own that cannot store most of the world's letters."""
    name = f"latin1_{os.urandom(4).hex()}"
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 "
            "LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        yield make_conninfo(server.dsn, dbname=name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_an_error_text_the_database_cannot_store_harms_no_other_job(latin1: str) -> None:
    app = Holdfast(latin1)
    app.migrate()
    done: set[int] = set()

    @app.job(max_attempts=1)
    async def bad() -> None:
        raise ValueError("日本 €")

    @app.job()
    async def good(n: int) -> None:
        done.add(n)

    async def is_over(job_id: int) -> bool:
        return (await app.client.job(job_id)).shown in ("failed", "attention")

    try:
        async with app.running():
            handle = await bad.enqueue()
            handles = await app.enqueue_many([good.new(n) for n in range(30)])
            for each in handles:
                await each.result(timeout=15)
            await eventually_awaited(lambda: is_over(handle.id), within=15)
            later = await good.enqueue(30)
            await later.result(timeout=15)
    finally:
        await app.close()
        app.close_sync()
    assert done == set(range(31))


async def test_a_worker_declared_dead_takes_a_new_identity_and_runs_jobs_again(
    app: Holdfast, db
) -> None:
    @app.job()
    async def work() -> int:
        return 1

    ids = "SELECT array_agg(id) FROM holdfast.worker"
    desk = Desk(db)
    try:
        async with running(app):
            await (await work.enqueue()).result(timeout=10)
            (first,) = db.value(ids)
            # Called until the row is gone, as a rescuer does.
            await eventually(lambda: desk.release(first) or first not in (db.value(ids) or []))
            assert await (await work.enqueue()).result(timeout=20) == 1
            (second,) = db.value(ids)
    finally:
        desk.close()
    assert second != first


async def test_leaving_the_block_while_the_database_is_away_ends(db) -> None:
    with proxy(db.dsn) as relay:
        app = Holdfast(relay.dsn, schema=db.schema, grace=1)

        @app.job()
        async def work() -> int:
            return 1

        try:
            async with asyncio.timeout(40):
                async with app.running():
                    await (await work.enqueue()).result(timeout=10)
                    relay.cut()
        finally:
            await app.close()
        assert db.value("SELECT count(*) FROM holdfast.job_archive") == 1


async def test_a_lock_refused_at_reconnect_is_asked_for_again_by_the_next_beat(db) -> None:
    supervisor = new_identity()
    key = lock_key(db.schema, supervisor)
    keeper = LeaseConnection(db.dsn, db.schema, supervisor)
    free = "SELECT pg_try_advisory_xact_lock(%s)"
    try:
        with psycopg.connect(db.dsn, autocommit=True) as old:
            old.execute("SELECT pg_advisory_lock(%s)", [key])
            keeper.open()
            keeper.beat(lease_s=LEASE_S, grace_s=GRACE_S)
            old.execute("SELECT pg_advisory_unlock(%s)", [key])
            assert db.value(free, [key]) is True
        keeper.beat(lease_s=LEASE_S, grace_s=GRACE_S)
        assert db.value(free, [key]) is False
    finally:
        keeper.close()


# --- Code of jobs -------------------------------------------------------------------------------


@step
async def fetch(text: str) -> str:
    return text


async def test_a_loop_of_its_own_inside_a_blocking_job_is_told_that_it_cannot_work(
    app: Holdfast,
) -> None:
    async def go() -> str:
        try:
            return await fetch("x")
        except UsageError as error:
            return f"told: {error}"

    @app.job()
    def work() -> str:
        return asyncio.run(go())

    async with running(app):
        handle = await work.enqueue()
        assert (await handle.result(timeout=10)).startswith("told: ")


async def test_a_task_that_outlives_its_job_is_told_that_the_lease_is_lost(app: Holdfast) -> None:
    go_on, stray = asyncio.Event(), []

    @app.job()
    async def work(ctx: Context) -> None:
        async def later() -> str:
            await go_on.wait()
            return await ctx.step(fetch, "x")

        stray.append(asyncio.create_task(later()))

    async with running(app):
        await (await work.enqueue()).result(timeout=10)
        go_on.set()
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(stray[0], 10)


async def test_a_thread_that_outlives_its_job_is_told_that_the_lease_is_lost(app: Holdfast) -> None:
    go_on, told = threading.Event(), []

    @app.job()
    def work(ctx: BlockingContext) -> None:
        def later() -> None:
            go_on.wait(20)
            try:
                ctx.step(fetch, "x")
            except LeaseLost as error:
                told.append(error)

        threading.Thread(target=later, daemon=True).start()

    async with running(app):
        await (await work.enqueue()).result(timeout=10)
        go_on.set()
        await eventually(lambda: told)


async def test_a_loop_that_a_neighbour_blocks_charges_no_timeout(app: Holdfast, db) -> None:
    waiting = asyncio.Event()

    @app.job()
    async def hog() -> None:
        await waiting.wait()
        threading.Event().wait(2.5)  # blocks the loop: that is what is tested

    @app.job(timeout=1, max_attempts=1)
    async def neighbour() -> str:
        waiting.set()
        await asyncio.sleep(0.3)
        return "in time"

    async with running(app):
        blocking = await hog.enqueue()
        handle = await neighbour.enqueue()
        assert await handle.result(timeout=15) == "in time"
        await blocking.result(timeout=15)
    assert counters(db, handle.id)[:2] == ("completed", 0)
    assert outcomes(db, handle.id) in ([], [("completed", None)])


# --- What is kept -------------------------------------------------------------------------------


async def test_concurrent_first_uses_open_one_pool_that_is_closed(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> None:
        pass

    before = asyncio.all_tasks()
    await asyncio.gather(*[work.enqueue() for _ in range(20)])
    await app.close()
    # Tasks and connections of a pool that was replaced by another stay for ever.
    await eventually(lambda: asyncio.all_tasks() == before)
    await eventually(lambda: db.sessions() == 0)
    assert db.value("SELECT count(*) FROM holdfast.job") == 20


async def test_what_a_step_function_holds_is_let_go_with_its_job(app: Holdfast) -> None:
    agents: list[weakref.ref] = []

    class Agent:
        async def think(self) -> int:
            return 1

    @app.job()
    async def work(ctx: Context) -> int:
        agent = Agent()
        agents.append(weakref.ref(agent))

        async def closure() -> int:
            return await agent.think()

        return await ctx.step(agent.think) + await ctx.step(closure)

    async with running(app):
        for handle in await app.enqueue_many([work.new() for _ in range(5)]):
            assert await handle.result(timeout=10) == 2
    assert len(agents) == 5
    await eventually(lambda: gc.collect() >= 0 and not any(ref() for ref in agents))
