"""Results their annotation does not allow, swallowed suspensions, names that no worker knows."""

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from fixtures.command import environment, run_command
from fixtures.hostile import enqueue_by_sql
from fixtures.looking import counters, ended, jump, outcomes
from fixtures.running import running
from holdfast import (
    BlockingContext,
    Context,
    Holdfast,
    Interruption,
    JobNeedsAttention,
)


class Page(BaseModel):
    url: str


class LongPage(Page):
    text: str


@dataclass
class Point:
    x: int


class Evil:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise ValueError

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]


def _ring() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


# (annotation, what is returned, what the reason says)
NOT_ALLOWED = {
    "another model": (Page, Point(1), "Point"),
    "a derived model would lose a field": (Page, LongPage(url="/", text="x"), "LongPage"),
    "a model where a number is promised": (int, Page(url="/"), "Page"),
    "a list with one wrong item": (list[Point], [Point(1), Page(url="/")], "Point"),
    "a model without any annotation": (None, Page(url="/"), "Page"),
    "a lock": (object, threading.Lock(), "lock"),
    "an evil object": (Page, Evil(), "Evil"),
    "a coroutine function": (object, asyncio.sleep, "function"),
    "a value that contains itself": (list, _ring(), "contains itself"),
    "a generator": (object, (n for n in ()), "generator"),
}


@pytest.mark.parametrize("place", ["job", "plain job", "step"])
@pytest.mark.parametrize("case", NOT_ALLOWED)
async def test_a_result_that_its_annotation_does_not_allow_stops_the_job_and_says_where(
    app: Holdfast, db, place: str, case: str
) -> None:
    annotation, value, words = NOT_ALLOWED[case]

    async def make():
        return value

    def make_plain():
        return value

    for function in (make, make_plain):
        if annotation is not None:
            function.__annotations__["return"] = annotation

    async def through_a_step(ctx: Context) -> None:
        await ctx.step(make)

    code = {"job": make, "plain job": make_plain, "step": through_a_step}[place]
    job = app.job(name="work")(code)

    @app.job()
    async def healthy() -> str:
        return "ran"

    async with running(app):
        handle = await job.enqueue()
        with pytest.raises(JobNeedsAttention, match=words) as caught:
            await handle.result(timeout=10)
        assert "HF-105" in caught.value.message
        assert await (await healthy.enqueue()).result(timeout=10) == "ran"
        assert "retry" in (await app.explain(handle.id)).advice
    assert counters(db, handle.id) == ("attention", 0, 0, 0)
    assert outcomes(db, handle.id) == [("stopped", None)]


@pytest.mark.parametrize(("annotation", "value"), [(int, "text"), (Page, {"url": 1}), (None, [1])])
async def test_plain_data_beside_its_annotation_come_back_unchanged(
    app: Holdfast, annotation: object, value: object
) -> None:
    """Nothing is lost: what was returned is what every waiter gets, as by a plain call."""

    async def make():
        return value

    make.__annotations__["return"] = annotation
    job = app.job()(make)
    async with running(app):
        assert await (await job.enqueue()).result(timeout=10) == value


def swallow_in_a_thread(ctx: BlockingContext) -> str:
    try:
        ctx.sleep("1h")
    except BaseException:
        with suppress(BaseException):
            ctx.step(record)
        return "swallowed"
    return "slept"


async def swallow(ctx: Context) -> str:
    try:
        await ctx.sleep("1h")
    except BaseException:
        for _ in range(3):
            with suppress(Interruption):
                await ctx.step(record)
        return "swallowed"
    return "slept"


async def swallow_in_a_branch(ctx: Context) -> str:
    (said,) = await ctx.gather(a=swallow(ctx))
    return said


RECORDED: list[str] = []


async def record() -> None:
    RECORDED.append("a step")


@pytest.mark.parametrize("code", [swallow, swallow_in_a_thread, swallow_in_a_branch])
async def test_a_swallowed_suspension_parks_the_job_and_its_code_gets_no_further(
    app: Holdfast, db, code
) -> None:
    RECORDED.clear()
    job = app.job()(code)
    async with running(app):
        handle = await job.enqueue()
        parked = await ended(app, handle.id, "waiting")
        assert parked.wait_reason == "sleep"
        assert RECORDED == []
        jump(db, "2 hours")
        assert await handle.result(timeout=10) == "slept"
    assert counters(db, handle.id) == ("completed", 0, 0, 1)


async def test_a_job_whose_name_no_worker_knows_stays_visible_and_explained(
    app: Holdfast, db
) -> None:
    @app.job()
    async def known() -> str:
        return "ran"

    names = ["not deployed", 'it\'s "odd"', "os.system", "known ", "KNOWN", "x" * 128]
    ids = {name: enqueue_by_sql(db, name=name, args={"a": 1}) for name in names}
    async with running(app):
        for job_id in ids.values():
            job = await ended(app, job_id, "waiting")
            assert (job.wait_reason, job.failures) == ("unknown job", 0)
            said = await app.explain(job_id)
            assert "no job function named" in said.reason
            assert said.until == job.run_at
        assert await (await known.enqueue()).result(timeout=10) == "ran"
        assert {job.id for job in await app.jobs(state="waiting")} == set(ids.values())
        env = environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema, COLUMNS="300")
        listed = await asyncio.to_thread(run_command, "jobs", "list", env=env)
        assert "no job function named 'not deployed'" in listed.out
        shown = await asyncio.to_thread(run_command, "jobs", "show", ids[names[0]], env=env)
        assert "no job function named 'not deployed'" in shown.out
    assert {counters(db, job_id)[:3] for job_id in ids.values()} == {("available", 0, 0)}


async def test_a_job_that_was_unknown_runs_once_its_code_is_deployed(app: Holdfast, db) -> None:
    @app.job()
    async def known() -> None: ...

    job_id = enqueue_by_sql(db, name="late", args={"a": 1})
    async with running(app):
        await ended(app, job_id, "waiting")

    newer = Holdfast(db.dsn, schema=db.schema)

    @newer.job()
    async def late(a: int) -> int:
        return a + 1

    async with running(newer):
        await newer.retry(job_id)
        assert await newer.handle(job_id, "late").result(timeout=10) == 2
