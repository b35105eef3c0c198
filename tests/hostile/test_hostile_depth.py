"""Nesting 10,000 deep: an error of ours wherever it comes in; no crash, no RecursionError."""

from typing import Any

import pytest
from psycopg.types.json import Json

from fixtures.hostile import ENTRANCES, enqueue, nested, stored
from fixtures.looking import counters, ended, outcomes
from fixtures.running import running
from holdfast import (
    Context,
    Holdfast,
    InvalidArguments,
    InvalidOption,
    JobNeedsAttention,
    Unserialisable,
)

KINDS = [list, dict]
REFUSALS = (Unserialisable, InvalidArguments)


@pytest.fixture
def take(app: Holdfast):
    @app.job()
    async def take(anything=None, loose: dict[str, Any] | None = None, number: int = 0) -> None: ...

    return take


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [300, 10_000, 100_000])
async def test_arguments_nested_10_000_deep_are_refused_with_a_short_message(
    app: Holdfast, db, take, entrance: str, kind: type, levels: int
) -> None:
    deep = nested(levels, kind)
    async with app:
        for kwargs in ({"anything": deep}, {"loose": {"a": deep}}, {"number": deep}):
            with pytest.raises(REFUSALS) as caught:
                await enqueue(entrance, app, take, **kwargs)
            assert len(str(caught.value)) < 1500
            assert caught.value.hint
    assert stored(db) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_accepted_can_be_read_back_to_the_last_level(take, kind: type) -> None:
    definition = take.definition
    accepted = 0
    for levels in range(150, 230):
        value = nested(levels, kind)
        try:
            text = definition.encode((), {"anything": value, "loose": {"a": value}})
        except Unserialisable as error:
            assert "nested deeper than 200 levels" in error.message
            break
        assert definition.decode(text)[1]["anything"] == value
        accepted = levels
    assert accepted == 198


def test_a_value_that_contains_itself_is_refused(app: Holdfast, take) -> None:
    ring: list[object] = []
    ring.append(ring)
    for kwargs in ({"anything": ring}, {"loose": {"a": ring}}, {"number": ring}):
        with pytest.raises(REFUSALS):
            take.new(**kwargs)
    with pytest.raises(Unserialisable, match="meta"):
        take.options(meta={"a": ring})


@pytest.mark.parametrize("kind", KINDS)
def test_options_nested_10_000_deep_are_refused_by_name(take, kind: type) -> None:
    deep = nested(10_000, kind)
    with pytest.raises(Unserialisable, match="meta") as caught:
        take.options(meta={"a": deep})
    assert len(str(caught.value)) < 1000
    for field in ("queue", "priority", "run_in", "run_at", "deadline", "max_attempts"):
        with pytest.raises(InvalidOption, match=f"{field}="):
            take.options(**{field: deep})
    with pytest.raises(InvalidOption, match="tag"):
        take.options(tags=[deep])


@pytest.mark.parametrize("kind", [list, dict, tuple])
@pytest.mark.parametrize("place", ["job", "step", "transaction"])
async def test_results_nested_10_000_deep_stop_the_job_and_the_worker_goes_on(
    app: Holdfast, db, kind: type, place: str
) -> None:
    def make() -> object:
        if kind is not tuple:
            return nested(10_000, kind)
        value: object = ()
        for _ in range(10_000):
            value = (value,)
        return value

    @app.job()
    async def work(ctx: Context) -> object:
        if place == "step":
            await ctx.step(make)
        elif place == "transaction":
            async with ctx.transaction() as conn:
                await conn.execute("SELECT %s::json", [Json("x")])
        return make()

    @app.job()
    async def healthy() -> str:
        return "ran"

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobNeedsAttention, match="nested deeper than 199 levels") as caught:
            await handle.result(timeout=20)
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
    assert len(str(caught.value)) < 1000
    assert counters(db, handle.id) == ("attention", 0, 0, 0)
    assert outcomes(db, handle.id) == [("stopped", None)]


async def test_steps_take_arguments_nested_10_000_deep(app: Holdfast) -> None:
    async def measure(tree: object) -> int:
        levels = 0
        while isinstance(tree, list):
            tree, levels = tree[0], levels + 1
        return levels

    @app.job()
    async def work(ctx: Context) -> int:
        return await ctx.step(measure, nested(10_000))

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=20) == 10_000


async def test_a_key_nested_10_000_deep_is_an_error_of_the_jobs_code(app: Holdfast) -> None:
    async def page(item: object) -> None: ...

    @app.job(max_attempts=1)
    async def work(ctx: Context, kind: str) -> str:
        deep: object = nested(10_000)
        if kind == "tuple":
            deep = ()
            for _ in range(10_000):
                deep = (deep,)
        try:
            await ctx.map(page, [deep])
        except InvalidOption as error:
            return error.message[:100]
        return "accepted"

    async with running(app):
        for kind in ("list", "tuple"):
            assert "step key" in await (await work.enqueue(kind)).result(timeout=20)


async def test_arguments_from_sql_that_are_too_deep_to_be_read_stop_the_job(
    app: Holdfast, db, take
) -> None:
    text = '{"name": "take", "args": {"anything": ' + "[" * 1000 + "]" * 1000 + "}}"
    job_id = db.value("SELECT id FROM holdfast.enqueue(%s::text::jsonb)", [text])
    async with running(app):
        job = await ended(app, job_id, "attention")
        assert "recursion limit" in job.wait_detail
        assert len(job.wait_detail) < 2000
        assert await (await take.enqueue(1)).result(timeout=10) is None
    assert counters(db, job_id) == ("attention", 0, 0, 0)
