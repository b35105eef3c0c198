"""The facts about each system: how to see what is left, how much to give it, how it is set up."""

from __future__ import annotations

from bench.systems import Facts

HOLDFAST = Facts(
    name="holdfast",
    left="SELECT count(*) FROM holdfast.job",
    drain=100_000,
    bulk=50_000,
    peer=False,
    settings="worker processes as `holdfast worker` starts them, uvloop, 1,000 slots",
)

PGQUEUER = Facts(
    name="pgqueuer",
    left="SELECT count(*) FROM pgqueuer",
    drain=60_000,
    bulk=50_000,
    settings="asyncpg, uvloop, batch_size 1,000, durable tables",
)

SYSTEMS = {facts.name: facts for facts in (HOLDFAST, PGQUEUER)}
