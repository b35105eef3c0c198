"""From the call of enqueue to the job's first line: an idle worker, and 200 jobs a second."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psycopg

from bench.drain import Answer
from bench.peers.protocol import now
from bench.processes import cpu_of_tree
from bench.samples import read, spread
from bench.stage import Stage
from bench.systems import DoesNotRun, Facts, producer, workers

RATE = 200
_WARM = 5
_GIVE_UP_S = 60.0
_POLL_S = 0.05


def latency(stage: Stage, facts: Facts, *, idle: int, seconds: float) -> Answer:
    """One worker process; `idle` jobs one by one, then a steady load for so many seconds."""
    loaded = int(RATE * seconds)
    with stage.database(facts) as dsn, tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        with (
            psycopg.connect(dsn, autocommit=True) as watcher,
            workers(facts, dsn, "stamp", samples=samples, slots=50) as pids,
            producer(facts, dsn) as orders,
        ):
            orders.give("idle", count=_WARM, pause=0.2)
            _wait(samples, _WARM)
            orders.give("idle", count=idle, pause=0.02)
            alone = _wait(samples, _WARM + idle)[_WARM:]
            python_s, database_s = sum(map(cpu_of_tree, pids)), stage.cpu(watcher)
            orders.give("offer", rate=RATE, seconds=seconds)
            under_load = _wait(samples, _WARM + idle + loaded)[_WARM + idle :]
            python_s = sum(map(cpu_of_tree, pids)) - python_s
            database_s = stage.cpu(watcher) - database_s
    return {
        **{f"idle {key}": value for key, value in spread(alone).items()},
        **{f"{RATE}/s {key}": value for key, value in spread(under_load).items()},
        "python µs/job": python_s / loaded * 1e6,
        "database µs/job": database_s / loaded * 1e6,
        "CPU µs/job": (python_s + database_s) / loaded * 1e6,
    }


def _wait(samples: Path, count: int) -> list[float]:
    deadline = now() + _GIVE_UP_S
    while len(found := read(samples)) < count:
        if now() > deadline:
            raise DoesNotRun(f"{len(found)} of {count} jobs had started after {_GIVE_UP_S:.0f} s")
        time.sleep(_POLL_S)
    return [line[0] for line in found]
