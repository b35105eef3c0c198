"""Claims, hand-backs and writes in unlucky orders: no job is starved, lost or held up."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fixtures.desk import Desk
from fixtures.looking import counters, ended, reached
from fixtures.running import eventually, running
from holdfast import Holdfast, Snooze
from holdfast.model.writes import Completion, Forget, ProgressWrite
from holdfast.runtime import worker as worker_module
from holdfast.runtime.batch import Batch
from holdfast.storage.exchange import Exchange
from holdfast.storage.listen import Listener

_LEFT = "SELECT count(*) FROM holdfast.job"


@pytest.fixture
def desk(db) -> Iterator[Desk]:
    desk = Desk(db)
    yield desk
    desk.close()


def poll_every(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(worker_module, "_POLL_LISTENING_S", seconds)
    monkeypatch.setattr(worker_module, "_POLL_BLIND_S", seconds)


async def test_a_full_queue_beside_an_idle_one_claims_as_its_slots_become_free(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll_every(monkeypatch, 60)

    @app.job(queue="busy")
    async def work(n: int) -> None:
        await asyncio.sleep(0.05)  # long enough for the next claim to find no slot

    @app.job(queue="idle")
    async def never() -> None:
        pass

    await app.enqueue_many([work.new(n) for n in range(20)])
    async with running(app, queues={"busy": 2, "idle": 2}):
        await eventually(lambda: db.value(_LEFT) == 0, within=10)


def _lose_a_claim_beside_a_hand_back(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Once: carries out an exchange that hands a job back and claims it, and loses the answer."""
    send, lost = Exchange.send, []

    async def losing(self: Exchange, queries: list) -> list[Any]:
        answers = await send(self, queries)
        by_name = {q.name: answer for q, answer in zip(queries, answers, strict=True)}
        claimed = by_name.get("jobs/claim")
        if not lost and "jobs/settle" in by_name and claimed is not None and claimed.jobs:
            lost.append([job.id for job in claimed.jobs])
            await self.close()
            raise psycopg.OperationalError("the connection is lost")
        return answers

    monkeypatch.setattr(Exchange, "send", losing)
    return lost


async def test_a_job_claimed_again_with_its_own_hand_back_by_a_lost_answer_goes_on(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll_every(monkeypatch, 60)
    lost = _lose_a_claim_beside_a_hand_back(monkeypatch)
    runs: list[int] = []

    @app.job()
    async def work() -> int:
        runs.append(1)
        if not lost or len(runs) < 3:
            raise Snooze(0, reason="once more")
        return len(runs)

    handle = await work.enqueue()
    async with running(app, queues={"default": 1}):
        assert await handle.result(timeout=20) >= 3
    assert lost == [[handle.id]]
    assert counters(db, handle.id)[:3] == ("completed", 0, 0)


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
async def test_a_claim_carried_out_by_a_session_that_was_lost_is_handed_back(
    app: Holdfast, db, desk: Desk, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    poll_every(monkeypatch, 0.2)
    go_on, inside = asyncio.Event(), asyncio.Event()

    @app.job()
    async def first() -> None:
        inside.set()
        await go_on.wait()

    @app.job(queue="other")
    async def second() -> str:
        return "ran"

    async with running(app, queues={"default": 1, "other": 1}):
        if busy:
            await first.enqueue()
            await reached(inside)
        worker_id = db.value("SELECT id FROM holdfast.worker")
        # One transaction: the worker cannot come first, as the lost session's claim could not.
        with desk.conn.transaction():
            job_id = desk.enqueue(name=second.name, queue="other")
            assert [job.id for job in desk.claim(worker_id, {"other": 1}).jobs] == [job_id]
        assert await app.handle(job_id).result(timeout=20) == "ran"
        go_on.set()
    assert counters(db, job_id) == ("completed", 0, 0, 1)


async def test_an_open_transaction_with_a_cancel_holds_up_no_other_job(app: Holdfast, db) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    @app.job()
    async def slow() -> None:
        inside.set()
        await go_on.wait()

    @app.job()
    async def quick() -> None:
        pass

    async with running(app, queues={"default": 10}):
        handle = await slow.enqueue()
        await reached(inside)
        with psycopg.connect(db.dsn) as conn:
            sql = f'SELECT * FROM "{db.schema}".cancel(ARRAY[%s]::bigint[])'
            assert conn.execute(sql, [handle.id]).fetchall()
            go_on.set()
            await app.enqueue_many([quick.new() for _ in range(20)])
            await eventually(lambda: db.value(_LEFT) == 1, within=15)
            conn.rollback()
        await ended(app, handle.id, "completed", within=15)


async def test_a_busy_worker_without_notifications_notices_a_cancel_by_polling(
    app: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll_every(monkeypatch, 0.5)

    async def deaf(self: Listener, conn: object) -> None:
        await asyncio.Event().wait()

    # As through a pooler that accepts LISTEN and passes nothing on.
    monkeypatch.setattr(Listener, "_receive", deaf)
    inside, stopped = asyncio.Event(), asyncio.Event()

    @app.job()
    async def long() -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @app.job()
    async def tick() -> None:
        pass

    handle = await long.enqueue()
    # Each comes due by a timer, so that the last claim is never long ago.
    await app.enqueue_many([tick.options(run_in=n * 0.1).new() for n in range(200)])
    async with running(app, queues={"default": 4}):
        await reached(inside)
        await handle.cancel()
        await reached(stopped, within=8)
        await ended(app, handle.id, "cancelled")


# --- Large batches ------------------------------------------------------------------------------


def _completion(job_id: int, size: int) -> Completion:
    fields = dict.fromkeys(Completion._fields)
    return Completion(**{**fields, "job_id": job_id, "epoch": 1, "result": bytes(size)})


@pytest.mark.parametrize("sizes", [[], [1], [100], [4, 4, 4], [6, 5, 1, 20, 9, 1], [30, 30]])
def test_a_batch_is_cut_in_order_into_parts_below_the_limit(sizes: list[int]) -> None:
    batch = Batch(completions=[_completion(n, size) for n, size in enumerate(sizes)])
    batch.forgets = [Forget(*([7] * len(Forget._fields)))]
    batch.progress[7, 1] = ProgressWrite(*([7] * len(ProgressWrite._fields)))
    parts = batch.chunks(10)
    assert [w for part in parts for w in part.completions] == batch.completions
    assert [w for part in parts for w in part.forgets] == batch.forgets
    assert [w for part in parts for w in part.progress.values()] == list(batch.progress.values())
    assert all(len(part) for part in parts)
    for part in parts:
        sized = [w for w in part.completions if w.result]
        assert part.size_bytes <= 10 or len(sized) == 1
