"""Plans: a hot statement uses its index, whatever the planner believes about the table.

Generic plans, as the worker's own connections make them: once on an empty schema, and once on a
table that was small when the plan was cached and large when it runs, with statistics of neither.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from fixtures.desk import Desk, completion, lanes_of, settled, step_write
from holdfast.model.job import ClaimedJob
from holdfast.model.outcome import Ending
from holdfast.model.writes import Forget, ProgressWrite
from holdfast.runtime.executor import Ended
from holdfast.storage import jobs, steps
from holdfast.storage.connect import connect_hot
from holdfast.storage.query import Query
from holdfast.storage.statements import statement

MANY = 200_000
_PARAMETER = re.compile(r"%\((\w+)\)s")

Hot = Callable[[str, Sequence[ClaimedJob]], Query[Any]]


def _settlements(schema: str, owned: Sequence[ClaimedJob]) -> Query[Any]:
    failed = Ended(Ending.FAILED, error=ValueError("x"), delay_s=60.0)
    return jobs.settle(1, schema, [settled(job, failed) for job in owned])


HOT: dict[str, tuple[Hot, set[str]]] = {
    "claim": (
        lambda schema, owned: jobs.claim(1, {"default": 100}, lanes_of({"default": 1})),
        {"job_claim", "job_pkey", "step_pkey", "worker_pkey"},
    ),
    "complete": (
        lambda schema, owned: jobs.complete(1, schema, [completion(job) for job in owned]),
        {"job_pkey"},
    ),
    "settle": (_settlements, {"job_pkey"}),
    "progress": (
        lambda schema, owned: jobs.progress(
            1, [ProgressWrite(job.id, job.epoch, 0.5, None, None, None) for job in owned]
        ),
        {"job_pkey"},
    ),
    "record": (
        lambda schema, owned: steps.record(1, [step_write(job) for job in owned]),
        {"job_pkey"},
    ),
    "forget": (
        lambda schema, owned: steps.forget([Forget(job.id, job.epoch, "fetch") for job in owned]),
        {"job_pkey", "step_pkey"},
    ),
    "owned": (lambda schema, owned: jobs.owned(1, everything=True), {"job_running"}),
    "await": (
        lambda schema, owned: jobs.await_ends([job.id for job in owned], schema),
        {"job_pkey"},
    ),
}


class Planner:
    """A worker's connection with every hot statement prepared, and the plans it has cached."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], schema: str) -> None:
        self.conn = conn
        self.schema = schema

    async def prepare(self, name: str, query: Query[Any]) -> None:
        """Prepares a statement's text under a name and makes its generic plan."""
        order = list(dict.fromkeys(_PARAMETER.findall(statement(query.name, self.schema))))
        text = _PARAMETER.sub(
            lambda match: f"${order.index(match[1]) + 1}", statement(query.name, self.schema)
        ).replace("%%", "%")
        await self.conn.execute(f"PREPARE {name} AS {text}".encode())
        await self.plan(name, query)

    async def plan(self, name: str, query: Query[Any]) -> str:
        """Returns the plan with which the prepared statement would run now."""
        order = list(dict.fromkeys(_PARAMETER.findall(statement(query.name, self.schema))))
        values = ", ".join([_literal(query.params[key]) for key in order])
        cursor = await self.conn.execute(f"EXPLAIN (COSTS OFF) EXECUTE {name} ({values})".encode())
        return "\n".join([row[0] for row in await cursor.fetchall()])


def _literal(value: object) -> str:
    """Returns an SQL literal for a parameter, of no type, as the driver sends it."""
    if isinstance(value, list):
        items = ", ".join([_literal(item) for item in value])
        return f"ARRAY[{items}]" if any(item is not None for item in value) else "'{NULL}'"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, datetime):
        return f"'{value.astimezone(UTC).isoformat()}'::timestamptz"
    return str(psycopg.sql.Literal(value).as_string(None))


@pytest.fixture
async def planner(desk: Desk) -> AsyncIterator[Planner]:
    conn = await connect_hot(desk.db.dsn, "plans")
    yield Planner(conn, desk.schema)
    await conn.close()


@pytest.fixture
def unanalysed(desk: Desk) -> Iterator[None]:
    """Keeps autovacuum from making the statistics right in the middle of a test."""
    desk.db.execute("ALTER TABLE holdfast.job SET (autovacuum_enabled = false)")
    yield
    desk.db.execute("ALTER TABLE holdfast.job RESET (autovacuum_enabled)")


def some_jobs(count: int) -> list[ClaimedJob]:
    """Returns jobs that nobody owns: a plan does not ask for the rows."""
    row = dict.fromkeys(ClaimedJob._fields)
    numbers = {"epoch": 1, "failures": 0, "max_attempts": 20, "crashes": 0, "max_crashes": 3}
    return [ClaimedJob(**{**row, **numbers, "id": id_}) for id_ in range(1, count + 1)]


def assert_walks_only_indexes(plan: str, indexes: set[str]) -> None:
    used = set(re.findall(r"(?:using|Scan on) (\w+_(?:pkey|claim|running))\b", plan))
    assert indexes <= used, plan
    for table in ("job", "step", "worker", "execution", "blob"):
        assert not re.search(rf"Seq Scan on {table}\b", plan), plan


@pytest.mark.parametrize("name", HOT)
async def test_a_plan_made_on_an_empty_schema_walks_the_index(
    desk: Desk, planner: Planner, name: str
) -> None:
    build, indexes = HOT[name]
    query = build(desk.schema, some_jobs(50))
    await planner.prepare(name, query)
    assert_walks_only_indexes(await planner.plan(name, query), indexes)


@pytest.mark.usefixtures("unanalysed")
async def test_plans_cached_on_a_small_table_hold_when_it_has_grown(
    desk: Desk, planner: Planner
) -> None:
    queries = {name: build(desk.schema, some_jobs(100)) for name, (build, _) in HOT.items()}
    for name, query in queries.items():
        await planner.prepare(name, query)
    fill(desk)
    for name, query in queries.items():
        assert_walks_only_indexes(await planner.plan(name, query), HOT[name][1])
    # And one that is made now, by a worker that has just started, on statistics of the empty table.
    await planner.conn.execute("DISCARD PLANS")
    for name, query in queries.items():
        assert_walks_only_indexes(await planner.plan(name, query), HOT[name][1])


@pytest.mark.usefixtures("unanalysed")
async def test_plans_hold_when_the_statistics_are_right(desk: Desk, planner: Planner) -> None:
    fill(desk)
    desk.db.execute("ANALYZE holdfast.job")
    for name, (build, indexes) in HOT.items():
        query = build(desk.schema, some_jobs(100))
        await planner.prepare(name, query)
        assert_walks_only_indexes(await planner.plan(name, query), indexes)


@pytest.mark.usefixtures("unanalysed")
async def test_a_claim_reads_no_more_rows_than_it_takes(desk: Desk, planner: Planner) -> None:
    fill(desk)
    before = desk.db.value("SELECT count(*) FROM holdfast.job WHERE state = 'executing'")
    worker_id = desk.worker()
    query = jobs.claim(worker_id, {"default": 100}, lanes_of({"default": 1}))
    await planner.prepare("claim", query)
    order = list(dict.fromkeys(_PARAMETER.findall(statement(query.name, desk.schema))))
    values = ", ".join([_literal(query.params[key]) for key in order])
    cursor = await planner.conn.execute(
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE claim ({values})".encode()
    )
    plan = "\n".join([row[0] for row in await cursor.fetchall()])
    scans = re.findall(r"using job_claim on job[^(]*\(actual rows=([\d.]+) loops=(\d+)\)", plan)
    assert scans, plan
    assert sum(float(rows) * int(loops) for rows, loops in scans) <= 110, plan
    after = desk.db.value("SELECT count(*) FROM holdfast.job WHERE state = 'executing'")
    assert after == before + 100


def fill(desk: Desk) -> None:
    """Adds many waiting jobs and some running ones, and collects no statistics."""
    desk.db.execute(
        "INSERT INTO holdfast.job (name, queue, run_at, created_at, state, worker_id) "
        "SELECT 'work', 'default', holdfast.clock(), holdfast.clock(), "
        "CASE WHEN n %% 1000 = 0 THEN 'executing' ELSE 'available' END, "
        "CASE WHEN n %% 1000 = 0 THEN 1 END "
        "FROM generate_series(1, %s) AS n",
        [MANY],
    )
