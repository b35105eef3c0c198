"""Where in a queue a claim begins to look, and how many jobs it may take.

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
from holdfast.storage.jobs import BEGINNING

_PRIORITIES = range(10)
_SWEEP_SHARE = 20.0
_SWEEP_MIN_S = 0.02
_SWEEP_MAX_S = 2.0


class Lanes:
    """The floors and free slots of one worker process."""

    def __init__(self, slots: Mapping[str, int]) -> None:
        self._slots = dict(slots)
        self._running: Counter[str] = Counter()
        self._floors: dict[tuple[str, int], tuple[datetime, int]] = {}
        self._sweep_due = 0.0
        self._sweeping = True

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return self._running.total()

    def started(self, queue: str) -> None:
        """Takes a slot."""
        self._running[queue] += 1

    def ended(self, queue: str) -> None:
        """Gives a slot back."""
        self._running[queue] -= 1

    def was_full(self, queue: str) -> bool:
        """Whether the slot just given back is the queue's only free one: there may be more jobs."""
        return self._slots.get(queue, 0) - self._running[queue] == 1

    def demands(self) -> dict[str, int]:
        """Returns the free slots of each queue that has some."""
        free = {q: n - self._running[q] for q, n in self._slots.items()}
        return {queue: count for queue, count in free.items() if count > 0}

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

    def took(self, claim: Claim, took_s: float) -> None:
        """Learns the new floors from a claim, and from a sweep what the next one may cost."""
        seen: set[tuple[str, int]] = set()
        for job in claim.jobs:
            lane = (job.queue, job.priority)
            if lane not in seen:
                seen.add(lane)
                self._floors[lane] = (job.run_at, job.id)
        if self._sweeping:
            pause = min(_SWEEP_MAX_S, max(_SWEEP_MIN_S, took_s * _SWEEP_SHARE))
            self._sweep_due = time.monotonic() + pause
