"""What an enqueue of unique jobs does: who gets a key, who is refused, who takes over what."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from holdfast.model.job import Enqueued
from machine.model import Job, Model, Prediction, Row, TakenKey, as_json
from machine.predict_jobs import new_job


def enqueue(model: Model, ids: Sequence[int], options: Sequence[Row]) -> Prediction:
    """One batch; `ids` are those the database has set aside, one for each element.

    Whoever comes first has the key; of jobs whose key is taken for a period nothing is left.
    """
    batch = [(new_job(model, *pair), pair[1]) for pair in zip(ids, options, strict=True)]
    for job, given in batch:
        job.unique_key = _key(job, given.get("unique"))
    # Keys are taken in order, so that two batches never wait for each other.
    ordered = sorted(batch, key=lambda pair: (pair[0].unique_key or "~", pair[0].id))
    for job, _ in ordered:
        if model.holder(job.unique_key) is None:
            model.jobs[job.id] = job
    for job, given in ordered:
        period = (given.get("unique") or {}).get("period")
        if job.id in model.jobs and job.unique_key and not _may_have(model, job, period):
            del model.jobs[job.id]
    answer = [_answer(model, job) for job, _ in batch]
    replaced = {
        job.id
        for job, given in ordered
        if job.id not in model.jobs and _replace(model, job, given, _answer(model, job).id)
    }
    found = [model.jobs[given.id] for given in answer if given.id in model.jobs]
    return Prediction(
        [
            each._replace(replaced=job.id in replaced)
            for each, (job, _) in zip(answer, batch, strict=True)
        ],
        frozenset(model.due_soon(found)),
    )


def _key(job: Job, rule: Row | None) -> str | None:
    if rule is None:
        return None
    if "key" in rule:
        return f"{job.name}/{rule['key']}"
    wanted = rule.get("args", job.args)
    args = {name: value for name, value in job.args.items() if name in wanted}
    return f"{job.name}?{sha256(as_json(args).encode()).hexdigest()}"


def _may_have(model: Model, job: Job, period: float | None) -> bool:
    """Whether no earlier job's period lasts; takes the key for one of its own if it asks for it."""
    assert job.unique_key is not None
    taken = model.taken.get(job.unique_key)
    if taken and taken.until > model.now:
        return False
    if period is not None:
        model.taken[job.unique_key] = TakenKey(job.unique_key, job.id, model.after(period))
    return True


def _answer(model: Model, job: Job) -> Enqueued:
    if job.id in model.jobs:
        return Enqueued(job.id)
    holder = model.holder(job.unique_key)
    if holder is not None:
        return Enqueued(holder.id, conflict=True)
    assert job.unique_key is not None
    return Enqueued(model.taken[job.unique_key].job_id, conflict=True)


def _replace(model: Model, new: Job, given: Row, holder_id: int) -> bool:
    """Lets a job that has not started take over what the rule lists."""
    what, holder = given["unique"].get("replace", []), model.jobs.get(holder_id)
    if not what or holder is None or holder.state != "available" or holder.started_at:
        return False
    if "args" in what:
        holder.args = new.args
    if "run_at" in what:
        holder.run_at, holder.deadline = new.run_at, new.deadline
    if "priority" in what:
        holder.priority = new.priority
    return True
