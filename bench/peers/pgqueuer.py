"""PgQueuer as its own benchmark runs it: asyncpg, uvloop, large batches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pgqueuer import AsyncpgDriver, PgQueuer, Queries
from pgqueuer.models import Job

from bench.peers.protocol import Work, now, run, sample

# Measured: one consumer with large batches beats the five with ten jobs each of its benchmark.
_BATCH = 1000


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
        connection = await asyncpg.connect(work.dsn)
        consumer = PgQueuer(AsyncpgDriver(connection))
        _register(consumer)
        running = asyncio.ensure_future(consumer.run(batch_size=_BATCH))
        await stop.wait()
        for manager in (consumer, consumer.qm, consumer.sm):
            manager.shutdown.set()
        await running
        await connection.close()


def _payload(args: dict[str, Any]) -> bytes | None:
    return json.dumps(args).encode() if args else None


if __name__ == "__main__":
    run(_PgQueuer())
