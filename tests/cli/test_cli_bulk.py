"""`holdfast jobs retry`, `cancel` and `delete` of all jobs that match."""

import os
import pty
import subprocess
import sys

import pytest

from fixtures.command import environment


def enqueue(db, count: int = 1, queue: str = "mail", tag: str = "") -> None:
    tags = f"ARRAY['{tag}']" if tag else "ARRAY[]::text[]"
    db.execute(
        "SELECT holdfast.enqueue((SELECT jsonb_agg(jsonb_build_object("
        f"'name', 'send', 'queue', '{queue}', 'tags', to_jsonb({tags})))"
        f" FROM generate_series(1, {count})))"
    )


def end_all(db, state: str) -> None:
    db.execute("SELECT holdfast.cancel(ARRAY(SELECT id FROM holdfast.job))")
    db.execute("UPDATE holdfast.job_archive SET state = %s", [state])


def states(db) -> dict[str, int]:
    return dict(db.execute("SELECT state, count(*) FROM holdfast.jobs GROUP BY state"))


def test_many_are_cancelled_retried_and_deleted_in_parts_of_a_thousand(holdfast, db) -> None:
    enqueue(db, 2300)
    enqueue(db, 1, queue="other")
    ran = holdfast("jobs", "cancel", "--queue", "mail", "--yes", "--reason", "too late")
    assert ran.code == 0
    assert ran.err.startswith("2,300 jobs match: 2,300 available\n")
    assert ran.out == "2,300 cancelled\n"
    assert db.value("SELECT count(DISTINCT xmin::text) FROM holdfast.job_archive") == 3
    assert db.value("SELECT min(wait_detail) FROM holdfast.job_archive") == "too late"
    assert states(db) == {"cancelled": 2300, "available": 1}

    ran = holdfast("jobs", "retry", "--state", "cancelled", "--yes", "--json")
    assert ran.document == {"action": "retry", "matched": 2300, "states": {"available": 2300}}
    assert states(db) == {"available": 2301}

    assert holdfast("jobs", "delete", "--queue", "mail", "--yes").out == "2,300 deleted\n"
    assert states(db) == {"available": 1}


def test_without_a_terminal_and_without_yes_nothing_is_done(holdfast, db) -> None:
    enqueue(db, 2)
    for verb in ("retry", "cancel", "delete"):
        ran = holdfast("jobs", verb, "--queue", "mail")
        assert (ran.code, ran.out) == (2, "")
        assert "2 jobs match" in ran.err and "--yes" in ran.err
    assert states(db) == {"available": 2}


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 2), ("y", 0, 0), ("", 1, 2)])
def test_on_a_terminal_the_count_is_shown_and_the_answer_counts(db, answer, code, left) -> None:
    enqueue(db, 2)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "jobs", "delete", "--all"],
        env=environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema),
        stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.write(master, f"{answer}\n".encode())
    _, err = process.communicate(timeout=60)
    os.close(slave)
    os.close(master)
    assert process.returncode == code, err
    assert "2 jobs match: 2 available" in err and "delete 2 jobs?" in err
    assert states(db).get("available", 0) == left


def test_a_query_that_matches_nothing_says_so_and_is_no_failure(holdfast) -> None:
    ran = holdfast("jobs", "retry", "--state", "discarded", "--json")
    assert (ran.code, ran.document["matched"]) == (0, 0)
    assert "no jobs match" in ran.err


@pytest.mark.parametrize("verb", ["retry", "cancel", "delete"])
@pytest.mark.parametrize("words", [(), ("--yes",), ("7", "--queue", "mail"), ("7", "--all")])
def test_ids_or_a_query_but_neither_none_nor_both(holdfast, verb, words) -> None:
    ran = holdfast("jobs", verb, *words)
    assert ran.code == 2
    assert "--all means every job" in ran.err


def test_a_query_leaves_out_what_the_action_would_do_nothing_to(holdfast, db) -> None:
    enqueue(db, 3)
    db.execute("UPDATE holdfast.job SET state = 'executing', worker_id = 7 WHERE id = 1")
    ran = holdfast("jobs", "delete", "--all", "--yes")
    assert "left out: 1 executing" in ran.err and ran.out == "2 deleted\n"
    ran = holdfast("jobs", "retry", "--all", "--yes")
    assert "left out: 1 executing" in ran.err and "no jobs match" in ran.err
    ran = holdfast("jobs", "cancel", "--all", "--yes")
    assert ran.out == "1 executing (its code is being stopped)\n"


def test_retry_leaves_out_completed_jobs_unless_it_names_them(holdfast, db) -> None:
    enqueue(db, 2)
    end_all(db, "completed")
    ran = holdfast("jobs", "retry", "--queue", "mail", "--yes")
    assert "say --state completed" in ran.err
    assert states(db) == {"completed": 2}
    assert holdfast("jobs", "retry", "--state", "completed", "--yes").out == "2 available\n"


def test_tags_and_names_choose_too(holdfast, db) -> None:
    enqueue(db, 1, tag="old")
    enqueue(db, 1)
    assert holdfast("jobs", "cancel", "--tag", "old", "--yes").out == "1 cancelled\n"
    assert holdfast("jobs", "cancel", "--name", "send", "--yes").out == "1 cancelled\n"


def test_delete_by_id_leaves_running_jobs_alone_and_reports_missing_ones(holdfast, db) -> None:
    enqueue(db, 2)
    db.execute("UPDATE holdfast.job SET state = 'executing', worker_id = 7 WHERE id = 1")
    ran = holdfast("jobs", "delete", 1, 2, 99)
    assert ran.code == 2
    assert ran.out == "1 executing (left alone: it is running; cancel it first)\n2 deleted\n"
    assert "job 99 does not exist" in ran.err
