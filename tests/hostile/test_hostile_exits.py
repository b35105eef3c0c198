"""`SystemExit` and `KeyboardInterrupt` out of tasks and callbacks that user code made itself.

asyncio raises them out of the loop. A worker process goes on with its loop: only the job that
waited for the task fails. In an application the loop is the application's, which ends as it would
without us; its jobs run elsewhere.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.hostile import enqueue_by_sql
from fixtures.looking import counters
from fixtures.running import WorkerCommand, eventually_sync
from holdfast import Holdfast, JobFailed

pytestmark = pytest.mark.slow  # real processes

KINDS = ["SystemExit", "KeyboardInterrupt"]
FAILING = ["await_task", "gather_tasks", "task_group", "inside_a_step"]
HARMLESS = {"forgotten_task": "went on", "callback": "went on", "generator": "went on"}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The jobs, where a worker can load them."""
    path = tmp_path / "exit_jobs.py"
    shutil.copy(Path(__file__).with_name(path.name), path)
    return path


@pytest.fixture(params=["uvloop", "asyncio"])
def worker(
    request: pytest.FixtureRequest, worker_command: Callable, module: Path, tmp_path: Path
) -> WorkerCommand:
    """A worker process on either event loop."""
    env = {}
    if request.param == "asyncio":
        hidden = tmp_path / "hidden"
        hidden.mkdir()
        (hidden / "uvloop.py").write_text("raise ImportError('hidden by a test')\n")
        env["PYTHONPATH"] = os.pathsep.join([str(hidden), *filter(None, [os.getenv("PYTHONPATH")])])
    else:
        pytest.importorskip("uvloop")
    return worker_command(module, env=env)


def run(app: Holdfast, db, name: str, **args: object) -> object:
    return app.handle(enqueue_by_sql(db, name=name, args=args, max_attempts=1)).result_sync(20)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_out_of_tasks_of_ones_own_fails_its_job_and_the_process_lives_on(
    app: Holdfast, db, worker: WorkerCommand, module: Path, kind: str
) -> None:
    before = run(app, db, "pid")
    neighbour = enqueue_by_sql(db, name="neighbour")
    eventually_sync(module.with_name("neighbour").exists)
    for name in FAILING:
        job_id = enqueue_by_sql(db, name=name, args={"kind": kind}, max_attempts=1)
        with pytest.raises(JobFailed, match=f"{kind}|BaseExceptionGroup"):
            app.handle(job_id).result_sync(timeout=20)
        assert counters(db, job_id) == ("discarded", 1, 0, 0)
    for name, result in HARMLESS.items():
        assert run(app, db, name, kind=kind) == result
    assert run(app, db, "many_tasks", kind=kind) == 100
    module.with_name("release").touch()
    assert app.handle(neighbour).result_sync(timeout=20) == before
    assert run(app, db, "pid") == before
    assert counters(db, neighbour) == ("completed", 0, 0, 0)
    assert "worker.exit_ignored" in worker.log
    assert worker.stop() == 0


@pytest.fixture
def application(db, module: Path) -> Iterator[subprocess.Popen]:
    env = {**os.environ, "HOLDFAST_DSN": db.dsn, "HOLDFAST_SCHEMA": db.schema}
    process = subprocess.Popen(
        [sys.executable, str(module)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    yield process
    process.kill()
    process.communicate()


def test_an_exit_that_ends_an_application_leaves_its_jobs_to_others(
    app: Holdfast, db, application: subprocess.Popen, module: Path, worker_command: Callable
) -> None:
    neighbour = enqueue_by_sql(db, name="neighbour")
    eventually_sync(module.with_name("neighbour").exists)
    leaving = enqueue_by_sql(db, name="leave_once")
    application.wait(20)
    assert module.with_name("left").exists()
    module.with_name("release").touch()
    worker_command(module)
    assert app.handle(leaving).result_sync(timeout=30) == "ran again"
    assert app.handle(neighbour).result_sync(timeout=30) > 0
    assert counters(db, neighbour)[0] == counters(db, leaving)[0] == "completed"
