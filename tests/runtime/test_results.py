"""Waiting for jobs: by notification, typed, from anywhere, and never for nothing."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum

import psycopg
import pytest
from pydantic import BaseModel

from fixtures.running import eventually, running
from holdfast import (
    Handle,
    Holdfast,
    JobCancelled,
    JobFailed,
    JobNeedsAttention,
    JobNotFound,
    ResultTimeout,
)
from holdfast.app import waiting


class Size(Enum):
    SMALL = "s"


@dataclass
class Item:
    name: str
    at: datetime


class Report(BaseModel):
    items: list[Item]
    total: Decimal


MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
RESULTS = {
    "enum": (Size, Size.SMALL),
    "dataclass": (Item, Item("a", MOMENT)),
    "model": (Report, Report(items=[Item("b", MOMENT)], total=Decimal("1.50"))),
    "tuple": (tuple[int, Item], (1, Item("c", MOMENT))),
    "bytes": (bytes, b"\x00\xff"),
    "large": (bytes, os.urandom(2_000_000)),
    "text": (str, "a\x00\ud800"),
    "nothing": (None, None),
}


@pytest.mark.parametrize("name", RESULTS)
async def test_a_result_has_the_type_of_the_return_annotation(app: Holdfast, name: str) -> None:
    annotation, value = RESULTS[name]

    async def make():
        return value

    make.__annotations__["return"] = annotation
    job = app.job()(make)
    async with running(app):
        handle = await job.enqueue()
        assert await handle.result(timeout=10) == value
        assert await asyncio.to_thread(handle.result_sync, 10) == value
        assert await app.handle(handle.id, "make").result(timeout=10) == value


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting looks only when it is told."""
    monkeypatch.setattr(waiting, "_POLL_S", 3600.0)
    monkeypatch.setattr(waiting, "_POLL_BLIND_S", 3600.0)


@pytest.mark.parametrize("end", ["returns", "fails", "cancels", "stops"])
async def test_waiting_is_ended_by_a_notification(app: Holdfast, no_polls, end: str) -> None:
    gate = asyncio.Event()

    @app.job(max_attempts=1)
    async def work() -> object:
        await gate.wait()
        if end == "fails":
            raise ValueError("bad")
        return object() if end == "stops" else 5

    errors = {"fails": JobFailed, "cancels": JobCancelled, "stops": JobNeedsAttention}
    async with running(app):
        handle = await work.enqueue()
        waiters = [asyncio.create_task(handle.result(timeout=30)) for _ in range(20)]
        blocking = [asyncio.create_task(asyncio.to_thread(handle.result_sync, 30)) for _ in "ab"]
        await eventually(lambda: _awaited(app, handle.id))
        await handle.cancel() if end == "cancels" else gate.set()
        answers = await asyncio.gather(*waiters, *blocking, return_exceptions=True)
    if end == "returns":
        assert answers == [5] * 22
    else:
        assert {type(answer) for answer in answers} == {errors[end]}


def _awaited(app: Holdfast, job_id: int) -> bool:
    with psycopg.connect(app.client.dsn) as conn:
        query = f'SELECT awaited FROM "{app.settings.schema}".job WHERE id = %s'
        return bool(conn.execute(query, [job_id]).fetchone()[0])


async def test_a_result_that_does_not_come_in_time_leaves_the_job_alone(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> str:
        return "late"

    async with app:
        handle = await work.enqueue()
        with pytest.raises(ResultTimeout) as caught:
            await handle.result(timeout=0.05)
        assert caught.value.job_id == handle.id
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(ResultTimeout):
            await asyncio.to_thread(handle.result_sync, 0.05)
        async with app.running():
            assert await handle.result(timeout=10) == "late"


async def test_a_job_that_does_not_exist_is_said_at_once(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> None: ...

    async with app:
        handle = app.handle(987_654)
        with pytest.raises(JobNotFound):
            await handle.result(timeout=30)
        with pytest.raises(JobNotFound):
            await asyncio.to_thread(handle.result_sync, 30)
        with pytest.raises(JobNotFound):
            await handle.job()
        with pytest.raises(JobNotFound):
            await app.explain(987_654)


async def test_an_enqueue_that_is_not_committed_is_not_found_and_later_is(
    app: Holdfast, db
) -> None:
    @app.job()
    async def work() -> str:
        return "ran"

    async with running(app):
        async with (
            await psycopg.AsyncConnection.connect(db.dsn) as conn,
            conn.transaction(),
        ):
            handle = await work.options(conn=conn).enqueue()
            with pytest.raises(JobNotFound, match="commit"):
                await handle.result(timeout=10)
        assert await handle.result(timeout=10) == "ran"


async def test_another_process_waits_for_the_same_job(app: Holdfast, db) -> None:
    @app.job()
    async def work() -> dict:
        return {"a": 1}

    handle = await work.enqueue()
    code = (
        "import json, sys; from holdfast import Holdfast\n"
        "app = Holdfast(sys.argv[1], schema=sys.argv[2])\n"
        "print(json.dumps(app.handle(int(sys.argv[3])).result_sync(timeout=30)))\n"
    )
    arguments = [sys.executable, "-c", code, db.dsn, db.schema, str(handle.id)]
    other = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    try:
        await eventually(lambda: _awaited(app, handle.id), within=20)
        async with running(app):
            output, _ = await other.communicate()
    finally:
        if other.returncode is None:
            other.kill()
            await other.wait()
    assert json.loads(output) == {"a": 1}


async def test_a_handle_outlives_the_job_and_tells_the_last_error(app: Holdfast, db) -> None:
    @app.job(max_attempts=2, backoff=lambda n, e: 0)
    async def work() -> None:
        raise ValueError("the reason")

    async with running(app):
        handle = await work.enqueue()
        for _ in range(2):
            with pytest.raises(JobFailed, match="2 failures: ValueError: the reason") as caught:
                await handle.result(timeout=10)
        assert caught.value.job_id == handle.id
        assert isinstance(handle, Handle)


async def test_a_result_is_waited_for_over_the_loss_of_the_connections(app: Holdfast, db) -> None:
    gate = threading.Event()

    @app.job()
    def work() -> str:
        gate.wait(20)
        return "there"

    async with running(app):
        handle = await work.enqueue()
        waiter = asyncio.create_task(handle.result(timeout=30))
        await eventually(lambda: _awaited(app, handle.id))
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            [f"test-{db.schema}"],
        )
        gate.set()
        assert await waiter == "there"


async def test_a_waiter_that_gave_up_leaves_nothing_behind(app: Holdfast) -> None:
    @app.job()
    async def work() -> None: ...

    handle = await work.enqueue()
    with pytest.raises(ResultTimeout):
        await handle.result(timeout=0.05)
    waiter = app.client._loop_state()[1]
    assert (waiter._waiting, waiter._askers) == ({}, {})
    await app.close()
