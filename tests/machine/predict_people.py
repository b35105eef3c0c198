"""What people's operations do: cancel, retry, wait for an end."""

from __future__ import annotations

from collections.abc import Sequence

from machine.model import Job, Model, Prediction


def cancel(model: Model, ids: Sequence[int], reason: str | None) -> Prediction:
    """A job that does not run is final at once; a running one has the request in its row."""
    answer: dict[int, str] = {}
    told: set[tuple[str, str]] = set()
    for job in [model.jobs[i] for i in ids if i in model.jobs]:
        if job.state == "executing":
            job.cancel_requested_at = job.cancel_requested_at or model.now
            job.wait_detail = job.wait_detail or reason
            told.add(("cancel", ""))
        elif not job.is_final:
            if job.awaited:
                told.add(("done", ""))
            job.cancel_requested_at = model.now
            model.finish(job, "cancelled", "cancelled", reason)
        answer[job.id] = job.state
    return Prediction(answer, frozenset(told))


def retry(model: Model, ids: Sequence[int]) -> Prediction:
    """Every job is due now, with an attempt left and its finished steps; a running one, and a
    final one whose unique key is taken, stay as they are.
    """
    found = [model.jobs[i] for i in ids if i in model.jobs]
    for job in sorted(found, key=lambda job: (job.unique_key or "", job.id)):
        taken = job.is_final and model.holder(job.unique_key)
        if job.state != "executing" and not taken:
            _begin_again(model, job)
    told = frozenset(model.due_soon(found))
    return Prediction({job.id: job.state for job in found}, told)


def _begin_again(model: Model, job: Job) -> None:
    if job.is_final:
        job.worker_id = job.finished_at = job.result = job.codec = None
        job.spilled = False
        model.blobs.pop((job.id, ""), None)
    if job.deadline and job.deadline <= model.now:
        job.deadline = None
    job.state, job.run_at, job.crashes = "available", model.now, 0
    job.cancel_requested_at = job.wait_reason = job.wait_detail = None
    job.max_attempts = max(job.max_attempts, job.failures + 1)
    for key, step in list(model.steps.items()):
        if step.job_id == job.id and step.state != "done":
            del model.steps[key]


def await_ends(model: Model, ids: Sequence[int]) -> Prediction:
    """Live jobs are marked; a due one wakes the workers, for the mark locks its row."""
    marked = [job for job in model.live(ids) if not job.awaited]
    for job in marked:
        job.awaited = True
    return Prediction(None, frozenset(model.due_soon(marked)))
