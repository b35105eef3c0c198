"""What people who operate an installation do: queues at run time, bulk actions, retention.

`Holdfast` inherits it; each method has a blocking twin with `_sync` at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from holdfast.app.client import Client
from holdfast.app.diagnoses import Finding
from holdfast.app.doctor import examine
from holdfast.app.filters import check_keep, check_shown, check_slots, check_worker
from holdfast.model.durations import Duration
from holdfast.model.ids import check_ids
from holdfast.model.job import WorkerInfo
from holdfast.model.names import check_name, unknown
from holdfast.model.queues import QueueInfo
from holdfast.model.text import storable
from holdfast.storage import jobs, queues, workers
from holdfast.storage.query import Query
from holdfast.storage.queues import Pruned, RetentionRule

BulkAction = Literal["retry", "cancel", "delete"]
_PRUNED_AT_ONCE = 1_000
_ACTED_ON_AT_ONCE = 1_000
_FOUND_AT_ONCE = 10_000


class Operating:
    """Operations on queues, workers, and many jobs at once."""

    client: Client

    # --- Queues ---------------------------------------------------------------------------------

    async def queues(self) -> list[QueueInfo]:
        """Lists every queue that anybody knows: set, served, or with unfinished jobs."""
        return await self.client.find(queues.queues())

    def queues_sync(self) -> list[QueueInfo]:
        """Lists every queue that anybody knows, blocking."""
        return self.client.find_sync(queues.queues())

    async def pause(self, queue: str, *, worker: str | None = None) -> None:
        """Pauses a queue: workers start none of its jobs any more; running ones go on.

        For all workers, or for those of one name. Durable, and in force for workers that start
        later. Running workers follow within milliseconds, without notifications within a second.
        Raises `UnknownName` for a queue that nobody knows. Pausing twice is allowed.
        """
        _check_known(queue, await self.queues())
        schema = self.client.settings.schema
        await self.client.find(queues.pause(queue, check_worker(worker), schema))

    def pause_sync(self, queue: str, *, worker: str | None = None) -> None:
        """Pauses a queue, blocking; see `pause`."""
        _check_known(queue, self.queues_sync())
        schema = self.client.settings.schema
        self.client.find_sync(queues.pause(queue, check_worker(worker), schema))

    async def resume(self, queue: str, *, worker: str | None = None) -> int:
        """Resumes a queue; for all workers also where it was paused for one alone.

        Returns how many pauses ended. Raises `UnknownName` for a queue that nobody knows.
        """
        _check_known(queue, await self.queues())
        schema = self.client.settings.schema
        return await self.client.find(queues.resume(queue, check_worker(worker), schema))

    def resume_sync(self, queue: str, *, worker: str | None = None) -> int:
        """Resumes a queue, blocking; see `resume`."""
        _check_known(queue, self.queues_sync())
        schema = self.client.settings.schema
        return self.client.find_sync(queues.resume(queue, check_worker(worker), schema))

    async def scale(self, queue: str, slots: int | None, *, worker: str | None = None) -> None:
        """Sets how many jobs of a queue each process runs at once; durable, in force at once.

        For all workers, or for those of one name, whose own setting wins. Workers that were started
        without a list of queues begin to serve a queue that is new to them; those with a list do
        when they are named. 0 stops serving it; None returns to what each was started with. Jobs
        that run go on when there are fewer slots than they hold.
        """
        schema = self.client.settings.schema
        query = queues.scale(
            check_name(queue, field="queue"), check_worker(worker), check_slots(slots), schema
        )
        await self.client.find(query)

    def scale_sync(self, queue: str, slots: int | None, *, worker: str | None = None) -> None:
        """Sets how many jobs of a queue each process runs at once, blocking; see `scale`."""
        schema = self.client.settings.schema
        query = queues.scale(
            check_name(queue, field="queue"), check_worker(worker), check_slots(slots), schema
        )
        self.client.find_sync(query)

    async def workers(self) -> list[WorkerInfo]:
        """Lists the live worker processes, the oldest first."""
        return await self.client.find(workers.live_workers())

    def workers_sync(self) -> list[WorkerInfo]:
        """Lists the live worker processes, blocking."""
        return self.client.find_sync(workers.live_workers())

    def doctor_sync(self) -> list[Finding]:
        """Examines the database and reports what is wrong or will be; changes nothing. Blocking.

        Checks the connection, versions, the pooler, LISTEN, clocks, old transactions, dead rows,
        the archive, jobs that nobody can run, jobs that wait for a person. A check that fails is a
        finding of its own; only a missing DSN raises.
        """
        return examine(self.client.dsn, self.client.settings.schema)

    # --- Many jobs ------------------------------------------------------------------------------

    def matching_sync(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        name: str | None = None,
        tag: str | None = None,
    ) -> dict[int, str]:
        """Finds all jobs that match, the oldest first: id → state as shown; for `bulk_sync`.

        `state` as shown: also scheduled, retryable, waiting. Blocking.
        """
        check_shown(state)
        found: dict[int, str] = {}
        while True:
            page = self.client.find_sync(
                jobs.find_ids(
                    queue=queue,
                    name=name,
                    tag=tag,
                    shown=state,
                    after_id=max(found, default=0),
                    most=_FOUND_AT_ONCE,
                )
            )
            found |= page
            if len(page) < _FOUND_AT_ONCE:
                return found

    def bulk_sync(
        self, action: BulkAction, job_ids: Iterable[int], *, reason: str | None = None
    ) -> Iterator[dict[int, str]]:
        """Retries, cancels or deletes any number of jobs, a thousand in each transaction. Blocking.

        Yields after each transaction the jobs' states, or `deleted`. A job that is gone meanwhile
        is left out. `reason` is kept with cancelled jobs.
        """
        build = _check_bulk(action, reason)
        ids = list(job_ids)
        for start in range(0, len(ids), _ACTED_ON_AT_ONCE):
            yield self.client.persist_sync(build(ids[start : start + _ACTED_ON_AT_ONCE]))

    async def delete(self, *job_ids: int) -> dict[int, str]:
        """Deletes jobs with their steps, history and results; a running one is left alone.

        Returns `deleted` or `executing` for each job found; what was not found is left out. One
        transaction. To stop a job that runs, cancel it.
        """
        return await self.client.find(jobs.delete(check_ids(job_ids, field="job_ids")))

    def delete_sync(self, *job_ids: int) -> dict[int, str]:
        """Deletes jobs, blocking; see `delete`."""
        return self.client.find_sync(jobs.delete(check_ids(job_ids, field="job_ids")))

    # --- Retention ------------------------------------------------------------------------------

    def retention_sync(self) -> list[RetentionRule]:
        """Lists how long finished jobs are kept; the most specific rule counts. Blocking."""
        return self.client.find_sync(queues.retention())

    def keep_sync(
        self, keep: Duration | None, *, queue: str | None = None, state: str | None = None
    ) -> None:
        """Sets how long finished jobs are kept, counted from their end; None: for ever. Blocking.

        Of one queue or all, in one final state or all. The most specific rule counts: queue and
        state, then queue, then state. Workers remove what is past its rule every ten minutes.
        """
        chosen_queue, chosen_state, seconds = check_keep(keep, queue, state)
        self.client.find_sync(queues.keep(chosen_queue, chosen_state, seconds))

    def keep_as_others_sync(self, *, queue: str | None = None, state: str | None = None) -> bool:
        """Removes a rule of retention; returns whether there was one. Blocking."""
        chosen_queue, chosen_state, _ = check_keep(None, queue, state)
        return self.client.find_sync(queues.keep_as_others(chosen_queue, chosen_state))

    def prune_sync(self) -> Iterator[Pruned]:
        """Removes finished jobs that are past their rule, now; what workers do anyway. Blocking.

        And unique keys whose period is over. Yields after each transaction what went. Safe beside
        workers and other calls.
        """
        while (dropped := self.client.find_sync(queues.drop_partition())) is not None:
            yield dropped
        while (gone := self.client.find_sync(queues.prune(_PRUNED_AT_ONCE))) is not None:
            yield gone


def _check_bulk(
    action: str, reason: str | None
) -> Callable[[Sequence[int]], Query[dict[int, str]]]:
    kept = None if reason is None else storable(reason, limit=1000)
    known: dict[str, Callable[[Sequence[int]], Query[dict[int, str]]]] = {
        "retry": jobs.retry,
        "cancel": lambda ids: jobs.cancel(ids, kept),
        "delete": jobs.delete,
    }
    if action not in known:
        raise unknown("action", action, known)
    return known[action]


def _check_known(queue: str, known: Sequence[QueueInfo]) -> None:
    names = [info.name for info in known]
    if check_name(queue, field="queue") not in names:
        raise unknown("queue", queue, names)
