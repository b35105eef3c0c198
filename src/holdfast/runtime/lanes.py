"""Which queues a process serves, where in them a claim begins to look, how many jobs it may take.

A claim takes at most half of a queue's slots: while the database works on one half, the process
works on the other, and neither waits.

While a long transaction elsewhere holds dead rows back, the head of the claim index fills with
dead entries, and each claim would walk over all of them. So each lane (queue and priority) has a
floor: the first row the last claim returned. The floor is only a hint: rows that become visible
below it are found by a sweep without floors, now and then, for at most a twentieth of the time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from holdfast.model.job import Claim, Lane
from holdfast.model.queues import Served
from holdfast.storage.jobs import BEGINNING

_PRIORITIES = range(10)
_SWEEP_SHARE = 20.0
_SWEEP_MIN_S = 0.02
_SWEEP_MAX_S = 2.0


class Lanes:
    """The floors and free slots of one worker process."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._asked: dict[str, int] = {}
        self._running: Counter[str] = Counter()
        self._floors: dict[tuple[str, int], tuple[datetime, int]] = {}
        self._sweep_due = 0.0
        self._sweeping = True

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return self._running.total()

    @property
    def served(self) -> Served:
        """The queues this process serves."""
        return self._served

    def serve(self, served: Served) -> None:
        """Serves other queues from now on; jobs that run go on."""
        self._served = served

    def serves(self, queue: str) -> bool:
        """Whether jobs of a queue are started here."""
        return queue in self._served.slots and queue not in self._served.paused

    def started(self, queue: str) -> None:
        """Takes a slot."""
        self._running[queue] += 1

    def ended(self, queue: str) -> None:
        """Gives a slot back."""
        self._running[queue] -= 1

    def was_full(self, queue: str) -> bool:
        """Whether the slot just given back is the queue's only free one: there may be more jobs."""
        return self._served.slots.get(queue, 0) - self._running[queue] == 1

    def demands(self) -> dict[str, int]:
        """Returns how many jobs to ask of each queue that has free slots."""
        self._asked = {}
        for queue, slots in self._served.slots.items():
            count = min(slots - self._running[queue], (slots + 1) // 2)
            if count > 0 and queue not in self._served.paused:
                self._asked[queue] = count
        return self._asked

    def lanes(self, demands: Mapping[str, int]) -> list[Lane]:
        """Returns the lanes to look into; without floors when a sweep is due."""
        self._sweeping = time.monotonic() >= self._sweep_due
        floors = {} if self._sweeping else self._floors
        beginning = (BEGINNING, 0)
        return [
            Lane(queue, priority, *floors.get((queue, priority), beginning))
            for queue in demands
            for priority in _PRIORITIES
        ]

    def sweep_in_s(self) -> float | None:
        """Seconds until rows below the floors are to be looked for; None when they just were.

        A transaction that commits late wakes us for a row that a claim with floors does not see.
        """
        return None if self._sweeping else max(0.0, self._sweep_due - time.monotonic())

    def took(self, claim: Claim, took_s: float) -> bool:
        """Learns the new floors from a claim, and from a sweep what the next one may cost.

        Returns whether some queue gave all that was asked for, so that it may have more.
        """
        seen: set[tuple[str, int]] = set()
        got: Counter[str] = Counter()
        for job in claim.jobs:
            lane = (job.queue, job.priority)
            got[job.queue] += 1
            if lane not in seen:
                seen.add(lane)
                self._floors[lane] = (job.run_at, job.id)
        if self._sweeping:
            pause = min(_SWEEP_MAX_S, max(_SWEEP_MIN_S, took_s * _SWEEP_SHARE))
            self._sweep_due = time.monotonic() + pause
        return any(count >= self._asked.get(queue, 0) for queue, count in got.items())
