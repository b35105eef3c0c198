"""`.enqueue(...)` takes what the job function takes, and `.result()` returns what it returns."""

from typing import assert_type

from holdfast import BlockingContext, Context, Handle, Holdfast, Request

app = Holdfast()


@app.job(queue="agents")
async def research(ctx: Context, topic: str, depth: int = 1) -> str:
    return topic * depth


@app.job()
async def without_context(a: int) -> list[int]:
    return [a]


@app.job()
def plain(ctx: BlockingContext, a: int) -> float:
    return ctx.job_id / a


@app.job()
def plain_without_context(a: int) -> bytes:
    return bytes(a)


@app.job()
async def nothing() -> None: ...


async def async_functions() -> None:
    handle = await research.enqueue("cats", depth=2)
    assert_type(handle, Handle[str])
    assert_type(await handle.result(), str)
    assert_type(await handle.result(timeout="5s"), str)
    assert_type(await (await without_context.enqueue(1)).result(), list[int])
    assert_type(await (await nothing.enqueue()).result(), None)

    await research.enqueue(1)  # E
    await research.enqueue()  # E
    await research.enqueue("cats", dept=1)  # E
    await research.enqueue("cats", 1, 2)  # E
    await without_context.enqueue("a")  # E
    await without_context.enqueue(b=1)  # E
    await nothing.enqueue(1)  # E
    wrong: int = await handle.result()  # E
    assert wrong


def plain_functions() -> None:
    assert_type(plain.enqueue_sync(1).result_sync(), float)
    assert_type(plain_without_context.enqueue_sync(a=1).result_sync("1s"), bytes)
    assert_type(research.enqueue_sync("cats").result_sync(), str)

    plain.enqueue_sync("a")  # E
    plain.enqueue_sync()  # E
    plain.enqueue_sync(1, 2)  # E
    plain_without_context.enqueue_sync("a")  # E
    plain_without_context.enqueue_sync(b=1)  # E


async def many() -> None:
    assert_type(research.new("cats"), Request[str])
    assert_type(await app.enqueue_many([research.new("a"), research.new("b")]), list[Handle[str]])
    assert_type(app.enqueue_many_sync([plain.new(1)]), list[Handle[float]])

    research.new(1)  # E
    await app.enqueue_many([research])  # E
