"""The same drain when it should not matter: a million finished jobs, or an old snapshot.

Each is measured right after a plain drain of the same size, so that the ratio says what is kept.
"""

from __future__ import annotations

import psycopg

from bench.drain import Answer, drain, watched
from bench.stage import Stage
from bench.systems import Facts, producer


def archived(stage: Stage, facts: Facts, jobs: int, finished: int) -> Answer:
    """With so many finished jobs in the tables."""
    plain = drain(stage, facts, jobs)
    with stage.database(facts) as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(facts.archive.format(count=finished))  # type: ignore[call-overload]
            conn.execute("VACUUM ANALYZE")
            conn.execute("CHECKPOINT")
        return _beside(plain, _filled(stage, facts, dsn, jobs))


def held(stage: Stage, facts: Facts, jobs: int) -> Answer:
    """While another session holds a snapshot: no dead row can be removed until the end."""
    plain = drain(stage, facts, jobs)
    with stage.database(facts) as dsn, psycopg.connect(dsn, autocommit=True) as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")
        return _beside(plain, _filled(stage, facts, dsn, jobs))


def _filled(stage: Stage, facts: Facts, dsn: str, jobs: int) -> Answer:
    with producer(facts, dsn) as orders:
        orders.give("bulk", kind="noop", args={}, count=jobs)
    return watched(stage, facts, dsn, jobs)


def _beside(plain: Answer, answer: Answer) -> Answer:
    kept = answer["jobs/s"] / plain["jobs/s"] * 100
    before = {f"plain {key}": plain[key] for key in ("jobs/s", "database µs/job")}
    return {"kept %": kept, **answer, **before}
