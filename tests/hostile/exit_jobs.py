"""Jobs whose own tasks and callbacks try to end the process; copied to where a worker loads it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from holdfast import Context, Holdfast

app = Holdfast()
HOME = Path(__file__).parent
KINDS = {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}


async def leave(kind: str) -> None:
    raise KINDS[kind]("leaving")


@app.job(max_attempts=1)
async def await_task(kind: str) -> None:
    await asyncio.create_task(leave(kind))


@app.job(max_attempts=1)
async def gather_tasks(kind: str) -> None:
    await asyncio.gather(leave(kind), asyncio.sleep(0))


@app.job(max_attempts=1)
async def task_group(kind: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leave(kind))
        group.create_task(asyncio.sleep(3600))


@app.job(max_attempts=1)
async def inside_a_step(ctx: Context, kind: str) -> None:
    await ctx.step(await_task.fn, kind)


@app.job()
async def forgotten_task(kind: str) -> str:
    task = asyncio.create_task(leave(kind))
    while not task.done():  # noqa: ASYNC110 - nobody waits for it
        await asyncio.sleep(0)
    return "went on"


@app.job()
async def callback(kind: str) -> str:
    def fire() -> None:
        try:
            raise KINDS[kind]("leaving")
        finally:
            fired.set()

    fired = asyncio.Event()
    asyncio.get_running_loop().call_soon(fire)
    await fired.wait()
    return "went on"


@app.job()
async def generator(kind: str) -> str:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise KINDS[kind]("leaving")

    async for _ in numbers():
        break  # the loop closes it later, in a task of its own
    for _ in range(10):
        await asyncio.sleep(0)
    return "went on"


@app.job()
async def many_tasks(kind: str) -> int:
    tasks = [asyncio.create_task(leave(kind)) for _ in range(100)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(isinstance(result, KINDS[kind]) for result in results)


@app.job()
async def pid() -> int:
    return os.getpid()


@app.job()
async def neighbour() -> int:
    """Runs beside the others until the test writes a file."""
    (HOME / "neighbour").touch()
    while not (HOME / "release").exists():  # noqa: ASYNC110 - nothing in this process sets it
        await asyncio.sleep(0.01)
    return os.getpid()


@app.job(max_attempts=3, backoff=lambda failure, error: 0)
async def leave_once() -> str:
    """Tries to end its process by a task of its own, the first time."""
    if not (HOME / "left").exists():
        (HOME / "left").touch()
        await asyncio.create_task(leave("SystemExit"))
    return "ran again"


async def application() -> None:
    """An application that runs jobs on its own loop."""
    async with app.running():
        await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(application()))
