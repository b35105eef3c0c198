"""What holdfast does, measured through its public API."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from holdfast import Context, Holdfast

QUEUES = {"drain": 1000, "one": 1, "steps": 50}

Answer = dict[str, float]


def _register(app: Holdfast) -> None:
    @app.job(queue="drain")
    async def noop() -> None:
        return None

    @app.job(queue="one")
    async def stamp() -> float:
        return time.perf_counter()

    @app.job(queue="steps")
    async def stepping(ctx: Context, count: int) -> None:
        for number in range(count):
            await ctx.step(_work, number)


async def _work(number: int) -> int:
    return number


async def enqueue_one(app: Holdfast) -> Answer:
    """One job a call, one call after the other."""
    _register(app)
    noop = app.job_function("noop")
    await noop.enqueue()
    started = time.perf_counter()
    for _ in range(1000):
        await noop.enqueue()
    return {"jobs/s": 1000 / (time.perf_counter() - started)}


async def enqueue_bulk(app: Holdfast) -> Answer:
    """50,000 jobs in one call, validation included."""
    _register(app)
    noop = app.job_function("noop")
    await noop.enqueue()
    started = time.perf_counter()
    await app.enqueue_many([noop.new() for _ in range(50_000)])
    return {"jobs/s": 50_000 / (time.perf_counter() - started)}


async def drain(app: Holdfast) -> Answer:
    """No-op jobs, one worker process, 1,000 slots."""
    _register(app)
    noop = app.job_function("noop")
    total = 60_000
    handles = await app.enqueue_many([noop.new() for _ in range(total)])
    started = time.perf_counter()
    async with app.running(queues={"drain": 1000}):
        # The last to start are among the last to end; the order inside a batch is free.
        await asyncio.gather(*(handle.result(timeout=120) for handle in handles[-200:]))
        took = time.perf_counter() - started
    return {"jobs/s": total / took}


async def latency(app: Holdfast) -> Answer:
    """From the call of enqueue to the first line of the job, idle worker."""
    _register(app)
    stamp = app.job_function("stamp")
    times = []
    async with app.running(queues={"one": 1}):
        await (await stamp.enqueue()).result(timeout=10)
        for _ in range(200):
            started = time.perf_counter()
            handle = await stamp.enqueue()
            times.append((await handle.result(timeout=10) - started) * 1000)
    times.sort()
    return {"p50 ms": statistics.median(times), "p99 ms": times[int(len(times) * 0.99)]}


async def steps_alone(app: Holdfast) -> Answer:
    """One job, 2,000 steps, one after the other."""
    _register(app)
    stepping = app.job_function("stepping")
    async with app.running(queues={"steps": 1}):
        await (await stepping.enqueue(10)).result(timeout=10)
        started = time.perf_counter()
        await (await stepping.enqueue(2000)).result(timeout=60)
        took = time.perf_counter() - started
    return {"ms/step": took / 2000 * 1000, "steps/s": 2000 / took}


async def steps_50(app: Holdfast) -> Answer:
    """50 jobs at once, 400 steps each."""
    _register(app)
    stepping = app.job_function("stepping")
    async with app.running(queues={"steps": 50}):
        await (await stepping.enqueue(10)).result(timeout=10)
        started = time.perf_counter()
        handles = await app.enqueue_many([stepping.new(400) for _ in range(50)])
        await asyncio.gather(*(handle.result(timeout=120) for handle in handles))
        took = time.perf_counter() - started
    return {"steps/s": 20_000 / took}


SCENARIOS: dict[str, Callable[[Holdfast], Awaitable[Answer]]] = {
    "enqueue one": enqueue_one,
    "enqueue bulk": enqueue_bulk,
    "drain": drain,
    "latency": latency,
    "steps alone": steps_alone,
    "steps 50 jobs": steps_50,
}
