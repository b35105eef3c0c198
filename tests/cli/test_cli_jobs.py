"""`holdfast jobs`: list, show, explain, retry, cancel."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from fixtures.command import environment
from fixtures.running import eventually_sync


def enqueue(app, name: str = "add", count: int = 1, **options) -> list[int]:
    """Stores jobs of a function that no worker runs."""
    if name not in app.job_functions:

        @app.job(name=name)
        async def made(**arguments: object) -> None: ...

    function = app.job_function(name).options(**options)
    requests = [function.new(n=n) for n in range(count)]
    return [handle.id for handle in app.enqueue_many_sync(requests)]


def test_list_shows_the_newest_first_and_pages(holdfast, app) -> None:
    enqueue(app, count=5)
    ran = holdfast("jobs", "list", "--limit", "2")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()[2:]] == ["5", "4"]
    assert "--before 4" in ran.err
    second = holdfast("jobs", "list", "--limit", "2", "--before", "4", "--json")
    assert [job["id"] for job in second.lines] == [3, 2]


def test_list_with_json_is_one_line_for_each_job_with_its_arguments(holdfast, app) -> None:
    enqueue(app, count=2, tags=["x"], meta={"k": [1]})
    newest, _ = holdfast("jobs", "list", "--json").lines
    assert newest["args"] == {"arguments": {"n": 1}}
    assert (newest["meta"], newest["tags"], newest["shown"]) == ({"k": [1]}, ["x"], "available")
    assert newest["created_at"].count(":") >= 2


def test_list_filters_by_state_queue_name_and_tag(holdfast, app) -> None:
    enqueue(app, "add")
    enqueue(app, "mail", queue="post")
    enqueue(app, "late", run_in="1h", tags=["night"])
    for option, value, expected in (
        ("--state", "scheduled", 3),
        ("--queue", "post", 2),
        ("--name", "add", 1),
        ("--tag", "night", 3),
    ):
        found = holdfast("jobs", "list", option, value, "--json").lines
        assert [job["id"] for job in found] == [expected], option


def test_list_says_when_nothing_matches_and_json_is_empty_then(holdfast) -> None:
    assert "no jobs match" in holdfast("jobs", "list").err
    ran = holdfast("jobs", "list", "--json")
    assert (ran.code, ran.out) == (0, "")


def test_explain_says_why_a_job_waits_until_when_and_what_to_do(holdfast, app) -> None:
    due, late = enqueue(app) + enqueue(app, run_in="1h")
    ran = holdfast("jobs", "explain", due)
    assert "no live worker serves queue 'default'" in ran.out
    assert "advice: Start one: holdfast worker" in ran.out
    document = holdfast("jobs", "explain", late, "--json").document
    assert document["state"] == "scheduled"
    assert "scheduled to run in" in document["reason"]
    assert document["until"] is not None


def test_cancel_ends_waiting_jobs_with_the_reason_and_retry_brings_them_back(
    holdfast, app, db
) -> None:
    first, second = enqueue(app, count=2)
    ran = holdfast("jobs", "cancel", first, second, "--reason", "not needed")
    assert ran.out == f"{first} cancelled\n{second} cancelled\n"
    assert "cancelled" in holdfast("jobs", "show", first).out
    assert db.value("SELECT wait_detail FROM holdfast.job_archive WHERE id = 1") == "not needed"
    again = holdfast("jobs", "retry", first, "--json")
    assert again.lines == [{"id": first, "state": "available"}]


def test_cancel_of_a_running_job_says_that_its_code_is_being_stopped(holdfast, app, db) -> None:
    (job_id,) = enqueue(app)
    db.execute("UPDATE holdfast.job SET state = 'executing', worker_id = 7")
    assert "its code is being stopped" in holdfast("jobs", "cancel", job_id).out
    assert "it is running" in holdfast("jobs", "retry", job_id).out


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_a_missing_job_is_an_error_and_the_others_are_done(holdfast, app, verb) -> None:
    (job_id,) = enqueue(app)
    ran = holdfast("jobs", verb, 99, job_id, "--json")
    assert ran.code == 2
    assert "error: job 99 does not exist" in ran.err and "code: HF-301" in ran.err
    assert [line["id"] for line in ran.lines] == [job_id]


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_asking_for_a_missing_job_is_wrong_use(holdfast, verb) -> None:
    for more in ((), ("--json",)):
        ran = holdfast("jobs", verb, 99, *more)
        assert (ran.code, ran.out) == (2, "")
        assert "job 99 does not exist" in ran.err


@pytest.fixture
def travelled(holdfast, tasks, worker_command) -> int:
    """A job that failed once, slept, and completed."""
    worker_command(tasks)
    job_id = int(holdfast("enqueue", tasks, "travel", "miles=7", "--tag", "trip").out)

    def is_completed() -> bool:
        return holdfast("jobs", "show", job_id, "--json").document["job"]["state"] == "completed"

    eventually_sync(is_completed, within=30)
    return job_id


def test_show_tells_the_whole_story_in_order_of_time(holdfast, travelled) -> None:
    ran = holdfast("jobs", "show", travelled)
    assert ran.code == 0
    head, _, rest = ran.out.partition("timeline, from ")
    for words in (
        f"job {travelled} travel completed",
        'args      {"miles": 7}',
        "tags      trip",
        "1 of 3 attempts failed",
        "100 %  4/4  arrived",
    ):
        assert words in head
    timeline, _, end = rest.partition("\nresult\n")
    order = [
        timeline.index(words)
        for words in ("enqueued", "slice 1", "step fetch", "sleep sleep", "slice 2")
    ]
    assert order == sorted(order)
    for words in (
        "on worker ",
        "failed, charged as failure",
        "next at ",
        "RuntimeError: the road is closed",
        'cli_tasks.py", line ',
        "1 try, ",
        "until ",
    ):
        assert words in timeline
    assert '"label": "there"' in end
    assert "why: it is completed" in end


def test_show_with_json_has_the_same_as_one_document(holdfast, travelled) -> None:
    document = holdfast("jobs", "show", travelled, "--json").document
    assert document["result"] == {"x": 7, "label": "there"}
    assert [execution["outcome"] for execution in document["executions"]] == [
        "failed",
        "completed",
    ]
    assert document["executions"][0]["error_type"] == "RuntimeError"
    assert [step["kind"] for step in document["steps"]] == ["step", "sleep"]
    assert document["job"]["progress"] == 1
    assert document["explanation"]["state"] == "completed"


def test_show_of_a_job_that_just_succeeded_has_its_one_slice(holdfast, tasks, worker_command):
    worker_command(tasks)
    assert holdfast("run", tasks, "add", "a=1").code == 0
    ran = holdfast("jobs", "show", 1)
    assert "slice 1  on worker " in ran.out
    assert ran.out.count("completed") >= 3
    assert "\nresult\n1\n" in ran.out


HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]bold[/red]\r\u202eevil"


def hostile_job(app, db) -> int:
    """A job whose every text tries to write to the terminal."""
    (job_id,) = enqueue(app)
    db.execute(
        "UPDATE holdfast.job SET name = %(t)s, queue = %(t)s, wait_detail = %(t)s, tags = %(tags)s,"
        " args = %(args)s, progress = 0.5, progress_text = %(t)s, wait_reason = 'snooze',"
        " run_at = run_at + interval '1 hour'",
        {"t": HOSTILE, "tags": [HOSTILE], "args": json.dumps({"a": HOSTILE})},
    )
    db.execute(
        "INSERT INTO holdfast.execution (job_id, epoch, ended_at, outcome, error_type,"
        " error_message, error_stack) VALUES (%(id)s, 1, now(), 'failed', %(t)s, %(t)s, %(t)s)",
        {"id": job_id, "t": HOSTILE},
    )
    return job_id


@pytest.mark.parametrize("verb", ["list", "show", "explain"])
def test_what_jobs_say_can_neither_steer_the_terminal_nor_be_markup(
    holdfast, app, db, verb
) -> None:
    job_id = hostile_job(app, db)
    ids = [] if verb == "list" else [job_id]
    ran = holdfast("jobs", verb, *ids)
    assert ran.code == 0
    for character in "\x1b\x07\r\u202e":
        assert character not in ran.out + ran.err
    if verb != "explain":
        assert "\\x1b[2J[red]bold[/red]" in ran.out
    as_json = holdfast("jobs", verb, *ids, "--json")
    assert "\x1b" not in as_json.out and as_json.lines


def in_terminal(db, *args: object, **env: str) -> str:
    """Runs the command on a terminal of its own and returns all that it wrote there."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "holdfast", *map(str, args)]
    known = {"HOLDFAST_DSN": db.dsn, "HOLDFAST_SCHEMA": db.schema, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**{**known, **env})
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux reports the end of the other side so
            break
        if not part:
            break
        written += part
    os.close(ours)
    process.wait(30)
    return written.decode()


def plain(written: str) -> str:
    """What remains to be read of what was written to a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", written).replace("\r", "")


def test_on_a_terminal_states_are_coloured_and_no_color_is_honoured(app, db) -> None:
    enqueue(app)
    assert "\x1b[36mavailable" in in_terminal(db, "jobs", "list")
    without = in_terminal(db, "jobs", "list", NO_COLOR="1")
    assert "available" in without and not re.search(r"\x1b\[[0-9;]*3[0-9]m", without)


def test_on_a_narrow_terminal_nothing_is_cut_off(app, db) -> None:
    name = "a_job_function_with_a_very_long_name"
    enqueue(app, name)
    db.execute("UPDATE holdfast.job SET progress = 0.5")
    lines = plain(in_terminal(db, "jobs", "list", COLUMNS="60")).splitlines()
    assert max(map(len, lines)) <= 60
    assert "available" in lines[2] and "50 %" in lines[2]
    begin = lines[0].index("name")
    assert "".join(line[begin : lines[0].index("queue")].strip() for line in lines[2:]) == name


def test_a_hostile_job_is_harmless_on_a_terminal(app, db) -> None:
    written = in_terminal(db, "jobs", "show", hostile_job(app, db))
    assert "\x1b]0;" not in written and "\x1b[2J" not in written
    assert "\\x1b]0;owned" in written
