"""A step has the signature and the result of its function, however it is called."""

from typing import assert_type

from holdfast import BlockingContext, Context, Holdfast, Retry, StepInfo, current_step, step

app = Holdfast()


@step(retry=Retry(5), timeout="30s")
async def fetch(url: str) -> bytes:
    return url.encode()


@step
def parse(data: bytes, limit: int = 1) -> list[str]:
    return [data.decode()] * limit


async def load(number: int) -> str:
    return str(number)


def double(number: int) -> int:
    return number * 2


@app.job()
async def in_async_jobs(ctx: Context) -> None:
    assert_type(await ctx.step(fetch, "u"), bytes)
    assert_type(await ctx.step(parse, b"", limit=2), list[str])
    assert_type(await ctx.step(load, 1), str)
    assert_type(await ctx.step(double, 1), int)
    assert_type(await ctx.step(fetch.options(key="home"), "u"), bytes)
    assert_type(await ctx.step(step(load, key=1), 1), str)

    await ctx.step(fetch, 1)  # E
    await ctx.step(fetch)  # E
    await ctx.step(load, "a")  # E
    await ctx.step(load, numbr=1)  # E
    await ctx.step(load(1))  # E


@app.job()
async def keep_their_signature(ctx: Context) -> None:
    assert_type(await fetch("u"), bytes)
    assert_type(parse(b"", limit=2), list[str])
    assert_type(await fetch.options(retry=Retry(2))("u"), bytes)

    await fetch(1)  # E
    await fetch()  # E
    parse("a")  # E
    parse(b"", limt=2)  # E
    fetch.options(retries=5)  # E


@app.job()
async def in_parallel(ctx: Context) -> None:
    assert_type(await ctx.map(fetch, ["a"], limit=3), list[bytes])
    assert_type(await ctx.map(double, [1], key=str), list[int])
    assert_type(await ctx.map(fetch.options(timeout=4), ["a"], key=len), list[bytes])
    assert_type(await ctx.gather(a=load(1), b=load(2)), tuple[str, ...])

    await ctx.map(fetch, [1])  # E
    await ctx.map(load, ["a"])  # E
    await ctx.map(load, [1], limt=3)  # E
    await ctx.gather(load(1))  # E


@app.job()
def in_plain_jobs(ctx: BlockingContext) -> None:
    assert_type(ctx.step(fetch, "u"), bytes)
    assert_type(ctx.step(parse, b""), list[str])
    assert_type(ctx.map(fetch, ["a"]), list[bytes])
    assert_type(ctx.map(double, [1]), list[int])
    assert_type(ctx.sleep("5s"), None)
    for item in ctx.track([1, 2]):
        assert_type(item, int)

    ctx.step(fetch, 1)  # E
    ctx.map(fetch, [1])  # E
    ctx.sleep(None)  # E


@app.job()
async def other_tools(ctx: Context) -> None:
    await ctx.sleep("5s")
    await ctx.progress(0.5, "half")
    await ctx.progress(3, 10, "three of ten")
    for item in ctx.track(["a"]):
        assert_type(item, str)
    assert_type(current_step(), StepInfo)
    assert_type(ctx.tags, tuple[str, ...])

    await ctx.sleep("5s", kye="a")  # E
    await ctx.progress("half")  # E
    ctx.track(5)  # E
    step(load, retry=5)  # E
    step(load, timeot=5)  # E
