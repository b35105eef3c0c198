"""The job of test_kill_points: copied to where a worker loads it, never imported by the tests.

Before and after everything that the process writes about a job lies a point. The job is told at
which of its points its process is to be killed; once it was, it runs through.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from holdfast import Context, Holdfast
from holdfast.storage.exchange import Exchange
from holdfast.storage.transaction import OpenTransaction, PoolSource

app = Holdfast(queues={"default": 1})  # one job at a time in each process
HOME = Path(__file__).parent
STEPS = 20
WRITES = {"steps/record", "steps/forget", "jobs/progress", "jobs/complete", "jobs/settle"}

current = 0  # which job runs, named by where it is to be killed
armed = 0
passed = 0


def point() -> None:
    """Dies if this is where the job's process is to be killed."""
    global passed
    passed += 1
    if passed == armed:
        os.close(os.open(HOME / f"killed-{armed}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)


_send = Exchange.send
_finish = OpenTransaction.finish
_transaction = PoolSource.transaction


async def send(self, queries):
    writes = any(query.name in WRITES for query in queries)
    if not writes:
        return await _send(self, queries)
    point()
    (HOME / f"points-{current}").write_text(str(passed + 1))
    answers = await _send(self, queries)
    point()
    return answers


async def finish(self, write):
    point()
    await _finish(self, write)
    point()


@asynccontextmanager
async def transaction(self) -> AsyncIterator[OpenTransaction]:
    async with _transaction(self) as opened:
        yield opened
    point()


Exchange.send = send
OpenTransaction.finish = finish
PoolSource.transaction = transaction


async def work(number: int) -> int:
    file = os.open(HOME / f"effects-{current}", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{number}\n".encode())
    os.close(file)
    return number * number


@app.job(max_crashes=50)
async def long(ctx: Context, kill_at: int) -> int:
    global armed, passed, current
    current = kill_at
    armed = 0 if (HOME / f"killed-{kill_at}").exists() else kill_at
    passed = 0
    total = 0
    for number in range(STEPS // 2):
        total += await ctx.step(work, number)
        await ctx.progress(number + 1, STEPS)
    async with ctx.transaction() as conn:
        sql = f'INSERT INTO "{ctx._attempt.schema}".report VALUES (%s, %s) RETURNING total'
        row = await (await conn.execute(sql, [kill_at, total])).fetchone()
    await ctx.sleep(0.001)
    for number in range(STEPS // 2, STEPS):
        total += await ctx.step(work, number)
        await ctx.progress(number + 1, STEPS)
    return total + row[0]
