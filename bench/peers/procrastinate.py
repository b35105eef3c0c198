"""Procrastinate: many jobs at once in a worker, over a pool; finished jobs deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from procrastinate import App, PsycopgConnector

from bench.peers.protocol import Work, now, run, sample

_CONCURRENCY, _POOL = 50, 20
_CHUNK = 10_000


def _app(dsn: str, pool: int) -> App:
    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=pool, max_size=pool))

    @app.task(name="noop", queue="drain")
    async def noop() -> None:
        """Nothing."""

    @app.task(name="stamp", queue="stamp")
    async def stamp(sent: float) -> None:
        sample(now() - sent)

    return app


class _Producer:
    def __init__(self, app: App) -> None:
        self.app = app

    async def one(self, kind: str, args: dict[str, Any]) -> None:
        await self.app.tasks[kind].defer_async(**args)

    async def bulk(self, kind: str, args: dict[str, Any], count: int) -> None:
        for begin in range(0, count, _CHUNK):
            jobs = [args] * min(_CHUNK, count - begin)
            await self.app.tasks[kind].batch_defer_async(*jobs)


class _Procrastinate:
    async def install(self, dsn: str) -> None:
        async with _app(dsn, 1).open_async() as app:
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def producer(self, dsn: str) -> AsyncIterator[_Producer]:
        async with _app(dsn, 4).open_async() as app:
            yield _Producer(app)

    async def work(self, work: Work, stop: asyncio.Event) -> None:
        async with _app(work.dsn, _POOL).open_async() as app:
            running = asyncio.ensure_future(
                app.run_worker_async(
                    queues=[work.queue],
                    concurrency=_CONCURRENCY,
                    delete_jobs="successful",
                    install_signal_handlers=False,
                )
            )
            await stop.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run(_Procrastinate())
