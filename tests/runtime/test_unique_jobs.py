"""Unique jobs from Python: the decorator's rule, that of one enqueue, and what the handle says."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic_core import from_json

from fixtures.looking import ended
from fixtures.running import eventually, running
from holdfast import Discard, Holdfast, InvalidOption, Unique

UNFIT: Any = None
"""A default that does not fit its annotation: it cannot be stored, and is not compared."""

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
)


@pytest.fixture
def research(app: Holdfast) -> Any:
    @app.job(unique=True)
    async def research(topic: str, depth: int = 3, odd: int = UNFIT) -> str:
        return topic

    return research


def count(db: Any) -> object:
    return db.value("SELECT count(*) FROM holdfast.jobs")


# --- The rule -------------------------------------------------------------------------------------


def test_all_arguments_are_compared_with_their_defaults(db: Any, research: Any) -> None:
    first = research.enqueue_sync("cats")
    for same in (
        research.enqueue_sync("cats"),
        research.enqueue_sync("cats", 3),
        research.enqueue_sync(topic="cats", depth=3),
        research.options(unique=True).enqueue_sync(depth=3, topic="cats"),
        research.options(unique=Unique()).enqueue_sync("cats"),
    ):
        assert (same.id, same.conflict, same.replaced) == (first.id, True, False)
    for other in (
        research.enqueue_sync("dogs"),
        research.enqueue_sync("cats", 4),
        research.enqueue_sync("cats", odd=1),
    ):
        assert (other.conflict, other.id != first.id) == (False, True)
    assert count(db) == 4


def test_chosen_arguments_are_compared(db: Any, app: Holdfast) -> None:
    @app.job(unique=Unique(args=["topic", "depth"]))
    async def research(topic: str, depth: int = 3, user: str = "") -> None: ...

    first = research.enqueue_sync("cats", user="ann")
    assert research.enqueue_sync("cats", 3, user="bob").id == first.id
    assert research.enqueue_sync("cats", 4, user="ann").id != first.id
    assert count(db) == 2


def test_no_chosen_argument_means_one_job_of_the_function(db: Any, research: Any) -> None:
    only = research.options(unique=Unique(args=[]))
    assert only.enqueue_sync("cats").id == only.enqueue_sync("dogs", 4).id
    assert count(db) == 1


def test_a_key_is_compared_within_its_job_function(db: Any, app: Holdfast, research: Any) -> None:
    @app.job()
    async def other(topic: str) -> None: ...

    first = research.options(unique="user/7").enqueue_sync("cats")
    assert research.options(unique="user/7").enqueue_sync("dogs").id == first.id
    assert research.options(unique=Unique("user/7")).enqueue_sync("dogs").conflict
    assert not other.options(unique="user/7").enqueue_sync("cats").conflict
    assert not research.options(unique="user/8").enqueue_sync("cats").conflict
    assert count(db) == 3


def test_false_switches_the_rule_of_the_decorator_off(db: Any, research: Any) -> None:
    first = research.enqueue_sync("cats")
    free = research.options(unique=False).enqueue_sync("cats")
    assert (free.conflict, free.id != first.id) == (False, True)
    assert research.enqueue_sync("cats").id == first.id


def test_every_kind_of_argument_can_be_compared(db: Any, app: Holdfast) -> None:
    @app.job(unique=True)
    async def many(
        data: bytes, when: datetime, *rest: int, ratio: float = float("inf"), **more: str
    ) -> None: ...

    at = datetime(2031, 1, 1, tzinfo=UTC)
    first = many.enqueue_sync(b"\x00\xff", at, 1, 2, a="x", b="y")
    assert many.enqueue_sync(b"\x00\xff", at, 1, 2, b="y", a="x").id == first.id
    assert many.enqueue_sync(b"\x00\xff", at, 1, 2, 3, a="x", b="y").id != first.id
    assert many.enqueue_sync(b"\x00\xff", at, 1, 2, ratio=2.0, a="x", b="y").id != first.id


def test_a_name_that_is_no_argument_is_refused_where_it_is_written(
    app: Holdfast, research: Any
) -> None:
    with pytest.raises(InvalidOption, match="no argument 'topci'") as caught:

        @app.job(name="x", unique=Unique(args=["topci"]))
        async def x(topic: str) -> None: ...

    assert caught.value.hint == "Did you mean 'topic'?"
    assert "x" not in app.job_functions
    with pytest.raises(InvalidOption, match="no argument 'dept'") as caught:
        research.options(unique=Unique(args=["dept"]))
    assert caught.value.hint == "Did you mean 'depth'?"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Unique(""),
        lambda: Unique("x" * 257),
        lambda: Unique("a\x00"),
        lambda: Unique("\ud800"),
        lambda: Unique(3),  # type: ignore[arg-type]
        lambda: Unique("k", args=["a"]),
        lambda: Unique(args="topic"),
        lambda: Unique(replace=["queue"]),  # type: ignore[list-item]
        lambda: Unique(replace="args"),  # type: ignore[arg-type]
        lambda: Unique(period=0),
        lambda: Unique(period="soon"),
    ],
)
def test_a_wrong_rule_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        wrong()
    assert caught.value.hint


@pytest.mark.parametrize("wrong", [3, b"k", ["k"], {"key": "k"}])
def test_what_is_no_rule_is_refused(app: Holdfast, research: Any, wrong: Any) -> None:
    with pytest.raises(InvalidOption, match="is not a rule"):
        research.options(unique=wrong)
    with pytest.raises(InvalidOption, match="is not a rule"):
        app.job(unique=wrong)


# --- How long -------------------------------------------------------------------------------------


async def test_a_job_that_ended_can_be_enqueued_again(db: Any, app: Holdfast) -> None:
    release = asyncio.Event()

    @app.job(unique=True, max_attempts=1)
    async def once(how: str) -> str:
        await release.wait()
        if how == "discarded":
            raise Discard("no")
        return how

    async with running(app):
        first = {how: await once.enqueue(how) for how in ("completed", "discarded", "cancelled")}
        for how, handle in first.items():
            again = await once.enqueue(how)
            assert (again.id, again.conflict) == (handle.id, True)
        assert await first["cancelled"].cancel() in ("executing", "cancelled")
        release.set()
        for how, handle in first.items():
            await ended(app, handle.id, how)
            again = await once.enqueue(how)
            assert (again.conflict, again.id != handle.id) == (False, True)
            if how == "cancelled":
                await ended(app, again.id, "completed")


def test_a_period_outlasts_the_job(db: Any, app: Holdfast, research: Any) -> None:
    hourly = research.options(unique=Unique("k", period="1h"))
    first = hourly.enqueue_sync("cats")
    first.cancel_sync()
    db.move_time("59 minutes")
    second = hourly.enqueue_sync("cats")
    assert (second.id, second.conflict) == (first.id, True)
    db.move_time("61 minutes")
    assert not hourly.enqueue_sync("cats").conflict


def test_a_retry_of_a_job_whose_key_is_taken_leaves_it_alone(
    db: Any, app: Holdfast, research: Any
) -> None:
    first = research.enqueue_sync("cats")
    first.cancel_sync()
    second = research.enqueue_sync("cats")
    assert app.retry_sync(first.id) == {first.id: "cancelled"}
    second.cancel_sync()
    assert app.retry_sync(first.id) == {first.id: "available"}


# --- In bulk, and replacing -----------------------------------------------------------------------


async def test_a_batch_is_answered_in_order_with_its_conflicts(
    app: Holdfast, research: Any
) -> None:
    there = await research.enqueue("b")
    requests = [research.new(topic) for topic in "cabcab"]
    handles = await app.enqueue_many(requests)
    assert [handle.conflict for handle in handles] == [False, False, True, True, True, True]
    c, a, b = handles[:3]
    assert [handle.id for handle in handles] == [c.id, a.id, b.id] * 2
    assert b.id == there.id
    assert [(await handle.job()).name for handle in (a, b, c)] == ["research"] * 3
    await app.close()


def test_a_waiting_job_takes_over_what_the_rule_lists(db: Any, research: Any) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    rule = Unique("k", replace=["args", "run_at", "priority"])
    first = research.options(unique="k", priority=7).enqueue_sync("cats")
    left = research.options(unique="k").enqueue_sync("dogs")
    assert (left.id, left.conflict, left.replaced) == (first.id, True, False)
    second = research.options(unique=rule, run_at=at, priority=2).enqueue_sync("dogs", 5)
    assert (second.id, second.conflict, second.replaced) == (first.id, True, True)
    job = first.job_sync()
    assert (job.run_at, job.priority) == (at, 2)
    assert from_json(job.args) == {"topic": "dogs", "depth": 5}


async def test_a_job_moved_forward_runs_at_once_with_its_new_arguments(
    app: Holdfast, research: Any
) -> None:
    async with running(app):
        function = research.options(unique=Unique("k", replace=["args", "run_at", "priority"]))
        first = await function.options(run_in="1h", priority=9).enqueue("cats")
        second = await function.options(priority=0).enqueue("dogs")
        assert second.replaced
        assert await first.result(timeout=20) == "dogs"


# --- Transactions ---------------------------------------------------------------------------------


async def test_nothing_is_lost_when_the_other_transaction_rolls_back(
    db: Any, app: Holdfast, research: Any
) -> None:
    async with await psycopg.AsyncConnection.connect(db.dsn) as conn:
        ours = await research.options(conn=conn).enqueue("cats")
        waiting = asyncio.create_task(research.enqueue("cats"))
        await eventually(lambda: db.value(WAITING, [f"test-{db.schema}"]))
        assert not waiting.done()
        await conn.rollback()
        theirs = await waiting
    assert (theirs.conflict, theirs.id != ours.id) == (False, True)
    assert (await theirs.job()).state == "available"
    await app.close()


async def test_fifty_transactions_make_one_job_although_half_of_them_roll_back(
    db: Any, app: Holdfast, research: Any
) -> None:
    @app.job()
    async def quick(n: int) -> None: ...

    async def one(n: int) -> Any:
        async with await psycopg.AsyncConnection.connect(db.dsn) as conn:
            handle = await quick.options(conn=conn, unique="k").enqueue(n)
            await (conn.rollback() if n % 2 else conn.commit())
            return None if n % 2 else handle

    handles = [handle for handle in await asyncio.gather(*map(one, range(50))) if handle]
    assert len(handles) == 25
    assert len({handle.id for handle in handles}) == 1
    assert [handle.conflict for handle in handles].count(False) == 1
    assert count(db) == 1
    await app.close()
