"""`holdfast run`: enqueue, follow, result, with a real worker."""

import io
import os
import pty
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from fixtures.command import environment
from fixtures.running import eventually_sync
from holdfast import DatabaseUnavailable
from holdfast.cli.follow import Follower


def test_the_result_is_json_on_standard_output_and_progress_is_on_standard_error(
    holdfast, tasks, worker_command
) -> None:
    worker_command(tasks)
    ran = holdfast("run", tasks, "travel", "miles=3")
    assert ran.code == 0, ran.err
    assert ran.document == {"x": 3, "label": "there"}
    assert "job 1 travel: available" in ran.err
    assert "25 % 1/4 packed" in ran.err
    assert "completed 100 % 4/4 arrived" in ran.err
    lines = ran.err.splitlines()
    assert len(lines) == len(set(lines)), "a line is written only when something changed"


def test_with_json_there_is_one_document_about_the_job(holdfast, tasks, worker_command) -> None:
    worker_command(tasks)
    ran = holdfast("run", tasks, "add", "a=1", "b=2", "--json")
    assert ran.document == {
        "id": 1, "name": "add", "queue": "default", "state": "completed", "result": 3,
        "error": None,
    }  # fmt: skip


def test_a_discarded_job_exits_with_1_and_says_where_it_failed(
    holdfast, tasks, worker_command
) -> None:
    worker_command(tasks)
    ran = holdfast("run", tasks, "boom", "text=no \x1b[2Jluck")
    assert (ran.code, ran.out) == (1, "")
    assert "error: job 1 (boom) was discarded after 1 failures: ValueError: no" in ran.err
    assert "jobs show 1" in ran.err and "code: HF-302" in ran.err
    assert 'at: File "' in ran.err and 'cli_tasks.py", line ' in ran.err
    assert "\x1b" not in ran.err and "\\x1b[2Jluck" in ran.err
    as_json = holdfast("run", tasks, "boom", "--json")
    assert as_json.code == 1
    assert as_json.document["state"] == "discarded"
    assert as_json.document["error"]["code"] == "HF-302"
    assert "ValueError: no luck" in as_json.document["error"]["stack"]


def test_a_job_that_discards_itself_exits_with_1_and_its_reason(
    holdfast, tasks, worker_command
) -> None:
    worker_command(tasks)
    ran = holdfast("run", tasks, "ask")
    assert ran.code == 1
    assert "not worth it" in ran.err


def test_a_job_that_nobody_runs_is_explained_once_and_the_timeout_ends_the_following(
    holdfast, tasks, db
) -> None:
    ran = holdfast("run", tasks, "add", "a=1", "--timeout", "4")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("not started yet: no live worker serves queue 'default'") == 1
    assert "job 1 has not ended within 4 s" in ran.err and "HF-305" in ran.err
    assert db.value("SELECT state FROM holdfast.job") == "available"


def start_run(db, tasks, *args: str, **streams) -> subprocess.Popen:
    """Starts `holdfast run` and leaves it running."""
    env = environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema, TERM="xterm-256color")
    command = [sys.executable, "-m", "holdfast", "run", str(tasks), *args]
    return subprocess.Popen(command, env=env, **streams)


def test_ctrl_c_stops_the_following_and_not_the_job(tasks, db) -> None:
    pipe = subprocess.PIPE
    with start_run(db, tasks, "add", "a=1", stdout=pipe, stderr=pipe, text=True) as process:
        eventually_sync(lambda: "available" in process.stderr.readline())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "job 1 goes on" in err and "Traceback" not in err
    assert db.value("SELECT state FROM holdfast.job") == "available"


def test_a_cancelled_job_ends_the_following_with_1(holdfast, tasks, db) -> None:
    pipe = subprocess.PIPE
    with start_run(db, tasks, "add", "a=1", stdout=pipe, stderr=pipe, text=True) as process:
        eventually_sync(lambda: db.value("SELECT count(*) FROM holdfast.job WHERE awaited") == 1)
        holdfast("jobs", "cancel", 1, "--reason", "enough")
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert "job 1 (add) was cancelled: enough" in err


def test_the_following_survives_the_loss_of_its_database_sessions(
    tasks, db, worker_command
) -> None:
    pipe = subprocess.PIPE
    with start_run(db, tasks, "add", "a=1", stdout=pipe, stderr=pipe, text=True) as process:
        eventually_sync(lambda: db.value("SELECT count(*) FROM holdfast.job WHERE awaited") == 1)
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            [f"test-{db.schema}"],
        )
        worker_command(tasks)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out == "1\n"


def test_a_database_that_stays_away_ends_the_following(app, tmp_path) -> None:
    away = app.with_settings(dsn=f"postgresql:///x?host={tmp_path}")
    written = io.StringIO()
    follower = Follower(away.handle(1), Console(file=written), patience_s=0.3)
    with pytest.raises(DatabaseUnavailable):
        follower.result(None)
    assert written.getvalue().count("the database is away") == 1


def test_on_a_terminal_a_bar_follows_the_job(tasks, db, worker_command) -> None:
    worker_command(tasks)
    ours, theirs = pty.openpty()
    with start_run(
        db, tasks, "travel", "miles=3", stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
        text=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        screen = bytearray()
        while True:
            try:
                screen += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert '"label": "there"' in out and "\x1b" not in out
    drawn = screen.decode()
    assert "━" in drawn and "100 %" in drawn
    assert "completed" in drawn and "arrived" in drawn


def test_the_worker_command_passes_its_exit_code_on(holdfast, tmp_path) -> None:
    path = tmp_path / "cli_empty.py"
    path.write_text("from holdfast import Holdfast\napp = Holdfast()\n")
    ran = holdfast("worker", path, "--json")
    assert ran.code == 2
    assert ran.document == {"target": str(path), "exit_code": 2}
    assert "no job functions" in ran.err


def test_an_unknown_queue_of_a_worker_is_refused_with_a_suggestion(holdfast, tasks) -> None:
    ran = holdfast("worker", tasks, "-q", "wrods:1")
    assert ran.code == 2
    assert "Did you mean 'words'?" in ran.err


@pytest.mark.parametrize("processes", [2])
def test_a_worker_with_options_runs_only_its_queues(
    holdfast, tasks, db, worker_command, processes
) -> None:
    worker = worker_command(
        tasks, "-q", "words:3", "-p", str(processes), "--log-level", "warning", "--json"
    )
    assert holdfast("run", tasks, "echo", "text=hi").code == 0
    eventually_sync(lambda: len(worker.child_pids()) == processes)
    assert db.execute("SELECT DISTINCT queues FROM holdfast.worker") == [({"words": 3},)]
    assert worker.stop() == 0
    assert worker.log.splitlines()[-1].endswith('"exit_code": 0}')
