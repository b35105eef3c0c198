"""One row that the database refuses never delays the others' finishes, and says why itself."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from fixtures.looking import counters, ended, outcomes, reached, step_states
from fixtures.running import eventually, running
from holdfast import Context, Holdfast, JobNeedsAttention

GOOD = 60


RULES = {
    "job_archive": "new.name = 'poison'",
    "execution": "new.error_message = 'poison'",
    "step": "new.key = 'poison'",
}


@pytest.fixture
def refusing(db) -> Iterator[None]:
    """A database that refuses what says poison, as one with rules of its own."""
    db.execute(
        "CREATE FUNCTION holdfast.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no poison here' USING ERRCODE = '23514'; END $$"
    )
    for table, rule in RULES.items():
        db.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON holdfast.{table} FOR EACH ROW "
            f"WHEN ({rule}) EXECUTE FUNCTION holdfast.refuse()"
        )
    yield
    db.execute("DROP FUNCTION holdfast.refuse() CASCADE")


class Gate:
    """Lets many jobs end in the same moment, so that one batch has them all."""

    def __init__(self) -> None:
        self.waiting = 0
        self.full = asyncio.Event()
        self.open = asyncio.Event()

    async def wait(self, expected: int) -> None:
        self.waiting += 1
        if self.waiting == expected:
            self.full.set()
        await self.open.wait()


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("end", ["returns", "raises"])
@pytest.mark.parametrize("poisons", [1, 7])
async def test_a_finish_that_the_database_refuses_does_not_delay_the_finishes_of_its_batch(
    app: Holdfast, db, end: str, poisons: int
) -> None:
    gate = Gate()

    @app.job(max_attempts=1, queue="crowd")
    async def good(n: int) -> int:
        await gate.wait(GOOD + poisons)
        if end == "raises" and n % 2:
            raise ValueError(n)
        return n

    @app.job(max_attempts=1, queue="crowd")
    async def bad() -> None:
        await gate.wait(GOOD + poisons)
        raise ValueError("poison")

    @app.job(name="poison", queue="crowd")
    async def refused() -> str:
        await gate.wait(GOOD + poisons)
        return "x"

    job = refused if end == "returns" else bad
    requests = [good.new(n) for n in range(GOOD)]
    requests[GOOD // 2 : GOOD // 2] = [job.new() for _ in range(poisons)]
    async with running(app, queues={"crowd": GOOD + poisons}):
        handles = await app.enqueue_many(requests)
        await reached(gate.full)
        gate.open.set()
        count = "SELECT count(*) FROM holdfast.job_archive"
        await eventually(lambda: db.value(count) == GOOD)
        for handle in handles[GOOD // 2 : GOOD // 2 + poisons]:
            found = await ended(app, handle.id, "attention")
            assert "how it ended could not be stored" in found.wait_detail
            assert "no poison here" in found.wait_detail
    states = db.execute("SELECT state, count(*) FROM holdfast.jobs GROUP BY state ORDER BY state")
    if end == "returns":
        assert states == [("attention", poisons), ("completed", GOOD)]
    else:
        half = GOOD // 2
        assert states == [("attention", poisons), ("completed", half), ("discarded", half)]


@pytest.mark.usefixtures("refusing")
async def test_a_step_that_the_database_refuses_stops_its_job_only(app: Holdfast, db) -> None:
    gate = Gate()
    calls: list[str] = []

    async def work(text: str) -> str:
        calls.append(text)
        await gate.wait(GOOD + 1)
        return text

    async def poison(text: str) -> str:
        return await work(text)

    @app.job(queue="crowd", max_attempts=1)
    async def good(ctx: Context) -> str:
        return await ctx.step(work, "good")

    @app.job(queue="crowd", max_attempts=1)
    async def bad(ctx: Context) -> str:
        return await ctx.step(poison, "bad")

    async with running(app, queues={"crowd": GOOD + 1}):
        handles = await app.enqueue_many([*(good.new() for _ in range(GOOD)), bad.new()])
        await reached(gate.full)
        gate.open.set()
        for handle in handles[:-1]:
            assert await handle.result(timeout=20) == "good"
        with pytest.raises(Exception, match="no poison here"):
            await handles[-1].result(timeout=20)
    assert step_states(db, handles[-1].id) == {}
    assert calls.count("bad") == 1


async def test_a_finish_whose_row_is_locked_does_not_delay_the_others(app: Holdfast, db) -> None:
    gate = Gate()

    @app.job(queue="crowd")
    async def work(n: int) -> int:
        await gate.wait(GOOD)
        return n

    async with running(app, queues={"crowd": GOOD}):
        handles = await app.enqueue_many([work.new(n) for n in range(GOOD)])
        await reached(gate.full)
        with psycopg.connect(db.dsn) as other:
            other.execute(
                f'SELECT 1 FROM "{db.schema}".job WHERE id = %s FOR UPDATE', [handles[7].id]
            )
            gate.open.set()
            for handle in handles[:7] + handles[8:]:
                await handle.result(timeout=20)
            assert counters(db, handles[7].id)[0] == "executing"
        assert await handles[7].result(timeout=20) == 7


async def test_a_job_that_cannot_be_stored_does_not_disturb_the_batch_it_is_enqueued_in(
    app: Holdfast, db
) -> None:
    """All or none: the batch is refused as a whole, and the next one is unharmed."""

    @app.job()
    async def work(text: str) -> str:
        return text

    async with running(app):
        fine = [work.new(str(n)) for n in range(10)]
        with pytest.raises(Exception, match="NUL"):
            await app.enqueue_many([*fine, work.new("\x00")])
        assert db.value("SELECT count(*) FROM holdfast.jobs") == 0
        handles = await app.enqueue_many(fine)
        assert [await handle.result(timeout=10) for handle in handles] == [
            str(n) for n in range(10)
        ]


async def test_one_undecodable_job_among_many_is_stopped_alone(app: Holdfast, db) -> None:
    @app.job()
    async def work(n: int) -> int:
        return n

    async with app:
        handles = await app.enqueue_many([work.new(n) for n in range(GOOD)])
        db.execute('UPDATE holdfast.job SET args = \'{"n": "x"}\' WHERE id = %s', [handles[9].id])
        async with app.running():
            for n, handle in enumerate(handles):
                if n == 9:
                    with pytest.raises(JobNeedsAttention):
                        await handle.result(timeout=20)
                else:
                    assert await handle.result(timeout=20) == n
    assert outcomes(db, handles[9].id) == [("stopped", None)]
