"""Durable steps: how many a second, when 50 jobs take them at once, and when one job is alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psycopg

from bench.drain import Answer
from bench.peers.protocol import now
from bench.processes import cpu_of_tree
from bench.samples import read
from bench.stage import Stage
from bench.systems import DoesNotRun, Facts, producer, workers

_GIVE_UP_S = 120.0
_POLL_S = 0.05


def steps(stage: Stage, facts: Facts, jobs: int, count: int) -> Answer:
    """So many jobs at once with so many steps each, from the first line to the last step."""
    with stage.database(facts) as dsn, tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        with (
            psycopg.connect(dsn, autocommit=True) as watcher,
            workers(facts, dsn, "steps", samples=samples, slots=50) as pids,
            producer(facts, dsn) as orders,
        ):
            orders.give("bulk", kind="stepping", args={"count": 10}, count=5)
            warm = _wait(samples, 5)
            python_s, database_s = sum(map(cpu_of_tree, pids)), stage.cpu(watcher)
            orders.give("bulk", kind="stepping", args={"count": count}, count=jobs)
            done = _wait(samples, 5 + jobs)[len(warm) :]
            total = jobs * count
            python_s = sum(map(cpu_of_tree, pids)) - python_s
            database_s = stage.cpu(watcher) - database_s
    took = max(end for _, end in done) - min(begin for begin, _ in done)
    return {
        "steps/s": total / took,
        "ms/step": took / count * 1000,
        "python µs/step": python_s / total * 1e6,
        "database µs/step": database_s / total * 1e6,
        "CPU µs/step": (python_s + database_s) / total * 1e6,
    }


def _wait(samples: Path, count: int) -> list[list[float]]:
    deadline = now() + _GIVE_UP_S
    while len(found := read(samples)) < count:
        if now() > deadline:
            raise DoesNotRun(f"{len(found)} of {count} jobs had ended after {_GIVE_UP_S:.0f} s")
        time.sleep(_POLL_S)
    return found
