"""`ctx.map` and `ctx.gather`: order, limits, keys, errors, and replays in another order."""

import asyncio
from collections import Counter

import pytest

from fixtures.looking import instantly, outcomes, step_states
from fixtures.running import eventually, journal_of, running
from holdfast import (
    BlockingContext,
    Context,
    Holdfast,
    InvalidOption,
    JobFailed,
    JobNeedsAttention,
)


class Stumble(Exception):
    """Ends an attempt, so that the next one replays."""


class Gates:
    """Steps that go on in the order the test wants, and count."""

    def __init__(self) -> None:
        self.open: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()
        self.running = self.most = 0

    async def pass_through(self, name: str) -> str:
        self.calls[name] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await self.open.setdefault(name, asyncio.Event()).wait()
        self.running -= 1
        return name.upper()


async def test_results_come_in_the_order_of_the_items(app: Holdfast, db) -> None:
    gates = Gates()

    @app.job()
    async def work(ctx: Context) -> list[str]:
        return await ctx.map(gates.pass_through, ["a", "b", "c"])

    async with running(app):
        handle = await work.enqueue()
        for number, name in enumerate(["c", "a", "b"], 1):
            await eventually(lambda: len(gates.open) == 3)
            gates.open[name].set()
            await eventually(lambda n=number: len(journal_of(db, handle.id)) == n)
        assert await handle.result(timeout=10) == ["A", "B", "C"]
    names = {f"pass_through[{name}]" for name in "abc"}
    assert set(journal_of(db, handle.id)) == names


async def test_a_limit_is_never_exceeded(app: Holdfast) -> None:
    gates = Gates()
    names = [str(n) for n in range(12)]

    @app.job()
    async def work(ctx: Context) -> list[str]:
        return await ctx.map(gates.pass_through, names, limit=3)

    async with running(app):
        handle = await work.enqueue()
        for name in names:
            await eventually(lambda n=name: n in gates.open)
            gates.open[name].set()
        assert await handle.result(timeout=10) == names
    assert gates.most == 3


async def test_items_of_any_type_need_a_key_function(app: Holdfast, db) -> None:
    async def read(page: dict) -> int:
        return page["size"]

    pages = [{"url": "/a", "size": 1}, {"url": "/b", "size": 2}]
    refused: list[str] = []

    @app.job()
    async def work(ctx: Context) -> list[int]:
        try:
            await ctx.map(read, pages)
        except InvalidOption as error:
            refused.append(error.hint)
        with pytest.raises(InvalidOption):
            await ctx.map(read, pages, key=str, limit=0)
        return await ctx.map(read, pages, key=lambda page: page["url"])

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == [1, 2]
    assert "key=lambda" in refused[0]
    assert set(journal_of(db, handle.id)) == {"read[/a]", "read[/b]"}


async def test_two_items_with_one_key_stop_the_job(app: Holdfast) -> None:
    async def read(name: str) -> str:
        return name

    @app.job()
    async def work(ctx: Context) -> None:
        await ctx.map(read, ["same", "same"])

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobNeedsAttention, match=r"read\[same\].*used twice"):
            await handle.result(timeout=10)


async def test_an_empty_map_and_gather_are_nothing(app: Holdfast, db) -> None:
    async def read(name: str) -> str:
        return name

    @app.job()
    async def work(ctx: Context) -> list:
        return [await ctx.map(read, []), await ctx.gather()]

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == [[], ()]
    assert journal_of(db, handle.id) == []


async def test_work_in_flight_is_recorded_when_another_item_fails(app: Holdfast, db) -> None:
    calls: Counter[str] = Counter()
    failed, release = asyncio.Event(), asyncio.Event()

    async def work_on(name: str) -> str:
        calls[name] += 1
        if name == "bad" and calls[name] == 1:
            failed.set()
            raise ConnectionError("bad luck")
        if name == "slow":
            await release.wait()
        return name

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> list[str]:
        return await ctx.map(work_on, ["slow", "bad", "late"], limit=2)

    async with running(app):
        handle = await work.enqueue()
        await eventually(failed.is_set)
        assert outcomes(db, handle.id) == []
        assert calls["late"] == 0
        release.set()
        assert await handle.result(timeout=10) == ["slow", "bad", "late"]
    assert calls == {"slow": 1, "bad": 2, "late": 1}
    assert outcomes(db, handle.id) == [("failed", "failure"), ("completed", None)]


async def test_a_second_map_of_the_same_function_has_keys_of_its_own(app: Holdfast, db) -> None:
    async def read(name: str) -> str:
        return name

    @app.job()
    async def work(ctx: Context) -> list[str]:
        return [*(await ctx.map(read, ["x"])), *(await ctx.map(read, ["x", "y"]))]

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == ["x", "x", "y"]
    assert set(journal_of(db, handle.id)) == {"read[x]", "read#2[x]", "read#2[y]"}


async def test_branches_have_scopes_and_scopes_nest(app: Holdfast, db) -> None:
    async def argue(side: str) -> str:
        return f"for {side}"

    async def branch(ctx: Context, side: str) -> list[str]:
        first = await ctx.step(argue, side)
        rest = await ctx.map(argue, [side])
        inner, *_ = await ctx.gather(deep=ctx.step(argue, side), wait=ctx.sleep(0))
        return [first, *rest, inner]

    @app.job()
    async def debate(ctx: Context) -> tuple[list[str], list[str]]:
        return await ctx.gather(pro=branch(ctx, "pro"), con=branch(ctx, "con"))

    async with running(app):
        handle = await debate.enqueue()
        pro, con = await handle.result(timeout=10)
    assert pro == ["for pro"] * 3
    assert con == ["for con"] * 3
    keys = {"argue", "argue#2[{0}]", "deep/argue", "wait/sleep"}
    expected = {f"{side}/{key.format(side)}" for side in ("pro", "con") for key in keys}
    assert set(journal_of(db, handle.id)) == expected


async def test_a_replay_in_another_order_gives_each_branch_its_own_result(
    app: Holdfast, db
) -> None:
    calls: Counter[str] = Counter()
    turns: dict[str, asyncio.Event] = {}

    async def draw(name: str) -> str:
        calls[name] += 1
        return f"{name}-{sum(calls.values())}"

    async def branch(ctx: Context, name: str) -> list[str]:
        await turns[name].wait()
        first = await ctx.step(draw, name)
        turns["b" if name == "a" else "a"].set()
        return [first, await ctx.step(draw, f"{name} again")]

    seen: list[tuple] = []

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> None:
        turns.update(a=asyncio.Event(), b=asyncio.Event())
        turns["a" if ctx.attempt == 1 else "b"].set()
        seen.append(await ctx.gather(one=branch(ctx, "a"), two=branch(ctx, "b")))
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        await (await work.enqueue()).result(timeout=10)
    assert seen[0] == seen[1]
    assert set(calls.values()) == {1}


async def test_the_first_error_of_a_gather_is_raised_when_all_have_ended(app: Holdfast, db) -> None:
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "done"

    async def fail() -> None:
        release.set()
        raise ConnectionError("no")

    @app.job(max_attempts=1)
    async def work(ctx: Context) -> None:
        await ctx.gather(good=ctx.step(slow), bad=ctx.step(fail))

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match="ConnectionError"):
            await handle.result(timeout=10)
    assert step_states(db, handle.id) == {"good/slow": ("done", 1)}


async def test_a_plain_job_maps_in_threads(app: Holdfast, db) -> None:
    calls: Counter[int] = Counter()

    def square(number: int) -> int:
        calls[number] += 1
        return number * number

    @app.job(backoff=instantly)
    def work(ctx: BlockingContext) -> list[int]:
        found = ctx.map(square, range(5), limit=2)
        if ctx.attempt == 1:
            raise Stumble
        return found

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == [0, 1, 4, 9, 16]
    assert set(calls.values()) == {1}
