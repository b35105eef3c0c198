"""What happened to one job, in order of time: slices, steps, waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from holdfast import Execution, History, Job, Step
from holdfast.model.durations import describe

_UNITS = ("bytes", "KiB", "MiB", "GiB")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline and what stands below it; `state` decides the colour."""

    at: datetime
    rank: int
    what: str
    state: str
    facts: tuple[str, ...]
    below: str | None = None


def first_start(history: History) -> datetime:
    """Returns the moment from which offsets count: the first start, else the enqueue."""
    job = history.job
    starts = [e.started_at for e in history.executions if e.started_at is not None]
    starts += [step.started_at for step in history.steps]
    starts += [job.started_at] if job.started_at is not None else []
    return min(starts, default=job.created_at)


def events(history: History) -> list[Event]:
    """Returns everything that is known, oldest first; a slice stands before its steps."""
    found = [Event(history.job.created_at, 0, "enqueued", "", ())]
    found += _slices(history)
    found += [_step(step) for step in history.steps]
    return sorted(found, key=lambda event: (event.at, event.rank))


def _slices(history: History) -> Iterator[Event]:
    job = history.job
    number = 0
    for number, execution in enumerate(history.executions, start=1):
        yield _recorded_slice(number, execution)
    if any(execution.epoch >= job.epoch for execution in history.executions):
        return
    if job.state == "executing" and job.started_at is not None:
        took = f"for {_length(job.started_at, job.now)} so far"
        facts = (f"on worker {job.worker_id}", took)
        yield Event(job.started_at, 1, f"slice {number + 1}", "executing", facts)
    elif job.state == "completed" and job.started_at is not None and not history.executions:
        # A job that just succeeded has no row of its own for that.
        yield Event(job.started_at, 1, "slice 1", "completed", _plain_facts(job))


def _plain_facts(job: Job) -> tuple[str, ...]:
    assert job.started_at is not None
    took = f"took {_length(job.started_at, job.finished_at)}"
    return (f"on worker {job.worker_id}", took, "completed")


def _recorded_slice(number: int, execution: Execution) -> Event:
    started = execution.started_at or execution.ended_at
    facts = [
        f"on worker {execution.worker_id}" if execution.worker_id is not None else "",
        f"took {_length(started, execution.ended_at)}",
        execution.outcome.replace("_", " "),
        f"charged as {execution.charged}" if execution.charged else "",
        execution.reason or "",
        f"next at {stamp(execution.next_at)}" if execution.next_at else "",
    ]
    return Event(
        started,
        1,
        f"slice {number}",
        execution.outcome,
        tuple(filter(None, facts)),
        _error(execution.error_type, execution.error_message, execution.error_stack),
    )


def _step(step: Step) -> Event:
    if step.kind == "sleep" and step.wake_at is not None:
        facts = [f"until {stamp(step.wake_at)} ({_length(step.started_at, step.wake_at)})"]
    else:
        tries = f"{step.attempts} {'try' if step.attempts == 1 else 'tries'}"
        facts = [f"took {_length(step.started_at, step.finished_at)}", tries]
        facts += [size(step.size_bytes)] if step.state == "done" else [step.state]
        facts += [f"next try at {stamp(step.wake_at)}"] if step.wake_at else []
    return Event(
        step.started_at,
        2,
        f"{step.kind} {step.key}",
        step.state,
        tuple(facts),
        _error(step.error_type, step.error_message, step.error_stack),
    )


def _error(kind: str | None, message: str | None, stack: str | None) -> str | None:
    """Returns the stack, whose last line is the error, or the error alone."""
    if kind is None:
        return None
    return stack.rstrip() if stack else f"{kind}: {message}"


def _length(start: datetime, end: datetime | None) -> str:
    return "?" if end is None else describe((end - start).total_seconds())


def offset(at: datetime, origin: datetime) -> str:
    """Returns how long after the origin, such as `+1.2 s`."""
    elapsed = (at - origin).total_seconds()
    return f"+{describe(elapsed)}" if elapsed >= 0 else describe(elapsed)


def stamp(at: datetime) -> str:
    """Returns a time of the database's clock in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}{'Z' if not at.utcoffset() else f'{at:%z}'}"


def size(count: int) -> str:
    """Returns a number of bytes in words.

    >>> size(1), size(300), size(2048)
    ('1 byte', '300 bytes', '2.0 KiB')
    """
    if count < 1024:
        return f"{count} byte" if count == 1 else f"{count} bytes"
    amount = float(count)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.1f} {unit}"
