"""DBOS: workflows on a queue that is polled often; measured for steps and latency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig
from sqlalchemy import make_url

from bench.peers.protocol import Work, now, run, sample

_POLL_S = 0.01
_NAME = "bench"
_QUEUES = {"stepping": "steps", "stamp": "stamp"}


@DBOS.step()
def work(number: int) -> int:
    """The same step as everybody's."""
    return number


@DBOS.workflow(name="stepping")
def stepping(count: int) -> None:
    """So many steps, one after the other; in a thread, which is faster here than on the loop."""
    started = now()
    for number in range(count):
        work(number)
    sample(started, now())


@DBOS.workflow(name="stamp")
def stamp(sent: float) -> None:
    """How long it took from the call of enqueue to this line."""
    sample(now() - sent)


def _launch(dsn: str) -> None:
    config: DBOSConfig = {
        "name": _NAME,
        "system_database_url": _url(dsn),
        "application_version": "1",
        "sys_db_pool_size": 20,
        "log_level": "WARNING",
        "console_log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()


class _Producer:
    def __init__(self, client: DBOSClient) -> None:
        self.client = client

    async def one(self, kind: str, args: dict[str, Any]) -> None:
        options = {"queue_name": _QUEUES[kind], "workflow_name": kind}
        await self.client.enqueue_async(options, **args)

    async def bulk(self, kind: str, args: dict[str, Any], count: int) -> None:
        for _ in range(count):
            await self.one(kind, args)


class _Dbos:
    async def install(self, dsn: str) -> None:
        await asyncio.to_thread(_launch, dsn)
        await asyncio.to_thread(DBOS.destroy)

    @asynccontextmanager
    async def producer(self, dsn: str) -> AsyncIterator[_Producer]:
        client = await asyncio.to_thread(
            lambda: DBOSClient(system_database_url=_url(dsn), application_name=_NAME)
        )
        yield _Producer(client)
        await asyncio.to_thread(client.destroy)

    async def work(self, work: Work, stop: asyncio.Event) -> None:
        await asyncio.to_thread(_launch, work.dsn)
        await DBOS.register_queue_async(
            work.queue, worker_concurrency=work.concurrency, polling_interval_sec=_POLL_S
        )
        await stop.wait()
        await asyncio.to_thread(DBOS.destroy)


def _url(dsn: str) -> str:
    url = make_url(dsn).set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


if __name__ == "__main__":
    run(_Dbos())
