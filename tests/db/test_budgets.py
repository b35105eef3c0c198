"""Statement budgets, counted on the wire: what a job, a step and an idle worker may cost."""

import asyncio
import time
from collections.abc import Callable

import psycopg
import pytest

from fixtures.database import Installation
from fixtures.desk import Desk, completion, lanes_of
from fixtures.running import eventually, running
from fixtures.wire import Counted, Wire
from holdfast import Context, Holdfast
from holdfast.storage.exchange import Exchange
from holdfast.storage.jobs import claim, complete

JOBS = 200
BEAT, CLAIM = "lock_missing_since = NULL", "AS due_in_s"
OWNED = "j.cancel_requested_at IS NOT NULL\nFROM"


def finished(db: Installation, count: int) -> Callable[[], bool]:
    return lambda: db.value("SELECT count(*) FROM holdfast.job_archive") == count


def writes(counted: Counted, text: str) -> int:
    return sum(text in statement for statement in counted.statements)


# --- Enqueue --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 1_000])
async def test_enqueueing_any_number_of_jobs_is_one_statement(
    wire: Wire, wired: Holdfast, db: Installation, count: int
) -> None:
    @wired.job()
    async def work(n: int) -> None: ...

    async with wired:
        await work.enqueue(0)
        with wire.counting() as counted:
            await wired.enqueue_many([work.new(n) for n in range(count)])
    await wired.close()
    sent = [text for text in counted.statements if text]
    assert writes(counted, ".enqueue(") == 1
    # What else a pool sends is its check that the connection lives.
    assert all(".enqueue(" in text or text.strip() == "" for text in sent), sent
    assert counted.transactions == []
    assert db.value("SELECT count(*) FROM holdfast.job") == count + 1


# --- Claim and finish -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 100, 1_000])
async def test_finishing_some_jobs_and_claiming_others_is_one_round_trip_and_one_commit(
    wire: Wire, desk: Desk, count: int
) -> None:
    worker_id = desk.worker()
    desk.enqueue_all([{"name": "work"}] * (2 * count))
    exchange = Exchange(wire.dsn, desk.schema)
    take = claim(worker_id, {"default": count}, lanes_of({"default": 1}))
    (first,) = await exchange.send([take])
    give = complete(worker_id, desk.schema, [completion(job) for job in first.jobs])
    with wire.counting() as counted:
        done, second = await exchange.send([give, take])
    await exchange.close()
    assert (len(done), len(second.jobs)) == (count, count)
    assert (counted.round_trips, counted.transactions) == (1, [])
    assert len(counted.statements) == 2


async def test_draining_many_jobs_takes_few_round_trips(
    wire: Wire, wired: Holdfast, desk: Desk
) -> None:
    @wired.job(name="work")
    async def work() -> None: ...

    desk.enqueue_all([{"name": "work"}] * JOBS)
    with wire.counting() as counted:
        async with running(wired, queues={"default": JOBS}):
            await eventually(finished(desk.db, JOBS))
    # All of them are claimed at once, and what ends while an exchange is in flight shares the next.
    assert 1 <= writes(counted, "DELETE FROM") <= 10
    assert writes(counted, CLAIM) <= 20
    assert counted.transactions == []


# --- Steps ----------------------------------------------------------------------------------------


async def test_a_step_of_a_lonely_job_is_one_round_trip(
    wire: Wire, wired: Holdfast, desk: Desk
) -> None:
    counts: list[int] = []

    async def one(n: int) -> int:
        return n

    @wired.job(name="work")
    async def work(ctx: Context) -> None:
        await ctx.step(one, 0)
        with wire.counting() as counted:
            for n in range(1, 11):
                await ctx.step(one, n)
        counts.extend([writes(counted, "INSERT INTO"), trips_with(counted, ".step ")])

    async with running(wired):
        await work.enqueue()
        await eventually(finished(desk.db, 1))
    assert counts == [10, 10]
    assert desk.db.value("SELECT count(*) FROM holdfast.step") == 11


async def test_fifty_steps_at_once_share_a_few_round_trips(
    wire: Wire, wired: Holdfast, desk: Desk
) -> None:
    counts: list[int] = []

    async def one(n: int) -> int:
        return n

    @wired.job(name="work")
    async def work(ctx: Context) -> list[int]:
        with wire.counting() as counted:
            values = await ctx.map(one, list(range(50)), key=str)
        counts.append(trips_with(counted, ".step "))
        return values

    async with running(wired):
        await work.enqueue()
        await eventually(finished(desk.db, 1))
    assert 1 <= counts[0] <= 5
    assert desk.db.value("SELECT count(*) FROM holdfast.step") == 50


async def test_steps_of_many_jobs_share_round_trips(
    wire: Wire, wired: Holdfast, desk: Desk
) -> None:
    async def one() -> int:
        return 1

    @wired.job(name="work")
    async def work(ctx: Context) -> None:
        await ctx.step(one)

    desk.enqueue_all([{"name": "work"}] * JOBS)
    with wire.counting() as counted:
        async with running(wired, queues={"default": JOBS}):
            await eventually(finished(desk.db, JOBS))
    assert 1 <= trips_with(counted, ".step ") <= 20
    assert desk.db.value("SELECT count(*) FROM holdfast.step") == JOBS


def trips_with(counted: Counted, table: str) -> int:
    """Returns how many round trips wrote into a table."""
    found, wrote = 0, set()
    for message in counted.messages:
        if message.kind in (b"Q", b"E") and "INSERT INTO" in message.text and table in message.text:
            wrote.add(message.connection)
        if message.kind in (b"Q", b"S") and message.connection in wrote:
            wrote.discard(message.connection)
            found += 1
    return found


# --- Idle -----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_idle_worker_says_at_most_one_statement_a_second(
    wire: Wire, wired: Holdfast
) -> None:
    @wired.job(name="work")
    async def work() -> None: ...

    def polled_twice() -> bool:
        polls = [m for m in counted.messages if m.kind == b"E" and CLAIM in m.text]
        return len(polls) >= 3

    async with running(wired):
        await settled(wire)
        with wire.counting() as counted:
            await eventually(polled_twice, within=30)
    beats, claims = counted.rate(BEAT), counted.rate(CLAIM)
    assert beats + claims <= 1.0, (beats, claims)
    others = [text for text in counted.statements if BEAT not in text and CLAIM not in text]
    # The listener asks now and then whether its connection still lives, the worker whether
    # something is its own that it does not know.
    looks = [text for text in others if OWNED in text]
    rest = [text for text in others if OWNED not in text]
    assert len(looks) <= 1, looks
    assert set(rest) <= {"SELECT 1", ""} and len(rest) <= 2, rest


async def settled(wire: Wire) -> None:
    """Returns when a worker has started: it has claimed, and nothing has come for a moment."""
    with wire.counting() as counted:
        await eventually(lambda: writes(counted, CLAIM))
        await eventually(lambda: time.monotonic() - counted.messages[-1].at > 0.3)


async def test_the_relay_counts_what_a_server_runs(wire: Wire) -> None:
    async with await psycopg.AsyncConnection.connect(wire.dsn, autocommit=True) as conn:
        with wire.counting() as counted:
            await conn.execute("SELECT 1")
            await conn.execute("SELECT %s", [1], prepare=True)
            async with conn.pipeline():
                await conn.execute("SELECT %s::int", [2])
                await conn.execute("SELECT %s::int", [3])
            async with conn.transaction():
                await conn.execute("SELECT 4")
    assert len(counted.statements) == 7
    assert len(counted.transactions) == 2
    await asyncio.sleep(0)
