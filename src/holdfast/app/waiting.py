"""Waiting for jobs to end: by notification, with a slow poll beneath it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator

from holdfast.errors import DatabaseUnavailable, ResultTimeout
from holdfast.model.job import JobEnding
from holdfast.storage.database import Database
from holdfast.storage.jobs import await_ends, endings
from holdfast.storage.listen import Listener, wait_sync

log = logging.getLogger("holdfast.results")

_POLL_S = 5.0
_POLL_BLIND_S = 0.5


class Waiter:
    """Resolves the ends of jobs for everybody who waits in one event loop.

    One connection listens for all; a notification says only that some awaited job ended, then one
    statement looks for all that are waited for.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, asyncio.Future[JobEnding]] = {}
        self._askers: Counter[int] = Counter()
        self._look = asyncio.Event()
        self._listener = Listener(
            database.dsn,
            database.schema,
            ("done",),
            heard=lambda kind, payload: self._look.set(),
            caught_up=self._look.set,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self, job_id: int, timeout_s: float | None) -> JobEnding:
        """Returns how the job ended; raises `ResultTimeout`."""
        await self._database.open()
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._listener.run(), name="holdfast results listener"),
                asyncio.create_task(self._resolve(), name="holdfast results"),
            ]
        future = self._waiting.get(job_id)
        if future is None:
            future = self._waiting[job_id] = asyncio.get_running_loop().create_future()
        self._askers[job_id] += 1
        try:
            await self._database.run(await_ends([job_id], self._database.schema))
            self._look.set()
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            raise timed_out(job_id, timeout_s) from None
        finally:
            self._askers[job_id] -= 1
            if self._askers[job_id] == 0:
                # The last who asked is gone, with an answer or without one.
                del self._askers[job_id]
                self._waiting.pop(job_id, None)

    async def close(self) -> None:
        """Ends the listening; whoever still waits is cancelled."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    async def _resolve(self) -> None:
        while True:
            period = _POLL_S if self._listener.listening.is_set() else _POLL_BLIND_S
            try:
                async with asyncio.timeout(period):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            if self._waiting:
                await self._answer(list(self._waiting))

    async def _answer(self, ids: list[int]) -> None:
        try:
            found = await self._database.run(endings(ids))
        except DatabaseUnavailable as error:
            # The listener may be back already, or not know yet: nobody else would ask again soon.
            log.warning("results.delayed %s", error.message)
            asyncio.get_running_loop().call_later(_POLL_BLIND_S, self._look.set)
            return
        for ending in found:
            future = self._waiting.pop(ending.id, None)
            if future is not None and not future.done():
                future.set_result(ending)


def wait_blocking(dsn: str, schema: str, job_id: int, timeout_s: float | None) -> JobEnding:
    """Returns how the job ended, blocking, on a connection of its own."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def pauses() -> Iterator[float]:
        while True:
            left = _POLL_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise timed_out(job_id, timeout_s)
            yield min(_POLL_S, left)

    return wait_sync(dsn, schema, "done", await_ends([job_id], schema), endings([job_id]), pauses())


def timed_out(job_id: int, timeout_s: float | None) -> ResultTimeout:
    """Returns the error for a result that did not come in time."""
    return ResultTimeout(
        f"job {job_id} has not ended within {timeout_s:g} s",
        f"It goes on; `holdfast jobs explain {job_id}` says what it waits for.",
        job_id,
    )
