"""The same statements without holdfast's runtime: the ceiling that the numbers are held against."""

import time
from collections.abc import Awaitable, Callable

from holdfast import Holdfast
from holdfast.model.job import Lane, NewJob
from holdfast.model.writes import Completion, StepWrite
from holdfast.runtime.lease import new_identity
from holdfast.storage.connect import connect_hot, connect_sync
from holdfast.storage.jobs import BEGINNING, claim, complete, enqueue
from holdfast.storage.query import run_async, run_pipeline, run_sync
from holdfast.storage.steps import record
from holdfast.storage.workers import Registration, register

Answer = dict[str, float]

_BATCH = 500


def _worker(app: Holdfast) -> int:
    worker_id = new_identity()
    new = Registration(
        worker_id, new_identity(), 1, "bench", "bench", None, {"drain": _BATCH}, ["noop"], 3600.0
    )
    with connect_sync(app.client.dsn) as conn:
        run_sync(conn, register(new, app.settings.schema, locked=False), app.settings.schema)
    return worker_id


def _lanes() -> list[Lane]:
    return [Lane("drain", priority, BEGINNING, 0) for priority in range(10)]


async def _fill(app: Holdfast, count: int) -> None:
    jobs = [NewJob(name="noop", queue="drain", args_json="{}") for _ in range(count)]
    await app.client.database.run(enqueue(jobs))


async def bare_drain(app: Holdfast) -> Answer:
    """Claim and finish 500 at a time on one connection, nothing else."""
    total, done = 60_000, 0
    await _fill(app, total)
    worker_id, schema = _worker(app), app.settings.schema
    conn = await connect_hot(app.client.dsn, "bench")
    lanes = _lanes()
    started = time.perf_counter()
    finished: list[Completion] = []
    while done < total:
        queries = [claim(worker_id, {"drain": _BATCH}, lanes)]
        if finished:
            queries.insert(0, complete(worker_id, schema, finished))
        answers = await run_pipeline(conn, queries, schema)
        jobs = answers[-1].jobs
        done += len(finished)
        finished = [Completion(job.id, job.epoch, None, None, False) for job in jobs]
        if jobs:
            lanes = [Lane("drain", 0, jobs[0].run_at, jobs[0].id), *lanes[1:]]
    took = time.perf_counter() - started
    await conn.close()
    return {"jobs/s": total / took}


async def bare_steps(app: Holdfast) -> Answer:
    """Fenced journal rows: alone, and 50 in a statement."""
    await _fill(app, 50)
    worker_id, schema = _worker(app), app.settings.schema
    conn = await connect_hot(app.client.dsn, "bench")
    claimed = await run_async(conn, claim(worker_id, {"drain": 50}, _lanes()), schema)
    rows = [
        StepWrite(j.id, j.epoch, "k", 1, "step", "done", 1, b"1", 1, False, 0.0, None, "v",
                  b"f", None, None, None)
        for j in claimed.jobs
    ]  # fmt: skip
    answer = {}
    for name, batch, rounds in (("alone ms/step", 1, 2000), ("50 steps/s", 50, 400)):
        started = time.perf_counter()
        for number in range(rounds):
            batched = [row._replace(key=f"{name}{number}") for row in rows[:batch]]
            await run_async(conn, record(worker_id, batched), schema)
        took = time.perf_counter() - started
        answer[name] = took / rounds * 1000 if batch == 1 else batch * rounds / took
    await conn.close()
    return answer


SCENARIOS: dict[str, Callable[[Holdfast], Awaitable[Answer]]] = {
    "bare SQL: drain": bare_drain,
    "bare SQL: steps": bare_steps,
}
