"""A job that has ended leaves nothing behind that only the garbage collector could free.

Cycles in what every job makes would be looked through by the collector again and again: it took a
fifth of a busy process's time.
"""

import gc
import weakref
from collections.abc import Iterator

import pytest

from fixtures.running import eventually, running
from holdfast import BlockingContext, Context, Holdfast
from holdfast.runtime.attempt import CURRENT


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nobody looks for cycles while the test runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def _step(n: int) -> int:
    return n


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["plain", "with steps", "blocking"])
async def test_a_job_that_has_ended_is_freed_without_the_garbage_collector(
    app: Holdfast, kind: str
) -> None:
    attempts: list[weakref.ref] = []

    @app.job(name="plain")
    async def plain() -> None:
        attempts.append(weakref.ref(CURRENT.get()))

    @app.job(name="with steps")
    async def stepping(ctx: Context) -> int:
        attempts.append(weakref.ref(CURRENT.get()))
        await ctx.progress(0.5, "half")
        return await ctx.step(_step, 1) + await ctx.step(_step, 2)

    @app.job(name="blocking")
    def blocking(ctx: BlockingContext) -> int:
        attempts.append(weakref.ref(CURRENT.get()))
        return ctx.step(_step, 1)

    async with running(app):
        for _ in range(3):
            await (await app.job_function(kind).enqueue()).result(timeout=20)
        await eventually(lambda: [ref() for ref in attempts] == [None] * 3)
