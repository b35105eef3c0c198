"""NUL and lone surrogates wherever a text comes in: an error that names them, or they come back."""

import asyncio

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fixtures.hostile import (
    ENTRANCES,
    LONE_SURROGATE,
    NUL_TEXT,
    ODD_TEXTS,
    enqueue,
    last_error,
    stored,
)
from fixtures.looking import counters, ended, instantly
from fixtures.running import journal_of, running
from holdfast import (
    BlockingContext,
    Cancel,
    Context,
    Discard,
    Holdfast,
    InvalidOption,
    JobCancelled,
    JobFailed,
    Unserialisable,
    step,
)
from holdfast.storage.failures import translate

UNSTORABLE = {"nul": NUL_TEXT, "surrogate": LONE_SURROGATE}
WORDS = {"nul": "NUL", "surrogate": "surrogate"}


@pytest.fixture
def echo(app: Holdfast):
    @app.job()
    async def echo(text: str = "", *, anything=None) -> object:
        return [text, anything]

    return echo


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("what", UNSTORABLE)
async def test_nul_and_surrogates_in_arguments_are_refused_at_every_entrance(
    app: Holdfast, db, echo, entrance: str, what: str
) -> None:
    text = UNSTORABLE[what]
    async with app:
        for anything in (text, [{"deep": [text]}], {text: 1}):
            with pytest.raises(Unserialisable, match=WORDS[what]) as caught:
                await enqueue(entrance, app, echo, "", anything=anything)
            assert "echo" in caught.value.message
            assert caught.value.hint
        with pytest.raises(Unserialisable, match=WORDS[what]):
            await enqueue(entrance, app, echo, text)
    assert stored(db) == 0


def test_nul_and_surrogates_from_plain_sql_are_refused_by_the_database(db) -> None:
    for text in ('{"name": "echo", "args": {"text": "\\u0000"}}', '{"name": "\\ud800"}'):
        with pytest.raises(psycopg.Error) as caught:
            db.execute("SELECT * FROM holdfast.enqueue(%s::text::jsonb)", [text])
        assert translate(caught.value, db.schema).code == "HF-104"
    assert stored(db) == 0


@pytest.mark.parametrize("name", ODD_TEXTS)
async def test_every_text_that_can_be_stored_comes_back_from_arguments_and_results(
    app: Holdfast, echo, name: str
) -> None:
    text = ODD_TEXTS[name]
    async with running(app):
        handles = [
            await enqueue(way, app, echo, text, anything={text: [text]}) for way in ENTRANCES
        ]
        for handle in handles:
            assert await handle.result(timeout=10) == [text, {text: [text]}]


# --- Results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", UNSTORABLE)
async def test_nul_and_surrogates_in_results_of_jobs_and_steps_come_back(
    app: Holdfast, what: str
) -> None:
    value = {UNSTORABLE[what]: [UNSTORABLE[what]]}
    seen: list[object] = []

    async def make() -> dict:
        return value

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> dict:
        seen.append(await ctx.step(make))
        if ctx.attempt == 1:
            raise ValueError("once more, from the journal")
        return value

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == value
        assert await asyncio.to_thread(handle.result_sync, 10) == value
    assert seen == [value, value]


# --- Error texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_nul_and_surrogates_in_error_texts_types_and_stacks_are_stored_readably(
    app: Holdfast, db, shape: str
) -> None:
    spelling = {"__module__": "m\x00\udfff", "__qualname__": "Odd\x00\ud800"}
    odd = type("Odd", (ValueError,), spelling)

    def fail() -> None:
        error = odd(f"{NUL_TEXT} {LONE_SURROGATE}")
        error.add_note(f"note {NUL_TEXT}")
        raise error

    if shape == "async":

        @app.job(max_attempts=1)
        async def work() -> None:
            fail()

    else:

        @app.job(max_attempts=1)
        def work() -> None:
            fail()

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match="a␀b"):
            await handle.result(timeout=10)
    kind, message, stack = last_error(db, handle.id)
    assert kind == "m␀\\udfff.Odd␀\\ud800"
    assert message == "a␀b a\\ud800b"
    assert "note a␀b" in stack


async def test_nul_and_surrogates_in_the_error_of_a_step_do_not_cost_the_job(
    app: Holdfast, db
) -> None:
    async def fail() -> None:
        raise ValueError(NUL_TEXT + LONE_SURROGATE)

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> str:
        try:
            await ctx.step(fail)
        except ValueError:
            await ctx.sleep(0)
        if ctx.attempt == 1:
            raise RuntimeError("once more, from the journal")
        return "went on"

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == "went on"
    messages = db.execute("SELECT error_message FROM holdfast.step WHERE key = 'fail'")
    assert messages == [("a␀ba\\ud800b",)]


# --- Names and tags -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", UNSTORABLE)
def test_nul_and_surrogates_in_names_and_tags_are_refused_where_they_are_written(
    app: Holdfast, db, echo, what: str
) -> None:
    text = UNSTORABLE[what]
    for field, write in (
        ("queue=", lambda: app.job(queue=text)),
        ("job name=", lambda: app.job(name=text)(echo.fn)),
        ("tag=", lambda: app.job(tags=[text])),
        ("queue=", lambda: echo.options(queue=text)),
        ("tag=", lambda: echo.options(tags=["fine", text])),
        ("name=", lambda: app.jobs_sync(name=text)),
        ("queue=", lambda: app.jobs_sync(queue=text)),
        ("tag=", lambda: app.jobs_sync(tag=text)),
    ):
        with pytest.raises(InvalidOption, match=field) as caught:
            write()
        assert "U+" in caught.value.message
        assert caught.value.hint
    assert stored(db) == 0


@pytest.mark.parametrize("what", UNSTORABLE)
def test_nul_and_surrogates_in_meta_are_refused_where_they_are_written(echo, what: str) -> None:
    for meta in ({"a": UNSTORABLE[what]}, {UNSTORABLE[what]: 1}, {"a": [{"b": UNSTORABLE[what]}]}):
        with pytest.raises(Unserialisable, match="meta"):
            echo.options(meta=meta)


# --- Step keys, progress, reasons -----------------------------------------------------------------


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
