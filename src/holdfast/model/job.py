"""Jobs as values: what is enqueued, what a claim brings, what people are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from pydantic_core import to_json


@dataclass(frozen=True, kw_only=True)
class JobTemplate:
    """What jobs that are enqueued by one job function with the same options have in common."""

    name: str
    queue: str = "default"
    priority: int = 0
    run_in_s: float | None = None
    run_at: datetime | None = None
    deadline_in_s: float | None = None
    max_attempts: int = 20
    max_crashes: int = 3
    tags: tuple[str, ...] = ()
    meta_json: str | None = None
    code_version: str | None = None
    unique_json: str | None = None

    @cached_property
    def json(self) -> str:
        """All keys that `enqueue` reads but the arguments, as JSON without its closing bracket."""
        parts = [
            f'{{"name":{_json(self.name)},"queue":{_json(self.queue)}',
            f'"max_attempts":{self.max_attempts},"max_crashes":{self.max_crashes}',
        ]
        if self.priority:
            parts.append(f'"priority":{self.priority}')
        if self.run_in_s is not None:
            parts.append(f'"run_in":{self.run_in_s!r}')
        if self.run_at is not None:
            parts.append(f'"run_at":"{self.run_at.isoformat()}"')
        if self.deadline_in_s is not None:
            parts.append(f'"deadline_in":{self.deadline_in_s!r}')
        if self.tags:
            parts.append(f'"tags":{_json(self.tags)}')
        if self.meta_json is not None:
            parts.append(f'"meta":{self.meta_json}')
        if self.code_version is not None:
            parts.append(f'"code_version":{_json(self.code_version)}')
        if self.unique_json is not None:
            parts.append(f'"unique":{self.unique_json}')
        return ",".join(parts)


class NewJob(NamedTuple):
    """One job to enqueue: validated, its arguments already JSON."""

    template: JobTemplate
    args_json: str


def _json(value: object) -> str:
    return to_json(value).decode()


class Enqueued(NamedTuple):
    """What became of one job that was to be enqueued.

    With `conflict` the id is that of the job that was there already, which has taken over what
    its rule lists if `replaced`.
    """

    id: int
    conflict: bool = False
    replaced: bool = False


class ClaimedJob(NamedTuple):
    """One job this process has the lease of, as the claim returned it."""

    id: int
    epoch: int
    queue: str
    name: str
    args: str
    priority: int
    run_at: datetime
    failures: int
    max_attempts: int
    crashes: int
    max_crashes: int
    resumes: int
    deadline_in_s: float | None
    cancel_requested: bool
    code_version: str | None
    tags: list[str]
    meta: str
    progress: float | None
    journal: str | None


class Claim(NamedTuple):
    """The answer to a claim: jobs, seconds until the next is due, and whether we still count."""

    jobs: list[ClaimedJob]
    due_in_s: float | None
    alive: bool


class Owned(NamedTuple):
    """A running job that the database says is this worker's."""

    id: int
    epoch: int
    cancel_requested: bool


class Lane(NamedTuple):
    """One queue at one priority, and where in it a claim begins to look."""

    queue: str
    priority: int
    floor_at: datetime
    floor_id: int


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A journal row as a resumed job sees it; `data` is None when it must be loaded first."""

    key: str
    seq: int
    kind: str
    state: str
    attempts: int
    codec: int | None
    code_version: str | None
    fingerprint: bytes | None
    wake_in_s: float | None
    wake_at: str | None
    error_type: str | None
    error_message: str | None
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Job:
    """One job as people are shown it; `shown` is the state in words.

    `shown` is a state, or `scheduled` (first run in the future), `retryable` (waits for its next
    attempt), `waiting` (parked; `wait_reason` says for what).
    """

    id: int
    shown: str
    state: str
    queue: str
    name: str
    args: str
    priority: int
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime | None
    cancel_requested_at: datetime | None
    failures: int
    max_attempts: int
    crashes: int
    max_crashes: int
    resumes: int
    epoch: int
    worker_id: int | None
    wait_reason: str | None
    wait_detail: str | None
    code_version: str | None
    tags: list[str]
    meta: str
    progress: float | None
    progress_done: float | None
    progress_total: float | None
    progress_text: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt or slice of a job that is in its history."""

    epoch: int
    worker_id: int | None
    started_at: datetime | None
    ended_at: datetime
    outcome: str
    charged: str | None
    reason: str | None
    error_type: str | None
    error_message: str | None
    error_stack: str | None
    error_fingerprint: str | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded step as people are shown it."""

    key: str
    seq: int
    kind: str
    state: str
    epoch: int
    attempts: int
    started_at: datetime
    finished_at: datetime
    wake_at: datetime | None
    code_version: str | None
    size_bytes: int
    error_type: str | None
    error_message: str | None
    error_stack: str | None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker process; it is dead when `expires_at` has passed and nobody has noticed yet.

    `queues`: the slots in force. `closed`: started with a list of queues, it takes another one only
    when that is set for its name. `now`: when this was read, by the database's clock.
    """

    id: int
    supervisor_id: int
    pid: int
    host: str
    app: str
    code_version: str | None
    started_at: datetime
    renewed_at: datetime
    expires_at: datetime
    queues: dict[str, int]
    running: int
    name: str
    paused: list[str]
    closed: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What decides when a job of a queue starts."""

    workers: int
    knowing: int
    slots: int
    executing: int
    ahead: int
    paused: int
    paused_at: datetime | None
    set_slots: int | None


@dataclass(frozen=True, slots=True)
class JobEnding:
    """How a job ended, or that it stopped for a person; `state` None: it exists nowhere."""

    id: int
    state: str | None
    codec: int | None
    data: bytes | None
    name: str | None
    detail: str | None
    error_type: str | None
    error_message: str | None
    failures: int | None
