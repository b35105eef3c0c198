"""What the database should hold, as plain Python: rows as values, tables as mappings.

No SQL, no I/O, no clock but `Model.now`. The operations on it are in `predict_*.py`, one file for
each area; each changes the model and returns a `Prediction` of what the real statement answers.
A feature that brings a table adds a value here and its rows to `Model.tables`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

START = datetime(2031, 5, 5, 12, tzinfo=UTC)

Row = dict[str, Any]
Tables = dict[str, dict[Any, Row]]
"""table → primary key → column → value"""


class Prediction(NamedTuple):
    """What an operation must answer, and the notifications (kind, payload) it must send."""

    answer: Any
    told: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Job:
    """One job, live or final."""

    id: int
    queue: str
    priority: int
    run_at: datetime
    created_at: datetime
    deadline: datetime | None
    max_attempts: int
    max_crashes: int
    name: str = "work"
    args: Row = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    meta: Row = field(default_factory=dict)
    code_version: str | None = None
    epoch: int = 0
    worker_id: int | None = None
    state: str = "available"
    failures: int = 0
    crashes: int = 0
    resumes: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    wait_reason: str | None = None
    wait_detail: str | None = None
    progress: float | None = None
    progress_done: float | None = None
    progress_total: float | None = None
    progress_text: str | None = None
    awaited: bool = False
    codec: int | None = None
    spilled: bool = False
    result: bytes | None = None
    unique_key: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether it belongs into the archive."""
        return self.state in ("completed", "discarded", "cancelled")

    @property
    def order(self) -> tuple[int, datetime, int]:
        """Where it stands in its queue."""
        return self.priority, self.run_at, self.id


ONLY_LIVE = {"awaited"}
ONLY_ARCHIVED = {"finished_at", "codec", "spilled", "result"}


@dataclass
class Execution:
    """One row of the history."""

    job_id: int
    epoch: int
    worker_id: int | None
    started_at: datetime | None
    ended_at: datetime
    outcome: str
    charged: str | None = None
    reason: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_stack: str | None = None
    error_fingerprint: str | None = None
    next_at: datetime | None = None


@dataclass
class Step:
    """One row of the journal."""

    job_id: int
    key: str
    seq: int
    kind: str
    state: str
    epoch: int
    attempts: int
    codec: int | None
    spilled: bool
    started_at: datetime
    finished_at: datetime
    wake_at: datetime | None
    code_version: str | None
    fingerprint: bytes | None
    result: bytes | None
    error_type: str | None
    error_message: str | None
    error_stack: str | None


@dataclass
class Worker:
    """One worker's row: the lease of all its jobs."""

    id: int
    supervisor_id: int
    lock_key: int | None
    started_at: datetime
    renewed_at: datetime
    expires_at: datetime
    lock_missing_since: datetime | None = None
    declared_dead: bool = False


@dataclass
class TakenKey:
    """A unique key that stays taken for a period, whatever becomes of its job."""

    key: str
    job_id: int
    until: datetime


@dataclass
class Model:
    """Everything the database should hold at one moment."""

    now: datetime = START
    jobs: dict[int, Job] = field(default_factory=dict)
    steps: dict[tuple[int, str], Step] = field(default_factory=dict)
    blobs: dict[tuple[int, str], bytes] = field(default_factory=dict)
    history: dict[tuple[int, int], Execution] = field(default_factory=dict)
    workers: dict[int, Worker] = field(default_factory=dict)
    taken: dict[str, TakenKey] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)
    """The supervisors whose session lock is held."""

    def after(self, seconds: float) -> datetime:
        """The moment some seconds from now."""
        return self.now + timedelta(seconds=seconds)

    def seconds_until(self, at: datetime | None) -> float | None:
        """How long until a moment."""
        return None if at is None else (at - self.now).total_seconds()

    def owned(self, worker_id: int, job_id: int, epoch: int) -> Job | None:
        """The job, if this is its current lease: the guard of every write."""
        job = self.jobs.get(job_id)
        if job and (job.state, job.worker_id, job.epoch) == ("executing", worker_id, epoch):
            return job
        return None

    def running(self, worker_id: int) -> list[Job]:
        """The jobs that a worker's row owns, by id."""
        owned = [job for job in self.jobs.values() if job.worker_id == worker_id]
        return sorted((j for j in owned if j.state == "executing"), key=lambda job: job.id)

    def live(self, ids: Iterable[int]) -> list[Job]:
        """Those of the jobs that are not final."""
        return [j for i in ids if (j := self.jobs.get(i)) and not j.is_final]

    def holder(self, key: str | None) -> Job | None:
        """The unfinished job that has a unique key."""
        found = (j for j in self.jobs.values() if not j.is_final and j.unique_key == key)
        return next(found, None) if key is not None else None

    def finish(self, job: Job, state: str, reason: str | None, detail: str | None) -> None:
        """Moves a job to the archive; who ended it and with what result is the caller's."""
        job.state, job.finished_at, job.awaited = state, self.now, False
        job.wait_reason, job.wait_detail = reason, detail

    def note(self, job: Job, outcome: str, **evidence: Any) -> None:
        """Writes the history row of a job's current lease, before it is given up."""
        row = Execution(
            job.id, job.epoch, job.worker_id, job.started_at, self.now, outcome, **evidence
        )
        self.history.setdefault((job.id, job.epoch), row)

    def due_soon(self, jobs: Iterable[Job]) -> set[tuple[str, str]]:
        """The notifications for jobs that have just become available: once a queue, if soon."""
        soon = self.after(10)
        return {("wake", j.queue) for j in jobs if j.state == "available" and j.run_at <= soon}

    def put_back(self, saved: Model, ids: Iterable[int]) -> None:
        """Undoes what a transaction that rolled back did to some jobs and their belongings."""
        ids = set(ids)
        self.jobs.update({i: replace(saved.jobs[i]) for i in ids})
        for mine, theirs in (
            (self.steps, saved.steps),
            (self.blobs, saved.blobs),
            (self.history, saved.history),
        ):
            for key in [key for key in mine if key[0] in ids]:
                del mine[key]
            mine.update({key: value for key, value in theirs.items() if key[0] in ids})

    def tables(self) -> Tables:
        """The rows that must be in the tables, and no others."""
        jobs = {job.id: asdict(job) for job in self.jobs.values()}
        return {
            "job": {
                key: _without(row, ONLY_ARCHIVED)
                for key, row in jobs.items()
                if not self.jobs[key].is_final
            },
            "job_archive": {
                key: _without(row, ONLY_LIVE)
                for key, row in jobs.items()
                if self.jobs[key].is_final
            },
            "execution": {key: vars(row) for key, row in self.history.items()},
            "step": {key: vars(row) for key, row in self.steps.items()},
            "blob": {
                key: {"job_id": key[0], "key": key[1], "data": data}
                for key, data in self.blobs.items()
            },
            "worker": {key: vars(row) for key, row in self.workers.items()},
            "unique_key": {key: vars(row) for key, row in self.taken.items()},
        }


def _without(row: Row, columns: set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in columns}


def as_json(value: Row) -> str:
    """A JSON object as the database writes it."""
    return json.dumps(value)
