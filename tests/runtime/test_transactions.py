"""`ctx.transaction()`: the user's rows and the journal commit together, exactly once."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from fixtures.looking import (
    counters,
    ended,
    eventually_awaited,
    instantly,
    outcomes,
    reached,
    step_states,
)
from fixtures.running import eventually, running
from holdfast import BlockingContext, Context, Holdfast, JobFailed, JobNeedsAttention


class Stumble(Exception):
    """Ends an attempt, so that the next one replays."""


@pytest.fixture
def book(db) -> Iterator[sql.Identifier]:
    """A table of the user's."""
    db.execute("CREATE TABLE holdfast.book (id serial, title text)")
    yield sql.Identifier(db.schema, "book")
    db.execute("DROP TABLE holdfast.book")


def titles(db) -> list[str]:
    return [row[0] for row in db.execute("SELECT title FROM holdfast.book ORDER BY id")]


async def test_rows_are_written_once_and_replays_return_what_they_returned(
    app: Holdfast, db, book
) -> None:
    seen: list[tuple] = []

    @app.job(backoff=instantly)
    async def write(ctx: Context, title: str) -> int:
        async with ctx.transaction("save") as conn:
            insert = sql.SQL("INSERT INTO {} (title) VALUES (%s) RETURNING id").format(book)
            row = await (await conn.execute(insert, [title])).fetchone()
            count = await conn.execute(sql.SQL("SELECT count(*) FROM {}").format(book))
            seen.append((conn.replayed, row, await count.fetchall(), count.rowcount))
        if ctx.attempt == 1:
            raise Stumble
        return row[0]

    async with running(app):
        handle = await write.enqueue("one")
        number = await handle.result(timeout=10)
    assert titles(db) == ["one"]
    assert seen == [(False, (number,), [(1,)], 1), (True, (number,), [(1,)], 1)]
    assert step_states(db, handle.id) == {"save": ("done", 1)}
    assert outcomes(db, handle.id) == [("failed", "failure"), ("completed", None)]


async def test_a_plain_job_writes_once_too(app: Holdfast, db, book) -> None:
    seen: list[tuple] = []

    @app.job(backoff=instantly)
    def write(ctx: BlockingContext) -> None:
        with ctx.transaction() as conn:
            insert = sql.SQL("INSERT INTO {} (title) VALUES (%s) RETURNING title").format(book)
            conn.executemany(insert, [["one"], ["two"]])
            rows = conn.execute(sql.SQL("SELECT title FROM {} ORDER BY id").format(book))
            seen.append((conn.replayed, rows.fetchone(), rows.fetchmany(5), list(rows)))
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        await (await write.enqueue()).result(timeout=10)
    assert titles(db) == ["one", "two"]
    assert seen == [(False, ("one",), [("two",)], []), (True, ("one",), [("two",)], [])]


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_an_error_in_the_block_rolls_everything_back(
    app: Holdfast, db, book, shape: str
) -> None:
    insert = sql.SQL("INSERT INTO {} (title) VALUES (%s)").format(book)

    if shape == "async":

        @app.job(backoff=instantly)
        async def write(ctx: Context) -> None:
            async with ctx.transaction() as conn:
                await conn.execute(insert, [f"try {ctx.attempt}"])
                if ctx.attempt == 1:
                    raise Stumble

    else:

        @app.job(backoff=instantly)
        def write(ctx: BlockingContext) -> None:
            with ctx.transaction() as conn:
                conn.execute(insert, [f"try {ctx.attempt}"])
                if ctx.attempt == 1:
                    raise Stumble

    async with running(app):
        handle = await write.enqueue()
        await handle.result(timeout=10)
    assert titles(db) == ["try 2"]
    assert counters(db, handle.id) == ("completed", 1, 0, 0)


async def test_a_failed_statement_rolls_back_and_charges_the_attempt(
    app: Holdfast, db, book
) -> None:
    @app.job(backoff=instantly, max_attempts=2)
    async def write(ctx: Context) -> str:
        try:
            async with ctx.transaction() as conn:
                await conn.execute(sql.SQL("INSERT INTO {} (title) VALUES ('x')").format(book))
                await conn.execute("SELECT 1/0")
        except psycopg.errors.DivisionByZero:
            return "divided"
        return "wrote"

    async with running(app):
        handle = await write.enqueue()
        assert await handle.result(timeout=10) == "divided"
    assert titles(db) == []
    assert step_states(db, handle.id) == {}


async def test_a_statement_changed_after_the_commit_stops_the_job(app: Holdfast, db, book) -> None:
    @app.job(backoff=instantly)
    async def write(ctx: Context) -> None:
        column = "title" if ctx.attempt == 1 else "id"
        async with ctx.transaction() as conn:
            await conn.execute(sql.SQL("SELECT {} FROM {}").format(sql.Identifier(column), book))
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        handle = await write.enqueue()
        with pytest.raises(JobNeedsAttention, match="statement 1 of a committed transaction"):
            await handle.result(timeout=10)
    assert outcomes(db, handle.id) == [("failed", "failure"), ("stopped", None)]


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_a_job_enqueued_inside_exists_once_and_only_after_the_commit(
    app: Holdfast, db, book, shape: str
) -> None:
    ran: list[str] = []
    ids: list[int] = []

    @app.job()
    async def child(name: str) -> None:
        ran.append(name)

    if shape == "async":

        @app.job(backoff=instantly)
        async def parent(ctx: Context) -> None:
            async with ctx.transaction() as conn:
                ids.append((await child.options(conn=conn).enqueue("lost")).id)
                if ctx.attempt == 1:
                    raise Stumble
                ids.append((await child.options(conn=conn).enqueue("kept")).id)
            if ctx.attempt == 2:
                raise Stumble

    else:

        @app.job(backoff=instantly)
        def parent(ctx: BlockingContext) -> None:
            with ctx.transaction() as conn:
                ids.append(child.options(conn=conn).enqueue_sync("lost").id)
                if ctx.attempt == 1:
                    raise Stumble
                ids.append(child.options(conn=conn).enqueue_sync("kept").id)
            if ctx.attempt == 2:
                raise Stumble

    async with running(app):
        handle = await parent.enqueue()
        await handle.result(timeout=10)
        await eventually(lambda: len(ran) >= 2)
    assert sorted(ran) == ["kept", "lost"]
    assert ids[1:3] == ids[3:5]
    assert db.value("SELECT count(*) FROM holdfast.jobs WHERE name = 'child'") == 2


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_a_job_that_lost_its_lease_commits_nothing(
    app: Holdfast, db, book, shape: str
) -> None:
    entered = asyncio.Event()
    insert = sql.SQL("INSERT INTO {} (title) VALUES (%s)").format(book)
    loop = asyncio.get_running_loop()
    lost: list[int] = []

    def lose(job_id: int) -> None:
        lost.append(job_id)
        db.execute("UPDATE holdfast.job SET epoch = epoch + 1 WHERE id = %s", [job_id])

    if shape == "async":

        @app.job()
        async def write(ctx: Context) -> None:
            async with ctx.transaction() as conn:
                await conn.execute(insert, ["zombie"])
                lose(ctx.job_id)
                entered.set()

    else:

        @app.job()
        def write(ctx: BlockingContext) -> None:
            with ctx.transaction() as conn:
                conn.execute(insert, ["zombie"])
                lose(ctx.job_id)
                loop.call_soon_threadsafe(entered.set)

    async with running(app):
        handle = await write.enqueue()
        await reached(entered)

        async def stopped() -> bool:
            # What this process no longer owns, it hands over with its worker's row.
            return titles(db) == [] and counters(db, handle.id)[0] == "executing"

        await eventually_awaited(stopped)
    assert lost == [handle.id]
    assert titles(db) == []
    assert step_states(db, handle.id) == {}
    assert counters(db, handle.id) == ("available", 0, 0, 1)


COLUMNS = {
    "text": "a ☃ \U0001f600",
    "bytea": b"\x00\x01\xff",
    "timestamptz": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "timestamp": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001
    "date": datetime(2026, 1, 2, tzinfo=UTC).date(),
    "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).time(),
    "interval": timedelta(days=2, seconds=3, microseconds=4),
    "numeric": Decimal("1.2300"),
    "uuid": uuid.UUID(int=5),
    "bigint": 2**62,
    "float8": float("inf"),
    "boolean": None,
    "int[]": [1, None, 3],
    "text[]": ["a", "b"],
}


async def test_column_values_of_every_common_type_come_back_from_the_journal(
    app: Holdfast, db
) -> None:
    seen: list[tuple] = []
    columns = ", ".join(f"%s::{name}" for name in COLUMNS)
    document = {"a": [1, 2.5, None, "\u2603"], "b": {"c": True}}

    @app.job(backoff=instantly)
    async def read(ctx: Context) -> None:
        async with ctx.transaction() as conn:
            values = [*COLUMNS.values(), Jsonb(document)]
            rows = await conn.execute(f"SELECT {columns}, %s::jsonb", values)
            seen.extend([row async for row in rows])
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        await (await read.enqueue()).result(timeout=10)
    assert seen == [(*COLUMNS.values(), document)] * 2


async def test_rows_that_cannot_be_recorded_stop_the_job_and_roll_back(
    app: Holdfast, db, book
) -> None:
    @app.job()
    async def write(ctx: Context) -> None:
        async with ctx.transaction() as conn:
            await conn.execute(sql.SQL("INSERT INTO {} (title) VALUES ('x')").format(book))
            await conn.execute("SELECT int4range(1, 5)")

    async with running(app):
        handle = await write.enqueue()
        job = await ended(app, handle.id, "attention")
    assert "Range" in job.wait_detail
    assert titles(db) == []


async def test_a_parameter_with_a_nul_fails_the_attempt_and_writes_nothing(
    app: Holdfast, db, book
) -> None:
    @app.job(backoff=instantly)
    async def write(ctx: Context) -> None:
        async with ctx.transaction() as conn:
            title = "a\x00b" if ctx.attempt == 1 else "ab"
            await conn.execute(sql.SQL("INSERT INTO {} (title) VALUES (%s)").format(book), [title])

    async with running(app):
        handle = await write.enqueue()
        await handle.result(timeout=10)
    assert titles(db) == ["ab"]
    assert counters(db, handle.id) == ("completed", 1, 0, 0)


async def test_ten_thousand_rows_are_replayed_from_the_blob_table(app: Holdfast, db) -> None:
    seen: list[int] = []

    @app.job(backoff=instantly)
    async def read(ctx: Context) -> None:
        async with ctx.transaction() as conn:
            rows = await conn.execute(
                "SELECT n, md5(n::text) || md5((n + 1)::text) FROM generate_series(1, 10000) AS n"
            )
            found = await rows.fetchall()
            seen.append(hash(tuple(found)))
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        await (await read.enqueue()).result(timeout=20)
    assert seen[0] == seen[1]
    assert db.value("SELECT count(*) FROM holdfast.blob WHERE key = 'transaction'") == 1


async def test_a_transaction_inside_a_step_is_refused(app: Holdfast) -> None:
    async def save(ctx: Context) -> None:
        async with ctx.transaction() as conn:
            await conn.execute("SELECT 1")

    @app.job(max_attempts=1)
    async def work(ctx: Context) -> None:
        await ctx.step(save, ctx)

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match="inside a step"):
            await handle.result(timeout=10)
