"""What people ask and watch, as `Query` values."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.model.job import Execution, Job, QueueFacts, Step
from holdfast.model.watching import ChangedJob, Changes, Cursor, RunningJob
from holdfast.storage.query import Query, Row


def executions(job_id: int) -> Query[list[Execution]]:
    """Reads the history of one job, oldest first."""
    return Query(
        "inspect/executions", lambda rows: [Execution(*row) for row in rows], {"job_id": job_id}
    )


def steps(job_id: int) -> Query[list[Step]]:
    """Reads the journal of one job, in the order the steps began."""
    return Query("inspect/steps", lambda rows: [Step(*row) for row in rows], {"job_id": job_id})


def queue_facts(job: Job) -> Query[QueueFacts]:
    """Reads what decides when `job` starts."""
    params = {
        "queue": job.queue,
        "name": job.name,
        "priority": job.priority,
        "run_at": job.run_at,
        "id": job.id,
    }
    return Query("inspect/queue", lambda rows: QueueFacts(*rows[0]), params)


def running(most: int, *, newest: bool) -> Query[list[RunningJob]]:
    """Reads up to `most` jobs that run: the newest, or those that have run longest."""
    params = {"most": most, "newest": newest}
    return Query("inspect/running", lambda rows: [RunningJob(*row) for row in rows], params)


def finished(seconds: float) -> Query[dict[str, int]]:
    """Counts the jobs that ended in the last so many seconds, by state."""
    return Query(
        "inspect/finished", lambda rows: {row[0]: row[1] for row in rows}, {"seconds": seconds}
    )


def changes(
    cursor: Cursor,
    *,
    queue: str | None = None,
    name: str | None = None,
    states: Sequence[str] | None = None,
    most: int,
) -> Query[Changes]:
    """Reads which jobs have changed since the last look, none twice, however late it committed."""
    params = {
        "floor": cursor.floor,
        "seen": list(cursor.seen),
        "since": cursor.since,
        "queue": queue,
        "name": name,
        "states": None if states is None else list(states),
        "most": most,
    }
    return Query("inspect/changes", _changes, params)


def _changes(rows: Sequence[Row]) -> Changes:
    oldest, next_, at, count, seen = rows[0][:5]
    found = [ChangedJob(*row[5:]) for row in rows if row[5] is not None]
    return Changes(oldest, next_, at, count, seen or (), found)
