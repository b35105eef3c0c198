"""`holdfast queues` and `holdfast workers`, with real workers that obey."""

import os
import signal

import pytest

from fixtures.running import eventually_sync


def processes(db, name: str, queues: dict[str, int], paused: list[str]) -> int:
    """How many processes of a name serve exactly this."""
    return len(
        db.execute(
            "SELECT pid FROM holdfast.worker"
            " WHERE name = %s AND queues = %s::jsonb AND paused = %s",
            [name, str(queues).replace("'", '"'), paused],
        )
    )


@pytest.mark.slow
def test_a_pause_holds_for_running_processes_and_for_those_that_take_their_place(
    holdfast, tasks, worker_command, db
) -> None:
    both = {"default": 10, "words": 10}
    worker = worker_command(tasks, "--name", "blue", "-p", "2")
    eventually_sync(lambda: processes(db, "blue", both, []) == 2)
    ran = holdfast("queues", "pause", "words", "--worker", "blue")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "queue 'words' is paused, for worker 'blue'\n"
    eventually_sync(lambda: processes(db, "blue", both, ["words"]) == 2)

    job_id = int(holdfast("enqueue", tasks, "echo", "text=hello").out)
    old = worker.child_pids()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    eventually_sync(lambda: not set(old) & set(worker.child_pids()))
    eventually_sync(lambda: processes(db, "blue", both, ["words"]) == 2)
    assert "is paused" in holdfast("jobs", "explain", job_id).out

    assert holdfast("queues", "scale", "words=3", "brand-new=1", "--json").lines == [
        {"queue": "words", "worker": None, "slots": 3},
        {"queue": "brand-new", "worker": None, "slots": 1},
    ]
    served = {"brand-new": 1, "default": 10, "words": 3}
    eventually_sync(lambda: processes(db, "blue", served, ["words"]) == 2)
    assert "is resumed, for all workers" in holdfast("queues", "resume", "words").out
    eventually_sync(
        lambda: holdfast("jobs", "show", job_id, "--json").document["job"]["state"] == "completed"
    )

    first, second = holdfast("workers", "list", "--json").lines
    assert first["queues"] == second["queues"] == served
    assert (first["alive"], first["name"], first["closed"]) == (True, "blue", False)
    listed = holdfast("workers", "list").out
    assert "brand-new:1, default:10, words:3" in listed and "blue" in listed
    assert worker.stop() == 0
    assert "no worker is running" in holdfast("workers", "list").err


@pytest.mark.slow
def test_a_queue_that_no_live_worker_takes_is_said_with_the_way_to_reach_one(
    holdfast, tasks, worker_command, db
) -> None:
    worker_command(tasks, "--name", "blue", "--queues", "words:2")
    eventually_sync(lambda: processes(db, "blue", {"words": 2}, []) == 1)
    ran = holdfast("queues", "scale", "brand-new=5")
    assert ran.code == 0
    assert "no live worker takes queue 'brand-new'" in ran.err
    assert "holdfast queues scale brand-new=5 --worker blue" in ran.err
    assert holdfast("queues", "scale", "words=5").err == ""
    assert holdfast("queues", "scale", "brand-new=5", "--worker", "blue").err == ""
    eventually_sync(lambda: processes(db, "blue", {"brand-new": 5, "words": 5}, []) == 1)


def test_list_shows_what_waits_and_what_is_set(holdfast, app, db) -> None:
    db.execute('SELECT holdfast.enqueue(\'[{"name": "n", "queue": "mail"}]\')')
    holdfast("queues", "scale", "agents=7")
    holdfast("queues", "pause", "mail")
    lines = holdfast("queues", "list").out.splitlines()
    agents, mail = lines[-2:]
    assert agents.split()[0] == "agents" and "7 slots set" in agents
    assert mail.split()[:2] == ["mail", "1"] and "paused since" in mail
    (first, second) = holdfast("queues", "list", "--json").lines
    assert (first["name"], first["set_slots"]) == ("agents", 7)
    assert second["paused_at"] is not None and second["available"] == 1


def test_an_installation_without_queues_says_so(holdfast) -> None:
    ran = holdfast("queues", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "there are no queues yet" in ran.err


def test_a_name_that_no_live_worker_has_is_set_and_said(holdfast) -> None:
    ran = holdfast("queues", "scale", "mail=2", "--worker", "blue")
    assert ran.code == 0
    assert "no live worker is named 'blue': it counts when one of that name starts" in ran.err
    ran = holdfast("queues", "pause", "mail", "--worker", "blue")
    assert (ran.code, "counts when" in ran.err) == (0, True)
    assert holdfast("queues", "resume", "mail", "--json").lines == [
        {"queue": "mail", "worker": None, "pauses_ended": 1}
    ]
    assert "was not paused" in holdfast("queues", "resume", "mail").out


def test_resuming_one_worker_says_that_all_are_paused(holdfast) -> None:
    holdfast("queues", "scale", "mail=2")
    holdfast("queues", "pause", "mail")
    assert (
        "still paused for all workers"
        in holdfast("queues", "resume", "mail", "--worker", "blue").err
    )


def test_unknown_queues_are_refused_before_anything_is_paused(holdfast, db) -> None:
    holdfast("queues", "scale", "mail=2")
    ran = holdfast("queues", "pause", "mail", "mial")
    assert ran.code == 2
    assert "'mial'" in ran.err and "mail" in ran.err
    assert db.value("SELECT paused_at FROM holdfast.queue WHERE name = 'mail'") is None


@pytest.mark.parametrize("pair", ["mail", "mail=", "mail=-1", "mail=many", "=5", "mail=10001"])
def test_what_is_not_a_number_of_slots_is_refused(holdfast, db, pair) -> None:
    ran = holdfast("queues", "scale", "fine=1", pair)
    assert ran.code == 2, ran.err
    assert "hint:" in ran.err


def test_default_returns_to_what_workers_were_started_with(holdfast, db) -> None:
    holdfast("queues", "scale", "mail=2")
    ran = holdfast("queues", "scale", "mail=default")
    assert "has the slots each worker was started with, for all workers" in ran.out
    assert db.value("SELECT slots FROM holdfast.queue") is None
