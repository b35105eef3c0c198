"""Progress: durable, monotonic across attempts, few writes, still there after the end."""

import asyncio

import pytest

from fixtures.looking import ended, instantly, reached
from fixtures.running import eventually, running
from holdfast import BlockingContext, Context, Holdfast, InvalidOption, UsageError
from holdfast.storage.exchange import Exchange


class Stumble(Exception):
    """Ends an attempt, so that the next one replays."""


async def test_fraction_count_and_text_are_durable_while_the_job_runs(app: Holdfast, db) -> None:
    go_on = asyncio.Event()

    @app.job()
    async def work(ctx: Context) -> None:
        await ctx.progress(0.25, "reading \x00")
        await go_on.wait()
        await ctx.progress(3, 10, "writing")
        await ctx.progress(4, 10)

    async with running(app):
        handle = await work.enqueue()
        await eventually(lambda: db.value("SELECT progress FROM holdfast.job") == 0.25)
        job = await handle.job()
        assert (job.progress_text, job.progress_done, job.progress_total) == (
            "reading ␀",
            None,
            None,
        )
        go_on.set()
        await handle.result(timeout=10)
        job = await handle.job()
    assert job.state == "completed"
    assert (job.progress, job.progress_done, job.progress_total) == (0.4, 4, 10)
    assert job.progress_text == "writing"


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_progress_never_goes_back_over_attempts(app: Holdfast, db, shape: str) -> None:
    db.execute("CREATE TABLE holdfast.seen (n bigserial, progress double precision)")
    db.execute(
        "CREATE FUNCTION holdfast.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO holdfast.seen (progress) VALUES (new.progress); RETURN NULL; END $$"
    )
    db.execute(
        "CREATE TRIGGER see AFTER UPDATE ON holdfast.job FOR EACH ROW"
        " EXECUTE FUNCTION holdfast.see()"
    )
    try:
        if shape == "async":

            @app.job(backoff=instantly)
            async def work(ctx: Context) -> None:
                await ctx.progress(0.5, f"half in {ctx.attempt}")
                await ctx.progress(0.2, "less")
                if ctx.attempt < 3:
                    raise Stumble
                await ctx.progress(0.7, "more")

        else:

            @app.job(backoff=instantly)
            def work(ctx: BlockingContext) -> None:
                ctx.progress(0.5, f"half in {ctx.attempt}")
                ctx.progress(0.2, "less")
                if ctx.attempt < 3:
                    raise Stumble
                ctx.progress(0.7, "more")

        async with running(app):
            handle = await work.enqueue()
            await handle.result(timeout=10)
            job = await handle.job()
        rows = db.execute("SELECT progress FROM holdfast.seen WHERE progress > 0 ORDER BY n")
    finally:
        db.execute("DROP TRIGGER see ON holdfast.job; DROP FUNCTION holdfast.see()")
        db.execute("DROP TABLE holdfast.seen")
    seen = [row[0] for row in rows]
    assert seen == sorted(seen)
    assert seen[0] == 0.5
    assert (job.progress, job.progress_text) == (0.7, "more")


async def test_ten_thousand_reports_become_a_few_writes(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = Exchange.send

    async def counting(self: Exchange, queries: list) -> list:
        sent.extend(query.name for query in queries)
        return await send(self, queries)

    monkeypatch.setattr(Exchange, "send", counting)
    reported = asyncio.Event()

    @app.job()
    async def work(ctx: Context) -> None:
        for number in range(10_000):
            await ctx.progress(number + 1, 10_000, f"item {number}")
        reported.set()

    async with running(app):
        handle = await work.enqueue()
        await reached(reported)
        await handle.result(timeout=10)
        job = await handle.job()
    assert (job.progress, job.progress_text) == (1.0, "item 9999")
    # At once, every 250 ms, and with the end: loop time bounds it, not the number of reports.
    assert 1 <= sent.count("jobs/progress") <= 10


async def test_a_text_is_not_lost_when_reports_are_put_together(app: Holdfast, db) -> None:
    @app.job()
    async def work(ctx: Context) -> None:
        await ctx.progress(0.1, "the text")
        await ctx.progress(0.2)

    async with running(app):
        handle = await work.enqueue()
        await handle.result(timeout=10)
        job = await handle.job()
    assert (job.progress, job.progress_text) == (0.2, "the text")


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_tracking_reports_after_each_item(app: Holdfast, db, shape: str) -> None:
    if shape == "async":

        @app.job()
        async def work(ctx: Context) -> int:
            total = sum(ctx.track([1, 2, 3, 4], text="adding"))
            with pytest.raises(UsageError, match="cannot know how many"):
                list(ctx.track(iter([1])))
            return total + sum(ctx.track(iter([5]), total=1))

    else:

        @app.job()
        def work(ctx: BlockingContext) -> int:
            return sum(ctx.track([1, 2, 3, 4, 5], text="adding"))

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == 15
        job = await handle.job()
    assert job.progress == 1.0
    assert job.progress_text == "adding"


async def test_a_map_fills_its_part_of_the_bar(app: Holdfast, db) -> None:
    async def read(number: int) -> int:
        return number

    @app.job()
    async def work(ctx: Context) -> None:
        await ctx.map(read, [1, 2, 3], progress=(0.1, 0.8, "reading"))

    async with running(app):
        handle = await work.enqueue()
        await handle.result(timeout=10)
        job = await handle.job()
    assert job.progress == pytest.approx(0.8)
    assert job.progress_text == "reading"


WRONG = {
    "negative": (-1,),
    "more than one": (1.5,),
    "not a number": (float("nan"),),
    "endless": (float("inf"), 2),
    "text": ("half",),
    "true": (True,),
    "wrong total": (1, -5),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_values_are_refused_where_they_are_written(app: Holdfast, name: str) -> None:
    @app.job()
    async def work(ctx: Context) -> str:
        with pytest.raises(InvalidOption) as caught:
            await ctx.progress(*WRONG[name])
        return caught.value.hint

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10)
        assert (await handle.job()).progress is None


async def test_progress_of_a_failed_job_stays(app: Holdfast, db) -> None:
    @app.job(backoff=lambda n, e: 3600)
    async def work(ctx: Context) -> None:
        await ctx.progress(0.6, "then it broke")
        raise Stumble

    async with running(app):
        handle = await work.enqueue()
        job = await ended(app, handle.id, "retryable")
        assert (job.progress, job.progress_text) == (0.6, "then it broke")
        await handle.cancel()
        job = await handle.job()
    assert (job.state, job.progress) == ("cancelled", 0.6)
