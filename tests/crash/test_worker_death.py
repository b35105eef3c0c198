"""Worker processes and supervisors that die, hang and are told to stop; real processes."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from fixtures.looking import counters, outcomes
from fixtures.running import eventually_sync
from holdfast import Holdfast, JobFailed, JobNeedsAttention

pytestmark = pytest.mark.slow  # each starts process trees and lets them die


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The jobs, where a worker can load them."""
    path = tmp_path / "death_jobs.py"
    shutil.copy(Path(__file__).with_name(path.name), path)
    return path


def enqueue(db, name: str, queue: str, **args: object) -> int:
    job = {"name": name, "queue": queue, "args": args, "max_attempts": 1}
    return db.value("SELECT id FROM holdfast.enqueue(%s)", [Jsonb(job)])


def notes(module: Path, name: str) -> list[int]:
    """The process ids that wrote a note, in order."""
    path = module.with_name(name)
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def started(module: Path, count: int = 1) -> list[int]:
    """Waits until the job has started `count` times; returns the processes."""
    eventually_sync(lambda: len(notes(module, "started")) >= count)
    return notes(module, "started")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process that nobody has waited for yet is as good as gone.
    return " Z " in Path(f"/proc/{pid}/stat").read_text().partition(")")[2][:3]


def history(db, job_id: int) -> list[tuple]:
    return db.execute(
        "SELECT outcome, charged, reason FROM holdfast.execution WHERE job_id = %s ORDER BY epoch",
        [job_id],
    )


def test_the_jobs_of_a_killed_process_run_again_without_their_finished_steps(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    worker_command(module)
    job_id = enqueue(db, "until_released", "long")
    (victim,) = started(module)
    os.kill(victim, signal.SIGKILL)
    assert started(module, 2)[1] != victim
    module.with_name("release").touch()
    assert app.handle(job_id).result_sync(timeout=20) == 42
    assert len(notes(module, "first_part")) == 1
    assert counters(db, job_id) == ("completed", 0, 1, 0)
    killed = ("crashed", "crash", "its worker process was killed by SIGKILL")
    assert history(db, job_id) == [killed, ("completed", None, None)]


def test_a_job_that_kills_every_process_it_meets_stops_for_a_person(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    worker_command(module, "--queues", "deadly:1")
    job_id = enqueue(db, "kill", "deadly", how="segfault", deaths=99)
    with pytest.raises(JobNeedsAttention, match=r"died 3 times.*SIGSEGV"):
        app.handle(job_id).result_sync(timeout=30)
    assert len(notes(module, "deaths")) == 3
    assert counters(db, job_id) == ("attention", 0, 3, 0)
    assert outcomes(db, job_id) == [("crashed", "crash")] * 3
    other = enqueue(db, "pid", "deadly")
    assert app.handle(other).result_sync(timeout=20) > 0


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit 0", "exited with code 0"),
        ("exit 7", "exited with code 7"),
        ("segfault", "was killed by SIGSEGV"),
        ("abort", "was killed by SIGABRT"),
    ],
)
def test_a_job_that_ends_its_process_is_charged_with_the_crash(
    app: Holdfast, db, worker_command: Callable, module: Path, how: str, words: str
) -> None:
    worker_command(module)
    job_id = enqueue(db, "kill", "deadly", how=how, deaths=1)
    assert app.handle(job_id).result_sync(timeout=20) == "survived"
    assert counters(db, job_id) == ("completed", 0, 1, 0)
    assert history(db, job_id)[0] == ("crashed", "crash", f"its worker process {words}")


def test_a_job_that_calls_sys_exit_fails_and_its_process_lives_on(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    worker_command(module)
    before = app.handle(enqueue(db, "pid", "deadly")).result_sync(timeout=20)
    for name, error in [
        ("leave", "SystemExit"),
        ("leave_from_a_branch", "SystemExit"),
        ("leave_from_a_thread", "KeyboardInterrupt"),
    ]:
        job_id = enqueue(db, name, "deadly")
        with pytest.raises(JobFailed, match=error):
            app.handle(job_id).result_sync(timeout=20)
        assert counters(db, job_id) == ("discarded", 1, 0, 0)
    after = app.handle(enqueue(db, "pid", "deadly")).result_sync(timeout=20)
    assert after == before


def test_the_processes_of_a_killed_supervisor_end_and_another_one_takes_over(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    tree = worker_command(module)
    job_id = enqueue(db, "until_released", "long")
    (child,) = started(module)
    worker_command(module)
    eventually_sync(lambda: _workers(app) == 2)
    tree.process.kill()
    eventually_sync(lambda: gone(child))
    assert started(module, 2)[1] != child
    module.with_name("release").touch()
    assert app.handle(job_id).result_sync(timeout=20) == 42
    assert len(notes(module, "first_part")) == 1
    assert counters(db, job_id) == ("completed", 0, 1, 0)
    assert history(db, job_id)[0][:2] == ("crashed", "crash")


def _workers(app: Holdfast) -> int:
    return len(app.workers_sync())


def test_a_frozen_tree_loses_its_jobs_and_writes_nothing_when_it_thaws(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    frozen = worker_command(module)
    job_id = enqueue(db, "until_released", "long")
    (child,) = started(module)
    for pid in (frozen.process.pid, child):
        os.kill(pid, signal.SIGSTOP)
    try:
        worker_command(module)
        assert started(module, 2)[1] != child  # the lease of 10 s has to run out
        module.with_name("release").touch()
        assert app.handle(job_id).result_sync(timeout=20) == 42
        before = _row(db, job_id)
    finally:
        for pid in (frozen.process.pid, child):
            os.kill(pid, signal.SIGCONT)
    eventually_sync(lambda: gone(child))
    assert _row(db, job_id) == before
    assert counters(db, job_id) == ("completed", 0, 1, 0)
    assert [row[0] for row in history(db, job_id)] == ["crashed", "completed"]
    # Its supervisor starts another process, which serves again.
    eventually_sync(lambda: _workers(app) == 2)


def _row(db, job_id: int) -> tuple:
    return db.execute("SELECT * FROM holdfast.job_archive WHERE id = %s", [job_id])[0]


def test_sigterm_lets_jobs_finish_and_exits_well(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    tree = worker_command(module)
    first = enqueue(db, "polite", "long")
    started(module)
    tree.process.send_signal(signal.SIGTERM)
    assert app.handle(first).result_sync(timeout=20) == "ended in time"
    assert tree.process.wait(20) == 0
    assert counters(db, first) == ("completed", 0, 0, 0)
    late = enqueue(db, "pid", "deadly")
    assert counters(db, late) == ("available", 0, 0, 0)
    assert _workers(app) == 0


def test_a_second_sigterm_hands_the_jobs_back_for_free(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    tree = worker_command(module)
    job_id = enqueue(db, "until_released", "long")
    started(module)
    tree.process.send_signal(signal.SIGTERM)
    eventually_sync(lambda: notes(module, "told"))
    tree.process.send_signal(signal.SIGTERM)
    assert tree.process.wait(20) == 0
    assert counters(db, job_id) == ("available", 0, 0, 1)
    assert outcomes(db, job_id) == [("shutdown", None)]
    worker_command(module)
    module.with_name("release").touch()
    assert app.handle(job_id).result_sync(timeout=20) == 42
    assert len(notes(module, "first_part")) == 1


def test_a_job_that_ignores_the_end_of_its_worker_is_handed_back_all_the_same(
    app: Holdfast, db, worker_command: Callable, module: Path
) -> None:
    tree = worker_command(module, env={"HOLDFAST_GRACE": "0.2"})
    job_id = enqueue(db, "stubborn", "long")
    (child,) = started(module)
    assert tree.stop() == 0
    assert gone(child)
    assert notes(module, "ignored")
    assert counters(db, job_id) == ("available", 0, 0, 1)


def test_an_application_that_cannot_be_imported_ends_the_supervisor_with_a_message(
    worker_command: Callable, tmp_path: Path
) -> None:
    broken = tmp_path / "broken_jobs.py"
    broken.write_text("import no_such_module_anywhere\n")
    tree = worker_command(broken)
    assert tree.process.wait(20) == 2
    assert "no_such_module_anywhere" in tree.log
    assert "Traceback" not in tree.log
