"""Replays that do not fit: found by the inputs of steps, decided by the drift policy."""

import asyncio
from collections import Counter

import pytest

from fixtures.looking import counters, ended, instantly, outcomes, step_states
from fixtures.running import journal_of, running
from holdfast import (
    AmbiguousStep,
    Context,
    DuplicateStepKey,
    Holdfast,
    JobNeedsAttention,
    step,
)


class Stumble(Exception):
    """Ends an attempt, so that the next one replays."""


async def test_other_inputs_by_the_same_code_stop_the_job_for_free(app: Holdfast, db) -> None:
    outside = {"rate": 1}
    calls: Counter[int] = Counter()

    async def convert(rate: int) -> int:
        calls[rate] += 1
        return rate * 100

    @app.job(backoff=instantly, max_attempts=2)
    async def bill(ctx: Context) -> int:
        amount = await ctx.step(convert, outside["rate"])
        if ctx.attempt == 1:
            outside["rate"] = 2
            raise Stumble
        return amount

    async with running(app):
        handle = await bill.enqueue()
        with pytest.raises(JobNeedsAttention, match="'convert' was recorded with other inputs"):
            await handle.result(timeout=10)
        assert counters(db, handle.id) == ("attention", 1, 0, 0)
        assert outcomes(db, handle.id) == [("failed", "failure"), ("stopped", None)]
        said = await app.explain(handle.id)
        assert "other inputs" in said.reason
        assert "retry" in said.advice

        outside["rate"] = 1  # the person mended it
        await app.retry(handle.id)
        assert await handle.result(timeout=10) == 100
    assert calls == {1: 1}


async def run_two_versions(db, drift: str) -> tuple[Counter, object, int]:
    """Runs one job by code 1, then with another input by code 2; returns calls and outcome."""
    calls: Counter[str] = Counter()

    async def fetch(url: str) -> str:
        calls[url] += 1
        return f"page {url}"

    def code(version: str, url: str) -> Holdfast:
        application = Holdfast(db.dsn, schema=db.schema, version=version)

        @application.job(name="read", backoff=instantly, drift=drift)
        async def read(ctx: Context) -> str:
            page = await ctx.step(fetch, url)
            if version == "1":
                raise Stumble
            return page

        return application

    old, new = code("1", "a"), code("2", "b")
    handle = await old.job_function("read").options(run_in=0).enqueue()
    await run_one_attempt(old, db, handle.id)
    async with running(new):
        try:
            result: object = await new.handle(handle.id, "read").result(timeout=10)
        except JobNeedsAttention as error:
            result = error
    await old.close()
    return calls, result, handle.id


async def run_one_attempt(application: Holdfast, db, job_id: int) -> None:
    """Runs the job until its first failure is written, and keeps later attempts away."""
    db.execute("UPDATE holdfast.job SET max_attempts = 1 WHERE id = %s", [job_id])
    async with running(application):
        await ended(application, job_id, "discarded")
    await application.retry(job_id)


async def test_code_of_another_version_reuses_what_is_recorded(db) -> None:
    calls, result, _ = await run_two_versions(db, "reuse")
    assert (calls, result) == ({"a": 1}, "page a")


async def test_code_of_another_version_runs_again_what_has_other_inputs(db) -> None:
    calls, result, job_id = await run_two_versions(db, "rerun")
    assert (calls, result) == ({"a": 1, "b": 1}, "page b")
    assert step_states(db, job_id) == {"fetch": ("done", 1)}


async def test_code_of_another_version_can_be_stopped_instead(db) -> None:
    calls, result, job_id = await run_two_versions(db, "stop")
    assert calls == {"a": 1}
    assert isinstance(result, JobNeedsAttention)
    assert "drift='stop'" in str(result)
    assert counters(db, job_id)[0] == "attention"


async def test_steps_that_new_code_no_longer_asks_for_do_no_harm(app: Holdfast, db) -> None:
    async def alpha() -> str:
        return "a"

    async def beta() -> str:
        return "b"

    @app.job(backoff=instantly)
    async def changing(ctx: Context) -> str:
        if ctx.attempt == 1:
            await ctx.step(alpha)
            raise Stumble
        return await ctx.step(beta)

    async with running(app):
        handle = await changing.enqueue()
        assert await handle.result(timeout=10) == "b"
    assert journal_of(db, handle.id) == ["alpha", "beta"]


async def test_two_unkeyed_steps_of_one_name_at_once_stop_the_job_on_the_first_run(
    app: Holdfast, db
) -> None:
    calls: Counter[int] = Counter()

    async def fetch(number: int) -> int:
        calls[number] += 1
        return number

    @app.job()
    async def careless(ctx: Context) -> None:
        await asyncio.gather(ctx.step(fetch, 1), ctx.step(fetch, 2))

    async with running(app):
        handle = await careless.enqueue()
        with pytest.raises(JobNeedsAttention, match=r"two steps named 'fetch' are in flight"):
            await handle.result(timeout=10)
    assert calls[2] == 0
    assert counters(db, handle.id) == ("attention", 0, 0, 0)
    assert _error_types(db, handle.id) == [f"holdfast.errors.{AmbiguousStep.__name__}"]


async def test_one_key_used_twice_stops_the_job(app: Holdfast, db) -> None:
    async def save(value: int) -> None: ...

    @app.job()
    async def sloppy(ctx: Context) -> None:
        await ctx.step(step(save, key="x"), 1)
        await ctx.step(step(save, key="x"), 2)

    async with running(app):
        handle = await sloppy.enqueue()
        with pytest.raises(JobNeedsAttention, match="used twice"):
            await handle.result(timeout=10)
    assert _error_types(db, handle.id) == [f"holdfast.errors.{DuplicateStepKey.__name__}"]


def _error_types(db, job_id: int) -> list[str]:
    rows = db.execute(
        "SELECT error_type FROM holdfast.execution WHERE job_id = %s ORDER BY epoch", [job_id]
    )
    return [row[0] for row in rows]
