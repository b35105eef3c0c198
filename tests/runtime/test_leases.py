"""Leases inside an application: kept, lost, and taken over."""

import asyncio
import logging
import threading

import pytest

from fixtures.looking import counters, instantly, outcomes, reached
from fixtures.running import eventually, running
from holdfast import Context, Holdfast
from holdfast.runtime.lease import LEASE_S, LeaseKeeper, new_identity
from holdfast.storage.lease import LeaseConnection
from holdfast.storage.workers import Registration


def registration(keeper: LeaseKeeper) -> Registration:
    return Registration(
        worker_id=new_identity(),
        supervisor_id=keeper.supervisor_id,
        pid=1,
        host="here",
        app="test",
        code_version=None,
        queues={"default": 1},
        job_names=["work"],
        lease_s=LEASE_S,
    )


def test_a_worker_registered_or_released_during_a_heartbeat_is_not_taken_for_lost(
    db, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[set[int]] = []
    beaten = threading.Event()
    keeper = LeaseKeeper(db.dsn, db.schema, lost=lost.append)
    old, new = registration(keeper), registration(keeper)
    beat = LeaseConnection.beat

    def beat_then_register(self: LeaseConnection, **how: float) -> object:
        answer = beat(self, **how)
        if not beaten.is_set() and old.worker_id in answer.renewed:
            # The answer knows nothing of the one, and still the other.
            keeper.register(new)
            keeper.release(old.worker_id, outcome="shutdown", reason="test", charge=False)
            beaten.set()
        return answer

    monkeypatch.setattr(LeaseConnection, "beat", beat_then_register)
    with caplog.at_level(logging.ERROR, "holdfast.lease"):
        keeper.start()
        try:
            keeper.register(old)
            assert beaten.wait(10)
            renewed = "SELECT renewed_at > started_at FROM holdfast.worker"
            asyncio.run(eventually(lambda: db.execute(renewed) == [(True,)]))
        finally:
            keeper.stop()
    assert lost == []
    assert caplog.records == []


@pytest.mark.slow  # the amnesty of a young server has to end
async def test_the_jobs_of_a_worker_that_renews_no_more_run_here_and_are_charged_a_crash(
    app: Holdfast, db
) -> None:
    @app.job()
    async def work() -> str:
        return "rescued"

    handle = await work.enqueue()
    db.execute(
        "INSERT INTO holdfast.worker (id, supervisor_id, pid, host, app, started_at, renewed_at,"
        " expires_at, queues, job_names) VALUES (77, 77, 1, 'gone', 'gone', now(), now(),"
        " now() - interval '1 second', '{}', '{}')"
    )
    db.execute(
        "UPDATE holdfast.job SET state = 'executing', worker_id = 77, epoch = 1,"
        " started_at = now() WHERE id = %s",
        [handle.id],
    )
    async with running(app):
        assert await handle.result(timeout=30) == "rescued"
        await eventually(lambda: db.value("SELECT count(*) FROM holdfast.worker") == 1)
    assert counters(db, handle.id) == ("completed", 0, 1, 0)
    assert outcomes(db, handle.id) == [("crashed", "crash"), ("completed", None)]


async def test_a_worker_that_was_declared_dead_stops_its_jobs_and_writes_nothing(
    app: Holdfast, db
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()
    effects: list[str] = []

    async def effect() -> None:
        effects.append("made")

    @app.job(backoff=instantly)
    async def work(ctx: Context) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
            await ctx.step(effect)

    async with running(app):
        handle = await work.enqueue()
        await reached(started)
        # What a rescue elsewhere does to a worker that it believes dead.
        db.execute(
            "UPDATE holdfast.job SET state = 'available', worker_id = NULL, epoch = epoch + 1,"
            " run_at = holdfast.clock() + interval '1 hour' WHERE id = %s",
            [handle.id],
        )
        db.execute("DELETE FROM holdfast.worker")
        await reached(stopped)
    assert effects == []
    assert counters(db, handle.id) == ("available", 0, 0, 0)
    assert outcomes(db, handle.id) == []
