"""`holdfast worker` behind a PgBouncer in transaction mode; real processes, killed."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from fixtures.looking import counters, outcomes
from fixtures.pgbouncer import Pooled
from fixtures.running import WorkerCommand, eventually_sync
from holdfast import Holdfast

pytestmark = pytest.mark.slow  # each starts process trees and lets them die


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The jobs of the crash tests, where a worker can load them."""
    path = tmp_path / "death_jobs.py"
    shutil.copy(Path(__file__).parents[1] / "crash" / path.name, path)
    return path


@pytest.fixture
def behind(worker_command: Callable[..., WorkerCommand], pooled: Pooled) -> Callable:
    """Starts `holdfast worker` behind the pooler."""

    def start(target: Path, *args: str) -> WorkerCommand:
        return worker_command(target, *args, env={"HOLDFAST_DSN": pooled.dsn})

    return start


def started(module: Path, count: int = 1) -> list[int]:
    """Waits until the job has started `count` times; returns the processes."""

    def notes() -> list[int]:
        path = module.with_name("started")
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[0]) for line in lines]

    eventually_sync(lambda: len(notes()) >= count, within=40)
    return notes()


def enqueue(pooled: Pooled) -> int:
    job = {"name": "until_released", "queue": "long", "args": {}, "max_attempts": 1}
    return pooled.direct.value("SELECT id FROM holdfast.enqueue(%s)", [Jsonb(job)])


def test_f28_a_killed_worker_process_costs_its_supervisor_no_time(
    pooled: Pooled, behind: Callable, module: Path
) -> None:
    command = behind(module)
    job_id = enqueue(pooled)
    (victim,) = started(module)
    os.kill(victim, signal.SIGKILL)
    assert started(module, 2)[1] != victim
    module.with_name("release").touch()
    app = Holdfast(pooled.dsn, schema=pooled.schema)
    assert app.handle(job_id).result_sync(timeout=20) == 42
    app.close_sync()
    assert counters(pooled.direct, job_id) == ("completed", 0, 1, 0)
    assert command.stop() == 0
    assert "worker.pooled" in command.log
    assert "prepared statement" not in command.log
    assert {row[6:] for row in pooled.pgbouncer.leftovers()} == {(0, 0, 0)}


def test_f28_a_killed_supervisors_jobs_run_elsewhere_when_its_lease_is_over(
    pooled: Pooled, behind: Callable, module: Path
) -> None:
    first = behind(module)
    job_id = enqueue(pooled)
    started(module)
    second = behind(module)
    eventually_sync(lambda: len(second.child_pids()) == 2)
    first.process.kill()
    # The first one's lease runs out by itself; the second's heartbeat finds it.
    assert len(started(module, 2)) == 2
    module.with_name("release").touch()
    eventually_sync(lambda: counters(pooled.direct, job_id)[0] == "completed")
    assert outcomes(pooled.direct, job_id)[0] == ("crashed", "crash")
    assert second.stop() == 0
