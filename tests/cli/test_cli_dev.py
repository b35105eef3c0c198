"""`holdfast dev`, end to end: a database of its own, reload, and a clean end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fixtures.command import environment, run_command
from fixtures.running import eventually_sync
from holdfast.cli.reload import CodeWatch, folder_of

CODE = """
from holdfast import Holdfast

app = Holdfast()


@app.job()
async def greet() -> str:
    return "first"
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the account of the embedded server can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-dev-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def banner_of(log: Path) -> dict:
    """What dev wrote to standard output, once it has."""
    return json.loads(log.read_text() or "null")


@pytest.mark.slow
def test_dev_runs_jobs_reloads_changed_code_and_ends_cleanly(place, tmp_path) -> None:
    code = place / "code"
    code.mkdir()
    target = code / "dev_tasks.py"
    target.write_text(CODE)
    out, err = tmp_path / "out", tmp_path / "err"
    env = environment(HOLDFAST_DSN="postgresql:///ignored?host=/nowhere")
    command = [sys.executable, "-m", "holdfast", "dev", str(target), "--json"]
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--data", str(place / "pg")], env=env, stdout=stdout, stderr=stderr
        )
    try:
        banner = eventually_sync(lambda: banner_of(out), within=60)
        assert banner["postgresql"].endswith("(embedded)")
        assert banner["schema_version"] >= 1
        assert "HOLDFAST_DSN is set and ignored" in err.read_text()
        run = ["run", target, "greet", "--dsn", banner["dsn"], "--timeout", "30"]
        first = run_command(*run, env=environment())
        assert first.document == "first", first.err

        target.write_text(CODE.replace("first", "second"))
        eventually_sync(lambda: "starting the worker again" in err.read_text())
        with psycopg.connect(banner["dsn"], autocommit=True) as conn:
            rows = "SELECT count(*) FROM holdfast.worker"
            eventually_sync(lambda: conn.execute(rows).fetchone()[0] == 1)
            second = run_command(*run, env=environment())
            assert second.document == "second", second.err

            target.write_text(CODE + "\n1 / 0\n")
            eventually_sync(lambda: "the worker ended with exit code" in err.read_text())
            target.write_text(CODE.replace("first", "third"))
            third = run_command(*run, env=environment())
            assert third.document == "third", third.err
            pid = conn.execute("SELECT pid FROM holdfast.worker").fetchone()[0]

        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, err.read_text()
        assert err.read_text().endswith("stopped; the data stay\n")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(banner["dsn"])
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_worker_does_not_outlive_a_dev_that_was_killed(tasks, db, tmp_path) -> None:
    env = environment(HOLDFAST_DSN=db.dsn)
    command = [sys.executable, "-m", "holdfast", "dev", str(tasks)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--dsn", db.dsn, "--schema", db.schema], env=env, stdout=log, stderr=log
        )
    workers = "SELECT count(*) FROM holdfast.worker"
    try:
        eventually_sync(lambda: db.value(workers) == 1)
        pid = db.value("SELECT pid FROM holdfast.worker")
    finally:
        process.kill()
        process.wait()
    eventually_sync(lambda: db.value(workers) == 0)
    eventually_sync(lambda: not _is_alive(pid))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_dev_refuses_two_databases_at_once(tasks, tmp_path) -> None:
    ran = run_command(
        "dev", tasks, "--dsn", "postgresql:///x", "--data", tmp_path, env=environment()
    )
    assert ran.code == 2
    assert "choose one database" in ran.err


def test_dev_on_a_server_that_is_not_there_exits_with_3(tasks, tmp_path) -> None:
    ran = run_command("dev", tasks, "--dsn", f"postgresql:///x?host={tmp_path}", env=environment())
    assert ran.code == 3
    assert "HF-201" in ran.err


def test_a_watch_sees_new_changed_and_removed_code_and_nothing_else(tmp_path) -> None:
    (tmp_path / "a.py").write_text("a = 1")
    (tmp_path / ".git").mkdir()
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    watch = CodeWatch(tmp_path)
    assert watch.changes() == []
    (tmp_path / "a.py").write_text("a = 12")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "b.py").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".git" / "c.py").touch()
    (tmp_path / "env" / "d.py").touch()
    assert watch.changes() == ["a.py", "pkg/b.py"]
    assert watch.changes() == []
    (tmp_path / "a.py").unlink()
    assert watch.changes() == ["a.py"]


def test_the_watched_folder_is_the_files_own_or_the_current_one(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_of("pkg.tasks:app") == tmp_path
    assert folder_of("below/tasks.py:app") == tmp_path / "below"
