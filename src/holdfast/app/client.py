"""The database side of an application: enqueue, ask, wait; async and blocking.

Pools open on first use. The async one belongs to the event loop it was opened in; another loop gets
another, so that scripts may call `asyncio.run` more than once.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from holdfast.app.explain import Explanation, explain
from holdfast.app.function import Request
from holdfast.app.handle import Handle
from holdfast.app.settings import Settings
from holdfast.app.waiting import Waiter, wait_blocking
from holdfast.errors import DatabaseUnavailable, InvalidOption, JobNotFound
from holdfast.model.job import Enqueued, Execution, Job, JobEnding, Step
from holdfast.model.names import check_name, unknown
from holdfast.model.text import shown, storable
from holdfast.model.watching import Changes, Cursor, Overview
from holdfast.runtime.blocking import BlockingStepConnection
from holdfast.storage import inspection, jobs, queues, workers
from holdfast.storage.callers import Callers, check_pairing
from holdfast.storage.database import BlockingDatabase, Database
from holdfast.storage.query import Query, R
from holdfast.storage.transaction import StepConnection


@dataclass(frozen=True, slots=True)
class History:
    """Everything that is known of one job."""

    job: Job
    executions: list[Execution]
    steps: list[Step]


class Client:
    """Talks to the database for one `Holdfast`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._async: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[Database, Waiter]
        ] = weakref.WeakKeyDictionary()
        self._blocking: BlockingDatabase | None = None
        self._callers = Callers()

    # --- Connections ----------------------------------------------------------------------------

    @property
    def dsn(self) -> str:
        """The DSN; raises with the remedy when none is configured."""
        if self.settings.dsn is None:
            raise DatabaseUnavailable(
                "no database is configured",
                "Set HOLDFAST_DSN or DATABASE_URL, or pass Holdfast(dsn=…); "
                "`holdfast dev` brings an embedded PostgreSQL.",
            )
        return self.settings.dsn

    @property
    def database(self) -> Database:
        """The async pool of the running event loop."""
        return self._loop_state()[0]

    @property
    def blocking(self) -> BlockingDatabase:
        """The blocking pool of this process."""
        if self._blocking is None:
            self._blocking = BlockingDatabase(self.dsn, self.settings.schema)
        return self._blocking

    def _loop_state(self) -> tuple[Database, Waiter]:
        loop = asyncio.get_running_loop()
        if loop not in self._async:
            database = Database(self.dsn, self.settings.schema)
            self._async[loop] = database, Waiter(database)
        return self._async[loop]

    async def close(self) -> None:
        """Closes what was opened in this event loop, and the blocking pool."""
        state = self._async.pop(asyncio.get_running_loop(), None)
        if state is not None:
            await state[1].close()
            await state[0].close()
        self.close_sync()

    def close_sync(self) -> None:
        """Closes the blocking pool."""
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            blocking.close()

    # --- Enqueue --------------------------------------------------------------------------------

    async def enqueue(
        self, requests: Sequence[Request[Any]], conn: object = None, *, call: str = "enqueue"
    ) -> list[Handle[Any]]:
        """Stores jobs in one statement, on the caller's connection if one is given."""
        new = [request.job for request in requests]
        if conn is None:
            done = await self.database.run(jobs.enqueue(new)) if requests else []
        else:
            done = await self._on(conn, jobs.try_enqueue(new), call)
        return self._handles(requests, done)

    def enqueue_sync(
        self, requests: Sequence[Request[Any]], conn: object = None, *, call: str = "enqueue"
    ) -> list[Handle[Any]]:
        """Stores jobs in one statement, blocking."""
        new = [request.job for request in requests]
        if conn is None:
            done = self.blocking.run(jobs.enqueue(new)) if requests else []
        else:
            done = self._on_sync(conn, jobs.try_enqueue(new), call)
        return self._handles(requests, done)

    def _handles(self, requests: Sequence[Request[Any]], done: list[Enqueued]) -> list[Handle[Any]]:
        return [
            Handle(one.id, self, request.definition, conflict=one.conflict, replaced=one.replaced)
            for one, request in zip(done, requests, strict=True)
        ]

    async def _anywhere(self, conn: object, query: Query[R], call: str) -> R:
        if conn is None:
            return await self.database.run(query)
        return await self._on(conn, query, call)

    def _anywhere_sync(self, conn: object, query: Query[R], call: str) -> R:
        return self.blocking.run(query) if conn is None else self._on_sync(conn, query, call)

    async def _on(self, conn: object, query: Query[R], call: str) -> R:
        """Runs one operation in the caller's transaction, which may be that of a step."""
        if isinstance(conn, StepConnection):
            return await conn.run_query(query)
        if isinstance(conn, BlockingStepConnection):
            check_pairing("blocking", "async", call)
        return await self._callers.run(conn, query, self.settings.schema, call=call)

    def _on_sync(self, conn: object, query: Query[R], call: str) -> R:
        if isinstance(conn, BlockingStepConnection):
            return cast(R, conn.run_query(query))
        if isinstance(conn, StepConnection):
            check_pairing("async", "blocking", call)
        return self._callers.run_sync(conn, query, self.settings.schema, call=call)

    def check_queue(self, queue: object) -> str:
        """Returns a queue's name, or raises if queues are configured and this is none of them."""
        name = check_name(queue, field="queue")
        if self.settings.queues and name not in self.settings.queues:
            raise unknown("queue", name, self.settings.queues)
        return name

    # --- Ask ------------------------------------------------------------------------------------

    async def wait_for(self, job_id: int, timeout_s: float | None) -> JobEnding:
        """Returns how a job ended."""
        return await self._loop_state()[1].wait(job_id, timeout_s)

    def wait_for_sync(self, job_id: int, timeout_s: float | None) -> JobEnding:
        """Returns how a job ended, blocking."""
        return wait_blocking(self.dsn, self.settings.schema, job_id, timeout_s)

    async def job(self, job_id: int) -> Job:
        """Returns one job as it is now; raises `JobNotFound`."""
        return _only(await self.database.run(jobs.find(ids=[job_id])), job_id)

    def job_sync(self, job_id: int) -> Job:
        """Returns one job as it is now, blocking."""
        return _only(self.blocking.run(jobs.find(ids=[job_id])), job_id)

    async def find(self, query: Query[R]) -> R:
        """Runs one reading operation."""
        return await self.database.run(query)

    def find_sync(self, query: Query[R]) -> R:
        """Runs one reading operation, blocking."""
        return self.blocking.run(query)

    def persist_sync(self, query: Query[R]) -> R:
        """Runs one operation on many jobs, again when it met a worker's in a deadlock. Blocking."""
        return self.blocking.run_for_sure(query)

    def changes_sync(self, cursor: Cursor, **filters: Any) -> Changes:
        """Reads what has happened to jobs since a cursor; the filters are those of `changes`."""
        return self.blocking.run(inspection.changes(cursor, **filters))

    def overview_sync(self, *, most: int, newest: bool, seconds: float) -> Overview:
        """Reads what `top` shows: up to `most` running jobs, ends of the last `seconds`."""
        database = self.blocking
        return Overview(
            database.run(queues.queues()),
            database.run(workers.live_workers()),
            database.run(inspection.running(most, newest=newest)),
            database.run(inspection.finished(seconds)),
        )

    async def cancel(
        self, ids: Sequence[int], reason: str | None, conn: object = None
    ) -> dict[int, str]:
        """Cancels jobs; raises `JobNotFound` when one does not exist."""
        query = jobs.cancel(ids, _checked(reason))
        return _all(await self._anywhere(conn, query, "cancel"), ids)

    def cancel_sync(
        self, ids: Sequence[int], reason: str | None, conn: object = None
    ) -> dict[int, str]:
        """Cancels jobs, blocking."""
        query = jobs.cancel(ids, _checked(reason))
        return _all(self._anywhere_sync(conn, query, "cancel"), ids)

    async def retry(self, ids: Sequence[int], conn: object = None) -> dict[int, str]:
        """Runs jobs again; raises `JobNotFound` when one does not exist."""
        return _all(await self._anywhere(conn, jobs.retry(ids), "retry"), ids)

    def retry_sync(self, ids: Sequence[int], conn: object = None) -> dict[int, str]:
        """Runs jobs again, blocking."""
        return _all(self._anywhere_sync(conn, jobs.retry(ids), "retry"), ids)

    async def explain(self, job_id: int) -> Explanation:
        """Says why a job is not running."""
        job = await self.job(job_id)
        return explain(job, await self.database.run(inspection.queue_facts(job)))

    def explain_sync(self, job_id: int) -> Explanation:
        """Says why a job is not running, blocking."""
        job = self.job_sync(job_id)
        return explain(job, self.blocking.run(inspection.queue_facts(job)))

    async def history(self, job_id: int) -> History:
        """Returns everything that is known of one job."""
        job = await self.job(job_id)
        executions = await self.database.run(inspection.executions(job_id))
        return History(job, executions, await self.database.run(inspection.steps(job_id)))

    def history_sync(self, job_id: int) -> History:
        """Returns everything that is known of one job, blocking."""
        job = self.job_sync(job_id)
        executions = self.blocking.run(inspection.executions(job_id))
        return History(job, executions, self.blocking.run(inspection.steps(job_id)))


def _checked(reason: object) -> str | None:
    if reason is not None and not isinstance(reason, str):
        raise InvalidOption(f"reason={shown(reason)} is not a string", "Say it in words.")
    return None if reason is None else storable(reason, limit=1000)


def _only(found: list[Job], job_id: int) -> Job:
    if not found:
        raise JobNotFound(f"job {job_id} does not exist", job_id=job_id)
    return found[0]


def _all(states: dict[int, str], ids: Sequence[int]) -> dict[int, str]:
    missing = [job_id for job_id in ids if job_id not in states]
    if missing:
        which = f"job {missing[0]} does" if len(missing) == 1 else f"jobs {missing} do"
        done = f"; the other {len(states)} were handled" if states else ""
        raise JobNotFound(f"{which} not exist{done}", job_id=missing[0])
    return states
