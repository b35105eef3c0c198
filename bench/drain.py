"""Draining no-op jobs: how fast, and what it costs the processes and the server.

All systems are watched in the same way: another session counts what is left. The clock starts when
the first finish is seen, so that starting a process is not measured, and it stops at the last.
`others %` is the part of the machine that neither the system nor its server used: a rate measured
while it is high says little, CPU per job still does.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psycopg

from bench.peers.protocol import now
from bench.processes import busy_of_machine, cpu_of_tree
from bench.stage import Stage
from bench.systems import DoesNotRun, Facts, producer, workers

Answer = dict[str, float]

_POLL_S = 0.25
_SHORTEST_S = 0.02
_GIVE_UP_S = 120.0


@dataclass(frozen=True)
class _Look:
    """What was seen at one moment."""

    at: float
    left: int
    python_s: float
    database_s: float
    machine_s: float


def drain(stage: Stage, facts: Facts, jobs: int, *, processes: int = 1) -> Answer:
    """Fills a fresh database with no-op jobs, and has them drained."""
    with stage.database(facts) as dsn:
        with producer(facts, dsn) as orders:
            orders.give("bulk", kind="noop", args={}, count=jobs)
        return watched(stage, facts, dsn, jobs, processes=processes)


def watched(stage: Stage, facts: Facts, dsn: str, jobs: int, *, processes: int = 1) -> Answer:
    """Drains what is in the database."""
    with (
        psycopg.connect(dsn, autocommit=True) as watcher,
        workers(facts, dsn, "drain", count=processes) as pids,
    ):
        watch = _Watch(stage, facts, watcher, pids)
        first = watch.until(jobs - 1, _SHORTEST_S)
        last = watch.until(0, _POLL_S)
    finished, took = first.left - last.left, last.at - first.at
    if finished < jobs / 2:
        raise DoesNotRun(f"only {finished} of {jobs} jobs were seen to finish: too fast, or stuck")
    python_s, database_s = last.python_s - first.python_s, last.database_s - first.database_s
    others_s = last.machine_s - first.machine_s - python_s - database_s
    return {
        "jobs/s": finished / took,
        "python µs/job": python_s / finished * 1e6,
        "database µs/job": database_s / finished * 1e6,
        "CPU µs/job": (python_s + database_s) / finished * 1e6,
        "others %": max(0.0, others_s / took / (os.cpu_count() or 1) * 100),
    }


@dataclass
class _Watch:
    stage: Stage
    facts: Facts
    session: psycopg.Connection
    pids: list[int]
    previous: _Look | None = None

    def until(self, left: int, interval: float) -> _Look:
        """Looks now and then, more often near the end, until no more than `left` jobs are left."""
        deadline = now() + _GIVE_UP_S
        while (look := self._look()).left > left:
            if look.at > deadline:
                raise DoesNotRun(f"{look.left} jobs are left after {_GIVE_UP_S:.0f} s")
            time.sleep(min(interval, max(_SHORTEST_S, self._remaining(look) / 3)))
            self.previous = look
        return look

    def _remaining(self, look: _Look) -> float:
        """Seconds until the last job, at the pace since the look before."""
        if self.previous is None or look.left >= self.previous.left:
            return _POLL_S * 3
        pace = (self.previous.left - look.left) / (look.at - self.previous.at)
        return look.left / pace

    def _look(self) -> _Look:
        row = self.session.execute(self.facts.left).fetchone()  # type: ignore[call-overload]
        at = now()
        python_s = sum(map(cpu_of_tree, self.pids))
        database_s = self.stage.cpu(self.session)
        return _Look(at, row[0], python_s, database_s, busy_of_machine())
