"""Chancy: jobs on the worker's event loop, a large queue, and updates sent often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chancy import Chancy, Job, Queue, Worker

from bench.peers.protocol import Work, now, run, sample

_SEND_S = 0.1
_CONCURRENCY = 10_000
_QUEUES = {"noop": "drain", "stamp": "stamp"}
_LOG = logging.getLogger("chancy")


async def noop() -> None:
    """Nothing."""


async def stamp(*, sent: float) -> None:
    """How long it took from the call of push to this line."""
    sample(now() - sent)


def _job(kind: str, args: dict[str, Any]) -> Job:
    return Job(func=f"bench.peers.chancy.{kind}", queue=_QUEUES[kind], kwargs=args)


def _chancy(dsn: str) -> Chancy:
    return Chancy(dsn, log=_LOG, min_connection_pool_size=4)


class _Producer:
    def __init__(self, chancy: Chancy) -> None:
        self.chancy = chancy

    async def one(self, kind: str, args: dict[str, Any]) -> None:
        await self.chancy.push(_job(kind, args))

    async def bulk(self, kind: str, args: dict[str, Any], count: int) -> None:
        jobs = [_job(kind, args) for _ in range(count)]
        async for _ in self.chancy.push_many(jobs, batch_size=10_000):
            pass


class _Chancy:
    async def install(self, dsn: str) -> None:
        async with _chancy(dsn) as chancy:
            await chancy.migrate()

    @asynccontextmanager
    async def producer(self, dsn: str) -> AsyncIterator[_Producer]:
        async with _chancy(dsn) as chancy:
            yield _Producer(chancy)

    async def work(self, work: Work, stop: asyncio.Event) -> None:
        async with _chancy(work.dsn) as chancy:
            queue = Queue(
                work.queue,
                concurrency=_CONCURRENCY,
                executor=Chancy.Executor.Async,
                polling_interval=1,
                eager_polling=True,
            )
            await chancy.declare(queue, upsert=True)
            worker = Worker(chancy, register_signal_handlers=False)
            worker.send_outgoing_interval = _SEND_S
            async with worker:
                await stop.wait()


if __name__ == "__main__":
    _LOG.setLevel(logging.WARNING)
    run(_Chancy())
