"""holdfast: `holdfast worker` processes, as a user starts them; enqueue through the public API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.peers.protocol import Work, now, run, sample
from holdfast import Context, Holdfast

app = Holdfast(queues={"drain": 1000, "stamp": 50, "steps": 50, "memory": 1000})


@app.job(queue="drain")
async def noop() -> None:
    """Nothing: what remains is the system itself."""


@app.job(queue="stamp")
async def stamp(sent: float) -> None:
    """How long it took from the call of enqueue to this line."""
    sample(now() - sent)


@app.job(queue="steps")
async def stepping(ctx: Context, count: int) -> None:
    """So many steps, one after the other."""
    started = now()
    for number in range(count):
        await ctx.step(_work, number)
    sample(started, now())


@app.job(queue="memory")
async def in_flight() -> None:
    """A job that waits in memory, like one that waits for a model's answer."""
    await asyncio.sleep(3600)


@app.job(queue="memory")
async def parked(ctx: Context) -> None:
    """A job that waits in the database."""
    await ctx.sleep(3600)


async def _work(number: int) -> int:
    return number


class _Producer:
    async def one(self, kind: str, args: dict[str, Any]) -> None:
        await app.job_function(kind).enqueue(**args)

    async def bulk(self, kind: str, args: dict[str, Any], count: int) -> None:
        function = app.job_function(kind)
        await app.enqueue_many([function.new(**args) for _ in range(count)])


class _Holdfast:
    async def install(self, dsn: str) -> None:
        await asyncio.to_thread(_at(dsn).migrate)

    @asynccontextmanager
    async def producer(self, dsn: str) -> AsyncIterator[_Producer]:
        async with _at(dsn):
            yield _Producer()

    async def work(self, work: Work, stop: asyncio.Event) -> None:
        raise NotImplementedError("the driver starts `holdfast worker`")


def _at(dsn: str) -> Holdfast:
    app.point_at(dsn=dsn)
    return app


if __name__ == "__main__":
    run(_Holdfast())
