"""Cancelling: durable at once, wherever the job is, and the running code is stopped."""

import asyncio
import threading
import time

import pytest

from fixtures.looking import counters, ended, instantly, outcomes, reached
from fixtures.running import running
from holdfast import (
    BlockingContext,
    Context,
    Holdfast,
    JobCancelled,
    JobNeedsAttention,
    JobNotFound,
    Snooze,
)
from holdfast.runtime import worker


async def test_a_waiting_job_is_cancelled_at_once_and_never_runs(app: Holdfast, db) -> None:
    ran: list[int] = []

    @app.job()
    async def work() -> None:
        ran.append(1)

    handle = await work.enqueue()
    assert await handle.cancel("not needed") == "cancelled"
    async with running(app):
        with pytest.raises(JobCancelled, match="not needed"):
            await handle.result(timeout=10)
        await (await work.enqueue()).result(timeout=10)
    assert ran == [1]
    assert counters(db, handle.id) == ("cancelled", 0, 0, 0)


async def test_running_async_code_is_cancelled_and_may_clean_up(app: Holdfast, db) -> None:
    started, cleaned = asyncio.Event(), asyncio.Event()

    @app.job()
    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        assert await handle.cancel("enough") == "executing"
        with pytest.raises(JobCancelled, match="enough"):
            await handle.result(timeout=10)
        assert cleaned.is_set()
    assert counters(db, handle.id) == ("cancelled", 0, 0, 0)
    assert outcomes(db, handle.id) == [("cancelled", None)]


def spin(started: threading.Event) -> None:
    """Runs bytecode until it is interrupted."""
    started.set()
    while True:
        time.sleep(0.001)


async def never(started: threading.Event) -> None:
    started.set()
    await asyncio.Event().wait()


PLACES = {
    "own code": lambda ctx, started: spin(started),
    "plain step": lambda ctx, started: ctx.step(block_in_step),
    "async step": lambda ctx, started: ctx.step(wait_in_step),
    "sleep": lambda ctx, started: (started.set(), ctx.sleep(4)),
    "map": lambda ctx, started: ctx.map(block_in_map, [1, 2]),
}
_started: list[threading.Event] = []


def block_in_step() -> None:
    spin(_started[-1])


def block_in_map(_: int) -> None:
    spin(_started[-1])


async def wait_in_step() -> None:
    await never(_started[-1])


@pytest.mark.parametrize("place", PLACES)
async def test_a_job_in_a_thread_is_interrupted_wherever_it_is(
    app: Holdfast, db, place: str
) -> None:
    started, cleaned = threading.Event(), threading.Event()
    _started.append(started)

    @app.job()
    def work(ctx: BlockingContext) -> None:
        try:
            PLACES[place](ctx, started)
        finally:
            cleaned.set()

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)
        assert cleaned.is_set()
    assert counters(db, handle.id) == ("cancelled", 0, 0, 0)
    assert not [t for t in threading.enumerate() if t.name.startswith("holdfast job")]


async def test_a_job_that_turns_the_interruption_into_its_own_error_is_cancelled(
    app: Holdfast, db
) -> None:
    started = asyncio.Event()

    @app.job()
    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("the client was closed") from None

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("cancelled", 0, 0, 0)


async def test_a_cancel_wins_over_a_success_that_was_not_committed(app: Holdfast, db) -> None:
    started = asyncio.Event()

    @app.job()
    async def work() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished all the same"
        return "never"

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)
    assert counters(db, handle.id)[0] == "cancelled"


@pytest.mark.parametrize("how", ["sleep", "snooze", "retry"])
async def test_a_parked_job_is_cancelled_at_once(app: Holdfast, db, how: str) -> None:
    @app.job(backoff=lambda n, e: 3600)
    async def work(ctx: Context) -> None:
        if how == "sleep":
            await ctx.sleep("1h")
        if how == "snooze":
            raise Snooze(3600)
        raise ValueError

    async with running(app):
        handle = await work.enqueue()
        await ended(app, handle.id, "retryable" if how == "retry" else "waiting")
        assert await handle.cancel() == "cancelled"
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)
    assert counters(db, handle.id)[0] == "cancelled"


async def test_a_job_that_needs_attention_can_be_cancelled(app: Holdfast, db) -> None:
    @app.job()
    async def work(ctx: Context) -> object:
        return object()

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobNeedsAttention):
            await handle.result(timeout=10)
        assert await handle.cancel() == "cancelled"
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)


async def test_a_finished_job_stays_as_it_is(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> int:
        return 1

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == 1
        assert await handle.cancel() == "completed"
        assert await handle.result(timeout=10) == 1
        with pytest.raises(JobNotFound):
            await app.cancel(handle.id + 1000)


@pytest.mark.slow  # the amnesty of a young server has to end
async def test_a_cancel_stays_when_its_worker_dies_right_after(app: Holdfast, db) -> None:
    started = asyncio.Event()

    @app.job()
    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    handle = await work.enqueue()
    # A worker that dies without a word: its row is all that is left of it.
    db.execute(
        "INSERT INTO holdfast.worker (id, supervisor_id, pid, host, app, started_at, renewed_at,"
        " expires_at, queues, job_names) VALUES (77, 77, 1, 'gone', 'gone', now(), now(),"
        " now() - interval '1 second', '{}', '{}')"
    )
    db.execute(
        "UPDATE holdfast.job SET state = 'executing', worker_id = 77, epoch = 1,"
        " started_at = now() WHERE id = %s",
        [handle.id],
    )
    assert await handle.cancel("by hand") == "executing"
    async with running(app):
        with pytest.raises(JobCancelled):
            await handle.result(timeout=20)
    assert not started.is_set()
    assert counters(db, handle.id)[0] == "cancelled"


async def test_a_cancel_whose_notification_was_lost_is_found_by_looking(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_POLL_LISTENING_S", 0.2)
    started = asyncio.Event()

    @app.job()
    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        db.execute(
            "UPDATE holdfast.job SET cancel_requested_at = holdfast.clock() WHERE id = %s",
            [handle.id],
        )
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)


async def test_the_context_of_a_cancelled_job_refuses_to_go_on(app: Holdfast, db) -> None:
    started = asyncio.Event()
    effects: list[str] = []

    async def effect() -> None:
        effects.append("made")

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> None:
        started.set()
        for _ in range(3):
            try:
                await asyncio.Event().wait() if not effects else None
            except asyncio.CancelledError:
                await ctx.step(effect)

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)
    assert effects == []


async def test_cancelling_nothing_and_many(app: Holdfast, db) -> None:
    @app.job()
    async def work(n: int) -> None: ...

    async with app:
        handles = await app.enqueue_many([work.new(n) for n in range(50)])
        states = await app.cancel(*(h.id for h in handles), reason="all of them")
        assert set(states.values()) == {"cancelled"}
        assert await app.cancel() == {}
