"""Durable waits: they survive restarts, long ones park the job, and only a finished step waits."""

import asyncio
import threading
from collections import Counter

import pytest

from fixtures.looking import counters, ended, instantly, jump, outcomes, reached, step_states
from fixtures.running import eventually, running
from holdfast import BlockingContext, Context, Holdfast, Retry, Snooze, Suspended, step
from holdfast.runtime import attempt as attempts


class Stumble(Exception):
    """Ends an attempt, so that the next one replays."""


async def test_a_short_sleep_waits_in_place_and_is_not_repeated(app: Holdfast, db) -> None:
    starts: list[int] = []

    @app.job(backoff=instantly)
    async def nap(ctx: Context) -> None:
        starts.append(ctx.attempt)
        await ctx.sleep(0.01)
        await ctx.sleep("20ms", key="second")
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        handle = await nap.enqueue()
        await handle.result(timeout=10)
    assert starts == [1, 2]
    assert step_states(db, handle.id) == {"sleep": ("done", 1), "sleep[second]": ("done", 1)}
    assert counters(db, handle.id) == ("completed", 1, 0, 0)


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_a_long_sleep_gives_its_slot_away_and_wakes_in_time(
    app: Holdfast, db, shape: str
) -> None:
    events: list[str] = []

    if shape == "async":

        @app.job()
        async def night(ctx: Context) -> str:
            events.append("begin")
            await ctx.sleep("8h")
            return "morning"

    else:

        @app.job()
        def night(ctx: BlockingContext) -> str:
            events.append("begin")
            ctx.sleep("8h")
            return "morning"

    @app.job()
    async def other() -> str:
        return "ran meanwhile"

    async with running(app, queues={"default": 1}):
        handle = await night.enqueue()
        job = await ended(app, handle.id, "waiting")
        assert job.wait_reason == "sleep"
        assert 8 * 3600 - 60 < (job.run_at - job.now).total_seconds() <= 8 * 3600
        assert await (await other.enqueue()).result(timeout=10) == "ran meanwhile"
        said = await app.explain(handle.id)
        assert "sleeps" in said.reason
        jump(db, "8 hours 1 second")
        assert await handle.result(timeout=10) == "morning"
    assert events == ["begin", "begin"]
    assert counters(db, handle.id) == ("completed", 0, 0, 1)
    assert outcomes(db, handle.id) == [("parked", None), ("completed", None)]


async def test_many_plain_jobs_park_at_once_and_leave_no_thread(app: Holdfast, db) -> None:
    @app.job()
    def night(ctx: BlockingContext) -> None:
        ctx.sleep("8h")

    async with running(app, queues={"default": 20}):
        handles = await app.enqueue_many([night.new() for _ in range(60)])
        waiting = "SELECT count(*) FROM holdfast.job WHERE wait_reason = 'sleep'"
        await eventually(lambda: db.value(waiting) == len(handles), within=20)
        await eventually(lambda: not _threads())


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("holdfast job")]


async def test_a_sleep_goes_on_where_it_was_after_a_restart_of_the_worker(
    app: Holdfast, db
) -> None:
    calls: Counter[str] = Counter()

    async def before() -> None:
        calls["before"] += 1

    @app.job()
    async def night(ctx: Context) -> str:
        await ctx.step(before)
        await ctx.sleep("1h")
        return "awake"

    async with running(app):
        handle = await night.enqueue()
        first = await ended(app, handle.id, "waiting")
    db.move_time("30 minutes")
    await app.retry(handle.id)  # woken too early, by a person
    async with running(app):
        await eventually(lambda: len(outcomes(db, handle.id)) == 2)
        again = await ended(app, handle.id, "waiting")
        assert abs((again.run_at - first.run_at).total_seconds()) < 1
        jump(db, "61 minutes")
        assert await handle.result(timeout=10) == "awake"
    assert calls == {"before": 1}


async def test_two_branches_that_sleep_wake_for_the_nearer_end_first(app: Holdfast, db) -> None:
    done: list[str] = []

    async def note(name: str) -> None:
        done.append(name)

    async def rest(ctx: Context, hours: str) -> str:
        await ctx.sleep(hours)
        await ctx.step(note, hours)
        return hours

    @app.job()
    async def both(ctx: Context) -> tuple[str, ...]:
        return await ctx.gather(long=rest(ctx, "5h"), short=rest(ctx, "2h"))

    async with running(app):
        handle = await both.enqueue()
        job = await ended(app, handle.id, "waiting")
        assert (job.run_at - job.now).total_seconds() <= 7200
        jump(db, "2 hours 1 second")
        await eventually(lambda: done == ["2h"])
        job = await ended(app, handle.id, "waiting")
        assert 3600 < (job.run_at - job.now).total_seconds() <= 3 * 3600
        jump(db, "5 hours 1 second")
        assert await handle.result(timeout=10) == ("5h", "2h")
    assert done == ["2h", "5h"]


async def test_a_job_is_parked_only_when_the_steps_beside_the_sleep_are_recorded(
    app: Holdfast, db
) -> None:
    release = asyncio.Event()
    calls: Counter[str] = Counter()

    async def work(name: str) -> str:
        calls[name] += 1
        await release.wait()
        return name

    async def worker(ctx: Context) -> list[str]:
        first = await ctx.step(work, "one")
        await asyncio.sleep(0.05)  # code of the branch's own, which is no reason to park
        return [first, await ctx.step(work, "two")]

    @app.job()
    async def both(ctx: Context) -> list[str]:
        _, found = await ctx.gather(rest=ctx.sleep("1h"), work=worker(ctx))
        return found

    async with running(app):
        handle = await both.enqueue()
        await eventually(lambda: calls["one"])
        assert counters(db, handle.id)[0] == "executing"
        release.set()
        await ended(app, handle.id, "waiting")
        assert set(step_states(db, handle.id)) == {"rest/sleep", "work/work", "work/work#2"}
        jump(db, "61 minutes")
        assert await handle.result(timeout=10) == ["one", "two"]
    assert calls == {"one": 1, "two": 1}
    assert counters(db, handle.id) == ("completed", 0, 0, 1)


async def test_a_branch_in_a_task_of_the_users_is_not_parked_between_its_steps(
    app: Holdfast, db
) -> None:
    calls: Counter[str] = Counter()

    async def work(name: str) -> str:
        calls[name] += 1
        return name

    async def steps(ctx: Context) -> None:
        for name in "abcdef":
            await ctx.step(work, name)

    @app.job()
    async def both(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(steps(ctx))
            group.create_task(ctx.sleep("1h"))

    async with running(app):
        handle = await both.enqueue()
        await ended(app, handle.id, "waiting")
        assert len(step_states(db, handle.id)) == 7
        jump(db, "61 minutes")
        await handle.result(timeout=10)
    assert set(calls.values()) == {1}


async def test_items_that_wait_for_their_turn_do_not_keep_a_job_from_parking(
    app: Holdfast, db
) -> None:
    tries: Counter[int] = Counter()

    async def flaky(item: int) -> int:
        tries[item] += 1
        if tries[item] == 1:
            raise ConnectionError
        return item

    @app.job()
    async def limited(ctx: Context) -> list[int]:
        return await ctx.map(step(flaky, retry=Retry(2, delay="1h")), range(4), limit=2)

    async with running(app):
        handle = await limited.enqueue()
        await ended(app, handle.id, "waiting")
        assert tries == {0: 1, 1: 1}
        jump(db, "2 hours")
        await eventually(lambda: len(tries) == 4)
        await ended(app, handle.id, "waiting")
        jump(db, "4 hours")
        assert await handle.result(timeout=10) == [0, 1, 2, 3]
    assert set(tries.values()) == {2}


async def test_a_job_that_swallows_its_suspension_gets_no_further(app: Holdfast, db) -> None:
    effects: list[str] = []
    refusals: list[type] = []

    async def effect() -> None:
        effects.append("made")

    @app.job()
    async def greedy(ctx: Context) -> str:
        try:
            await ctx.sleep("1h")
        except BaseException:
            try:
                await ctx.step(effect)
            except BaseException as error:
                refusals.append(type(error))
            return "swallowed"
        return "slept"

    async with running(app):
        handle = await greedy.enqueue()
        await ended(app, handle.id, "waiting")
        assert refusals == [Suspended]
        jump(db, "61 minutes")
        assert await handle.result(timeout=10) == "slept"
    assert effects == []


async def test_an_ordinary_except_clause_does_not_catch_a_suspension(app: Holdfast, db) -> None:
    caught: list[Exception] = []

    @app.job()
    async def careful(ctx: Context) -> str:
        try:
            await ctx.sleep("1h")
        except Exception as error:
            caught.append(error)
        return "slept"

    async with running(app):
        handle = await careful.enqueue()
        await ended(app, handle.id, "waiting")
        jump(db, "61 minutes")
        assert await handle.result(timeout=10) == "slept"
    assert caught == []


async def test_a_wait_shorter_than_the_parking_time_keeps_the_job_running(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "PARK_AFTER_S", 3600.0)
    begun = asyncio.Event()

    async def begin() -> None:
        begun.set()

    @app.job()
    async def nap(ctx: Context) -> None:
        await ctx.step(begin)
        await ctx.sleep("30m")

    async with running(app):
        handle = await nap.enqueue()
        await reached(begun)
        await eventually(lambda: "sleep" in step_states(db, handle.id))
        assert counters(db, handle.id) == ("executing", 0, 0, 0)
        await handle.cancel()


async def test_a_snooze_keeps_what_was_recorded(app: Holdfast, db) -> None:
    calls: Counter[str] = Counter()

    async def look() -> int:
        calls["look"] += 1
        return 7

    @app.job(max_attempts=1)
    async def check(ctx: Context) -> int:
        value = await ctx.step(look)
        if len(outcomes(db, ctx.job_id)) == 0:
            raise Snooze(3600, "too early")
        return value

    async with running(app):
        handle = await check.enqueue()
        job = await ended(app, handle.id, "waiting")
        assert (job.wait_reason, job.wait_detail) == ("snooze", "too early")
        jump(db, "61 minutes")
        assert await handle.result(timeout=10) == 7
    assert calls == {"look": 1}
    assert counters(db, handle.id) == ("completed", 0, 0, 1)
