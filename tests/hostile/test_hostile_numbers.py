"""NaN, infinities, 2^63 and other odd numbers: refused by name, or back as they were."""

import asyncio
import math
import sys
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

from fixtures.hostile import ENTRANCES, enqueue, stored
from fixtures.looking import counters, replayed
from fixtures.running import running
from holdfast import (
    BlockingContext,
    Context,
    Holdfast,
    InvalidArguments,
    InvalidOption,
    JobFailed,
    JobNotFound,
    Snooze,
    Unserialisable,
)

ODD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
NO_IDS = [2**63, 2**64, 10**5000, 0, -1, -(2**63), True, 1.0, math.nan, "7", None, b"7", [1]]
NO_ID_NAMES = [str(n) if not isinstance(n, int) or n < 10**30 else "10**5000" for n in NO_IDS]


class Sample(BaseModel):
    ratio: float
    anything: Any = None


def same(a: object, b: object) -> bool:
    """Equal, NaN being equal to itself."""
    return repr(a) == repr(b)


# --- NaN and infinities ---------------------------------------------------------------------------


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", ODD)
async def test_nan_and_infinities_come_back_where_the_signature_says_float(
    app: Holdfast, entrance: str, name: str
) -> None:
    seen: list[object] = []

    @app.job()
    async def work(
        plain: float, some: list[float], sample: Sample, maybe: float | None = None
    ) -> None:
        seen.append([plain, some, sample.ratio, maybe])

    odd = ODD[name]
    async with running(app):
        handle = await enqueue(entrance, app, work, odd, [1.5, odd], Sample(ratio=odd), odd)
        await handle.result(timeout=10)
    assert same(seen, [[odd, [1.5, odd], odd, odd]])


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", ODD)
async def test_nan_and_infinities_are_refused_where_they_would_become_null_or_text(
    app: Holdfast, db, entrance: str, name: str
) -> None:
    @app.job()
    async def untyped(anything, other: JsonValue = None) -> None: ...

    @app.job()
    async def loose(anything: dict[str, Any], sample: Sample | None = None) -> None: ...

    odd = ODD[name]
    async with app:
        for function, args in [
            (untyped, (odd,)),
            (untyped, (None, {"a": [odd]})),
            (loose, ({"a": odd},)),
            (loose, ({}, Sample(ratio=1, anything=(odd,)))),
        ]:
            with pytest.raises(Unserialisable, match="NaN or an infinity") as caught:
                await enqueue(entrance, app, function, *args)
            assert "float" in caught.value.hint
    assert stored(db) == 0


@pytest.mark.parametrize("name", ODD)
async def test_nan_and_infinities_in_meta_are_refused(app: Holdfast, name: str) -> None:
    @app.job()
    async def work() -> None: ...

    with pytest.raises(Unserialisable, match="meta contains NaN or an infinity"):
        work.options(meta={"a": [ODD[name]]})


@pytest.mark.parametrize("name", ODD)
async def test_nan_and_infinities_in_results_of_jobs_and_steps_come_back(
    app: Holdfast, name: str
) -> None:
    value = {"a": [ODD[name], 1.0]}
    result, seen = await replayed(app, value)
    assert same(result, value)
    assert same(seen, [value, value])


@pytest.mark.parametrize("value", [*ODD.values(), -1, 2**63, 10**400, True, "1", None])
async def test_numbers_that_are_no_duration_or_priority_are_refused_by_name(
    app: Holdfast, value: Any
) -> None:
    @app.job()
    async def work() -> None: ...

    for field in ("run_in", "deadline", "priority", "max_attempts"):
        if value is None or (value == "1" and field in ("run_in", "deadline")):
            continue  # not given; a duration as text
        with pytest.raises(InvalidOption, match=f"^.HF-101. {field}="):
            work.options(**{field: value})
    for field in ("timeout", "deadline", "priority", "max_attempts", "max_crashes"):
        if value is not None and not (value == "1" and field in ("timeout", "deadline")):
            with pytest.raises(InvalidOption, match=f"{field}="):
                app.job(**{field: value})


@pytest.mark.parametrize(
    ("done", "total"),
    [
        *((odd, None) for odd in ODD.values()),
        *((1, odd) for odd in ODD.values()),
        (-0.5, None),
        (1.5, None),
        (1, -1),
        (10**400, None),
        (1, 10**400),
        (True, None),
        ("1", None),
        (None, 1),
    ],
)
@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_a_progress_that_is_no_number_is_an_error_of_the_jobs_code(
    app: Holdfast, db, shape: str, done: Any, total: Any
) -> None:
    if shape == "async":

        @app.job(max_attempts=1)
        async def work(ctx: Context) -> None:
            await ctx.progress(done, total)

    else:

        @app.job(max_attempts=1)
        def work(ctx: BlockingContext) -> None:
            ctx.progress(done, total)

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match=r"progress .* is"):
            await handle.result(timeout=10)
        assert (await handle.job()).progress is None


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [(0, 0, 1.0), (2**63, 2**64, 0.5), (5e-324, 1e308, 0.0), (1e308, 5e-324, 1.0), (7, 3, 1.0)],
)
async def test_a_progress_of_extreme_numbers_stays_within_the_bar(
    app: Holdfast, done: float, total: float, fraction: float
) -> None:
    @app.job()
    async def work(ctx: Context) -> None:
        await ctx.progress(done, total)

    async with running(app):
        handle = await work.enqueue()
        await handle.result(timeout=10)
        job = await handle.job()
    assert (job.progress, job.progress_done, job.progress_total) == (fraction, done, total)


async def test_a_snooze_of_nan_is_an_error_and_not_a_loop(app: Holdfast, db) -> None:
    @app.job(max_attempts=1)
    async def work() -> None:
        raise Snooze(math.nan)

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match=r"Snooze\.seconds=nan"):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


# --- 2^63 and beyond ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**4000, 5e-324])
async def test_numbers_beyond_64_bits_come_back_from_arguments_and_results(
    app: Holdfast, number: float
) -> None:
    @app.job()
    async def echo(value, number: int | float, largest: float) -> list:
        return [value, number, largest]

    largest = sys.float_info.max
    async with running(app):
        for entrance in ENTRANCES:
            handle = await enqueue(entrance, app, echo, {"a": number}, number, largest)
            assert await handle.result(timeout=10) == [{"a": number}, number, largest]


async def test_a_number_longer_than_can_be_read_back_is_refused_and_named(
    app: Holdfast, db
) -> None:
    @app.job()
    async def work(anything, number: int = 0) -> None: ...

    async with app:
        for entrance in ENTRANCES:
            for kwargs in ({"anything": [10**5000]}, {"anything": 1, "number": -(10**5000)}):
                with pytest.raises(Unserialisable, match="more than 4300 digits"):
                    await enqueue(entrance, app, work, **kwargs)
    with pytest.raises(Unserialisable, match=r"meta.*digits"):
        work.options(meta={"a": 10**5000})
    with pytest.raises(InvalidArguments):
        work.new(1, number=1e400)
    assert stored(db) == 0


@pytest.mark.parametrize("number", NO_IDS, ids=NO_ID_NAMES)
async def test_what_cannot_be_the_id_of_a_job_is_refused_before_the_database_is_asked(
    number: Any,
) -> None:
    app = Holdfast("postgresql://nobody@localhost:1/nothing")  # nobody listens: it is not asked
    for ask in (app.cancel, app.retry, app.explain, app.history):
        with pytest.raises(InvalidOption, match="is not the id of a job"):
            await ask(number)
    for ask_sync in (app.cancel_sync, app.retry_sync, app.explain_sync, app.history_sync):
        with pytest.raises(InvalidOption, match="is not the id of a job"):
            ask_sync(number)
    with pytest.raises(InvalidOption, match="is not the id of a job"):
        app.handle(number)
    with pytest.raises(InvalidOption, match="ids="):
        await app.jobs(ids=[1, number])
    with pytest.raises(InvalidOption, match="ids="):
        app.jobs_sync(ids=[number])
    if number is not None:
        with pytest.raises(InvalidOption, match="before_id="):
            app.jobs_sync(before_id=number)


@pytest.mark.parametrize("ids", [5, "12", b"12"])
def test_ids_that_are_no_list_are_refused(ids: Any) -> None:
    app = Holdfast("postgresql://nobody@localhost:1/nothing")
    with pytest.raises(InvalidOption, match="ids="):
        app.jobs_sync(ids=ids)


async def test_the_largest_id_is_an_id_like_any_other(app: Holdfast) -> None:
    largest = 2**63 - 1
    async with app:
        for ask in (app.cancel, app.retry, app.explain, app.history, app.handle(largest).result):
            args = () if ask.__name__ == "result" else (largest,)
            with pytest.raises(JobNotFound, match=str(largest)):
                await ask(*args)
        assert await asyncio.to_thread(app.jobs_sync, ids=[largest]) == []
