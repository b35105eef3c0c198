"""What people watch: the jobs that run, and what changes, told from one look to the next.

A look must neither miss what a long transaction commits late, nor repeat anything. So the cursor is
made of transaction numbers, not of times: from the oldest transaction that ran at the last look on,
whatever was not read yet is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from holdfast.model.job import WorkerInfo
from holdfast.model.queues import QueueInfo

_NUMBERS = 2**32
_LATE = timedelta(seconds=5)
"""A statement has its time before its transaction has its number."""


class RunningJob(NamedTuple):
    """One job that runs, as `top` shows it."""

    id: int
    name: str
    queue: str
    attempt: int
    worker_id: int
    worker: str
    running_s: float
    progress: float | None
    progress_done: float | None
    progress_total: float | None
    progress_text: str | None
    is_cancelled: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """An installation at one moment; `finished`: how many jobs ended lately, by state."""

    queues: list[QueueInfo]
    workers: list[WorkerInfo]
    running: list[RunningJob]
    finished: dict[str, int]


class ChangedJob(NamedTuple):
    """A job as a change has left it."""

    id: int
    name: str
    queue: str
    state: str
    shown: str
    epoch: int
    failures: int
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    is_cancelled: bool
    wait_reason: str | None
    wait_detail: str | None
    progress: float | None
    progress_text: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The answer to one look: up to so many of `count` changed jobs, and what the next look needs.

    `oldest` and `next`: the transactions that ran, and that had not begun, at time `at`. `seen`:
    those from the last look's oldest on that have written what could be read.
    """

    oldest: int
    next: int
    at: datetime
    count: int
    seen: Sequence[str]
    jobs: Sequence[ChangedJob]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a look begins; the first one, from nothing, only finds the place to begin."""

    floor: str | None = None
    seen: Sequence[str] = ()
    since: datetime | None = None
    looks: Sequence[tuple[int, datetime]] = ()

    def after(self, found: Changes) -> Cursor:
        """Returns the cursor of the next look."""
        seen = [xid for xid in found.seen if _whole(int(xid), found.next) >= found.oldest]
        looks = [*self.looks, (found.next, found.at)]
        # All that is still to come was begun after the last look at which it had no number yet.
        passed = [number for number, (next_, _) in enumerate(looks) if next_ <= found.oldest]
        looks = looks[passed[-1] :] if passed else looks
        since = looks[0][1] - (_LATE if passed else timedelta(minutes=1))
        return Cursor(str(found.oldest % _NUMBERS), seen, since, looks)


def _whole(xid: int, next_: int) -> int:
    """Returns a transaction's number with what a row does not keep of it.

    >>> _whole(7, 2**32 + 9) - 2**32, _whole(2**32 - 2, 2**32 + 9)
    (7, 4294967294)
    """
    whole = next_ - next_ % _NUMBERS + xid
    return whole if whole < next_ else whole - _NUMBERS
