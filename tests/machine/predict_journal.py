"""What the statements on the journal do: record, forget, load."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from holdfast.model.writes import Forget, StepWrite
from machine.model import Model, Prediction, Step


def record(model: Model, worker_id: int, writes: Iterable[StepWrite]) -> Prediction:
    """The owner's rows are written; a sleep keeps the end it was given first."""
    answer: dict[tuple[int, int, str], str | None] = {}
    for write in writes:
        if model.owned(worker_id, write.job_id, write.epoch) is None:
            continue
        new, old = _step(model, write), model.steps.get((write.job_id, write.key))
        if old is not None:
            new.seq, new.kind = old.seq, old.kind
            if old.kind == "sleep":
                new.wake_at = old.wake_at or new.wake_at
        model.steps[write.job_id, write.key] = new
        if write.spill:
            assert write.result is not None
            model.blobs[write.job_id, write.key] = write.result
        wakes = None if new.wake_at is None else new.wake_at.isoformat()
        answer[write.job_id, write.epoch, write.key] = wakes
    return Prediction(answer)


def _step(model: Model, write: StepWrite) -> Step:
    return Step(
        job_id=write.job_id,
        key=write.key,
        seq=write.seq,
        kind=write.kind,
        state=write.state,
        epoch=write.epoch,
        attempts=write.attempts,
        codec=write.codec,
        spilled=write.spill,
        started_at=model.now - timedelta(seconds=write.elapsed_s),
        finished_at=model.now,
        wake_at=None if write.wake_s is None else model.after(write.wake_s),
        code_version=write.code_version,
        fingerprint=write.fingerprint,
        result=None if write.spill else write.result,
        error_type=write.error_type,
        error_message=write.error_message,
        error_stack=write.error_stack,
    )


def forget(model: Model, writes: Iterable[Forget]) -> Prediction:
    """Remembered errors go, if the job still runs in the epoch that says so."""
    for write in writes:
        job, step = model.jobs.get(write.job_id), model.steps.get((write.job_id, write.key))
        current = job and (job.state, job.epoch) == ("executing", write.epoch)
        if current and step and step.state == "failed":
            del model.steps[write.job_id, write.key]
    return Prediction(None)


def load(model: Model, job_id: int, key: str) -> Prediction:
    """A recorded result, wherever it lies."""
    step = model.steps.get((job_id, key))
    if step is None:
        return Prediction(None)
    return Prediction(model.blobs[job_id, key] if step.spilled else step.result)
