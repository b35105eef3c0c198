"""NUL and lone surrogates wherever a text comes in: an error that names them, or they come back."""

from typing import Any

import psycopg
import pytest

from fixtures.hostile import (
    ENTRANCES,
    LONE_SURROGATE,
    NUL_TEXT,
    ODD_TEXTS,
    enqueue,
    last_error,
    stored,
)
from fixtures.looking import instantly, replayed
from fixtures.running import running
from holdfast import (
    Context,
    Holdfast,
    InvalidOption,
    JobFailed,
    Unserialisable,
)
from holdfast.storage.failures import translate

UNSTORABLE = {"nul": NUL_TEXT, "surrogate": LONE_SURROGATE}
WORDS = {"nul": "NUL", "surrogate": "surrogate"}


@pytest.fixture
def echo(app: Holdfast):
    @app.job()
    async def echo(text: str = "", *, anything=None, loose: dict[str, Any] | None = None) -> object:
        return [text, anything]

    return echo


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("what", UNSTORABLE)
async def test_nul_and_surrogates_in_arguments_are_refused_at_every_entrance(
    app: Holdfast, db, echo, entrance: str, what: str
) -> None:
    @app.job()
    async def named(**values: int) -> None: ...

    text = UNSTORABLE[what]
    async with app:
        for anything in (text, [{"deep": [text]}], {text: 1}):
            with pytest.raises(Unserialisable, match=WORDS[what]) as caught:
                await enqueue(entrance, app, echo, "", anything=anything)
            assert "echo" in caught.value.message
            assert caught.value.hint
        with pytest.raises(Unserialisable, match=WORDS[what]):
            await enqueue(entrance, app, echo, text)
        with pytest.raises(Unserialisable, match=WORDS[what]):
            await enqueue(entrance, app, echo, loose={"deep": [{text: None}]})
        with pytest.raises(Unserialisable, match=WORDS[what]):
            await enqueue(entrance, app, named, **{text: 1})
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
    assert await replayed(app, value) == (value, [value, value])


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
    for meta in ({"a": UNSTORABLE[what]}, {UNSTORABLE[what]: 1}, {"a": [{UNSTORABLE[what]: 1}]}):
        with pytest.raises(Unserialisable, match="meta"):
            echo.options(meta=meta)
