"""What people ask about one job, as `Query` values."""

from __future__ import annotations

from holdfast.model.job import Execution, Job, QueueFacts, Step
from holdfast.storage.query import Query


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
