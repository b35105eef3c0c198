"""Running jobs inside an application: a worker on its loop, a thread that keeps the lease."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holdfast.errors import DatabaseError
from holdfast.runtime.lease import LEASE_S, LeaseKeeper, new_identity, worker_name
from holdfast.runtime.worker import Worker, WorkerPlan
from holdfast.storage.database import Database
from holdfast.storage.pooler import Route
from holdfast.storage.workers import Registration

log = logging.getLogger("holdfast.worker")

_PAUSE_S = 1.0
_RELEASE_S = 3.0


@asynccontextmanager
async def running(plan: WorkerPlan) -> AsyncIterator[None]:
    """Runs a worker for as long as the block lasts."""
    database = Database(plan.dsn, plan.schema)
    await database.open()  # checks the schema, with the remedy in the error
    await database.close()
    say_route(database.route)
    service = _Service(plan)
    await asyncio.to_thread(service.keeper.start)
    try:
        await service.begin()
        task = asyncio.create_task(service.run(), name="holdfast worker")
        try:
            yield
        finally:
            service.stop()
            await _settle(task)
    finally:
        await asyncio.to_thread(service.keeper.stop)


def say_route(route: Route) -> None:
    """Warns a person who may not know that a pooler costs speed; once, at the start."""
    if route.is_shared:
        log.warning(
            "worker.pooled behind a pooler in transaction mode: polling every 0.5 s instead of "
            "LISTEN, dead workers are noticed after %.0f s by their lease rows; a direct "
            "connection is faster",
            LEASE_S,
        )


class _Service:
    """One worker after another: when one loses its lease or breaks, the next takes its place."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.keeper = LeaseKeeper(plan.dsn, plan.schema, lost=self._lost)
        self._name = worker_name(plan.name, self.keeper.supervisor_id)
        self._worker = Worker(plan, new_identity(), self._name)

    def stop(self) -> None:
        """Lets the running worker finish; no other follows."""
        self._stopping.set()
        self._worker.stop()

    async def begin(self) -> None:
        """Gives the next worker its lease."""
        new = registration(self._plan, self._worker, self.keeper)
        await asyncio.to_thread(self.keeper.register, new)

    async def run(self) -> None:
        """Runs workers until stopped; a breakdown is logged and the jobs are handed back."""
        while True:
            try:
                await self._worker.run()
            except Exception:
                log.exception("worker.broke another one takes over")
            await self._hand_back()
            if self._stopping.is_set():
                return
            if not await self._renew():
                return

    async def _renew(self) -> bool:
        """Prepares the next worker, however long that takes; False when stopped meanwhile."""
        while not self._stopping.is_set():
            self._worker = Worker(self._plan, new_identity(), self._name)
            try:
                await self.begin()
            except DatabaseError as error:
                log.warning("worker.waits for the database: %s", error)
                await _until(self._stopping, _PAUSE_S)
            else:
                log.warning("worker.restarted after it had lost its lease or broken")
                return True
        return False

    async def _hand_back(self) -> None:
        await asyncio.to_thread(
            self.keeper.release,
            self._worker.worker_id,
            outcome="shutdown",
            reason="its application was shut down",
            charge=False,
            within_s=_RELEASE_S,
        )

    def _lost(self, worker_ids: set[int]) -> None:
        if self._worker.worker_id in worker_ids:
            self._loop.call_soon_threadsafe(self._worker.lose_lease)


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def registration(plan: WorkerPlan, worker: Worker, keeper: LeaseKeeper) -> Registration:
    """Returns what the worker's row says of this process."""
    return Registration(
        worker_id=worker.worker_id,
        supervisor_id=keeper.supervisor_id,
        pid=os.getpid(),
        host=socket.gethostname(),
        app=sys.argv[0] or "python",
        code_version=None,
        queues=dict(plan.queues),
        job_names=sorted(plan.registry),
        lease_s=LEASE_S,
        name=worker.name,
        closed=plan.closed,
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
