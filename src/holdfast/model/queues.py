"""Queues at run time: which ones a worker serves, with how many slots, and which are paused.

What a worker was started with, and what somebody has set since, make what is in force. One pure
function decides, so that workers, the command line and the tests agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple


class QueueSetting(NamedTuple):
    """What somebody has set for a queue: for the worker named, or for all when `worker` is ''."""

    queue: str
    worker: str
    slots: int | None
    paused: bool


@dataclass(frozen=True, slots=True)
class Served:
    """The queues that a worker serves: slots of each process, and those that are paused."""

    slots: Mapping[str, int]
    paused: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """One queue as people are shown it.

    `available` jobs are due, `later` ones are not; `waiting_s` is the age of the oldest that is
    due. `workers` processes serve it, `slots` jobs at once where it is not paused, `paused_workers`
    of them do not start any. `paused_at`: paused for all; `set_slots`: set for all.
    """

    name: str
    available: int
    later: int
    executing: int
    attention: int
    waiting_s: float | None
    workers: int
    slots: int
    paused_workers: int
    paused_at: datetime | None
    set_slots: int | None


def serve(
    started_with: Mapping[str, int], settings: Iterable[QueueSetting], *, worker: str, closed: bool
) -> Served:
    """Returns what is in force for one worker.

    `closed`: it was started with a list of queues, and takes another one only when that is set for
    it by name. A setting for the worker wins over one for all; either pauses. No slots: not served.

    >>> scaled = [QueueSetting("mail", "", 5, False), QueueSetting("agents", "w1", 2, True)]
    >>> served = serve({"agents": 10}, scaled, worker="w1", closed=False)
    >>> dict(served.slots), sorted(served.paused)
    ({'agents': 2, 'mail': 5}, ['agents'])
    """
    slots = dict(started_with)
    paused = set()
    # Those for all come first, so that those for this worker write over them.
    for setting in sorted(settings, key=lambda s: s.worker != ""):
        mine = setting.worker == worker
        if setting.worker and not mine:
            continue
        if setting.slots is not None and (mine or not closed or setting.queue in started_with):
            slots[setting.queue] = setting.slots
        if setting.paused:
            paused.add(setting.queue)
    open_ = {queue: count for queue, count in slots.items() if count > 0}
    return Served(open_, frozenset(paused & open_.keys()))
