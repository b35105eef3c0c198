"""What the statements on jobs do: enqueue, claim, the ends of attempts, progress, hand-backs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from holdfast.model.job import Claim, ClaimedJob, JobEnding, Lane, Owned
from holdfast.model.writes import Completion, ProgressWrite, Settlement
from machine.model import Job, Model, Prediction, Row, as_json


def enqueue(model: Model, ids: Sequence[int], options: Iterable[Row]) -> Prediction:
    """New jobs wait for their time; `ids` are those the database chose."""
    new = [new_job(model, *pair) for pair in zip(ids, options, strict=True)]
    model.jobs.update({job.id: job for job in new})
    return Prediction(list(ids), frozenset(model.due_soon(new)))


def new_job(model: Model, job_id: int, options: Row) -> Job:
    """One job as it is enqueued."""
    run_at = model.after(options.get("run_in", 0))
    limit = options.get("deadline_in")
    return Job(
        id=job_id,
        queue=options.get("queue", "default"),
        priority=options.get("priority", 0),
        run_at=run_at,
        created_at=model.now,
        deadline=None if limit is None else run_at + timedelta(seconds=limit),
        max_attempts=options.get("max_attempts", 20),
        max_crashes=options.get("max_crashes", 3),
        args=options.get("args", {}),
        tags=options.get("tags", []),
    )


def claim(
    model: Model, worker_id: int, demands: dict[str, int], lanes: Sequence[Lane]
) -> Prediction:
    """The first due jobs of each queue by priority, time and id, from the lanes' floors on."""
    worker = model.workers.get(worker_id)
    alive = worker is not None and not worker.declared_dead
    picked: list[Job] = []
    if alive:
        for queue, demand in demands.items():
            picked += sorted(_due(model, queue, lanes), key=lambda job: job.order)[:demand]
    next_at = None
    if len(picked) < sum(demands.values()):
        next_at = min(_later(model, lanes), default=None)
    for job in picked:
        job.state, job.worker_id, job.epoch = "executing", worker_id, job.epoch + 1
        job.started_at, job.wait_reason = model.now, None
        job.wait_detail = job.wait_detail if job.cancel_requested_at else None
    jobs = [_claimed(model, job) for job in sorted(picked, key=lambda job: job.order)]
    return Prediction(Claim(jobs, model.seconds_until(next_at), alive))


def _due(model: Model, queue: str, lanes: Sequence[Lane]) -> list[Job]:
    floors = {
        lane.priority: (lane.floor_at, lane.floor_id) for lane in lanes if lane.queue == queue
    }
    return [
        job
        for job in model.jobs.values()
        if (job.state, job.queue) == ("available", queue)
        and job.priority in floors
        and job.run_at <= model.now
        and (job.run_at, job.id) >= floors[job.priority]
    ]


def _later(model: Model, lanes: Sequence[Lane]) -> list[datetime]:
    looked_at = {(lane.queue, lane.priority) for lane in lanes}
    return [
        job.run_at
        for job in model.jobs.values()
        if job.state == "available"
        and (job.queue, job.priority) in looked_at
        and job.run_at > model.now
    ]


def _claimed(model: Model, job: Job) -> ClaimedJob:
    """What a claim brings of a job; the journal only from the second start on."""
    row: Row = {name: getattr(job, name, None) for name in ClaimedJob._fields}
    row["args"], row["meta"] = as_json(job.args), as_json(job.meta)
    row["deadline_in_s"] = model.seconds_until(job.deadline)
    row["cancel_requested"] = job.cancel_requested_at is not None
    row["journal"] = journal(model, job.id) if job.epoch > 1 else {}
    return ClaimedJob(**row)


def journal(model: Model, job_id: int) -> dict[str, Row]:
    """The recorded steps of a job, as it gets them when it starts again."""
    return {
        step.key: {
            "key": step.key,
            "seq": step.seq,
            "kind": step.kind,
            "state": step.state,
            "attempts": step.attempts,
            "codec": step.codec,
            "code_version": step.code_version,
            "fingerprint": step.fingerprint,
            "wake_in_s": model.seconds_until(step.wake_at),
            "wake_at": step.wake_at,
            "error_type": step.error_type,
            "error_message": step.error_message,
            "data": step.result,
        }
        for step in model.steps.values()
        if step.job_id == job_id
    }


def complete(model: Model, worker_id: int, writes: Iterable[Completion]) -> Prediction:
    """The owner's successes are final, and pay no history row; a requested cancel wins."""
    ended = []
    for write in writes:
        job = model.owned(worker_id, write.job_id, write.epoch)
        if job is None:
            continue
        ended.append((job.id, job.awaited))
        if job.cancel_requested_at:
            model.note(job, "cancelled", reason="cancelled while it ran")
            model.finish(job, "cancelled", "cancelled", job.wait_detail)
        else:
            model.finish(job, "completed", None, job.wait_detail)
        _keep_result(model, job, write)
    return Prediction({job_id for job_id, _ in ended}, _done(awaited for _, awaited in ended))


def settle(model: Model, worker_id: int, writes: Iterable[Settlement]) -> Prediction:
    """The owner's other ends: counted, noted, and final or available or in need of attention."""
    answer: dict[int, str] = {}
    told: set[tuple[str, str]] = set()
    for write in writes:
        job = model.owned(worker_id, write.job_id, write.epoch)
        if job is None:
            continue
        was_awaited = job.awaited
        answer[job.id] = _settle(model, job, write)
        told |= model.due_soon([job])
        told |= _done([was_awaited and job.state != "available"])
    return Prediction(answer, frozenset(told))


def _settle(model: Model, job: Job, write: Settlement) -> str:
    cancelled = job.cancel_requested_at is not None
    state = "cancelled" if cancelled else write.state
    reason = "cancelled" if cancelled else write.wait_reason
    run_at = None if write.delay_s is None else model.after(write.delay_s)
    if run_at and job.deadline:
        run_at = min(run_at, job.deadline)
    evidence: dict[str, Any] = {
        name: getattr(write, name)
        for name in (
            "charged",
            "reason",
            "error_type",
            "error_message",
            "error_stack",
            "error_fingerprint",
        )
    }
    next_at = run_at if state == "available" else None
    model.note(job, "cancelled" if cancelled else write.outcome, **evidence, next_at=next_at)
    job.failures += write.failure_charge
    job.crashes += write.crash_charge
    job.resumes += write.resume_charge
    if state in ("available", "attention"):
        job.state, job.worker_id, job.epoch = state, None, job.epoch + write.bump
        job.run_at = run_at or job.run_at
        job.wait_reason, job.wait_detail = reason, write.wait_detail
    else:
        model.finish(job, state, reason, job.wait_detail or write.wait_detail)
        _keep_result(model, job, write)
    return state


def _keep_result(model: Model, job: Job, write: Completion | Settlement) -> None:
    job.codec, job.spilled = write.codec, write.spill
    job.result = None if write.spill else write.result
    if write.spill:
        assert write.result is not None
        model.blobs[job.id, ""] = write.result


def progress(model: Model, worker_id: int, writes: Iterable[ProgressWrite]) -> Prediction:
    """The owner's progress only grows; numbers and text of an older point are dropped."""
    answer = set()
    for write in writes:
        job = model.owned(worker_id, write.job_id, write.epoch)
        if job is None:
            continue
        answer.add(job.id)
        if write.fraction >= (job.progress or 0):
            job.progress = write.fraction
            job.progress_done, job.progress_total = write.done, write.total
            job.progress_text = write.text or job.progress_text
    return Prediction(answer)


def owned(model: Model, worker_id: int, *, everything: bool) -> Prediction:
    """What a worker's row owns, or what of it is to be cancelled."""
    found = [
        Owned(job.id, job.epoch, job.cancel_requested_at is not None)
        for job in model.running(worker_id)
    ]
    return Prediction([owned for owned in found if everything or owned.cancel_requested])


def disown(model: Model, worker_id: int, known: Collection[tuple[int, int]]) -> Prediction:
    """Running jobs the process does not know go back, free of charge."""
    moved = [job for job in model.running(worker_id) if (job.id, job.epoch) not in known]
    for job in moved:
        job.state, job.worker_id, job.epoch = "available", None, job.epoch + 1
        job.run_at, job.resumes = model.now, job.resumes + 1
    return Prediction([job.id for job in moved], frozenset(model.due_soon(moved)))


def endings(model: Model, ids: Iterable[int]) -> Prediction:
    """How jobs ended, with their last error; those with something to do are left out."""
    return Prediction([_ending(model, i) for i in ids if _has_ended(model.jobs.get(i))])


def _has_ended(job: Job | None) -> bool:
    return job is None or job.is_final or job.state == "attention"


def _ending(model: Model, job_id: int) -> JobEnding:
    job = model.jobs.get(job_id)
    rows = [row for row in model.history.values() if row.job_id == job_id and row.error_type]
    last = max(rows, key=lambda row: row.epoch, default=None)
    error = (last.error_type, last.error_message) if last else (None, None)
    if job is None:
        return JobEnding(job_id, None, None, None, None, None, *error, None)
    data = model.blobs[job_id, ""] if job.spilled else job.result
    failures = job.failures if job.is_final else None
    return JobEnding(
        job_id, job.state, job.codec, data, job.name, job.wait_detail, *error, failures
    )


def _done(awaited: Iterable[bool]) -> frozenset[tuple[str, str]]:
    return frozenset({("done", "")} if any(awaited) else ())
