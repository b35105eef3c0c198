"""Every way an attempt can end: what the row says, who is charged, and the worker goes on."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from psycopg.types.json import Jsonb

from fixtures.looking import counters, ended, eventually_awaited, instantly, outcomes
from fixtures.running import running
from holdfast import (
    BlockingContext,
    Cancel,
    Context,
    Discard,
    Holdfast,
    JobCancelled,
    JobFailed,
    JobNeedsAttention,
    Snooze,
)


class BrokenText(Exception):
    """Has no text to give."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class EvilText(Exception):
    """Ends the process of who asks for its text."""

    def __str__(self) -> str:
        raise SystemExit(9)


ERRORS = {
    "exception": (ValueError("plain"), "ValueError", "plain"),
    "exit": (SystemExit(3), "SystemExit", "3"),
    "interrupt": (KeyboardInterrupt("ctrl-c"), "KeyboardInterrupt", "ctrl-c"),
    "generator": (GeneratorExit("odd"), "GeneratorExit", "odd"),
    "cancelled": (asyncio.CancelledError("own"), "asyncio.exceptions.CancelledError", "own"),
    "group": (BaseExceptionGroup("two", [SystemExit(1), ValueError()]), "BaseExceptionGroup", ""),
    "nul": (ValueError("a\x00b\ud800"), "ValueError", "a␀b\\ud800"),
    "no text": (BrokenText(), "BrokenText", "__str__ raised RuntimeError"),
    "huge": (ValueError("x" * 1_000_000), "ValueError", "bytes left out"),
    "stop": (StopAsyncIteration(), "", ""),
}


def history(db, job_id: int) -> list[tuple]:
    return db.execute(
        "SELECT outcome, charged, error_type, error_message FROM holdfast.execution"
        " WHERE job_id = %s ORDER BY epoch",
        [job_id],
    )


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_whatever_is_raised_fails_the_attempt_and_the_worker_goes_on(
    app: Holdfast, db, name: str, shape: str
) -> None:
    error, kind, text = ERRORS[name]
    if shape == "plain" and kind == "GeneratorExit":
        kind, text = "RuntimeError", "raised GeneratorExit: odd"

    if shape == "async":

        @app.job(max_attempts=1)
        async def fail() -> None:
            raise error

    else:

        @app.job(max_attempts=1)
        def fail() -> None:
            raise error

    @app.job()
    async def next_one() -> str:
        return "ran"

    async with running(app):
        handle = await fail.enqueue()
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        assert await (await next_one.enqueue()).result(timeout=10) == "ran"
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)
    ((outcome, charged, error_type, message),) = history(db, handle.id)
    assert (outcome, charged) == ("failed", "failure")
    assert kind in error_type
    assert text in message


@pytest.mark.parametrize("place", ["step", "map", "gather", "plain step", "plain map"])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_an_exit_inside_steps_and_branches_does_not_end_the_worker(
    app: Holdfast, db, place: str, kind: type[BaseException]
) -> None:
    async def leave(_: int = 0) -> None:
        raise kind

    if place.startswith("plain"):

        @app.job(max_attempts=1)
        def fail(ctx: BlockingContext) -> None:
            ctx.step(leave) if place == "plain step" else ctx.map(leave, [1, 2])

    else:

        @app.job(max_attempts=1)
        async def fail(ctx: Context) -> None:
            if place == "step":
                await ctx.step(leave)
            elif place == "map":
                await ctx.map(leave, [1, 2])
            else:
                await ctx.gather(a=ctx.step(leave), b=leave())

    @app.job()
    async def next_one() -> str:
        return "ran"

    async with running(app):
        handle = await fail.enqueue()
        with pytest.raises(JobFailed, match=kind.__name__):
            await handle.result(timeout=10)
        assert await (await next_one.enqueue()).result(timeout=10) == "ran"
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


async def test_an_error_that_closes_whoever_awaits_it_fails_the_attempt(app: Holdfast, db) -> None:
    async def close() -> None:
        raise GeneratorExit

    @app.job(max_attempts=1)
    async def fail() -> None:
        await asyncio.create_task(close())

    async with running(app):
        handle = await fail.enqueue()
        with pytest.raises(JobFailed, match="GeneratorExit"):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


async def test_a_text_that_ends_whoever_asks_for_it_ends_only_its_job(app: Holdfast, db) -> None:
    @app.job(max_attempts=1)
    async def fail() -> None:
        raise EvilText

    @app.job()
    async def next_one() -> str:
        return "ran"

    async with running(app):
        handle = await fail.enqueue()
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        assert await (await next_one.enqueue()).result(timeout=10) == "ran"
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": 1}])
async def test_a_returned_value_completes_the_job_without_a_history(
    app: Holdfast, db, value: object
) -> None:
    @app.job()
    async def work() -> object:
        return value

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == value
    assert counters(db, handle.id) == ("completed", 0, 0, 0)
    assert outcomes(db, handle.id) == []


async def test_a_job_may_cancel_and_discard_itself(app: Holdfast, db) -> None:
    @app.job()
    async def work(how: str) -> None:
        raise {"cancel": Cancel, "discard": Discard}[how]("no longer \x00 needed")

    async with running(app):
        cancelled, discarded = await work.enqueue("cancel"), await work.enqueue("discard")
        with pytest.raises(JobCancelled, match="no longer ␀ needed"):
            await cancelled.result(timeout=10)
        with pytest.raises(JobFailed, match="no longer ␀ needed"):
            await discarded.result(timeout=10)
    assert counters(db, cancelled.id) == ("cancelled", 0, 0, 0)
    assert counters(db, discarded.id) == ("discarded", 0, 0, 0)
    assert outcomes(db, cancelled.id) == [("cancelled", None)]
    assert outcomes(db, discarded.id) == [("discarded", None)]


async def test_a_snooze_is_free_and_runs_again(app: Holdfast, db) -> None:
    attempts: list[int] = []

    @app.job(max_attempts=1)
    async def work(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        if len(attempts) < 4:
            raise Snooze(0, "not yet \ud800")
        return "at last"

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == "at last"
    assert attempts == [1, 1, 1, 1]
    assert counters(db, handle.id) == ("completed", 0, 0, 3)
    assert outcomes(db, handle.id) == [("snoozed", None)] * 3 + [("completed", None)]


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
async def test_a_snooze_without_end_is_an_error(app: Holdfast, db, seconds: float) -> None:
    @app.job(max_attempts=1)
    async def work() -> None:
        raise Snooze(seconds)

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match=r"Snooze\.seconds"):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


@pytest.mark.parametrize("shape", ["async", "plain", "caught"])
async def test_an_attempt_that_takes_too_long_is_charged(app: Holdfast, db, shape: str) -> None:
    if shape == "plain":

        @app.job(timeout=0.05, max_attempts=1)
        def work() -> None:
            while True:
                time.sleep(0.001)

    else:

        @app.job(timeout=0.05, max_attempts=1)
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                raise RuntimeError("wrapped") if shape == "caught" else error from error

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match=r"longer than 0\.05 s"):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)
    assert outcomes(db, handle.id) == [("timed_out", "failure")]


async def test_a_job_beyond_its_deadline_is_discarded(app: Holdfast, db) -> None:
    started = asyncio.Event()

    @app.job(deadline=0.2, backoff=instantly)
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    @app.job(deadline="1h", backoff=lambda n, e: 7200)
    async def failing() -> None:
        raise ValueError

    async with running(app):
        handle = await endless.enqueue()
        with pytest.raises(JobFailed, match="deadline"):
            await handle.result(timeout=10)
        assert started.is_set()
        # A next attempt is never set beyond the deadline.
        late = await failing.enqueue()
        job = await ended(app, late.id, "retryable")
        assert job.run_at == job.deadline
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)
    assert outcomes(db, handle.id) == [("deadline", "failure")]


async def test_the_deadline_holds_while_the_job_is_parked(app: Holdfast, db) -> None:
    @app.job(deadline="1h")
    async def sleepy(ctx: Context) -> None:
        await ctx.sleep("1d")

    async with running(app):
        handle = await sleepy.enqueue()
        job = await ended(app, handle.id, "waiting")
        assert job.run_at == job.deadline
        db.move_time("61 minutes")
        db.execute("SELECT pg_notify(%s, 'default')", [f"{db.schema}:wake"])
        with pytest.raises(JobFailed, match="deadline"):
            await handle.result(timeout=10)


async def test_a_result_that_cannot_be_stored_stops_the_job(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> object:
        return {"deep": [threading.Lock()]}

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobNeedsAttention, match="lock"):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("attention", 0, 0, 0)


async def test_an_unknown_job_stays_and_is_explained(app: Holdfast, db) -> None:
    @app.job()
    async def known() -> str:
        return "ran"

    job_id = db.value("SELECT id FROM holdfast.enqueue(%s)", [Jsonb({"name": "not_deployed"})])
    async with running(app):
        await ended(app, job_id, "waiting")
        said = await app.explain(job_id)
        assert "no job function named 'not_deployed'" in said.reason
        assert await (await known.enqueue()).result(timeout=10) == "ran"
    assert counters(db, job_id) == ("available", 0, 0, 1)
    assert outcomes(db, job_id) == [("unknown_job", None)]


async def test_arguments_that_do_not_fit_stop_the_job_until_the_code_is_mended(
    app: Holdfast, db
) -> None:
    @app.job()
    async def add(a: int, b: int) -> int:
        return a + b

    new = Jsonb({"name": "add", "args": {"a": 1, "b": "two"}})
    job_id = db.value("SELECT id FROM holdfast.enqueue(%s)", [new])
    async with running(app):
        handle = app.handle(job_id, "add")
        with pytest.raises(JobNeedsAttention, match="argument 'b'"):
            await handle.result(timeout=10)
        assert counters(db, job_id) == ("attention", 0, 0, 0)
        db.execute("UPDATE holdfast.job SET args = %s", [Jsonb({"a": 1, "b": 2})])
        await app.retry(job_id)
        assert await handle.result(timeout=10) == 3


async def test_the_default_backoff_grows_with_each_failure(app: Holdfast, db) -> None:
    @app.job()
    async def fail() -> None:
        raise ValueError

    first, later = await fail.enqueue(), await fail.enqueue()
    db.execute("UPDATE holdfast.job SET failures = 6 WHERE id = %s", [later.id])
    async with running(app):
        for handle, failures in ((first, 1), (later, 7)):
            job = await ended(app, handle.id, "retryable")
            assert (job.failures, job.wait_reason) == (failures, "retry")
            (told,) = (await app.history(handle.id)).executions
            wait = (told.next_at - told.ended_at).total_seconds()
            assert (15 + 2**failures) * 0.89 < wait < (15 + 2**failures) * 1.11


async def test_a_backoff_of_ones_own_sees_the_failure_and_the_error(app: Holdfast, db) -> None:
    seen: list[tuple[int, str]] = []

    def rule(failure: int, error: BaseException) -> timedelta:
        seen.append((failure, str(error)))
        return timedelta(hours=failure - 1)

    @app.job(backoff=rule)
    async def fail(ctx: Context) -> None:
        raise ValueError(f"no {ctx.attempt}")

    async with running(app):
        handle = await fail.enqueue()

        async def waits_for_the_third() -> bool:
            return (await handle.job()).failures == 2

        await eventually_awaited(waits_for_the_third)
        job = await handle.job()
    assert seen == [(1, "no 1"), (2, "no 2")]
    assert 3500 < (job.run_at - job.now).total_seconds() <= 3600


BROKEN_RULES = {
    "raises": lambda n, e: 1 / 0,
    "exits": lambda n, e: exit(4),
    "negative": lambda n, e: -1,
    "not a number": lambda n, e: float("nan"),
    "nothing": lambda n, e: None,
}


@pytest.mark.parametrize("name", BROKEN_RULES)
async def test_a_broken_backoff_falls_back_to_the_default(app: Holdfast, db, name: str) -> None:
    @app.job(backoff=BROKEN_RULES[name])
    async def fail() -> None:
        raise ValueError

    async with running(app):
        handle = await fail.enqueue()
        job = await ended(app, handle.id, "retryable")
    assert 14 < (job.run_at - job.now).total_seconds() < 19


async def test_the_time_a_server_asks_for_wins_over_the_backoff(app: Holdfast, db) -> None:
    class RateLimited(Exception):
        headers = {"Retry-After": "600"}  # noqa: RUF012 - as HTTP clients have it

    @app.job(backoff=instantly)
    async def call() -> None:
        try:
            raise RateLimited
        except RateLimited as error:
            raise ValueError("wrapped") from error

    async with running(app):
        handle = await call.enqueue()
        job = await ended(app, handle.id, "retryable")
    assert 590 < (job.run_at - job.now).total_seconds() <= 600
