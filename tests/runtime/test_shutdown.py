"""The end of a worker: jobs may finish, the rest is handed back for free, nothing is left over."""

import asyncio
import threading
import time
from collections import Counter

import pytest

from fixtures.looking import counters, outcomes, reached
from fixtures.running import eventually, running
from holdfast import BlockingContext, Context, Holdfast
from holdfast.runtime import worker
from holdfast.storage.migrate import migrate


def with_grace(app: Holdfast, seconds: float) -> Holdfast:
    return app.with_settings(grace_s=seconds)


async def test_jobs_finish_within_the_grace_time_and_learn_that_they_should(
    app: Holdfast, db
) -> None:
    started = asyncio.Event()
    told: list[bool] = []

    @app.job()
    async def work(ctx: Context) -> str:
        told.append(ctx.shutting_down)
        started.set()
        await eventually(lambda: ctx.shutting_down)
        return "in time"

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
    assert told == [False]
    assert counters(db, handle.id) == ("completed", 0, 0, 0)
    assert outcomes(db, handle.id) == []
    assert db.value("SELECT count(*) FROM holdfast.worker") == 0


@pytest.mark.parametrize("shape", ["async", "plain", "wrapped"])
async def test_what_is_not_done_in_time_is_handed_back_for_free(
    app: Holdfast, db, shape: str
) -> None:
    started = threading.Event()
    calls: Counter[str] = Counter()

    async def first() -> int:
        calls["first"] += 1
        return 1

    if shape == "plain":

        @app.job()
        def work(ctx: BlockingContext) -> int:
            value = ctx.step(first)
            if not started.is_set():
                started.set()
                while True:
                    time.sleep(0.001)
            return value

    else:

        @app.job()
        async def work(ctx: Context) -> int:
            value = await ctx.step(first)
            if not started.is_set():
                started.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if shape == "wrapped":
                        raise RuntimeError("connection closed") from None
                    raise
            return value

    async with running(with_grace(app, 0.05)):
        handle = await work.enqueue()
        await reached(started)
    assert counters(db, handle.id) == ("available", 0, 0, 1)
    assert outcomes(db, handle.id) == [("shutdown", None)]
    assert db.value("SELECT epoch FROM holdfast.job") == 2
    async with running(app):
        assert await handle.result(timeout=10) == 1
    assert calls == {"first": 1}
    assert counters(db, handle.id) == ("completed", 0, 0, 1)


async def test_a_job_that_does_not_stop_is_handed_back_and_can_write_nothing_more(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_STOP_GRACE_S", 0.2)
    started, release = asyncio.Event(), asyncio.Event()
    later: list[BaseException] = []
    effects: list[str] = []

    async def effect() -> None:
        effects.append("made")

    @app.job()
    async def stubborn(ctx: Context) -> str:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        try:
            await ctx.step(effect)
        except BaseException as error:
            later.append(error)
        return "done after all"

    async with running(with_grace(app, 0.05)):
        handle = await stubborn.enqueue()
        await reached(started)
    await app.close()
    assert counters(db, handle.id) == ("available", 0, 0, 1)
    release.set()
    await eventually(lambda: later)
    assert effects == []
    assert counters(db, handle.id) == ("available", 0, 0, 1)


async def test_a_thread_that_does_not_stop_is_left_behind(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_STOP_GRACE_S", 0.2)
    started, release = threading.Event(), threading.Event()

    @app.job()
    def blocked() -> str:
        started.set()
        while not release.is_set():
            try:
                release.wait(0.01)
            except BaseException:
                continue
        return "too late"

    async with running(with_grace(app, 0.05)):
        handle = await blocked.enqueue()
        await reached(started)
    await app.close()
    release.set()
    assert counters(db, handle.id) == ("available", 0, 0, 1)
    assert outcomes(db, handle.id) == [("shutdown", None)]


async def test_a_worker_can_be_started_and_stopped_again_and_again(app: Holdfast, db) -> None:
    @app.job()
    async def work(n: int) -> int:
        return n

    for round_number in range(3):
        async with running(app):
            handle = await work.enqueue(round_number)
            assert await handle.result(timeout=10) == round_number
        assert db.value("SELECT count(*) FROM holdfast.worker") == 0
    async with app.running(), app.running():
        assert db.value("SELECT count(*) FROM holdfast.worker") == 2
        handles = await app.enqueue_many([work.new(n) for n in range(40)])
        assert [await h.result(timeout=10) for h in handles] == list(range(40))
    await app.close()


async def test_an_error_in_the_block_still_ends_the_worker_well(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> None: ...

    with pytest.raises(RuntimeError, match="of the application"):
        async with running(app):
            await (await work.enqueue()).result(timeout=10)
            raise RuntimeError("of the application")
    assert db.value("SELECT count(*) FROM holdfast.worker") == 0


async def test_an_application_that_is_cancelled_hands_its_jobs_back(app: Holdfast, db) -> None:
    started = asyncio.Event()

    @app.job()
    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    async def application() -> None:
        async with running(with_grace(app, 0.05)):
            await work.enqueue()
            await asyncio.Event().wait()

    task = asyncio.create_task(application())
    await reached(started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await app.close()
    assert db.execute("SELECT state, failures, resumes FROM holdfast.job") == [("available", 0, 1)]


async def test_two_applications_on_two_schemas_do_not_see_each_other(app: Holdfast, db) -> None:
    schema = f"{db.schema}-b"
    migrate(db.server_dsn, schema)
    other = Holdfast(db.dsn, schema=schema)
    ran: list[str] = []

    @app.job(name="work")
    async def here() -> str:
        ran.append("here")
        return "here"

    @other.job(name="work")
    async def there() -> str:
        ran.append("there")
        return "there"

    try:
        async with running(app), running(other):
            first, second = await here.enqueue(), await there.enqueue()
            assert await first.result(timeout=10) == "here"
            assert await second.result(timeout=10) == "there"
            assert first.id == second.id
    finally:
        other.close_sync()
        db.admin.execute(f'DROP SCHEMA "{schema}" CASCADE')
    assert sorted(ran) == ["here", "there"]
