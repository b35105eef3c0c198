"""Odd texts in step keys, progress, reasons of cancels and of ends on purpose: kept readably."""

import asyncio

import pytest
from psycopg.types.json import Jsonb

from fixtures.hostile import LONE_SURROGATE, NUL_TEXT, ODD_TEXTS
from fixtures.looking import counters, ended
from fixtures.running import journal_of, running
from holdfast import (
    BlockingContext,
    Cancel,
    Context,
    Discard,
    Holdfast,
    InvalidOption,
    JobCancelled,
    step,
)


@pytest.fixture
def echo(app: Holdfast):
    @app.job()
    async def echo() -> str:
        return "ran"

    return echo


async def test_nul_and_surrogates_in_step_keys_and_names_are_spelled_out(app: Holdfast, db) -> None:
    async def page() -> str:
        return "x"

    @app.job()
    async def work(ctx: Context) -> None:
        await ctx.step(step(page, key=NUL_TEXT))
        await ctx.step(step(page, key=LONE_SURROGATE))
        await ctx.step(step(page, name=NUL_TEXT))
        await ctx.gather(**{NUL_TEXT: ctx.step(page)})

    async with running(app):
        handle = await work.enqueue()
        await handle.result(timeout=10)
    assert journal_of(db, handle.id) == ["page[a␀b]", "page[a\\ud800b]", "a␀b", "a␀b/page"]


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_nul_and_surrogates_in_progress_texts_are_stored_readably(
    app: Holdfast, db, shape: str
) -> None:
    if shape == "async":

        @app.job()
        async def work(ctx: Context) -> None:
            await ctx.progress(0.5, NUL_TEXT + LONE_SURROGATE)

    else:

        @app.job()
        def work(ctx: BlockingContext) -> None:
            ctx.progress(0.5, NUL_TEXT + LONE_SURROGATE)

    async with running(app):
        handle = await work.enqueue()
        await handle.result(timeout=10)
        assert (await handle.job()).progress_text == "a␀ba\\ud800b"


@pytest.mark.parametrize("reason", [NUL_TEXT, LONE_SURROGATE, "", "x" * 10_000])
async def test_a_cancel_keeps_any_reason_readably(app: Holdfast, echo, reason: str) -> None:
    async with app:
        first, second = await echo.options(run_in="1h").enqueue(), await echo.enqueue()
        assert await app.cancel(first.id, reason=reason) == {first.id: "cancelled"}
        assert await asyncio.to_thread(second.cancel_sync, reason) == "cancelled"
        for handle in (first, second):
            with pytest.raises(JobCancelled):
                await handle.result(timeout=10)
            detail = (await handle.job()).wait_detail
            assert len(detail) <= 1000
            assert (
                detail == reason.replace("\x00", "␀").replace("\ud800", "\\ud800")
                or len(reason) > 1000
            )


@pytest.mark.parametrize("reason", [5, b"x", ["because"]])
async def test_a_reason_that_is_no_text_is_refused(app: Holdfast, echo, reason: object) -> None:
    async with app:
        handle = await echo.enqueue()
        with pytest.raises(InvalidOption, match="reason="):
            await app.cancel(handle.id, reason=reason)
        with pytest.raises(InvalidOption, match="reason="):
            await handle.cancel(reason)
        assert (await handle.job()).state == "available"


class Wordless(Discard):
    """Forgets to tell its base anything."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("raised", "state", "detail"),
    [
        (Cancel(None), "cancelled", "by the job itself"),
        (Cancel(7), "cancelled", "7"),
        (Cancel(NUL_TEXT), "cancelled", "a␀b"),
        (Discard(None), "discarded", ""),
        (Discard({"why": LONE_SURROGATE}), "discarded", "{'why': 'a\\ud800b'}"),
        (Discard("x" * 100_000), "discarded", None),
        (Wordless(), "discarded", ""),
    ],
)
async def test_an_end_on_purpose_is_kept_whatever_is_given_as_its_reason(
    app: Holdfast, db, raised: Exception, state: str, detail: str | None
) -> None:
    @app.job()
    async def work() -> None:
        raise raised

    async with running(app):
        handle = await work.enqueue()
        job = await ended(app, handle.id, state)
    assert detail is None or job.wait_detail == detail
    assert counters(db, handle.id) == (state, 0, 0, 0)


def test_a_statement_of_ones_own_may_hold_any_jsonb(db) -> None:
    """What jsonb can hold, the function takes: only its keys are checked."""
    odd = {"": ODD_TEXTS["quotes"], "$hf": [None, True, 1e-300]}
    job_id = db.value("SELECT id FROM holdfast.enqueue(%s)", [Jsonb({"name": "a", "args": odd})])
    assert db.value("SELECT args FROM holdfast.job WHERE id = %s", [job_id]) == odd
