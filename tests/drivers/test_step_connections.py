"""The connection of a `ctx.transaction()`: what it enqueues, cancels, retries commits with it."""

from typing import Any

import pytest

from fixtures.looking import instantly
from fixtures.running import running
from holdfast import BlockingContext, Context, Holdfast, InvalidArguments


@pytest.fixture
def waiting(app: Holdfast) -> Any:
    """A job function that nobody runs here."""

    @app.job(queue="elsewhere")
    async def waiting(n: int) -> int:
        return n

    return waiting


def states(db: Any) -> dict[int, str]:
    rows = db.execute(
        "SELECT (args ->> 'n')::integer, state FROM holdfast.jobs WHERE name = 'waiting'"
    )
    return dict(rows)


async def test_cancel_retry_and_many_jobs_commit_with_the_step(
    db: Any, app: Holdfast, waiting: Any
) -> None:
    dead, alive = app.enqueue_many_sync([waiting.new(1), waiting.new(2)])
    dead.cancel_sync()

    @app.job(max_attempts=3, backoff=instantly)
    async def act(ctx: Context) -> list[Any]:
        async with ctx.transaction() as conn:
            seen = [await app.retry(dead.id, conn=conn), await alive.cancel(conn=conn)]
            await app.enqueue_many([waiting.new(3), waiting.new(4)], conn=conn)
            if ctx.attempt == 1:
                raise RuntimeError("the step fails: nothing of it stays")
        if ctx.attempt == 2:
            assert states(db) == {1: "available", 2: "cancelled", 3: "available", 4: "available"}
            raise RuntimeError("the step is replayed")
        return [list(seen[0].values()), seen[1]]

    async with running(app, queues={"default": 2}):
        handle = await act.enqueue()
        assert await handle.result(timeout=20) == [["available"], "cancelled"]
    assert states(db) == {1: "available", 2: "cancelled", 3: "available", 4: "available"}


async def test_a_plain_function_does_the_same(db: Any, app: Holdfast, waiting: Any) -> None:
    alive = waiting.enqueue_sync(1)

    @app.job()
    def act(ctx: BlockingContext) -> str:
        with ctx.transaction() as conn:
            app.enqueue_many_sync([waiting.new(2)], conn=conn)
            state = alive.cancel_sync(conn=conn)
            app.retry_sync(alive.id, conn=conn)
            return state

    async with running(app, queues={"default": 2}):
        assert await (await act.enqueue()).result(timeout=20) == "cancelled"
    assert states(db) == {1: "available", 2: "available"}


async def test_a_refused_job_leaves_the_step_usable(db: Any, app: Holdfast, waiting: Any) -> None:
    db.execute("ALTER TABLE holdfast.job ADD CONSTRAINT no_nine CHECK (priority <> 9)")

    @app.job(max_attempts=1)
    async def act(ctx: Context) -> None:
        async with ctx.transaction() as conn:
            with pytest.raises(InvalidArguments, match="no_nine"):
                await waiting.options(priority=9, conn=conn).enqueue(1)
            await waiting.options(conn=conn).enqueue(2)

    try:
        async with running(app, queues={"default": 2}):
            await (await act.enqueue()).result(timeout=20)
        assert states(db) == {2: "available"}
    finally:
        db.execute("ALTER TABLE holdfast.job DROP CONSTRAINT no_nine")
