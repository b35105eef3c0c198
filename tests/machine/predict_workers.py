"""What the statements on workers do: register, heartbeats, and taking jobs from the dead."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from holdfast.storage.workers import Beat
from machine.model import Job, Model, Prediction, Worker

NOBODY: frozenset[int] = frozenset()


def register(
    model: Model, worker_id: int, supervisor_id: int, lock_key: int | None, lease_s: float
) -> Prediction:
    """A new worker has a lease from now on."""
    now = model.now
    model.workers[worker_id] = Worker(
        worker_id, supervisor_id, lock_key, now, now, model.after(lease_s)
    )
    return Prediction(None)


def beat(model: Model, supervisor_id: int, *, lease_s: float, grace_s: float) -> Prediction:
    """Own workers are renewed unless declared dead; a missing lock of others is noted once."""
    answer = Beat()
    for worker in model.workers.values():
        if worker.supervisor_id == supervisor_id:
            if not worker.declared_dead:
                worker.renewed_at, worker.expires_at = model.now, model.after(lease_s)
                worker.lock_missing_since = None
                answer.renewed.add(worker.id)
        elif is_dead(model, worker, grace_s, missing=_is_missing(model, worker)):
            answer.dead.add(worker.id)
        elif _is_missing(model, worker):
            answer.suspects.add(worker.id)
    for worker in model.workers.values():
        if worker.supervisor_id != supervisor_id and _is_missing(model, worker):
            worker.lock_missing_since = worker.lock_missing_since or model.now
    return Prediction((answer.renewed, answer.suspects, answer.dead))


def _is_missing(model: Model, worker: Worker) -> bool:
    return worker.lock_key is not None and worker.supervisor_id not in model.locked


def is_dead(model: Model, worker: Worker, grace_s: float, *, missing: bool = True) -> bool:
    """Whether a worker's row proves that nobody renews it any more."""
    since = worker.lock_missing_since if missing else None
    gone = since is not None and (model.now - since).total_seconds() >= grace_s
    return worker.expires_at <= model.now or gone


def release(
    model: Model,
    worker_ids: Sequence[int],
    *,
    outcome: str,
    reason: str,
    certain: bool,
    charge: bool,
    culprits: Collection[int] | None,
    grace_s: float,
    busy_jobs: Collection[int] = NOBODY,
    busy_workers: Collection[int] = NOBODY,
) -> Prediction:
    """The first call takes the jobs and declares the worker dead, a later one removes its row.

    What a transaction in flight holds (`busy_*`) is left to the next call.
    """
    answer: dict[int, str] = {}
    told: set[tuple[str, str]] = set()
    for worker in [model.workers[i] for i in worker_ids if i in model.workers]:
        proven = certain or is_dead(model, worker, grace_s)
        if not proven or worker.id in busy_workers:
            continue
        running = model.running(worker.id)
        for job in [job for job in running if job.id not in busy_jobs]:
            guilty = charge and (culprits is None or job.id in culprits)
            model.note(job, outcome, reason=reason, charged="crash" if guilty else None)
            answer[job.id] = _take_away(model, job, reason, guilty=guilty)
            told |= {("wake", job.queue)} if job.state == "available" else {("done", "")}
        if worker.declared_dead and not any(job.id in busy_jobs for job in running):
            del model.workers[worker.id]
        worker.declared_dead = True
    return Prediction(answer, frozenset(told))


def _take_away(model: Model, job: Job, reason: str, *, guilty: bool) -> str:
    job.crashes += guilty
    if job.cancel_requested_at:
        model.finish(job, "cancelled", "cancelled", job.wait_detail)
        return job.state
    job.resumes += not guilty
    job.worker_id, job.epoch, job.run_at = None, job.epoch + 1, model.now
    job.state, job.wait_reason, job.wait_detail = "available", None, None
    if guilty and job.crashes >= job.max_crashes:
        job.state, job.wait_reason = "attention", "poison"
        job.wait_detail = f"its process died {job.crashes} times, last: {reason}"
    return job.state
