"""Unique jobs in SQL: an index decides, in bulk, under concurrency, and for a period."""

import random
import threading
from typing import Any

import psycopg
import pytest

from fixtures.desk import Desk, completion, stopped
from holdfast.model.outcome import Ending
from holdfast.runtime.executor import Ended
from holdfast.storage import jobs


def put(desk: Desk, *new: dict[str, Any], conn: Any = None) -> list[tuple[int, bool, bool]]:
    """Enqueues jobs named `work` and returns (id, conflict, replaced) of each."""
    batch = psycopg.types.json.Jsonb([{"name": "work", **job} for job in new])
    sql = f"SELECT id, conflict, replaced FROM {desk.name}.enqueue(%s)"
    return (conn or desk.conn).execute(sql, [batch]).fetchall()


def keyed(key: str, **more: Any) -> dict[str, Any]:
    return {"unique": {"key": key}, **more}


def by_args(args: dict[str, Any], *names: str) -> dict[str, Any]:
    return {"args": args, "unique": {"args": list(names)} if names else {}}


# --- What the key is ------------------------------------------------------------------------------


def test_a_second_job_with_the_key_is_the_first_one(desk: Desk) -> None:
    first, second = put(desk, keyed("k"))[0], put(desk, keyed("k", args={"n": 2}))[0]
    assert (first[1:], second) == ((False, False), (first[0], True, False))
    assert desk.row(first[0])["args"] == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (keyed("k"), keyed("l")),
        (keyed("k"), keyed("k", name="other")),
        (keyed("b/c", name="a"), keyed("c", name="a/b")),
        (keyed("~1c", name="a"), keyed("c", name="a/~1")),
        ({"name": "a", **by_args({})}, keyed("x", name="a?")),
        (by_args({"n": 1}), by_args({"n": 2})),
        (by_args({"n": 1}), by_args({"n": "1"})),
        (by_args({"n": 1}), by_args({"n": 1, "m": None})),
        (by_args({"n": 1, "m": 1}, "n"), by_args({"n": 2, "m": 1}, "n")),
        (keyed("k"), {"args": {}}),
        ({"args": {"n": 1}}, by_args({"n": 1})),
        ({"unique": None}, {"unique": None}),
    ],
    ids=str,
)
def test_other_keys_other_arguments_and_other_names_are_other_jobs(
    desk: Desk, one: dict[str, Any], other: dict[str, Any]
) -> None:
    answers = put(desk, one, other)
    assert [answer[1] for answer in answers] == [False, False]
    assert answers[0][0] != answers[1][0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (by_args({"n": 1, "m": 2}), by_args({"m": 2, "n": 1})),
        (by_args({"n": {"a": [1], "b": 2}}), by_args({"n": {"b": 2, "a": [1]}})),
        (by_args({"n": 1, "m": 1}, "n"), by_args({"n": 1, "m": 2}, "n")),
        (by_args({"n": 1}, "n", "m"), by_args({"n": 1}, "m", "n")),
        ({"unique": {}}, {"args": {}, "unique": {}}),
        (keyed("k", queue="a"), keyed("k", queue="b", args={"n": 1}, priority=3)),
    ],
    ids=str,
)
def test_the_same_key_or_arguments_are_the_same_job(
    desk: Desk, one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = put(desk, one, other)
    assert second == (first[0], True, False)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (3, "unique is 3"),
        ({"kye": "k"}, "unknown key 'kye' in unique"),
        ({"key": 3}, "key 3"),
        ({"key": None}, "key null"),
        ({"args": "n"}, 'args "n"'),
        ({"replace": ["queue"]}, "replace"),
    ],
)
def test_a_rule_that_nobody_would_read_is_refused(desk: Desk, rule: Any, said: str) -> None:
    with pytest.raises(psycopg.Error, match=said) as caught:
        put(desk, {}, {"unique": rule})
    assert caught.value.sqlstate == "HF102"
    assert desk.db.value("SELECT count(*) FROM holdfast.job") == 0


@pytest.mark.parametrize("rule", [{"key": ""}, {"key": "x" * 600}, {"key": "k", "period": "soon"}])
def test_a_key_that_does_not_fit_is_refused(desk: Desk, rule: dict[str, Any]) -> None:
    put(desk, keyed("first"))
    if rule["key"]:
        with pytest.raises(psycopg.Error) as caught:
            put(desk, {"unique": rule})
        assert caught.value.sqlstate[:2] in ("22", "23")
    assert desk.db.value("SELECT count(*) FROM holdfast.unique_key") == 0


# --- How long -------------------------------------------------------------------------------------


def finish(desk: Desk, how: str) -> int:
    """Lets the waiting job end; returns its id."""
    worker_id = desk.worker()
    (job,) = desk.claim(worker_id, {"default": 1}).jobs
    if how == "completed":
        desk.complete(worker_id, completion(job))
    elif how == "discarded":
        desk.end(worker_id, job, Ended(Ending.DISCARDED, reason="no"))
    else:
        desk.cancel(job.id)
        desk.end(worker_id, job, Ended(Ending.CANCELLED))
    assert desk.row(job.id)["state"] == how
    return job.id


@pytest.mark.parametrize("how", ["completed", "discarded", "cancelled"])
def test_a_finished_job_gives_its_key_back_and_still_shows_it(desk: Desk, how: str) -> None:
    ((first, _, _),) = put(desk, keyed("k"))
    assert finish(desk, how) == first
    ((second, conflict, _),) = put(desk, keyed("k"))
    assert (second != first, conflict) == (True, False)
    assert desk.row(first)["unique_key"] == desk.row(second)["unique_key"] == "work/k"


def test_a_waiting_job_that_is_cancelled_gives_its_key_back(desk: Desk) -> None:
    ((first, _, _),) = put(desk, keyed("k"))
    desk.cancel(first)
    assert put(desk, keyed("k"))[0][1] is False
    assert desk.row(first)["unique_key"] == "work/k"


def test_a_running_job_and_one_that_waits_for_a_person_keep_their_key(desk: Desk) -> None:
    worker_id, job = desk.executing(**keyed("k"))
    assert put(desk, keyed("k")) == [(job.id, True, False)]
    desk.cancel(job.id)
    assert put(desk, keyed("k")) == [(job.id, True, False)]
    other_worker, other = desk.executing(**keyed("l"))
    desk.end(other_worker, other, stopped())
    assert desk.row(other.id)["state"] == "attention"
    assert put(desk, keyed("l")) == [(other.id, True, False)]
    assert worker_id


def test_a_period_outlasts_the_job_and_is_counted_from_its_enqueue(desk: Desk) -> None:
    rule = {"key": "k", "period": 3600}
    desk.freeze("2031-05-05 12:00:00+00")
    ((first, _, _),) = put(desk, {"unique": rule})
    desk.cancel(first)
    desk.freeze("2031-05-05 12:59:59+00")
    assert put(desk, {"unique": rule}) == [(first, True, False)]
    assert put(desk, keyed("k")) == [(first, True, False)], "without a period it is taken as well"
    desk.freeze("2031-05-05 13:00:00+00")
    ((second, conflict, _),) = put(desk, {"unique": rule})
    assert (second != first, conflict) == (True, False)
    assert desk.db.execute("SELECT key, job_id FROM holdfast.unique_key") == [("work/k", second)]


def test_an_unfinished_job_keeps_its_key_after_its_period(desk: Desk) -> None:
    rule = {"key": "k", "period": 10}
    desk.freeze("2031-05-05 12:00:00+00")
    ((first, _, _),) = put(desk, {"unique": rule})
    desk.freeze("2031-05-05 12:10:00+00")
    assert put(desk, {"unique": rule}) == [(first, True, False)]


def test_a_refused_job_takes_no_key_for_a_period(desk: Desk) -> None:
    put(desk, keyed("k"))
    put(desk, {"unique": {"key": "k", "period": 3600}})
    assert desk.db.value("SELECT count(*) FROM holdfast.unique_key") == 0


# --- In bulk --------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_jobs(desk: Desk) -> None:
    ((there, _, _),) = put(desk, keyed("z"))
    keys = ["z", "m", None, "a", "m", None, "z", "b"]
    new = [{"args": {"n": n}, **(keyed(key) if key else {})} for n, key in enumerate(keys)]
    answers = put(desk, *new)
    conflicts = [True, False, False, False, True, False, True, False]
    assert [answer[1] for answer in answers] == conflicts
    assert answers[0][0] == answers[6][0] == there
    assert answers[4][0] == answers[1][0]
    for n, (job_id, conflict, _) in enumerate(answers):
        assert conflict or desk.row(job_id)["args"] == {"n": n}
    assert desk.db.value("SELECT count(*) FROM holdfast.job") == 6


def test_of_many_with_one_key_and_a_period_the_first_gets_it(desk: Desk) -> None:
    rule = {"key": "k", "period": 60}
    answers = put(desk, *[{"args": {"n": n}, "unique": rule} for n in range(5)])
    assert [answer[1] for answer in answers] == [False, True, True, True, True]
    assert {answer[0] for answer in answers} == {answers[0][0]}
    assert desk.row(answers[0][0])["args"] == {"n": 0}


def test_ten_thousand_jobs_of_which_half_are_there_already(desk: Desk) -> None:
    put(desk, *[keyed(f"k{n}") for n in range(0, 10_000, 2)])
    answers = put(desk, *[keyed(f"k{n}") for n in range(10_000)])
    assert [answer[1] for answer in answers] == [n % 2 == 0 for n in range(10_000)]
    assert len({answer[0] for answer in answers}) == 10_000


# --- Replacing ------------------------------------------------------------------------------------

REPLACE = {"key": "k", "replace": ["args", "run_at", "priority"]}


def test_a_job_that_has_not_started_takes_over_what_the_rule_lists(desk: Desk) -> None:
    desk.freeze()
    old = {"args": {"n": 1}, "run_in": 60, "priority": 5, "deadline_in": 60}
    new = {"args": {"n": 2}, "run_in": 600, "priority": 1, "deadline_in": 60}
    for what in ("args", "run_at", "priority"):
        ((job_id, _, _),) = put(desk, keyed(what, **old))
        before = desk.row(job_id)
        rule = {"key": what, "replace": [what]}
        assert put(desk, {"unique": rule, **new}) == [(job_id, True, True)]
        after = desk.row(job_id)
        changed = {key for key in before if before[key] != after[key]}
        assert changed == ({"run_at", "deadline"} if what == "run_at" else {what})
    ((job_id, _, _),) = put(desk, keyed("k", **old))
    assert put(desk, {"unique": REPLACE, **new}) == [(job_id, True, True)]
    row = desk.row(job_id)
    assert (row["args"], row["priority"]) == ({"n": 2}, 1)
    assert row["run_at"] == "2031-05-05T12:10:00+00:00"
    assert row["deadline"] == "2031-05-05T12:11:00+00:00"


def test_of_many_in_one_batch_the_last_one_is_taken_over(desk: Desk) -> None:
    answers = put(desk, *[{"args": {"n": n}, "unique": REPLACE} for n in range(4)])
    assert [answer[1:] for answer in answers] == [(False, False), *[(True, True)] * 3]
    assert desk.row(answers[0][0])["args"] == {"n": 3}


def test_a_job_that_has_started_is_left_as_it_is(desk: Desk) -> None:
    worker_id, job = desk.executing(**keyed("k", args={"n": 1}))
    assert put(desk, {"args": {"n": 2}, "unique": REPLACE}) == [(job.id, True, False)]
    desk.end(worker_id, job, Ended(Ending.FAILED))
    assert desk.row(job.id)["state"] == "available", "it waits for its next attempt"
    assert put(desk, {"args": {"n": 2}, "unique": REPLACE}) == [(job.id, True, False)]
    assert desk.row(job.id)["args"] == {"n": 1}


def test_a_finished_job_is_not_changed_while_its_period_lasts(desk: Desk) -> None:
    rule = {**REPLACE, "period": 3600}
    ((first, _, _),) = put(desk, {"args": {"n": 1}, "unique": rule})
    desk.cancel(first)
    assert put(desk, {"args": {"n": 2}, "unique": rule}) == [(first, True, False)]
    assert desk.row(first)["args"] == {"n": 1}


# --- Retry ----------------------------------------------------------------------------------------


def test_a_retry_leaves_a_job_alone_whose_key_another_has_now(desk: Desk) -> None:
    ((first, _, _),) = put(desk, keyed("k"))
    desk.cancel(first)
    ((second, _, _),) = put(desk, keyed("k"))
    before = desk.row(first)
    assert desk.run(jobs.retry([first])) == {first: "cancelled"}
    assert desk.row(first) == before
    desk.cancel(second)
    assert desk.run(jobs.retry([second, first])) == {first: "available", second: "cancelled"}
    assert desk.row(first)["unique_key"] == "work/k"


# --- Under concurrency ----------------------------------------------------------------------------


def test_the_second_waits_for_the_first_and_is_told_of_it(desk: Desk) -> None:
    first, second = desk.connect(), desk.connect()
    with first.transaction():
        ((job_id, _, _),) = put(desk, keyed("k"), conn=first)
        answer: list[Any] = []
        thread = threading.Thread(target=lambda: answer.extend(put(desk, keyed("k"), conn=second)))
        thread.start()
        desk.wait_for_a_lock()
    thread.join(10)
    assert answer == [(job_id, True, False)]


@pytest.mark.parametrize("period", [None, 3600])
def test_the_second_gets_the_key_when_the_first_rolls_back(desk: Desk, period: Any) -> None:
    rule = {"key": "k"} if period is None else {"key": "k", "period": period}
    first, second = desk.connect(), desk.connect()
    answer: list[Any] = []
    with first.transaction(force_rollback=True):
        put(desk, {"unique": rule}, conn=first)
        thread = threading.Thread(
            target=lambda: answer.extend(put(desk, {"unique": rule}, conn=second))
        )
        thread.start()
        desk.wait_for_a_lock()
    thread.join(10)
    assert [row[1:] for row in answer] == [(False, False)]
    assert desk.row(answer[0][0])["state"] == "available"


def test_fifty_at_once_with_one_key_make_one_job_whoever_rolls_back(desk: Desk) -> None:
    for commits in (25, 1):
        outcomes = _fifty(desk, f"k{commits}", commits)
        added = {row for committed, row in outcomes if committed and not row[1]}
        assert len(added) == 1
        (kept,) = added
        rows = desk.db.execute(
            "SELECT id FROM holdfast.job WHERE unique_key = %s", [f"work/k{commits}"]
        )
        assert rows == [(kept[0],)]
        assert {row[0] for committed, row in outcomes if committed} == {kept[0]}


def _fifty(desk: Desk, key: str, commits: int) -> list[tuple[bool, tuple[int, bool, bool]]]:
    outcomes: list[tuple[bool, tuple[int, bool, bool]]] = []
    start = threading.Barrier(50)

    def one(conn: psycopg.Connection, commit: bool) -> None:
        start.wait(30)
        with conn.transaction(force_rollback=not commit):
            (row,) = put(desk, keyed(key), conn=conn)
        outcomes.append((commit, row))

    chosen = [n < commits for n in range(50)]
    random.Random(7).shuffle(chosen)
    threads = [threading.Thread(target=one, args=[desk.connect(), commit]) for commit in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 50
    return outcomes


@pytest.mark.parametrize("period", [None, 3600])
def test_the_same_keys_in_opposite_order_do_not_deadlock(desk: Desk, period: Any) -> None:
    keys = [f"k{n}" for n in range(300)]
    failures: list[Exception] = []
    answers: list[list[Any]] = []

    def one(conn: psycopg.Connection, order: list[str]) -> None:
        try:
            rules = [{"key": key, "period": period, "replace": ["args"]} for key in order]
            answers.append(put(desk, *[{"unique": rule} for rule in rules], conn=conn))
        except Exception as error:
            failures.append(error)

    for _ in range(5):
        threads = [
            threading.Thread(target=one, args=[desk.connect(), keys[::step]]) for step in (1, -1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert len(answers) == 10
    assert desk.db.value("SELECT count(*) FROM holdfast.job") == 300


def test_a_retry_waits_for_whoever_takes_its_key(desk: Desk) -> None:
    ((first, _, _),) = put(desk, keyed("k"))
    desk.cancel(first)
    rival = desk.connect()
    with rival.transaction(force_rollback=True):
        put(desk, keyed("k"), conn=rival)
        waiting = desk.run_beside(jobs.retry([first]))
        desk.wait_for_a_lock()
    assert waiting.result(10) == {first: "available"}


@pytest.mark.parametrize("commits", [True, False])
def test_whoever_meets_a_cancel_that_is_not_committed_waits_for_it(
    desk: Desk, commits: bool
) -> None:
    ((first, _, _),) = put(desk, keyed("k"))
    canceller, second = desk.connect(), desk.connect()
    answer: list[Any] = []
    with canceller.transaction(force_rollback=not commits):
        desk.run(jobs.cancel([first], None), canceller)
        thread = threading.Thread(target=lambda: answer.extend(put(desk, keyed("k"), conn=second)))
        thread.start()
        desk.wait_for_a_lock()
    thread.join(10)
    ((job_id, conflict, _),) = answer
    assert (conflict, job_id == first) == (not commits, not commits)


def test_a_job_that_is_being_claimed_is_not_replaced(desk: Desk) -> None:
    ((first, _, _),) = put(desk, {"args": {"n": 1}, "unique": REPLACE})
    claimer, second = desk.connect(), desk.connect()
    worker_id = desk.worker()
    answer: list[Any] = []
    with claimer.transaction():
        assert len(desk.claim(worker_id, conn=claimer).jobs) == 1
        new = {"args": {"n": 2}, "unique": REPLACE}
        thread = threading.Thread(target=lambda: answer.extend(put(desk, new, conn=second)))
        thread.start()
        desk.wait_for_a_lock()
    thread.join(10)
    assert answer == [(first, True, False)]
    assert desk.row(first)["args"] == {"n": 1}
