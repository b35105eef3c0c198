"""Steps: run once, recorded, returned again; keys, options, threads, retries."""

import asyncio
import threading
from collections import Counter

import pytest

from fixtures.looking import (
    counters,
    ended,
    instantly,
    jump,
    outcomes,
    step_states,
)
from fixtures.running import journal_of, running
from holdfast import (
    BlockingContext,
    Context,
    Holdfast,
    InvalidJobFunction,
    InvalidOption,
    JobFailed,
    Retry,
    StepTimeout,
    UsageError,
    current_context,
    current_step,
    step,
)


class Stumble(Exception):
    """Ends an attempt, so that the next one replays."""


async def test_a_recorded_step_is_not_run_again_by_the_next_attempt(app: Holdfast, db) -> None:
    calls: Counter[str] = Counter()

    async def price(item: str) -> int:
        calls[item] += 1
        return len(item) + calls[item]

    @app.job(backoff=instantly)
    async def order(ctx: Context, item: str) -> int:
        found = await ctx.step(price, item)
        if ctx.attempt == 1:
            raise Stumble
        return found

    async with running(app):
        handle = await order.enqueue("apple")
        assert await handle.result(timeout=10) == 6
    assert calls == {"apple": 1}
    assert outcomes(db, handle.id) == [("failed", "failure"), ("completed", None)]


async def test_repeated_steps_are_numbered_and_keyed_ones_are_named(app: Holdfast, db) -> None:
    async def look(at: str) -> str:
        return at.upper()

    @app.job()
    async def tour(ctx: Context) -> list[str]:
        seen = [await ctx.step(look, place) for place in ("a", "b")]
        seen.append(await ctx.step(step(look, key="c"), "c"))
        seen.append(await ctx.step(step(look, name="glance"), "d"))
        seen.append(await ctx.step(step(look, key=(1, "x")), "e"))
        return seen

    async with running(app):
        handle = await tour.enqueue()
        assert await handle.result(timeout=10) == ["A", "B", "C", "D", "E"]
    assert journal_of(db, handle.id) == ["look", "look#2", "look[c]", "glance", "look[1,x]"]


async def test_a_decorated_function_is_a_step_inside_a_job_and_plain_outside(
    app: Holdfast, db
) -> None:
    calls: Counter[str] = Counter()

    @step
    async def greet(name: str) -> str:
        calls[name] += 1
        return f"hello {name}"

    @app.job(backoff=instantly)
    async def welcome(ctx: Context) -> str:
        text = await greet("ann")
        text += await greet.options(key="second")("bob")
        if ctx.attempt == 1:
            raise Stumble
        return text

    assert await greet("zoe") == "hello zoe"
    async with running(app):
        handle = await welcome.enqueue()
        assert await handle.result(timeout=10) == "hello annhello bob"
    assert calls == {"zoe": 1, "ann": 1, "bob": 1}
    assert journal_of(db, handle.id) == ["greet", "greet[second]"]


async def test_a_plain_job_calls_its_steps_directly(app: Holdfast, db) -> None:
    calls: Counter[str] = Counter()
    threads: set[str] = set()

    @step
    def double(number: int) -> int:
        calls["double"] += 1
        threads.add(threading.current_thread().name)
        return number * 2

    async def triple(number: int) -> int:
        calls["triple"] += 1
        return number * 3

    @app.job(backoff=instantly)
    def compute(ctx: BlockingContext, number: int) -> int:
        value = ctx.step(triple, double(number))
        if ctx.attempt == 1:
            raise Stumble
        return value

    async with running(app):
        handle = await compute.enqueue(7)
        assert await handle.result(timeout=10) == 42
    assert calls == {"double": 1, "triple": 1}
    assert threads != {threading.main_thread().name}
    assert journal_of(db, handle.id) == ["double", "triple"]


async def test_a_step_inside_a_step_is_a_plain_call(app: Holdfast, db) -> None:
    calls: Counter[str] = Counter()

    @step
    async def inner(number: int) -> int:
        calls["inner"] += 1
        return number + 1

    async def outer(number: int) -> int:
        calls["outer"] += 1
        here = current_context()
        assert isinstance(here, Context)
        return await inner(await here.step(inner, number))

    @app.job(backoff=instantly)
    async def nest(ctx: Context) -> int:
        value = await ctx.step(outer, 1)
        if ctx.attempt == 1:
            raise Stumble
        return value

    async with running(app):
        handle = await nest.enqueue()
        assert await handle.result(timeout=10) == 3
    assert calls == {"outer": 1, "inner": 2}
    assert journal_of(db, handle.id) == ["outer"]


async def test_plain_steps_run_in_threads_and_never_block_the_loop(app: Holdfast) -> None:
    ready = threading.Barrier(2, timeout=10)

    def meet(name: str) -> str:
        # Two at once meet only if neither blocks the loop that must start the other.
        ready.wait()
        return f"{name} in {threading.current_thread() is threading.main_thread()}"

    @app.job()
    async def gathering(ctx: Context) -> list[str]:
        return await ctx.map(meet, ["ann", "bob"])

    async with running(app):
        handle = await gathering.enqueue()
        assert await handle.result(timeout=10) == ["ann in False", "bob in False"]


async def test_the_idempotency_key_of_a_step_is_the_same_in_every_try(app: Holdfast) -> None:
    seen: list[tuple[str, int]] = []

    @step(retry=Retry(2, delay=0))
    async def charge(amount: int) -> str:
        info = current_step()
        seen.append((info.idempotency_key, info.attempt))
        if len(seen) < 4:
            raise ConnectionError("no answer")
        return "paid"

    @app.job(backoff=instantly)
    async def buy(ctx: Context) -> str:
        return await ctx.step(charge, 5)

    async with running(app):
        handle = await buy.enqueue()
        assert await handle.result(timeout=10) == "paid"
    key = f"{handle.id}/charge"
    assert seen == [(key, 1), (key, 2), (key, 1), (key, 2)]


async def test_outside_of_jobs_and_steps_the_current_ones_are_refused() -> None:
    with pytest.raises(UsageError, match="no job is running"):
        current_context()
    with pytest.raises(UsageError, match="no step is running"):
        current_step()


async def test_what_cannot_be_a_step_is_refused_where_it_is_written(app: Holdfast) -> None:
    refusals: list[str] = []

    @step
    def plain() -> None: ...

    @app.job()
    async def wrong(ctx: Context) -> None:
        async def named() -> None: ...

        attempts = [
            (InvalidJobFunction, lambda: ctx.step(named())),
            (InvalidJobFunction, lambda: ctx.step(lambda: 1)),
            (InvalidOption, lambda: ctx.step(step(named, key={"a": 1}))),
            (InvalidOption, lambda: ctx.step(step(named, retry=3))),
        ]
        for kind, make in attempts:
            with pytest.raises(kind) as caught:
                await make()
            refusals.append(caught.value.hint)
        with pytest.raises(UsageError, match="called directly in an async job"):
            plain()

    async with running(app):
        handle = await wrong.enqueue()
        await handle.result(timeout=10)
    assert len(refusals) == 4
    assert all(refusals)


async def test_a_step_is_tried_again_within_the_attempt(app: Holdfast, db) -> None:
    tries: list[int] = []

    async def flaky(limit: int) -> str:
        tries.append(current_step().attempt)
        if len(tries) < limit:
            raise ConnectionError("again")
        return "done"

    @app.job()
    async def patient(ctx: Context) -> str:
        return await ctx.step(step(flaky, retry=Retry(3, delay=0.01)), 3)

    async with running(app):
        handle = await patient.enqueue()
        assert await handle.result(timeout=10) == "done"
    assert tries == [1, 2, 3]
    assert step_states(db, handle.id) == {"flaky": ("done", 3)}
    assert counters(db, handle.id) == ("completed", 0, 0, 0)


async def test_errors_outside_the_retry_rule_end_the_step_at_once(app: Holdfast) -> None:
    calls: Counter[str] = Counter()

    async def wrong() -> None:
        calls["wrong"] += 1
        raise ValueError("not worth another try")

    @app.job(max_attempts=1)
    async def strict(ctx: Context) -> None:
        await ctx.step(step(wrong, retry=Retry(5, delay=0, on=(ConnectionError,))))

    async with running(app):
        handle = await strict.enqueue()
        with pytest.raises(JobFailed, match="not worth another try"):
            await handle.result(timeout=10)
    assert calls == {"wrong": 1}


async def test_the_count_of_tries_survives_the_end_of_the_attempt(app: Holdfast) -> None:
    tries: list[int] = []

    async def stubborn() -> str:
        tries.append(current_step().attempt)
        if tries == [1, 2]:
            await asyncio.Event().wait()  # until the attempt's time is over
        raise ConnectionError("no luck")

    @app.job(max_attempts=2, timeout=1, backoff=instantly)
    async def persistent(ctx: Context) -> None:
        await ctx.step(step(stubborn, retry=Retry(3, delay=0)))

    async with running(app):
        handle = await persistent.enqueue()
        with pytest.raises(JobFailed, match="no luck"):
            await handle.result(timeout=10)
    assert tries == [1, 2, 2, 3]


async def test_a_long_wait_between_tries_parks_the_job_and_keeps_the_count(
    app: Holdfast, db
) -> None:
    tries: list[int] = []

    async def overloaded() -> str:
        tries.append(current_step().attempt)
        if len(tries) == 1:
            raise ConnectionError("come back in a minute")
        return "served"

    @app.job()
    async def visitor(ctx: Context) -> str:
        return await ctx.step(step(overloaded, retry=Retry(3, delay="1m")))

    async with running(app):
        handle = await visitor.enqueue()
        parked = await ended(app, handle.id, "waiting")
        assert 50 < (parked.run_at - parked.now).total_seconds() < 70
        assert step_states(db, handle.id) == {"overloaded": ("retrying", 1)}
        jump(db, "2 minutes")
        assert await handle.result(timeout=10) == "served"
    assert tries == [1, 2]
    assert counters(db, handle.id) == ("completed", 0, 0, 1)


async def test_a_step_waits_as_long_as_the_server_asked(app: Holdfast, db) -> None:
    class Busy(Exception):
        retry_after = 3600

    async def call() -> None:
        raise Busy

    @app.job()
    async def caller(ctx: Context) -> None:
        await ctx.step(step(call, retry=Retry(2, delay=0)))

    async with running(app):
        handle = await caller.enqueue()
        parked = await ended(app, handle.id, "waiting")
    assert 3500 < (parked.run_at - parked.now).total_seconds() < 3700


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_step_that_takes_too_long_fails_with_a_timeout(app: Holdfast, kind: str) -> None:
    release = threading.Event()

    async def hang() -> None:
        await asyncio.Event().wait()

    def block() -> None:
        # In small pieces: an exception reaches a thread between two bytecodes only.
        while not release.wait(0.01):
            pass

    @app.job()
    async def impatient(ctx: Context) -> str:
        work = step(hang if kind == "async" else block, timeout=0.05)
        with pytest.raises(StepTimeout, match="longer than"):
            await ctx.step(work)
        return "went on"

    async with running(app):
        handle = await impatient.enqueue()
        assert await handle.result(timeout=10) == "went on"
    release.set()


async def test_a_time_out_raised_by_the_step_itself_is_not_taken_for_ours(app: Holdfast) -> None:
    async def own() -> None:
        raise TimeoutError("of its own")

    @app.job()
    async def reader(ctx: Context) -> str:
        try:
            await ctx.step(step(own, timeout=60))
        except StepTimeout:
            return "ours"
        except TimeoutError as error:
            return str(error)
        return "none"

    async with running(app):
        handle = await reader.enqueue()
        assert await handle.result(timeout=10) == "of its own"
