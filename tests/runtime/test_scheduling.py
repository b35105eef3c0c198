"""When and in what order jobs start: times, priorities, slots; and lost or odd notifications."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from fixtures.looking import counters, jump, reached, wake
from fixtures.running import eventually, running
from holdfast import Holdfast
from holdfast.runtime import worker


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker looks only when it is told, or when its own timer says so."""
    monkeypatch.setattr(worker, "_POLL_LISTENING_S", 3600.0)
    monkeypatch.setattr(worker, "_POLL_BLIND_S", 3600.0)


@pytest.mark.parametrize("how", ["run_in", "run_at"])
async def test_a_delayed_job_starts_by_the_timer_and_never_before_its_time(
    app: Holdfast, db, no_polls, how: str
) -> None:
    @app.job()
    async def work() -> None: ...

    if how == "run_in":
        delayed = work.options(run_in="300ms")
    else:
        delayed = work.options(run_at=datetime.now(UTC) + timedelta(seconds=0.3))
    async with running(app):
        handle = await delayed.enqueue()
        assert (await handle.job()).shown == "scheduled"
        await handle.result(timeout=10)
        job = await handle.job()
    assert job.started_at >= job.run_at


async def test_the_timer_follows_a_job_that_is_due_earlier(app: Holdfast, db, no_polls) -> None:
    order: list[str] = []

    @app.job()
    async def work(name: str) -> None:
        order.append(name)

    async with running(app):
        late = await work.options(run_in=0.4).enqueue("late")
        early = await work.options(run_in=0.2).enqueue("early")
        now = await work.enqueue("now")
        for handle in (late, early, now):
            await handle.result(timeout=10)
    assert order == ["now", "early", "late"]


async def test_a_job_of_the_far_future_starts_when_its_time_has_come(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> str:
        return "ran"

    async with running(app):
        handle = await work.options(run_in="3d").enqueue()
        wake(db)
        assert counters(db, handle.id) == ("available", 0, 0, 0)
        jump(db, "3 days 1 second")
        assert await handle.result(timeout=10) == "ran"


async def test_one_slot_takes_jobs_by_priority_then_by_age(app: Holdfast, db) -> None:
    order: list[str] = []

    @app.job()
    async def work(name: str) -> None:
        order.append(name)

    requests = []
    for name, priority in [("c1", 5), ("d", 9), ("a", 0), ("c2", 5), ("b", 1)]:
        requests.append(work.options(priority=priority).new(name))
    handles = await app.enqueue_many(requests)
    async with running(app, queues={"default": 1}):
        for handle in handles:
            await handle.result(timeout=10)
    assert order == ["a", "b", "c1", "c2", "d"]


async def test_each_queue_has_slots_of_its_own_that_are_never_exceeded(app: Holdfast, db) -> None:
    now: dict[str, int] = {"small": 0, "large": 0}
    most = dict(now)
    gate = asyncio.Event()

    async def busy(queue: str) -> None:
        now[queue] += 1
        most[queue] = max(most[queue], now[queue])
        await gate.wait()
        await asyncio.sleep(0)
        now[queue] -= 1

    @app.job(queue="small")
    async def small() -> None:
        await busy("small")

    @app.job(queue="large")
    async def large() -> None:
        await busy("large")

    handles = await app.enqueue_many([job.new() for job in (small, large) for _ in range(40)])
    async with running(app, queues={"small": 2, "large": 7}):
        await eventually(lambda: now == {"small": 2, "large": 7})
        gate.set()
        for handle in handles:
            await handle.result(timeout=10)
    assert most == {"small": 2, "large": 7}


async def test_a_queue_nobody_serves_here_is_left_alone(app: Holdfast, db) -> None:
    @app.job(queue="mine")
    async def mine() -> str:
        return "ran"

    @app.job(queue="theirs")
    async def theirs() -> None: ...

    async with running(app, queues={"mine": 1}):
        left = await theirs.enqueue()
        assert await (await mine.enqueue()).result(timeout=10) == "ran"
        said = await app.explain(left.id)
    assert "no live worker serves queue 'theirs'" in said.reason
    assert counters(db, left.id) == ("available", 0, 0, 0)


def terminate_listener(db) -> int:
    """Ends the sessions whose last statement was LISTEN; returns how many."""
    return len(
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND query LIKE 'LISTEN%%'",
            [f"test-{db.schema}"],
        )
    )


async def test_a_lost_listener_comes_back_and_looks_for_what_was_missed(
    app: Holdfast, db, no_polls
) -> None:
    ran: list[int] = []

    @app.job()
    async def work(n: int) -> None:
        ran.append(n)

    async with running(app):
        await (await work.enqueue(0)).result(timeout=10)
        for n in range(1, 4):
            await eventually(lambda: terminate_listener(db) > 0)
            await work.enqueue(n)  # its notification may find nobody
            await eventually(lambda n=n: ran[-1] == n)
    assert ran == [0, 1, 2, 3]


async def test_without_any_notification_jobs_are_found_by_looking(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_POLL_LISTENING_S", 0.1)

    @app.job()
    async def work() -> str:
        return "ran"

    async with running(app):
        await (await work.enqueue()).result(timeout=10)
        job_id = db.value(
            "INSERT INTO holdfast.job (name, queue, run_at, created_at)"
            " VALUES ('work', 'default', holdfast.clock(), holdfast.clock()) RETURNING id"
        )
        assert await app.handle(job_id, "work").result(timeout=10) == "ran"


async def test_odd_notifications_do_no_harm(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> str:
        return "ran"

    async with running(app):
        for kind in ("wake", "cancel", "done", "unknown"):
            for payload in ("", "{", "no such queue", "x" * 7999, "☃'; DROP TABLE job; --"):
                db.execute("SELECT pg_notify(%s, %s)", [f"{db.schema}:{kind}", payload])
        assert await (await work.enqueue()).result(timeout=10) == "ran"


async def test_a_late_commit_is_found_below_the_floor_of_later_claims(
    app: Holdfast, db, no_polls
) -> None:
    ran: list[str] = []

    @app.job()
    async def work(name: str) -> None:
        ran.append(name)

    async with running(app):
        async with await psycopg.AsyncConnection.connect(db.dsn) as conn:
            late = await work.options(conn=conn).enqueue("late")
            for n in range(5):
                await (await work.enqueue(str(n))).result(timeout=10)
        await late.result(timeout=10)
    assert ran == ["0", "1", "2", "3", "4", "late"]


async def test_a_blocked_loop_delays_only_itself_and_loses_nothing(app: Holdfast, db) -> None:
    release = threading.Event()

    @app.job()
    async def blocks() -> str:
        release.wait(0.5)
        return "blocked"

    @app.job()
    async def work(n: int) -> int:
        return n

    async with running(app):
        handles = await app.enqueue_many([blocks.new(), *(work.new(n) for n in range(20))])
        answers = [await handle.result(timeout=10) for handle in handles]
    assert answers == ["blocked", *range(20)]


async def test_hundreds_of_jobs_run_once_each(app: Holdfast, db) -> None:
    ran: list[int] = []
    begun = asyncio.Event()

    @app.job()
    async def work(n: int) -> None:
        begun.set()
        ran.append(n)

    async with running(app, queues={"default": 50}):
        await app.enqueue_many([work.new(n) for n in range(1000)])
        await reached(begun)
        left = "SELECT count(*) FROM holdfast.job"
        await eventually(lambda: db.value(left) == 0, within=30)
    assert sorted(ran) == list(range(1000))
