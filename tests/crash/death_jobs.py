"""Jobs that end their process in every way; copied to where a worker loads it."""

import asyncio
import ctypes
import os
import sys
import time
from pathlib import Path

from holdfast import BlockingContext, Context, Holdfast

app = Holdfast()
HOME = Path(__file__).parent


def note(name: str, text: str = "") -> None:
    """Appends one line to a file, in one write."""
    file = os.open(HOME / name, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{os.getpid()} {text}\n".encode())
    os.close(file)


def times(name: str) -> int:
    """How often something was noted."""
    path = HOME / name
    return len(path.read_text().splitlines()) if path.exists() else 0


async def first_part() -> int:
    note("first_part")
    return 40


@app.job(queue="long")
async def until_released(ctx: Context) -> int:
    """Records a step, then waits until the test writes a file."""
    value = await ctx.step(first_part)
    note("started")
    while not (HOME / "release").exists():
        if ctx.shutting_down and not (HOME / "told").exists():
            note("told")
        await asyncio.sleep(0.02)  # nothing in this process sets the file
    return value + 2


@app.job(queue="long")
async def stubborn(ctx: Context) -> str:
    """Ends only when the test writes a file, whatever it is told."""
    note("started")
    while not (HOME / "release").exists():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note("ignored")
    return "ended by itself"


@app.job(queue="long")
async def polite(ctx: Context) -> str:
    """Ends when the worker wants to stop."""
    note("started")
    while not ctx.shutting_down:  # noqa: ASYNC110 - the wish has no event
        await asyncio.sleep(0.02)
    return "ended in time"


@app.job(queue="deadly")
async def kill(how: str, deaths: int) -> str:
    """Kills its process `deaths` times."""
    note("deaths")
    if times("deaths") <= deaths:
        if how == "exit 0":
            os._exit(0)
        elif how == "exit 7":
            os._exit(7)
        elif how == "segfault":
            ctypes.string_at(0)
        elif how == "abort":
            os.abort()
    return "survived"


@app.job(queue="deadly", max_attempts=1)
async def leave() -> None:
    sys.exit(3)


@app.job(queue="deadly", max_attempts=1)
async def leave_from_a_branch(ctx: Context) -> None:
    async def out(number: int) -> None:
        sys.exit(number)

    await ctx.map(out, [3, 4])


@app.job(queue="deadly", max_attempts=1)
def leave_from_a_thread(ctx: BlockingContext) -> None:
    async def out() -> None:
        raise KeyboardInterrupt

    ctx.step(out)


@app.job(queue="deadly")
async def pid() -> int:
    return os.getpid()


@app.job(queue="long")
def blocked(ctx: BlockingContext, seconds: float) -> int:
    note("started")
    time.sleep(seconds)
    return os.getpid()
