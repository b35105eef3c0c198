"""Rows made by hand that cannot be decoded: `attention` with the remedy; lists and claims go on."""

import asyncio
import zlib
from typing import Any

import pytest

from fixtures.command import environment, run_command
from fixtures.hostile import enqueue_by_sql
from fixtures.looking import counters, ended, outcomes
from fixtures.running import eventually, running
from holdfast import Context, Holdfast, JobNeedsAttention, Undecodable

ARGUMENTS = {
    "missing": "{}",
    "of another type": '{"n": "many"}',
    "of another shape": '{"n": [[{"a": null}]]}',
    "unknown": '{"n": 1, "m": 2}',
    "null": '{"n": null}',
    "beyond any parser": '{"n": 1e131000}',
    "with a thousand levels": '{"n": ' + "[" * 1000 + "]" * 1000 + "}",
    "no base64": '{"n": 1, "raw": "%%%"}',
    "no text": '{"n": 1, "raw": 7}',
}
# (codec, bytes) of a recorded result
RESULTS: dict[str, tuple[int | None, bytes | None]] = {
    "an unknown codec": (9, b"1"),
    "a codec of the far future": (32767, b"1"),
    "a negative codec": (-1, b"1"),
    "no codec": (None, b"1"),
    "no bytes": (1, None),
    "empty bytes": (1, b""),
    "no JSON": (1, b"\x00\xff"),
    "half a JSON": (1, b'{"a": [1, 2'),
    "an unknown tag": (1, b'{"$hf":"pickle","v":"x"}'),
    "a tag without value": (1, b'{"$hf":"tuple"}'),
    "a thousand levels": (1, b"[" * 1000 + b"]" * 1000),
    "no zlib": (17, b"not compressed"),
    "half a zlib": (17, zlib.compress(b"1" * 100)[:-5]),
    "another annotation": (2, b'{"x": "text"}'),
}
TIMES = ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59+00"]


@pytest.fixture
def healthy(app: Holdfast):
    @app.job()
    async def healthy() -> str:
        return "ran"

    return healthy


@pytest.mark.parametrize("case", ARGUMENTS)
async def test_arguments_that_cannot_be_decoded_stop_the_job_with_the_remedy_and_no_other(
    app: Holdfast, db, healthy, case: str
) -> None:
    @app.job()
    async def work(n: int, raw: bytes = b"") -> None: ...

    job_id = enqueue_by_sql(db, name="work")
    db.execute("UPDATE holdfast.job SET args = %s::text::jsonb", [ARGUMENTS[case]])
    async with running(app):
        with pytest.raises(JobNeedsAttention, match="do not fit the function") as caught:
            await app.handle(job_id).result(timeout=10)
        assert "Make the function accept them again" in caught.value.message
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
        said = await app.explain(job_id)
        assert "retry" in said.advice
        assert {job.id for job in await app.jobs()} > {job_id}
    assert counters(db, job_id) == ("attention", 0, 0, 0)
    assert outcomes(db, job_id) == [("stopped", None)]


def shown_by_commands(db, job_id: int) -> list[str]:
    """What the commands say of a job; each must succeed, for people and for programs."""
    env = environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema, COLUMNS="200")
    said = []
    for words in (["list"], ["show", job_id], ["explain", job_id]):
        for more in ([], ["--json"]):
            ran = run_command("jobs", *words, *more, env=env)
            assert (ran.code, "Traceback" in ran.err) == (0, False), (words, more, ran.err)
            said.append(ran.out)
    return said


def test_the_commands_show_a_job_with_arguments_beyond_every_parser(db) -> None:
    job_id = enqueue_by_sql(db, name="work")
    args = '{"deep": ' + "[" * 3000 + "]" * 3000 + ', "long": 1e131000}'
    db.execute("UPDATE holdfast.job SET args = %s::text::jsonb", [args])
    db.execute("UPDATE holdfast.job SET tags = ARRAY['a', NULL]")
    assert '"deep"' in shown_by_commands(db, job_id)[2]


@pytest.mark.parametrize("case", RESULTS)
async def test_a_recorded_step_that_cannot_be_decoded_stops_the_job_with_the_remedy(
    app: Holdfast, db, healthy, case: str
) -> None:
    calls: list[str] = []

    async def make() -> Any:
        calls.append("make")
        return 7

    @app.job(backoff=lambda failure, error: 3600)
    async def work(ctx: Context) -> int:
        value = await ctx.step(make)
        if ctx.attempt == 1:
            raise ValueError("once more, from the journal")
        return value

    async with running(app):
        handle = await work.enqueue()
        await ended(app, handle.id, "retryable")
        db.execute("UPDATE holdfast.step SET codec = %s, result = %s", RESULTS[case])
        await app.retry(handle.id)
        with pytest.raises(JobNeedsAttention) as caught:
            await handle.result(timeout=20)
        assert "HF-404" in caught.value.message
        assert "retry the job" in caught.value.message
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
        # The remedy works: mended, it goes on from its journal.
        db.execute("UPDATE holdfast.step SET codec = 1, result = '7'")
        await app.retry(handle.id)
        assert await handle.result(timeout=10) == 7
    assert calls == ["make"]


@pytest.mark.parametrize("case", RESULTS)
async def test_a_recorded_result_that_cannot_be_decoded_is_said_to_whoever_waits_for_it(
    app: Holdfast, db, healthy, case: str
) -> None:
    async with running(app):
        handle = await healthy.enqueue()
        await handle.result(timeout=10)
        db.execute("UPDATE holdfast.job_archive SET codec = %s, result = %s", RESULTS[case])
        with pytest.raises(Undecodable) as caught:
            await handle.result(timeout=10)
        with pytest.raises(Undecodable):
            await asyncio.to_thread(handle.result_sync, 10)
        assert caught.value.hint
        assert (await app.history(handle.id)).job.state == "completed"
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"


def test_the_commands_show_a_job_whose_result_cannot_be_decoded(app: Holdfast, db) -> None:
    job_id = enqueue_by_sql(db, name="work")
    app.cancel_sync(job_id)
    db.execute("UPDATE holdfast.job_archive SET state = 'completed', codec = 9, result = '1'")
    assert "cannot be read" in shown_by_commands(db, job_id)[2]


@pytest.mark.parametrize("at", TIMES)
async def test_times_beyond_the_calendar_break_neither_claims_nor_lists(
    app: Holdfast, db, healthy, at: str
) -> None:
    odd = enqueue_by_sql(db, name="healthy")
    await healthy.enqueue()
    async with running(app):
        db.execute("UPDATE holdfast.job SET created_at = %s, started_at = %s", [at, at])
        assert await app.handle(odd).result(timeout=10) == "ran"
        await eventually(lambda: db.value("SELECT count(*) FROM holdfast.job") == 0)
        for column in ("created_at", "started_at", "deadline", "cancel_requested_at", "run_at"):
            db.execute(f"UPDATE holdfast.job_archive SET {column} = %s WHERE id = %s", [at, odd])
        db.execute(
            "INSERT INTO holdfast.execution (job_id, epoch, started_at, ended_at, outcome, next_at)"
            " VALUES (%s, 1, %s, %s, 'failed', %s)",
            [odd, at, at, at],
        )
        db.execute(
            "INSERT INTO holdfast.step (job_id, key, seq, kind, state, epoch, started_at,"
            " finished_at, wake_at) VALUES (%s, 'a', 1, 'sleep', 'done', 1, %s, %s, %s)",
            [odd, at, at, at],
        )
        assert len(await app.jobs()) == 2
        history = await app.history(odd)
        assert (len(history.executions), len(history.steps)) == (1, 1)
        assert (await app.explain(odd)).state == "completed"
    if at == TIMES[0]:
        shown_by_commands(db, odd)


@pytest.mark.parametrize("at", TIMES)
async def test_a_recorded_sleep_without_an_end_stops_its_job_and_not_the_claims(
    app: Holdfast, db, healthy, at: str
) -> None:
    @app.job()
    async def work(ctx: Context) -> str:
        await ctx.sleep("1h")
        return "slept"

    async with running(app):
        handle = await work.enqueue()
        await ended(app, handle.id, "waiting")
        db.execute("UPDATE holdfast.step SET wake_at = %s", [at])
        await app.retry(handle.id)
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
        if "infinity" in at:
            with pytest.raises(JobNeedsAttention, match="Mend wake_at"):
                await handle.result(timeout=10)
            db.execute("UPDATE holdfast.step SET wake_at = now()")
            await app.retry(handle.id)
        elif "BC" not in at:
            with pytest.raises(JobNeedsAttention, match="could not be stored"):
                await handle.result(timeout=10)
            return
        assert await handle.result(timeout=10) == "slept"


async def test_a_meta_that_cannot_be_decoded_stops_the_job_that_asks_for_it(
    app: Holdfast, db, healthy
) -> None:
    @app.job()
    async def work(ctx: Context) -> object:
        return ctx.meta

    job_id = enqueue_by_sql(db, name="work")
    deep = '{"a": ' + "[" * 1000 + "]" * 1000 + "}"
    db.execute("UPDATE holdfast.job SET meta = %s::text::jsonb", [deep])
    async with running(app):
        with pytest.raises(JobNeedsAttention, match="mend the column meta"):
            await app.handle(job_id).result(timeout=10)
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
