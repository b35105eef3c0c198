"""What a worker process has to say to the database, as values for the committer.

Field order is parameter order: a batch is transposed into arrays and sent as one statement.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Completion(NamedTuple):
    """A first-time success."""

    job_id: int
    epoch: int
    result: bytes | None
    codec: int | None
    spill: bool


class Settlement(NamedTuple):
    """Any other end of an attempt or slice; the verdict of `model.outcome` with its evidence."""

    job_id: int
    epoch: int
    state: str
    delay_s: float | None
    run_at: datetime | str | None
    failure_charge: int
    crash_charge: int
    resume_charge: int
    outcome: str
    charged: str | None
    reason: str | None
    wait_reason: str | None
    wait_detail: str | None
    error_type: str | None
    error_message: str | None
    error_stack: str | None
    error_fingerprint: str | None
    result: bytes | None
    codec: int | None
    spill: bool
    bump: int


class StepWrite(NamedTuple):
    """One journal row."""

    job_id: int
    epoch: int
    key: str
    seq: int
    kind: str
    state: str
    attempts: int
    result: bytes | None
    codec: int | None
    spill: bool
    elapsed_s: float
    wake_s: float | None
    code_version: str | None
    fingerprint: bytes | None
    error_type: str | None
    error_message: str | None
    error_stack: str | None


class ProgressWrite(NamedTuple):
    """The latest progress of one running job."""

    job_id: int
    epoch: int
    fraction: float
    done: float | None
    total: float | None
    text: str | None


class Forget(NamedTuple):
    """A remembered error that ended the attempt after all."""

    job_id: int
    epoch: int
    key: str
