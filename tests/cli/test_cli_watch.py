"""`holdfast jobs tail` and `holdfast top`: what people watch."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from fixtures.command import environment
from fixtures.running import eventually_sync
from holdfast import QueueInfo
from holdfast.cli.tail import Teller
from holdfast.cli.top_frame import frame
from holdfast.model.watching import ChangedJob, Changes, Overview, RunningJob

NOW = datetime(2031, 5, 5, 12, tzinfo=UTC)

Following = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def follow(db) -> Iterator[Following]:
    """Starts `holdfast jobs tail ARGS` and waits until it follows."""
    started = []

    def start(*args: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "jobs", "tail", *args],
            env=environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stderr.readline() == "following; Ctrl-C ends\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupt(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(20)


def enqueue(db, queue: str = "mail", count: int = 1) -> None:
    db.execute(
        "SELECT holdfast.enqueue((SELECT jsonb_agg(jsonb_build_object("
        "'name', 'send', 'queue', %s::text)) FROM generate_series(1, %s)))",
        [queue, count],
    )


def test_tail_tells_each_change_once_and_ends_well_with_ctrl_c(follow, db) -> None:
    enqueue(db)
    process = follow("--json", "--queue", "mail")
    enqueue(db, "other")
    enqueue(db)
    assert json.loads(process.stdout.readline())["event"] == "enqueued"
    db.execute("SELECT holdfast.cancel(ARRAY[1, 3], 'not needed')")
    told = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert {(line["id"], line["event"]) for line in told} == {(1, "cancelled"), (3, "cancelled")}
    assert "not needed" in told[0]["detail"]
    db.execute("SELECT holdfast.retry(ARRAY[3])")
    assert json.loads(process.stdout.readline())["event"] == "retried"
    assert interrupt(process) == 0
    assert process.stdout.read() == ""


def test_tail_writes_so_many_lines_at_a_time_and_says_how_many_more(follow, db) -> None:
    process = follow()
    enqueue(db, count=150)
    lines = [process.stdout.readline() for _ in range(101)]
    assert all("enqueued" in line and "send [mail]" in line for line in lines[:100])
    assert lines[100] == "… changes of 50 more jobs\n"
    assert interrupt(process) == 0


def test_tail_ends_quietly_when_its_reader_has_gone(follow, db) -> None:
    process = follow()
    process.stdout.close()
    enqueue(db)
    assert process.wait(20) == 0
    assert process.stderr.read() == ""


# --- What a change is called ----------------------------------------------------------------------


def changed(**fields: Any) -> ChangedJob:
    empty = dict.fromkeys(ChangedJob._fields)
    known = {"id": 1, "name": "n", "queue": "q", "state": "available", "shown": "available"}
    counts = {"epoch": 0, "failures": 0, "created_at": NOW, "run_at": NOW, "is_cancelled": False}
    return ChangedJob(**{**empty, **known, **counts, **fields})


def running(**fields: Any) -> ChangedJob:
    state = {"state": "executing", "shown": "executing", "started_at": NOW, "epoch": 1}
    return changed(**{**state, **fields})


def completed(**fields: Any) -> ChangedJob:
    end = {"state": "completed", "shown": "completed", "finished_at": NOW + timedelta(seconds=1)}
    return running(**{**end, **fields})


def told(*versions: ChangedJob, begun: datetime = NOW, count: int | None = None) -> list[str]:
    teller = Teller()
    teller.begun = begun
    events = []
    for job in versions:
        page = Changes(1, 1, NOW + timedelta(seconds=2), count or 1, [], [job])
        events += [event.what for event in teller.events(page)]
    return events


@pytest.mark.parametrize(
    ("versions", "events"),
    [
        ([completed()], ["enqueued", "started", "completed"]),
        ([changed(), running(), completed()], ["enqueued", "started", "completed"]),
        ([changed(), changed()], ["enqueued"]),
        ([running(progress=0.5), running(progress=0.5)], ["enqueued", "started", "progress"]),
        ([running(), running(is_cancelled=True)], ["enqueued", "started", "cancel requested"]),
        (
            [running(), changed(epoch=1, shown="retryable", wait_reason="retry"), running(epoch=2)],
            ["enqueued", "started", "retryable", "started"],
        ),
        ([completed(), changed(epoch=1)], ["enqueued", "started", "completed", "retried"]),
        ([changed(state="attention", shown="attention", epoch=3)], ["enqueued", "attention"]),
    ],
)
def test_what_happened_between_two_looks_is_told_in_order(versions, events) -> None:
    assert told(*versions) == events


def test_what_was_there_before_is_not_told_as_new() -> None:
    later = NOW + timedelta(minutes=1)
    assert told(running(progress=0.5), begun=later) == ["progress"]
    assert told(completed(), begun=later) == ["completed"]


def test_what_was_left_out_for_the_limit_does_not_come_late() -> None:
    assert told(changed(id=1), completed(id=2), begun=NOW, count=9) == ["enqueued", "completed"]


# --- top ------------------------------------------------------------------------------------------


def test_once_prints_a_frame_and_a_document_with_json(holdfast, db) -> None:
    assert "no queues" in holdfast("top", "--once").out
    enqueue(db, count=2)
    db.execute("SELECT holdfast.cancel(ARRAY[1])")
    db.execute(
        "UPDATE holdfast.job SET state = 'executing', worker_id = 7, started_at = now(),"
        " progress = 0.5, progress_text = E'half\\x1b[2J done'"
    )
    out = holdfast("top").out
    assert "1 running" in out and "1 cancelled in 1 min" in out
    assert "██████████░░░░░░░░░░  50 %" in out
    assert "half\\x1b[2J done" in out and "\x1b" not in out
    found = holdfast("top", "--once", "--json").document
    assert [queue["name"] for queue in found["queues"]] == ["mail"]
    assert [job["progress"] for job in found["running"]] == [0.5]
    assert found["finished"] == {"seconds": 60.0, "states": {"cancelled": 1}}


def test_top_on_a_terminal_draws_until_ctrl_c_and_ends_well(db) -> None:
    enqueue(db)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "top", "--every", "200ms"],
        env=environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema, TERM="xterm"),
        stdin=slave, stdout=slave, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(slave)
    drawn = b""

    def is_drawn_twice() -> bool:
        nonlocal drawn
        drawn += os.read(master, 65536)
        return drawn.count(b"holdfast") >= 2 and b"mail" in drawn

    eventually_sync(is_drawn_twice)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        try:
            drawn += os.read(master, 65536)
        except OSError:
            break
    assert process.wait(20) == 0, process.stderr.read()
    process.stderr.close()
    os.close(master)
    assert b"\x1b[?1049l" in drawn, "the terminal's own screen is back"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (130, 40), (40, 16)])
def test_a_frame_fits_the_terminal(width, height) -> None:
    queues = [QueueInfo(f"queue-{n}", n, 0, 1, 0, 3.0, 1, 10, 0, None, None) for n in range(30)]
    job = RunningJob(7, "research", "agents", 1, 9, "blue", 5.0, 0.5, 1, 2, "x" * 200, False)
    found = Overview(queues, [], [job] * 90, {"completed": 3})
    screen = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    lines = screen.render_lines(
        frame(found, "holdfast", 2.0, width=width, height=height), pad=False
    )
    assert len(lines) <= height
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert "more" in text and "rese" in text
