"""The same SQL without holdfast's runtime: claim and finish, or record, in large batches.

The ceiling that the runtime's numbers are held against. It knows holdfast's insides, which the
other modules of this package do not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.peers.holdfast import _Holdfast
from bench.peers.protocol import Work, now, run, sample
from holdfast.model.job import JobTemplate, Lane, NewJob
from holdfast.model.writes import Completion, StepWrite
from holdfast.runtime.lease import new_identity
from holdfast.storage.connect import connect_hot, connect_sync
from holdfast.storage.jobs import BEGINNING, claim, complete, enqueue
from holdfast.storage.query import run_async, run_pipeline, run_sync
from holdfast.storage.steps import record
from holdfast.storage.workers import Registration, register

_SCHEMA = "holdfast"
_BATCH = 500
_QUEUES = {"noop": "drain", "stepping": "steps"}
_IDLE_S = 0.005


class _Producer:
    def __init__(self, conn: Any) -> None:
        self.conn = conn

    async def one(self, kind: str, args: dict[str, Any]) -> None:
        await self.bulk(kind, args, 1)

    async def bulk(self, kind: str, args: dict[str, Any], count: int) -> None:
        text = json.dumps(args)
        template = JobTemplate(name=kind, queue=_QUEUES[kind])
        jobs = [NewJob(template, text) for _ in range(count)]
        await run_async(self.conn, enqueue(jobs), _SCHEMA)


class _Bare(_Holdfast):
    @asynccontextmanager
    async def producer(self, dsn: str) -> AsyncIterator[_Producer]:
        conn = await connect_hot(dsn, "bench")
        yield _Producer(conn)
        await conn.close()

    async def work(self, work: Work, stop: asyncio.Event) -> None:
        worker_id = _register(work)
        conn = await connect_hot(work.dsn, "bench")
        await (_steps if work.queue == "steps" else _drain)(conn, worker_id, work.queue, stop)
        await conn.close()


def _register(work: Work) -> int:
    worker_id = new_identity()
    new = Registration(
        worker_id, new_identity(), 1, "bench", "bench", None, {work.queue: _BATCH}, ["noop"], 3600.0
    )
    with connect_sync(work.dsn) as conn:
        run_sync(conn, register(new, _SCHEMA, locked=False), _SCHEMA)
    return worker_id


def _lanes(queue: str) -> list[Lane]:
    return [Lane(queue, priority, BEGINNING, 0) for priority in range(10)]


async def _drain(conn: Any, worker_id: int, queue: str, stop: asyncio.Event) -> None:
    """Claims and finishes in one round trip, from where the last claim began."""
    lanes, finished = _lanes(queue), []
    while not stop.is_set():
        queries: list[Any] = [claim(worker_id, {queue: _BATCH}, lanes)]
        if finished:
            queries.insert(0, complete(worker_id, _SCHEMA, finished))
        jobs = (await run_pipeline(conn, queries, _SCHEMA))[-1].jobs
        finished = [_finish(job) for job in jobs]
        if jobs:
            lanes = [Lane(queue, 0, jobs[0].run_at, jobs[0].id), *lanes[1:]]
        else:
            await asyncio.sleep(_IDLE_S)


async def _steps(conn: Any, worker_id: int, queue: str, stop: asyncio.Event) -> None:
    """One statement records a step of every job that was claimed."""
    while not stop.is_set():
        jobs = (await run_async(conn, claim(worker_id, {queue: 50}, _lanes(queue)), _SCHEMA)).jobs
        if not jobs:
            await asyncio.sleep(_IDLE_S)
            continue
        started = now()
        rows = [_step(job) for job in jobs]
        args = jobs[0].args
        for number in range((json.loads(args) if isinstance(args, str | bytes) else args)["count"]):
            batch = [row._replace(key=f"work#{number}") for row in rows]
            await run_async(conn, record(worker_id, batch), _SCHEMA)
        await run_async(conn, complete(worker_id, _SCHEMA, [_finish(j) for j in jobs]), _SCHEMA)
        for _ in jobs:
            sample(started, now())


def _finish(job: Any) -> Completion:
    return Completion(job.id, job.epoch, None, None, False)


def _step(job: Any) -> StepWrite:
    return StepWrite(
        job.id, job.epoch, "work", 1, "step", "done", 1, b"1", 1, False, 0.0, None, "v", b"f",
        None, None, None,
    )  # fmt: skip


if __name__ == "__main__":
    run(_Bare())
