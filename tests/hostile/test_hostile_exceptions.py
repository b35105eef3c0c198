"""Every BaseException out of async, threaded and `finally` code: the row says so, the worker lives.

`SystemExit` and `KeyboardInterrupt` out of tasks that user code started itself end the event loop
they run in: `test_hostile_exits` has them, in real processes.
"""

import asyncio
import builtins
from collections.abc import Callable

import pytest

from fixtures.hostile import last_error
from fixtures.looking import counters, ended, instantly, outcomes, reached
from fixtures.running import running
from holdfast import BlockingContext, Context, Holdfast, JobFailed
from holdfast import errors as ours

EXITS = (SystemExit, KeyboardInterrupt)


class OwnBase(BaseException):
    """A user's class beside `Exception`."""


class Mute(Exception):
    """Has neither text nor attributes."""

    def __str__(self) -> str:
        raise KeyError("no text")

    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError


class Trap(Exception):
    """Ends the process of who asks for an attribute that it has not."""

    def __getattr__(self, name: str) -> object:
        raise SystemExit(7)


def _make(kind: type[BaseException]) -> BaseException:
    if issubclass(kind, BaseExceptionGroup):
        return kind("several", [ValueError("one"), ValueError("two")])
    if issubclass(kind, UnicodeDecodeError):
        return kind("utf-8", b"\xff", 0, 1, "odd")
    if issubclass(kind, UnicodeEncodeError):
        return kind("utf-8", "\ud800", 0, 1, "odd")
    if issubclass(kind, UnicodeTranslateError):
        return kind("\ud800", 0, 1, "odd")
    return kind()


BUILTIN = sorted(
    {k for k in vars(builtins).values() if isinstance(k, type) and issubclass(k, BaseException)},
    key=lambda k: k.__name__,
)
INTERRUPTIONS = [ours.Interruption, ours.Suspended, ours.Interrupted]
MORE = [asyncio.CancelledError, OwnBase, *INTERRUPTIONS]
EVERY = [*BUILTIN, *MORE]
GROUP = BaseExceptionGroup("all", [_make(kind) for kind in EVERY])


def _async_job(make: Callable[[], BaseException]):
    async def fail() -> None:
        raise make()

    return fail


def _threaded_job(make: Callable[[], BaseException]):
    def fail() -> None:
        raise make()

    return fail


def _finally_job(make: Callable[[], BaseException]):
    async def fail() -> None:
        try:
            raise ValueError("the first")
        finally:
            await asyncio.sleep(0)
            raise make()

    return fail


def _threaded_finally_job(make: Callable[[], BaseException]):
    def fail() -> None:
        try:
            raise ValueError("the first")
        finally:
            raise make()

    return fail


def _step_job(make: Callable[[], BaseException]):
    async def leave() -> None:
        raise make()

    async def fail(ctx: Context) -> None:
        await ctx.step(leave)

    return fail


def _threaded_step_job(make: Callable[[], BaseException]):
    def leave() -> None:
        raise make()

    def fail(ctx: BlockingContext) -> None:
        ctx.step(leave)

    return fail


def _branch_job(make: Callable[[], BaseException]):
    async def leave() -> None:
        raise make()

    async def fail(ctx: Context) -> None:
        await ctx.gather(a=leave(), b=asyncio.sleep(0))

    return fail


PLACES = {
    "async": _async_job,
    "threaded": _threaded_job,
    "finally": _finally_job,
    "threaded finally": _threaded_finally_job,
    "step": _step_job,
    "threaded step": _threaded_step_job,
    "branch": _branch_job,
}


@pytest.mark.parametrize("place", PLACES)
async def test_every_base_exception_fails_its_job_says_so_in_the_row_and_the_worker_goes_on(
    app: Holdfast, db, place: str
) -> None:
    jobs = {}
    for number, kind in enumerate(EVERY):
        make = lambda kind=kind: _make(kind)  # noqa: E731
        jobs[kind] = app.job(name=f"{number} {kind.__name__}", max_attempts=1)(PLACES[place](make))

    @app.job()
    async def healthy() -> str:
        return "ran"

    async with running(app):
        for kind, job in jobs.items():
            handle = await job.enqueue()
            with pytest.raises(JobFailed):
                await handle.result(timeout=20)
            assert counters(db, handle.id) == ("discarded", 1, 0, 0), kind
            assert outcomes(db, handle.id) == [("failed", "failure")], kind
            type_, message, stack = last_error(db, handle.id)
            # Some cannot pass through a future or a coroutine as they are; then they are named.
            told = f"{type_} {message} {stack}"
            assert type(_make(kind)).__name__ in told, (kind, told)
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"


@pytest.mark.parametrize("place", PLACES)
async def test_a_group_of_every_base_exception_fails_its_job_only(
    app: Holdfast, db, place: str
) -> None:
    job = app.job(max_attempts=1, name="grouped")(PLACES[place](lambda: GROUP))
    async with running(app):
        handle = await job.enqueue()
        with pytest.raises(JobFailed, match="BaseExceptionGroup"):
            await handle.result(timeout=20)
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


@pytest.mark.parametrize("place", PLACES)
async def test_an_exception_whose_str_raises_fails_its_job_only(
    app: Holdfast, db, place: str
) -> None:
    job = app.job(max_attempts=1, name="mute")(PLACES[place](Mute))

    @app.job()
    async def healthy() -> str:
        return "ran"

    async with running(app):
        handle = await job.enqueue()
        with pytest.raises(JobFailed, match="Mute"):
            await handle.result(timeout=20)
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
    type_, message, stack = last_error(db, handle.id)
    assert type_.endswith("Mute")
    assert message == "<Mute: its __str__ raised KeyError>"
    assert "Mute" in stack


@pytest.mark.parametrize("place", PLACES)
async def test_an_exception_that_ends_whoever_looks_at_it_ends_only_its_job(
    app: Holdfast, db, place: str
) -> None:
    job = app.job(max_attempts=1, name="trap")(PLACES[place](Trap))

    @app.job()
    async def healthy() -> str:
        return "ran"

    async with running(app):
        handle = await job.enqueue()
        with pytest.raises(JobFailed):
            await handle.result(timeout=20)
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


async def test_an_exception_whose_str_raises_is_remembered_like_any_other(
    app: Holdfast, db
) -> None:
    async def leave() -> None:
        raise Mute

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> str:
        try:
            await ctx.step(leave)
        except Mute:
            await ctx.sleep(0)
        if ctx.attempt == 1:
            raise ValueError("once more, from the journal")
        return "went on"

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == "went on"


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
async def test_every_base_exception_while_a_cancel_stops_the_code_leaves_the_job_cancelled(
    app: Holdfast, db, kind: type[BaseException]
) -> None:
    started = asyncio.Event()

    @app.job()
    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            raise _make(kind)

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        await handle.cancel()
        await ended(app, handle.id, "cancelled")
    assert counters(db, handle.id) == ("cancelled", 0, 0, 0)


@pytest.mark.parametrize(
    "kind", [k for k in EVERY if not issubclass(k, EXITS)], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("how", ["task", "group"])
async def test_every_base_exception_out_of_a_task_of_ones_own_fails_its_job_only(
    app: Holdfast, db, kind: type[BaseException], how: str
) -> None:
    async def leave() -> None:
        raise _make(kind)

    @app.job(max_attempts=1)
    async def work() -> str:
        if how == "task":
            await asyncio.create_task(leave())
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(leave())
        return "went on"

    async with running(app):
        handle = await work.enqueue()
        job = await ended(app, handle.id, "discarded" if _fails(kind, how) else "completed")
    if job.state == "discarded":
        assert type(_make(kind)).__name__ in "".join(last_error(db, handle.id))
        assert counters(db, handle.id) == ("discarded", 1, 0, 0)


def _fails(kind: type[BaseException], how: str) -> bool:
    """A group takes a cancelled task for one that was not needed any more."""
    return not (how == "group" and issubclass(kind, asyncio.CancelledError))
