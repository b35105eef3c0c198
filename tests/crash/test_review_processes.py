"""Supervisors whose children cannot start, chatter, or die while the database is away."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.proxy import proxy
from fixtures.running import eventually_sync
from holdfast import Holdfast

pytestmark = pytest.mark.slow  # each starts process trees

_MODULE = """
import os
from pathlib import Path
from holdfast import Holdfast

app = Holdfast()


@app.job()
async def pid() -> int:
    return os.getpid()
"""

_BREAKABLE = """
if Path(__file__).with_name("broken").exists():
    Path(__file__).with_name("tries").open("a").write("x")
    raise SystemExit(3)
"""

_CHATTY = """
print("loading the model...", end="")
"""


def write(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "review_jobs.py"
    path.write_text(_MODULE + more)
    return path


def enqueue(db) -> int:
    return db.value("""SELECT id FROM holdfast.enqueue('{"name": "pid"}'::jsonb)""")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process that nobody has waited for yet is as good as gone.
    return " Z " in Path(f"/proc/{pid}/stat").read_text().partition(")")[2][:3]


def test_a_child_that_cannot_start_again_does_not_end_the_others(
    app: Holdfast, db, worker_command: Callable, tmp_path: Path
) -> None:
    command = worker_command(write(tmp_path, _BREAKABLE), "--processes", "2")
    eventually_sync(lambda: len(command.child_pids()) == 2)
    victim, healthy = command.child_pids()
    (tmp_path / "broken").touch()
    os.kill(victim, signal.SIGKILL)
    tries = tmp_path / "tries"
    eventually_sync(lambda: tries.exists() and len(tries.read_text()) >= 2, within=30)
    assert app.handle(enqueue(db)).result_sync(timeout=20) == healthy
    assert command.process.poll() is None
    (tmp_path / "broken").unlink()
    eventually_sync(lambda: len(command.child_pids()) == 2, within=30)
    assert healthy in command.child_pids()


def test_a_module_that_prints_without_a_newline_at_import_starts(
    app: Holdfast, db, worker_command: Callable, tmp_path: Path
) -> None:
    command = worker_command(write(tmp_path, _CHATTY))
    assert app.handle(enqueue(db)).result_sync(timeout=20) in command.child_pids()
    assert command.stop() == 0
    assert "loading the model..." in command.log


def test_a_supervisor_told_to_stop_while_the_database_is_away_ends(
    db, worker_command: Callable, tmp_path: Path
) -> None:
    with proxy(db.dsn) as relay:
        env = {"HOLDFAST_DSN": relay.dsn, "HOLDFAST_GRACE": "1"}
        command = worker_command(write(tmp_path), "--processes", "2", env=env)
        eventually_sync(lambda: len(command.child_pids()) == 2)
        victim, other = command.child_pids()
        relay.cut()
        os.kill(victim, signal.SIGKILL)
        eventually_sync(lambda: gone(victim))
        command.stop(within=30)
        eventually_sync(lambda: gone(other))
        db.execute("DELETE FROM holdfast.worker")  # nobody is left to do it
