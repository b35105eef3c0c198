"""What removing jobs does: deleting by hand, and pruning what is kept long enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from holdfast.storage.queues import Pruned
from machine.model import Model, Prediction

Retention = dict[tuple[str, str], timedelta | None]
"""(queue, state) → how long finished jobs are kept; '' means any, None for ever."""


def delete(model: Model, ids: Sequence[int]) -> Prediction:
    """Jobs go with all that is known of them, keys included; running ones are left alone."""
    found = [model.jobs[i] for i in ids if i in model.jobs]
    gone = [job for job in found if job.state != "executing"]
    told = {("done", "")} if any(job.awaited for job in gone) else set()
    answer = {job.id: "executing" for job in found} | {job.id: "deleted" for job in gone}
    ids_gone = {job.id for job in gone}
    _remove(model, ids_gone)
    for key in [key for key, taken in model.taken.items() if taken.job_id in ids_gone]:
        del model.taken[key]
    return Prediction(answer, frozenset(told))


def prune(model: Model, retention: Retention) -> Prediction:
    """Final jobs go when their rule says so, and keys whose period is over."""
    over = [key for key, taken in model.taken.items() if taken.until <= model.now]
    for key in over:
        del model.taken[key]
    old = [
        job.id
        for job in model.jobs.values()
        if job.finished_at
        and (keep := keep_for(retention, job.queue, job.state)) is not None
        and job.finished_at <= model.now - keep
    ]
    _remove(model, old)
    return Prediction(Pruned(None, len(old), len(over)) if old or over else None)


def keep_for(retention: Retention, queue: str, state: str) -> timedelta | None:
    """The most specific rule: queue and state, queue, state, neither."""
    for place in ((queue, state), (queue, ""), ("", state), ("", "")):
        if place in retention:
            return retention[place]
    return None


def _remove(model: Model, ids: Iterable[int]) -> None:
    for job_id in list(ids):
        del model.jobs[job_id]
        for table in (model.steps, model.history, model.blobs):
            for key in [key for key in table if key[0] == job_id]:
                del table[key]
