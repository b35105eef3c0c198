"""PgQueuer as its own benchmark runs it: asyncpg, uvloop, several consumers in a process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from pgqueuer import AsyncpgDriver, PgQueuer, Queries
from pgqueuer.models import Job

from bench.peers.protocol import Work, now, run, sample

CONSUMERS = int(os.environ.get("BENCH_PGQUEUER_CONSUMERS", "1"))
BATCH = int(os.environ.get("BENCH_PGQUEUER_BATCH", "1000"))


def _register(pgq: PgQueuer) -> None:
    @pgq.entrypoint("noop")
    async def noop(job: Job) -> None:
        """Nothing."""

    @pgq.entrypoint("stamp")
    async def stamp(job: Job) -> None:
        sample(now() - json.loads(job.payload or b"{}")["sent"])


class _Producer:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self.queries = Queries(AsyncpgDriver(connection))

    async def one(self, kind: str, args: dict[str, Any]) -> None:
        await self.queries.enqueue(kind, _payload(args))

    async def bulk(self, kind: str, args: dict[str, Any], count: int) -> None:
        await self.queries.enqueue([kind] * count, [_payload(args)] * count, [0] * count)


class _PgQueuer:
    async def install(self, dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    @asynccontextmanager
    async def producer(self, dsn: str) -> AsyncIterator[_Producer]:
        connection = await asyncpg.connect(dsn)
        yield _Producer(connection)
        await connection.close()

    async def work(self, work: Work, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            consumers = []
            for _ in range(CONSUMERS):
                connection = await asyncpg.connect(work.dsn)
                stack.push_async_callback(connection.close)
                consumers.append(PgQueuer(AsyncpgDriver(connection)))
                _register(consumers[-1])
            runs = [asyncio.ensure_future(c.run(batch_size=BATCH)) for c in consumers]
            await stop.wait()
            for consumer in consumers:
                consumer.shutdown.set()
                consumer.qm.shutdown.set()
                consumer.sm.shutdown.set()
            await asyncio.gather(*runs)


def _payload(args: dict[str, Any]) -> bytes | None:
    return json.dumps(args).encode() if args else None


if __name__ == "__main__":
    run(_PgQueuer())
