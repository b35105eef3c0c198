"""The facts about each system: how to see what is left, how much to give it, how it is set up."""

from __future__ import annotations

from bench.systems import Facts

_OURS = Facts(
    name="holdfast",
    left="SELECT count(*) FROM holdfast.job",
    drain=100_000,
    bulk=50_000,
    peer=False,
    archive="""
        INSERT INTO holdfast.job_archive (
            id, epoch, worker_id, run_at, created_at, started_at, finished_at, failures,
            max_attempts, crashes, max_crashes, resumes, priority, state, queue, name, args, tags,
            meta
        )
        SELECT -g, 1, 1, t, t, t, t, 0, 20, 0, 3, 0, 0, 'completed', 'drain', 'noop', '{{}}',
            '{{}}', '{{}}'
        FROM generate_series(1, {count}) AS g
        CROSS JOIN LATERAL (SELECT now() - g * interval '10 ms') AS c (t)
    """,
    settings="`holdfast worker` as a user starts it, uvloop, 1,000 slots a process (50 for steps)",
)

_BARE = Facts(
    name="bare",
    left=_OURS.left,
    drain=100_000,
    bulk=50_000,
    peer=False,
    settings="holdfast's own statements without its runtime: 500 jobs a round trip",
)

_PGQUEUER = Facts(
    name="pgqueuer",
    left="SELECT count(*) FROM pgqueuer",
    drain=100_000,
    bulk=50_000,
    archive="""
        INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint, aggregated)
        SELECT now() - g * interval '10 ms', 1000000000 + g, 'successful', 0, 'noop', true
        FROM generate_series(1, {count}) AS g
    """,
    settings="asyncpg, uvloop, batch_size 1,000, logged tables (its default)",
)

_PROCRASTINATE = Facts(
    name="procrastinate",
    left="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    drain=600,
    bulk=50_000,
    settings="psycopg (binary), uvloop, concurrency 50, pool 20, successful jobs deleted",
)

_CHANCY = Facts(
    name="chancy",
    left="SELECT count(*) FROM chancy_jobs WHERE state <> 'succeeded'",
    drain=20_000,
    bulk=20_000,
    settings="psycopg (binary), uvloop, async executor, concurrency 10,000, eager polling, "
    "updates sent every 0.1 s",
)

_DBOS = Facts(
    name="dbos",
    left="",
    drain=0,
    bulk=0,
    settings="psycopg (binary), workflows in threads, worker_concurrency 50, pool 20, "
    "polling_interval_sec 0.01",
)

SYSTEMS = {facts.name: facts for facts in (_OURS, _BARE, _PGQUEUER, _PROCRASTINATE, _CHANCY, _DBOS)}
