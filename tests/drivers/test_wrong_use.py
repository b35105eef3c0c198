"""A connection of the wrong kind, or something else: refused with what to do, nothing is sent."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from fixtures.callers import Caller
from fixtures.running import running
from holdfast import BlockingContext, Context, DatabaseError, Holdfast, InvalidOption
from holdfast.storage import callers


async def test_the_wrong_pairing_names_the_right_call(
    caller: Caller, app: Holdfast, work: Any
) -> None:
    function = work.options(conn=caller.conn)
    end = "" if caller.is_async else "_sync"
    calls = {
        "enqueue": (function.enqueue, function.enqueue_sync, [1]),
        "enqueue_many": (app.enqueue_many, app.enqueue_many_sync, [[work.new(1)]]),
        "cancel": (app.cancel, app.cancel_sync, [1]),
        "retry": (app.retry, app.retry_sync, [1]),
    }
    for name, (async_call, blocking_call, args) in calls.items():
        given = {} if name == "enqueue" else {"conn": caller.conn}
        with pytest.raises(InvalidOption) as caught:
            if caller.is_async:
                blocking_call(*args, **given)
            else:
                await async_call(*args, **given)
        assert caught.value.hint == f"Call {name}{end}() with it."
    await caller.execute("INSERT INTO own VALUES (1)")
    await caller.commit()


class Cursorless:
    """Has one method of a cursor, not the other."""

    def execute(self, sql: str) -> None: ...


class AsyncCursor:
    """A cursor of an async driver that we do not know."""

    async def execute(self, sql: str) -> None: ...

    async def fetchall(self) -> None: ...


@pytest.mark.parametrize("thing", ["postgresql:///x", 3, object(), Cursorless(), AsyncCursor()])
async def test_what_is_no_connection_is_refused_with_what_is_one(thing: Any, work: Any) -> None:
    for blocking in (True, False):
        with pytest.raises(InvalidOption) as caught:
            if blocking:
                work.options(conn=thing).enqueue_sync(1)
            else:
                await work.options(conn=thing).enqueue(1)
        for accepted in ("psycopg", "asyncpg", "AsyncSession", "DB-API", "ctx.transaction()"):
            assert accepted in caught.value.hint


async def test_pools_engines_and_makers_of_sessions_have_no_transaction(db: Any, work: Any) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(db.dsn))
    async with asyncpg.create_pool(db.dsn, min_size=0) as pool:
        for thing in (pool, engine, sessionmaker(engine)):
            with pytest.raises(InvalidOption, match="not a connection"):
                await work.options(conn=thing).enqueue(1)
            with pytest.raises(InvalidOption, match="not a pool or an engine"):
                work.options(conn=thing).enqueue_sync(1)


async def test_a_connection_of_a_step_is_used_in_its_own_kind_of_function(
    app: Holdfast, work: Any
) -> None:
    hints: list[str] = []

    @app.job(max_attempts=1)
    async def awaits(ctx: Context) -> None:
        async with ctx.transaction() as conn:
            with pytest.raises(InvalidOption) as caught:
                work.options(conn=conn).enqueue_sync(1)
            hints.append(caught.value.hint)

    @app.job(max_attempts=1)
    def blocks(ctx: BlockingContext) -> None:
        with ctx.transaction() as conn:
            with pytest.raises(InvalidOption) as caught:
                asyncio.run(app.cancel(1, conn=conn))
            hints.append(caught.value.hint)

    async with running(app):
        await (await awaits.enqueue()).result(timeout=20)
        await (await blocks.enqueue()).result(timeout=20)
    assert hints == ["Call enqueue() with it.", "Call cancel_sync() with it."]


def test_another_database_is_an_error_of_ours(work: Any) -> None:
    conn = sqlite3.connect(":memory:")
    with pytest.raises(DatabaseError) as caught:
        work.options(conn=conn).enqueue_sync(1)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    conn.close()


def test_a_connection_is_not_lost_on_the_way_to_many_jobs(work: Any) -> None:
    with pytest.raises(InvalidOption, match="no use for conn") as caught:
        work.options(conn=object()).new(1)
    assert "enqueue_many" in caught.value.hint


def test_no_driver_is_imported_to_recognise_its_connections() -> None:
    code = (
        "import sys, holdfast; app = holdfast.Holdfast('postgresql:///x');"
        "work = app.job(name='work')(lambda: None)\n"
        "try: work.options(conn=object()).enqueue_sync()\n"
        "except holdfast.InvalidOption: pass\n"
        "print(sorted({'asyncpg', 'sqlalchemy', 'psycopg2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_adapter_is_small() -> None:
    lines = {
        path.name: len(path.read_text("utf-8").splitlines())
        for path in Path(callers.__file__).parent.glob("*.py")
        if path.name not in ("__init__.py", "adapter.py", "render.py")
    }
    assert len(lines) == 4
    assert max(lines.values()) <= 40, lines
