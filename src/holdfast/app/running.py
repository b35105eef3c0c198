"""Running jobs inside an application: a worker on its loop, a thread that keeps the lease."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holdfast.runtime.lease import LEASE_S, LeaseKeeper, new_identity
from holdfast.runtime.worker import Worker, WorkerPlan
from holdfast.storage.database import Database
from holdfast.storage.workers import Registration


@asynccontextmanager
async def running(plan: WorkerPlan) -> AsyncIterator[None]:
    """Runs a worker for as long as the block lasts."""
    database = Database(plan.dsn, plan.schema)
    await database.open()  # checks the schema, with the remedy in the error
    await database.close()
    loop = asyncio.get_running_loop()
    worker = Worker(plan, new_identity())

    def lost(_: set[int]) -> None:
        loop.call_soon_threadsafe(worker.lose_lease)

    keeper = LeaseKeeper(plan.dsn, plan.schema, lost=lost)
    await asyncio.to_thread(keeper.start)
    try:
        await asyncio.to_thread(keeper.register, registration(plan, worker.worker_id, keeper))
        task = asyncio.create_task(worker.run(), name="holdfast worker")
        try:
            yield
        finally:
            worker.stop()
            await _settle(task)
            await asyncio.to_thread(
                keeper.release,
                worker.worker_id,
                outcome="shutdown",
                reason="its application was shut down",
                charge=False,
            )
    finally:
        await asyncio.to_thread(keeper.stop)


def registration(plan: WorkerPlan, worker_id: int, keeper: LeaseKeeper) -> Registration:
    """Returns what the worker's row says of this process."""
    return Registration(
        worker_id=worker_id,
        supervisor_id=keeper.supervisor_id,
        pid=os.getpid(),
        host=socket.gethostname(),
        app=sys.argv[0] or "python",
        code_version=None,
        queues=dict(plan.queues),
        job_names=sorted(plan.registry),
        lease_s=LEASE_S,
    )


async def _settle(task: asyncio.Task[None]) -> None:
    """Waits for the worker's end, also while this task is being cancelled itself."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                break
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    task.result()
