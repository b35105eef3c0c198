"""The database restarts, or connections break: nothing is lost, repeated or charged."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from fixtures.looking import counters, reached
from fixtures.running import eventually, running
from holdfast import Context, EmbeddedPostgres, Holdfast
from holdfast.storage.exchange import Exchange
from holdfast.storage.server_binaries import system_bindirs


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that nobody else uses, to be restarted."""
    name = f"own-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    folder = Path(os.environ["HOLDFAST_TEST_ROOT"]) / name
    system = os.environ.get("HOLDFAST_TEST_POSTGRES") == "system"
    bindir = system_bindirs()[0] if system else None
    with EmbeddedPostgres(folder / "pg", bindir=bindir) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_app(own_server: EmbeddedPostgres) -> Iterator[Holdfast]:
    """An application on that server, in a fresh schema."""
    application = Holdfast(own_server.dsn, schema=f"away_{os.urandom(4).hex()}")
    application.migrate()
    yield application
    application.close_sync()


class Ledger:
    """What jobs did, counted outside of the database."""

    def __init__(self) -> None:
        self.starts: Counter[int] = Counter()
        self.steps: Counter[tuple[int, int]] = Counter()

    async def effect(self, job: int, number: int) -> int:
        self.steps[job, number] += 1
        await asyncio.sleep(0)
        return number

    def assert_once(self, jobs: int, steps: int) -> None:
        assert self.starts == dict.fromkeys(range(jobs), 1)
        expected = {(job, number): 1 for job in range(jobs) for number in range(steps)}
        assert self.steps == expected


def rows(app: Holdfast, sql: str) -> list[tuple]:
    """Asks on a session of its own: pooled ones may have been cut a moment ago."""
    with psycopg.connect(app.client.dsn) as conn:
        return conn.execute(sql.replace("holdfast.", f'"{app.settings.schema}".')).fetchall()


def charges(app: Holdfast) -> list[tuple]:
    """The states of all jobs, with what was charged to them."""
    return rows(app, "SELECT DISTINCT state, failures, crashes FROM holdfast.jobs")


def live(app: Holdfast) -> int:
    """How many jobs have something to do."""
    return rows(app, "SELECT count(*) FROM holdfast.job")[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("immediate", [True, False], ids=["crash", "restart"])
async def test_a_restart_of_the_server_loses_repeats_and_charges_nothing(
    own_server: EmbeddedPostgres, own_app: Holdfast, immediate: bool
) -> None:
    ledger = Ledger()

    @own_app.job()
    async def work(ctx: Context, job: int) -> int:
        ledger.starts[job] += 1
        return sum([await ctx.step(ledger.effect, job, number) for number in range(3)])

    async with running(own_app):
        await own_app.enqueue_many([work.new(n) for n in range(1500)])
        await eventually(lambda: len(ledger.starts) > 50)
        await asyncio.to_thread(own_server.restart, immediate=immediate)
        assert len(ledger.starts) < 1500, "the restart came too late to prove anything"
        await eventually(lambda: live(own_app) == 0, within=30)
        assert charges(own_app) == [("completed", 0, 0)]
    ledger.assert_once(1500, 3)


async def test_a_result_is_waited_for_over_a_restart(
    own_server: EmbeddedPostgres, own_app: Holdfast
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @own_app.job()
    async def work() -> str:
        started.set()
        await go_on.wait()
        return "there"

    async with running(own_app):
        handle = await work.enqueue()
        waiter = asyncio.create_task(handle.result(timeout=60))
        await reached(started)
        await eventually(lambda: rows(own_app, "SELECT id FROM holdfast.job WHERE awaited"))
        await asyncio.to_thread(own_server.restart, immediate=True)
        go_on.set()
        assert await waiter == "there"


async def test_a_transaction_cut_off_by_a_restart_is_free_and_happens_once(
    own_server: EmbeddedPostgres, own_app: Holdfast
) -> None:
    table = f'"{own_app.settings.schema}".paid'
    with psycopg.connect(own_server.dsn, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE {table} (n integer)")
    inside, tries = asyncio.Event(), Counter()

    @own_app.job(max_attempts=1)
    async def pay(ctx: Context) -> str:
        tries["pay"] += 1
        async with ctx.transaction() as conn:
            await conn.execute(f"INSERT INTO {table} VALUES (1)")
            if tries["pay"] == 1:
                inside.set()
                await asyncio.to_thread(own_server.restart, immediate=True)
                await conn.execute("SELECT 1")
        return "paid"

    async with running(own_app):
        await pay.enqueue()
        await reached(inside)
        await eventually(lambda: tries["pay"] > 1 and live(own_app) == 0, within=30)
    assert charges(own_app) == [("completed", 0, 0)]
    assert rows(own_app, "SELECT count(*) FROM holdfast.paid") == [(1,)]


@asynccontextmanager
async def faults(monkeypatch: pytest.MonkeyPatch, moment: str, every: int) -> AsyncIterator[list]:
    """Cuts every n-th exchange's connection before its statements go out, or before the answer."""
    send, sent, cut = Exchange.send, [0], []

    async def faulty(self: Exchange, queries: list) -> list:
        sent[0] += 1
        is_cut = sent[0] % every == 0
        if is_cut:
            cut.append([query.name for query in queries])
        if not is_cut or moment == "answer":
            answers = await send(self, queries)
        if is_cut:
            await self.close()
            raise psycopg.OperationalError("the connection is lost")
        return answers

    monkeypatch.setattr(Exchange, "send", faulty)
    yield cut
    monkeypatch.setattr(Exchange, "send", send)


@pytest.mark.parametrize("moment", ["statements", "answer"])
async def test_an_exchange_that_is_lost_repeats_no_job_and_no_step(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    ledger = Ledger()

    @app.job()
    async def work(ctx: Context, job: int) -> int:
        ledger.starts[job] += 1
        await ctx.progress(0.5)
        return sum([await ctx.step(ledger.effect, job, number) for number in range(2)])

    async with faults(monkeypatch, moment, 3) as cut, running(app, queues={"default": 5}):
        handles = await app.enqueue_many([work.new(n) for n in range(60)])
        for handle in handles:
            assert await handle.result(timeout=30) == 1
        assert charges(app) == [("completed", 0, 0)]
    ledger.assert_once(60, 2)
    lost = {name for names in cut for name in names}
    assert {"jobs/claim", "jobs/complete", "steps/record"} <= lost


async def test_jobs_of_a_claim_whose_answer_was_lost_are_handed_back(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    @app.job()
    async def work(n: int) -> None:
        ran.append(n)

    handles = await app.enqueue_many([work.new(n) for n in range(5)])
    async with faults(monkeypatch, "answer", 10_000) as cut:
        monkeypatch.setattr(
            Exchange, "send", _lose_the_answer_to_the_first_claim(Exchange.send, cut)
        )
        async with running(app):
            for handle in handles:
                await handle.result(timeout=10)
    assert len(cut) == 1
    assert sorted(ran) == [0, 1, 2, 3, 4]
    for handle in handles:
        assert counters(db, handle.id) == ("completed", 0, 0, 1)


def _lose_the_answer_to_the_first_claim(send, cut: list):
    async def losing(self: Exchange, queries: list) -> list:
        answers = await send(self, queries)
        names = [query.name for query in queries]
        if not cut and "jobs/claim" in names:
            cut.append(names)
            await self.close()
            raise psycopg.OperationalError("the connection is lost")
        return answers

    return losing


async def test_sessions_that_are_terminated_again_and_again_cost_nothing(app: Holdfast, db) -> None:
    ledger = Ledger()

    @app.job()
    async def work(ctx: Context, job: int) -> int:
        ledger.starts[job] += 1
        return sum([await ctx.step(ledger.effect, job, number) for number in range(2)])

    async with running(app, queues={"default": 5}):
        await app.enqueue_many([work.new(n) for n in range(400)])
        for round_number in range(1, 6):
            await eventually(lambda n=round_number: len(ledger.starts) > n * 30, within=30)
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = %s",
                [f"test-{db.schema}"],
            )
        left = "SELECT count(*) FROM holdfast.job"
        await eventually(lambda: db.value(left) == 0, within=30)
        assert charges(app) == [("completed", 0, 0)]
    ledger.assert_once(400, 2)


async def test_a_write_the_database_rejects_harms_no_other(app: Holdfast, db) -> None:
    db.execute("ALTER TABLE holdfast.job_archive ADD CONSTRAINT t CHECK (codec IS NULL)")
    try:

        @app.job()
        async def work(n: int) -> int | None:
            return 7 if n == 13 else None

        handles = await app.enqueue_many([work.new(n) for n in range(40)])
        async with running(app):
            for handle in handles[:13] + handles[14:]:
                assert await handle.result(timeout=10) is None
            await eventually(lambda: counters(db, handles[13].id)[0] == "attention")
            job = await handles[13].job()
        assert "how it ended could not be stored" in job.wait_detail
    finally:
        db.execute("ALTER TABLE holdfast.job_archive DROP CONSTRAINT t")
