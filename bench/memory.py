"""What a worker process needs for 1,000 jobs that wait in it, and for 1,000 that wait outside."""

from __future__ import annotations

import time

import psycopg

from bench.drain import Answer
from bench.peers.protocol import now
from bench.processes import cpu_of_tree, memory_mb, tree
from bench.stage import Stage
from bench.systems import DoesNotRun, Facts, producer, workers

JOBS = 1000
_SETTLE_S = 2.0
_WATCH_S = 5.0
_GIVE_UP_S = 60.0
_EXECUTING = "SELECT count(*) FROM holdfast.job WHERE state = 'executing'"
_PARKED = "SELECT count(*) FROM holdfast.job WHERE state <> 'executing' AND run_at > now()"


def in_flight(stage: Stage, facts: Facts) -> Answer:
    """1,000 jobs that sleep inside the process."""
    return _measure(stage, facts, "in_flight", _EXECUTING)


def parked(stage: Stage, facts: Facts) -> Answer:
    """1,000 jobs that sleep in the database."""
    return _measure(stage, facts, "parked", _PARKED)


def _measure(stage: Stage, facts: Facts, kind: str, reached: str) -> Answer:
    with (
        stage.database(facts) as dsn,
        psycopg.connect(dsn, autocommit=True) as watcher,
        producer(facts, dsn) as orders,
        workers(facts, dsn, "memory", slots=JOBS) as pids,
    ):
        time.sleep(_SETTLE_S)
        before = memory_mb(_worker(pids[0]))
        orders.give("bulk", kind=kind, args={}, count=JOBS)
        _wait(watcher, reached)
        time.sleep(_SETTLE_S)
        after = memory_mb(_worker(pids[0]))
        python_s, database_s = cpu_of_tree(pids[0]), stage.cpu(watcher)
        time.sleep(_WATCH_S)
        python_s, database_s = cpu_of_tree(pids[0]) - python_s, stage.cpu(watcher) - database_s
    return {
        **after,
        **{f"idle {key}": value for key, value in before.items()},
        "python ms/s": python_s / _WATCH_S * 1000,
        "database ms/s": database_s / _WATCH_S * 1000,
    }


def _worker(supervisor: int) -> int:
    """The process with the user's code: the largest one."""
    return max(tree(supervisor), key=lambda pid: memory_mb(pid)["rss MB"])


def _wait(watcher: psycopg.Connection, query: str) -> None:
    deadline = now() + _GIVE_UP_S
    while (count := watcher.execute(query).fetchone()[0]) < JOBS:  # type: ignore[call-overload,index]
        if now() > deadline:
            raise DoesNotRun(f"only {count} of {JOBS} jobs wait after {_GIVE_UP_S:.0f} s")
        time.sleep(0.1)
