"""The facts about each system: how to see what is left, how much to give it, how it is set up."""

from __future__ import annotations

from bench.systems import Facts

HOLDFAST = Facts(
    name="holdfast",
    left="SELECT count(*) FROM holdfast.job",
    drain=100_000,
    bulk=50_000,
    peer=False,
    settings="`holdfast worker` as a user starts it, uvloop, 1,000 slots a process",
)

PGQUEUER = Facts(
    name="pgqueuer",
    left="SELECT count(*) FROM pgqueuer",
    drain=100_000,
    bulk=50_000,
    settings="asyncpg, uvloop, batch_size 1,000, durable tables (its default)",
)

PROCRASTINATE = Facts(
    name="procrastinate",
    left="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    drain=4_000,
    bulk=50_000,
    settings="",
)

CHANCY = Facts(
    name="chancy",
    left="SELECT count(*) FROM chancy_jobs WHERE state <> 'succeeded'",
    drain=20_000,
    bulk=10_000,
    settings="",
)

DBOS = Facts(
    name="dbos",
    left="",
    drain=0,
    bulk=0,
    settings="",
)

SYSTEMS = {facts.name: facts for facts in (HOLDFAST, PGQUEUER, PROCRASTINATE, CHANCY, DBOS)}
