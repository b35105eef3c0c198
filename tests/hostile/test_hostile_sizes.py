"""Nothing, 10 MB and 100 MB: stored and read back, spilled, or refused with field and size."""

import os
import re

import pytest

from fixtures.hostile import ENTRANCES, enqueue, last_error, stored
from fixtures.looking import counters, ended, instantly, outcomes, replayed
from fixtures.running import running
from holdfast import Context, Holdfast, InvalidOption, JobFailed, JobNeedsAttention, TooLarge

MB = 1_000_000
EMPTY = ["", b"", [], {}, (), set(), 0, None, [[]], {"": ""}]


@pytest.mark.parametrize("value", EMPTY, ids=repr)
async def test_empty_values_come_back_from_results_of_jobs_and_steps(
    app: Holdfast, value: object
) -> None:
    assert await replayed(app, value) == (value, [value, value])


async def test_empty_values_come_back_from_arguments(app: Holdfast) -> None:
    @app.job()
    async def echo(text: str, raw: bytes, items: list, table: dict, anything, *rest: int) -> list:
        return [text, raw, items, table, anything, *rest]

    async with running(app):
        for entrance in ENTRANCES:
            handle = await enqueue(entrance, app, echo, "", b"", [], {}, None)
            assert await handle.result(timeout=10) == ["", b"", [], {}, None]
        assert await app.enqueue_many([]) == []


def test_empty_options_are_refused_or_mean_nothing(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> None: ...

    for field, options in [
        ("queue", {"queue": ""}),
        ("tag", {"tags": [""]}),
        ("run_in", {"run_in": ""}),
        ("deadline", {"deadline": " "}),
    ]:
        with pytest.raises(InvalidOption, match=f"{field}="):
            work.options(**options)
    handle = work.options(tags=[], meta={}).enqueue_sync()
    assert db.execute("SELECT tags, meta FROM holdfast.job WHERE id = %s", [handle.id]) == [
        ([], {})
    ]


async def test_arguments_of_10_mb_come_back(app: Holdfast) -> None:
    @app.job()
    async def measure(text: str, raw: bytes = b"") -> list[int]:
        return [len(text), len(raw)]

    async with running(app):
        handle = await measure.enqueue("x" * (10 * MB), os.urandom(MB))
        assert await handle.result(timeout=30) == [10 * MB, MB]


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_arguments_of_100_mb_are_refused_with_field_and_size(
    app: Holdfast, db, entrance: str
) -> None:
    @app.job()
    async def work(small: int, text: str) -> None: ...

    async with app:
        with pytest.raises(TooLarge) as caught:
            await enqueue(entrance, app, work, 1, "x" * (100 * MB))
    said = "job 'work': arguments are 95.4 MiB, most of it 'text'; the most is 16.0 MiB"
    assert caught.value.message == said
    assert "reference" in caught.value.hint
    assert stored(db) == 0


def test_the_cap_of_arguments_counts_bytes_and_not_characters(app: Holdfast) -> None:
    @app.job()
    async def work(text: str) -> None: ...

    with pytest.raises(TooLarge, match=r"38\.1 MiB"):
        work.new("\U0001f600" * (10 * MB))


def test_a_large_meta_is_refused_with_its_heaviest_part_and_size(app: Holdfast) -> None:
    @app.job()
    async def work() -> None: ...

    with pytest.raises(
        TooLarge, match=r"meta are 9\.5 MiB, most of it 'trace'; the most is 65,536"
    ):
        work.options(meta={"a": 1, "trace": "x" * (10 * MB)})


async def test_a_result_of_10_mb_is_spilled_and_read_back_from_a_job_and_a_step(
    app: Holdfast, db
) -> None:
    value = os.urandom(10 * MB)  # not to be compressed
    seen: list[bool] = []

    async def make() -> bytes:
        return value

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> bytes:
        seen.append(await ctx.step(make) == value)
        if ctx.attempt == 1:
            raise ValueError("once more, from the journal")
        return value

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=60) == value
    assert seen == [True, True]
    sizes = db.execute("SELECT key, octet_length(data) > 10000000 FROM holdfast.blob ORDER BY key")
    assert sizes == [("", True), ("make", True)]


@pytest.mark.parametrize("place", ["job", "step"])
async def test_a_result_of_100_mb_is_refused_with_field_and_size_and_the_worker_goes_on(
    app: Holdfast, db, place: str
) -> None:
    async def make() -> bytes:
        return os.urandom(100 * MB)

    @app.job()
    async def work(ctx: Context) -> bytes | None:
        return await make() if place == "job" else await ctx.step(make)

    @app.job()
    async def healthy() -> str:
        return "ran"

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobNeedsAttention) as caught:
            await handle.result(timeout=60)
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
    field = "the result of job 'work'" if place == "job" else "the result of step 'make'"
    assert field in caught.value.message
    assert re.search(r"9\d\.\d MiB; the most is 64 MiB", caught.value.message)
    assert counters(db, handle.id) == ("attention", 0, 0, 0)
    assert outcomes(db, handle.id) == [("stopped", None)]


async def test_error_progress_and_key_of_10_mb_are_cut_and_cost_nothing_else(
    app: Holdfast, db
) -> None:
    huge = "ä\x00" * (5 * MB)

    async def page(key: str) -> str:
        return "short"

    @app.job(max_attempts=1)
    async def work(ctx: Context) -> None:
        await ctx.map(page, [huge, huge + "b"])
        await ctx.progress(0.5, huge)
        raise type("Huge", (ValueError,), {"__qualname__": "H" * (10 * MB)})(huge)

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match="bytes left out"):
            await handle.result(timeout=30)
        job = await ended(app, handle.id, "discarded")
    assert len(job.progress_text.encode()) <= 500
    kind, message, stack = last_error(db, handle.id)
    assert (len(kind) <= 1000, len(message.encode()) <= 65_536) == (True, True)
    assert len(stack.encode()) <= 65_536
    lengths = db.execute("SELECT DISTINCT char_length(key) <= 512 FROM holdfast.step")
    assert (lengths, db.value("SELECT count(*) FROM holdfast.step")) == ([(True,)], 2)
