"""What is measured, for which systems, how often, and which number the ratio is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.adverse import archived, held
from bench.catalogue import SYSTEMS
from bench.drain import Answer, drain
from bench.latency import latency
from bench.memory import in_flight, parked
from bench.stage import Stage
from bench.steps import steps
from bench.systems import Facts, producer

_QUEUES = ("holdfast", "bare", "pgqueuer", "procrastinate", "chancy")
_FINISHED = 1_000_000


@dataclass(frozen=True)
class Scenario:
    """One measurement; `headline` is compared, `more` says whether more of it is better."""

    name: str
    about: str
    systems: tuple[str, ...]
    headline: str
    run: Callable[[Stage, Facts], Answer]
    more: bool = True
    repeats: int = 3


def scenarios(*, quick: bool) -> list[Scenario]:
    """All scenarios in order; the quick ones are smaller and are run once."""
    part = 2 if quick else 1
    found = [*_enqueue(part), *_drains(part), *_latency(part), *_steps(part), *_rest(part)]
    return [replace(scenario, repeats=1) for scenario in found] if quick else found


def _enqueue(part: int) -> list[Scenario]:
    def one(stage: Stage, facts: Facts) -> Answer:
        return _enqueued(stage, facts, "one", 1000 // part)

    def bulk(stage: Stage, facts: Facts) -> Answer:
        return _enqueued(stage, facts, "bulk", facts.bulk)

    return [
        Scenario("enqueue-one", "one job a call, one call after the other", _QUEUES, "jobs/s", one),
        Scenario("enqueue-bulk", "many jobs a call", _QUEUES, "jobs/s", bulk),
    ]


def _enqueued(stage: Stage, facts: Facts, do: str, count: int) -> Answer:
    with stage.database(facts) as dsn, producer(facts, dsn) as orders:
        orders.give(do, kind="noop", args={}, count=50)
        return {"jobs/s": count / orders.give(do, kind="noop", args={}, count=count)}


def _drains(part: int) -> list[Scenario]:
    def single(stage: Stage, facts: Facts) -> Answer:
        return drain(stage, facts, facts.drain // part)

    def double(stage: Stage, facts: Facts) -> Answer:
        return drain(stage, facts, facts.drain // part, processes=2)

    return [
        Scenario("drain", "no-op jobs, one worker process", _QUEUES, "jobs/s", single),
        Scenario("drain-2", "no-op jobs, two worker processes", _QUEUES, "jobs/s", double),
    ]


def _latency(part: int) -> list[Scenario]:
    def run(stage: Stage, facts: Facts) -> Answer:
        return latency(stage, facts, idle=100 // part, seconds=10 / part)

    systems = ("holdfast", "pgqueuer", "procrastinate", "chancy", "dbos")
    about = "enqueue to first line: idle worker, and at 200 jobs a second"
    return [Scenario("latency", about, systems, "idle p50 ms", run, more=False, repeats=1)]


def _steps(part: int) -> list[Scenario]:
    systems = ("holdfast", "bare", "dbos")

    def many(stage: Stage, facts: Facts) -> Answer:
        return steps(stage, facts, 50, (40 if facts.name == "dbos" else 1000) // part)

    def alone(stage: Stage, facts: Facts) -> Answer:
        return steps(stage, facts, 1, (600 if facts.name == "dbos" else 3000) // part)

    return [
        Scenario("steps-50", "50 jobs take steps at once", systems, "steps/s", many),
        Scenario("steps-alone", "one job takes steps", systems, "ms/step", alone, more=False),
    ]


def _rest(part: int) -> list[Scenario]:
    systems = ("holdfast", "pgqueuer")

    def with_archive(stage: Stage, facts: Facts) -> Answer:
        return archived(stage, facts, facts.drain // part, _FINISHED)

    def with_snapshot(stage: Stage, facts: Facts) -> Answer:
        return held(stage, facts, facts.drain)  # never fewer: it takes many dead rows to show

    ours = ("holdfast",)
    return [
        Scenario(
            "archive", "drain with 1 million finished jobs", systems, "jobs/s", with_archive,
            repeats=2,
        ),
        Scenario(
            "snapshot", "drain while a snapshot is held", systems, "jobs/s", with_snapshot,
            repeats=2,
        ),
        Scenario(
            "memory", "a worker process with 1,000 jobs in flight", ours, "rss MB", in_flight,
            more=False, repeats=1,
        ),
        Scenario(
            "memory-parked", "a worker process with 1,000 parked jobs", ours, "rss MB", parked,
            more=False, repeats=1,
        ),
    ]  # fmt: skip


NAMES = [scenario.name for scenario in scenarios(quick=True)]
PEERS = [name for name, facts in SYSTEMS.items() if facts.peer]
