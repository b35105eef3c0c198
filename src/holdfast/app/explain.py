"""Why a job is not running, and until when: said from what the database knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from holdfast.model.durations import describe
from holdfast.model.job import Job, QueueFacts


@dataclass(frozen=True, slots=True)
class Explanation:
    """One job's state in words: `reason`, `until` (when known) and `advice`."""

    job_id: int
    state: str
    reason: str
    until: datetime | None = None
    advice: str | None = None


def explain(job: Job, facts: QueueFacts) -> Explanation:
    """Returns why `job` is where it is; total over all states."""
    if job.state == "executing":
        return _executing(job)
    if job.state == "attention":
        advice = f"Mend the cause, then: holdfast jobs retry {job.id}"
        return Explanation(job.id, job.shown, f"{job.wait_reason}: {job.wait_detail}", None, advice)
    if job.state != "available":
        detail = f" ({job.wait_reason})" if job.wait_reason else ""
        return Explanation(job.id, job.shown, f"it is {job.state}{detail} and does nothing more")
    if job.run_at > job.now:
        return _later(job)
    return _due(job, facts)


def _executing(job: Job) -> Explanation:
    since = describe((job.now - job.started_at).total_seconds()) if job.started_at else "?"
    reason = f"it is running, for {since}, on worker {job.worker_id}"
    if job.cancel_requested_at is not None:
        reason += "; a cancel is requested, its code is being stopped"
    return Explanation(job.id, job.shown, reason)


def _later(job: Job) -> Explanation:
    wait = describe((job.run_at - job.now).total_seconds())
    reasons = {
        "retry": f"attempt {job.failures} failed; the next one begins in {wait}",
        "sleep": f"it sleeps (parked, holding no slot) and resumes in {wait}",
        "snooze": f"it was snoozed and runs again in {wait}",
        "unknown job": f"{job.wait_detail}; offered again in {wait}",
    }
    text = reasons.get(job.wait_reason or "", f"it is scheduled to run in {wait}")
    return Explanation(
        job.id, job.shown, text, job.run_at, f"To run it now: holdfast jobs retry {job.id}"
    )


def _due(job: Job, facts: QueueFacts) -> Explanation:
    start = "Start one: holdfast worker your_module:app"
    if facts.workers == 0 and facts.set_slots == 0:
        reason = f"queue {job.queue!r} was scaled to 0 slots: no worker serves it"
        scale = f"Serve it again: holdfast queues scale {job.queue}=default"
        return Explanation(job.id, job.shown, reason, None, scale)
    if facts.workers == 0:
        return Explanation(
            job.id, job.shown, f"no live worker serves queue {job.queue!r}", None, start
        )
    if facts.knowing == 0:
        reason = f"no live worker of queue {job.queue!r} has a job function named {job.name!r}"
        return Explanation(job.id, job.shown, reason, None, "Deploy the code that defines it.")
    if facts.paused_at is not None or facts.paused >= facts.workers:
        since = "" if facts.paused_at is None else f" since {facts.paused_at:%Y-%m-%d %H:%M:%S %Z}"
        resume = f"Resume it: holdfast queues resume {job.queue}"
        return Explanation(job.id, job.shown, f"queue {job.queue!r} is paused{since}", None, resume)
    if facts.executing >= facts.slots:
        reason = (
            f"all {facts.slots} slots of queue {job.queue!r} are busy, {facts.ahead} jobs ahead"
        )
        return Explanation(job.id, job.shown, reason, None, "Raise its concurrency, or wait.")
    return Explanation(
        job.id, job.shown, f"it is due; {facts.ahead} jobs are ahead of it, slots are free"
    )
