"""Every state, every operation: the table of `model.states`, the constraints and SQL agree."""

import itertools
import re
from collections.abc import Callable

import pytest

from fixtures.desk import NOON, Desk, completion, settled, step_write, stopped
from holdfast.model.job import ClaimedJob
from holdfast.model.outcome import Ending, Facts, decide
from holdfast.model.states import FINAL, LIVE, TRANSITIONS, State
from holdfast.runtime.executor import Ended
from holdfast.storage import jobs

CELLS = list(itertools.product(TRANSITIONS, State))


def brought_to(desk: Desk, state: State) -> tuple[int, ClaimedJob]:
    """Brings a job with a journal into a state by real statements; returns it and its owner."""
    worker_id, job = desk.executing()
    desk.record(
        worker_id,
        step_write(job, "kept"),
        step_write(job, "caught", seq=2, state="failed", error_type="E"),
    )
    match state:
        case State.AVAILABLE:
            desk.end(worker_id, job, Ended(Ending.SNOOZED))
        case State.ATTENTION:
            desk.end(worker_id, job, stopped())
        case State.COMPLETED:
            desk.complete(worker_id, completion(job))
        case State.DISCARDED:
            desk.end(worker_id, job, Ended(Ending.DISCARDED))
        case State.CANCELLED:
            desk.end(worker_id, job, Ended(Ending.CANCELLED))
    assert desk.row(job.id)["state"] == state
    return worker_id, job


def ended_as(ending: Ending) -> Callable[[Desk, int, ClaimedJob], object]:
    return lambda desk, worker_id, job: desk.end(worker_id, job, Ended(ending))


OPERATIONS: dict[str, Callable[[Desk, int, ClaimedJob], object]] = {
    "claim": lambda desk, worker_id, job: desk.claim(worker_id).jobs,
    "complete": lambda desk, worker_id, job: desk.complete(worker_id, completion(job)),
    "retry later": ended_as(Ending.FAILED),
    "discard": ended_as(Ending.DISCARDED),
    "stop": ended_as(Ending.CANCELLED),
    "need attention": ended_as(Ending.STOPPED),
    "release": lambda desk, worker_id, job: desk.release(worker_id),
    "cancel": lambda desk, worker_id, job: desk.cancel(job.id),
    "retry": lambda desk, worker_id, job: desk.run(jobs.retry([job.id])),
}


def test_every_operation_of_the_table_has_its_statement_here() -> None:
    assert OPERATIONS.keys() == TRANSITIONS.keys()


@pytest.mark.parametrize(("operation", "state"), CELLS)
def test_an_operation_does_what_the_table_says_and_nothing_else(
    desk: Desk, operation: str, state: State
) -> None:
    worker_id, job = brought_to(desk, state)
    before = desk.everything()
    OPERATIONS[operation](desk, worker_id, job)
    expected = TRANSITIONS[operation].get(state)
    if expected is None:
        assert desk.everything() == before
    else:
        assert desk.row(job.id)["state"] == expected
        assert desk.everything() != before


@pytest.mark.parametrize("state", State)
def test_the_functions_for_people_answer_with_the_state_after_the_call(
    desk: Desk, state: State
) -> None:
    for ask in (lambda job_id: jobs.cancel([job_id], None), lambda job_id: jobs.retry([job_id])):
        _, job = brought_to(desk, state)
        answer = desk.run(ask(job.id))
        assert answer == {job.id: desk.row(job.id)["state"]}


@pytest.mark.parametrize("ask", [lambda ids: jobs.cancel(ids, None), jobs.retry])
def test_the_functions_for_people_say_nothing_of_a_job_that_does_not_exist(
    desk: Desk, ask: Callable
) -> None:
    assert desk.run(ask([987654])) == {}


@pytest.mark.parametrize(
    ("constraint", "states"),
    [("job_state_is_live", LIVE), ("job_archive_state_is_final", FINAL)],
)
def test_the_constraints_allow_exactly_the_states_of_the_model(
    desk: Desk, constraint: str, states: frozenset[State]
) -> None:
    definition = desk.db.value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conname = %s AND connamespace = %s::regnamespace AND conparentid = 0 LIMIT 1",
        [constraint, f'"{desk.schema}"'],
    )
    assert set(re.findall(r"'(\w+)'", str(definition))) == {state.value for state in states}


@pytest.mark.parametrize("state", State)
def test_the_live_table_refuses_a_final_state_and_the_archive_a_live_one(
    desk: Desk, state: State
) -> None:
    _, job = brought_to(desk, State.EXECUTING)
    archived = desk.enqueue()
    desk.cancel(archived)
    table, job_id = ("job_archive", archived) if state in LIVE else ("job", job.id)
    with pytest.raises(Exception, match="state_is_"):
        desk.db.execute(
            f"UPDATE holdfast.{table} SET state = %s, worker_id = NULL, wait_reason = 'x' "
            "WHERE id = %s",
            [state.value, job_id],
        )


# --- The verdict and the row ----------------------------------------------------------------------


@pytest.mark.parametrize("last_chance", [False, True])
@pytest.mark.parametrize("ending", Ending)
def test_a_settled_row_says_what_the_verdict_says(
    desk: Desk, ending: Ending, last_chance: bool
) -> None:
    desk.freeze()
    options = {"max_attempts": 1, "max_crashes": 1} if last_chance else {}
    worker_id, job = desk.executing(**options)
    error = ValueError("boom")
    desk.end(worker_id, job, Ended(ending, error=error, delay_s=90.0, reason="because"))

    facts = Facts(
        max_attempts=job.max_attempts, max_crashes=job.max_crashes, delay_s=90.0, reason="because"
    )
    verdict = decide(ending, facts)
    row = desk.row(job.id)
    assert row["state"] == verdict.state
    assert (row["failures"], row["crashes"], row["resumes"]) == (
        verdict.failure_charge,
        verdict.crash_charge,
        verdict.resume_charge,
    )
    assert (row["wait_reason"], row["wait_detail"]) == (verdict.wait_reason, verdict.wait_detail)
    assert row["epoch"] == job.epoch + verdict.bump
    assert (row["worker_id"] is None) is (verdict.state in LIVE)
    due = desk.db.value("SELECT run_at FROM holdfast.jobs WHERE id = %s", [job.id])
    expected_delay = verdict.delay_s or 0.0
    assert (due - job.run_at).total_seconds() == expected_delay

    (attempt,) = desk.history(job.id)
    assert (attempt["epoch"], attempt["worker_id"]) == (job.epoch, worker_id)
    assert (attempt["outcome"], attempt["charged"]) == (ending.value, verdict.charged)
    assert (attempt["reason"], attempt["error_type"]) == ("because", "ValueError")
    assert attempt["error_message"] == "boom"
    assert attempt["started_at"] == row["started_at"]
    assert (attempt["next_at"] == row["run_at"]) is (verdict.state is State.AVAILABLE)


@pytest.mark.parametrize("ending", Ending)
def test_a_settled_job_can_be_shown(desk: Desk, ending: Ending) -> None:
    worker_id, job = desk.executing()
    desk.end(worker_id, job, Ended(ending, delay_s=5.0))
    (shown,) = desk.run(jobs.find(ids=[job.id]))
    assert shown.run_at.year < 2200


@pytest.mark.parametrize("last_chance", [False, True])
def test_a_rescue_decides_as_the_rule_decides_on_a_crash(desk: Desk, last_chance: bool) -> None:
    desk.freeze()
    options = {"max_crashes": 1} if last_chance else {}
    ruled_worker, ruled = desk.executing(**options)
    rescued_worker, rescued = desk.executing(**options)
    desk.end(ruled_worker, ruled, Ended(Ending.CRASHED, reason="killed by signal 9"))
    desk.release(rescued_worker)
    same = (
        "state",
        "failures",
        "crashes",
        "resumes",
        "epoch",
        "worker_id",
        "run_at",
        "wait_reason",
        "started_at",
    )
    one, other = desk.row(ruled.id), desk.row(rescued.id)
    assert {key: one[key] for key in same} == {key: other[key] for key in same}
    said, found = desk.history(ruled.id)[0], desk.history(rescued.id)[0]
    same = ("epoch", "outcome", "charged", "reason", "started_at", "ended_at")
    assert {key: said[key] for key in same} == {key: found[key] for key in same}


def test_a_hand_back_decides_as_the_rule_decides_on_a_shutdown(desk: Desk) -> None:
    desk.freeze()
    ruled_worker, ruled = desk.executing()
    freed_worker, freed = desk.executing()
    desk.end(ruled_worker, ruled, Ended(Ending.SHUTDOWN, reason="stopped"))
    desk.release(freed_worker, charge=False, outcome="shutdown", reason="stopped")
    one, other = desk.row(ruled.id), desk.row(freed.id)
    same = ("state", "failures", "crashes", "resumes", "epoch", "run_at", "wait_reason")
    assert {key: one[key] for key in same} == {key: other[key] for key in same}
    assert desk.history(freed.id)[0]["charged"] is None


def test_only_the_culprits_of_a_crash_are_charged(desk: Desk) -> None:
    ids = desk.enqueue_all([{"name": "work"}] * 3)
    worker_id = desk.worker()
    desk.claim(worker_id)
    desk.release(worker_id, culprits=[ids[1]])
    assert [desk.row(job_id)["crashes"] for job_id in ids] == [0, 1, 0]
    assert [desk.row(job_id)["resumes"] for job_id in ids] == [1, 0, 1]
    assert [desk.history(job_id)[0]["charged"] for job_id in ids] == [None, "crash", None]


# --- A cancel wins --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", Ending)
def test_an_acknowledged_cancel_wins_over_every_ending(desk: Desk, ending: Ending) -> None:
    worker_id, job = desk.executing()
    assert desk.cancel(job.id, "too dear") == {job.id: "executing"}
    ended = Ended(ending, error=ValueError("late"), delay_s=60.0, reason="its own reason")
    assert desk.end(worker_id, job, ended) == {job.id: "cancelled"}
    row, (attempt,) = desk.row(job.id), desk.history(job.id)
    assert (row["state"], row["wait_reason"], row["wait_detail"]) == (
        "cancelled",
        "cancelled",
        "too dear",
    )
    assert row["cancel_requested_at"] is not None
    assert (attempt["outcome"], attempt["next_at"]) == ("cancelled", None)
    charges = {"failure": row["failures"], "crash": row["crashes"]}
    assert charges == {name: int(attempt["charged"] == name) for name in charges}


def test_an_acknowledged_cancel_wins_over_a_success(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.cancel(job.id, "too dear")
    assert desk.complete(worker_id, completion(job)) == {job.id}
    row, (attempt,) = desk.row(job.id), desk.history(job.id)
    assert (row["state"], row["wait_reason"], row["wait_detail"]) == (
        "cancelled",
        "cancelled",
        "too dear",
    )
    assert (attempt["outcome"], attempt["epoch"]) == ("cancelled", job.epoch)
    assert (attempt["worker_id"], attempt["charged"]) == (worker_id, None)


@pytest.mark.parametrize("charge", [False, True])
def test_an_acknowledged_cancel_wins_over_a_rescue(desk: Desk, charge: bool) -> None:
    worker_id, job = desk.executing(max_crashes=1)
    desk.cancel(job.id, "too dear")
    assert desk.release(worker_id, charge=charge) == {job.id: "cancelled"}
    row, (attempt,) = desk.row(job.id), desk.history(job.id)
    assert (row["state"], row["wait_detail"]) == ("cancelled", "too dear")
    # What the history says was charged is what the row was charged.
    assert row["crashes"] == int(charge)
    assert attempt["charged"] == ("crash" if charge else None)


@pytest.mark.parametrize("how", ["complete", "settle"])
def test_an_ending_that_waits_for_a_cancel_in_flight_becomes_cancelled(
    desk: Desk, how: str
) -> None:
    worker_id, job = desk.executing()
    canceller = desk.connect()
    if how == "complete":
        write = jobs.complete(worker_id, desk.schema, [completion(job)])
    else:
        failed = settled(job, Ended(Ending.FAILED, delay_s=60.0))
        write = jobs.settle(worker_id, desk.schema, [failed])
    with canceller.transaction():
        desk.run(jobs.cancel([job.id], "too dear"), canceller)
        future = desk.run_beside(write)
        desk.wait_for_a_lock()
    future.result(10)
    row = desk.row(job.id)
    assert (row["state"], row["wait_detail"]) == ("cancelled", "too dear")


def test_a_cancel_that_waits_for_an_ending_in_flight_finds_the_job_ended(desk: Desk) -> None:
    worker_id, job = desk.executing()
    finisher = desk.connect()
    with finisher.transaction():
        desk.run(jobs.complete(worker_id, desk.schema, [completion(job)]), finisher)
        future = desk.run_beside(jobs.cancel([job.id], None))
        desk.wait_for_a_lock()
    assert future.result(10) == {job.id: "completed"}


def test_a_retry_that_waits_for_a_rescue_in_flight_finds_the_job(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.end(worker_id, job, stopped())
    other = desk.connect()
    with other.transaction():
        desk.run(jobs.cancel([job.id], None), other)
        future = desk.run_beside(jobs.retry([job.id]))
        desk.wait_for_a_lock()
    assert future.result(10) == {job.id: "available"}


def test_the_reason_of_a_cancel_survives_a_hand_back(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.cancel(job.id, "too expensive")
    desk.run(jobs.disown(worker_id, desk.schema, []))
    (again,) = desk.claim(worker_id).jobs
    assert again.cancel_requested
    desk.end(worker_id, again, Ended(Ending.CANCELLED))
    row = desk.row(job.id)
    assert (row["state"], row["wait_detail"]) == ("cancelled", "too expensive")


def test_the_first_reason_of_a_cancel_stays(desk: Desk) -> None:
    _, job = desk.executing()
    desk.cancel(job.id, "too dear")
    first = desk.row(job.id)["cancel_requested_at"]
    desk.cancel(job.id, "again")
    row = desk.row(job.id)
    assert (row["wait_detail"], row["cancel_requested_at"]) == ("too dear", first)


# --- Deadlines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.SNOOZED, Ending.UNKNOWN_JOB])
def test_a_job_never_waits_beyond_its_deadline(desk: Desk, ending: Ending) -> None:
    desk.freeze()
    worker_id, job = desk.executing(deadline_in=60)
    desk.end(worker_id, job, Ended(ending, delay_s=3600.0))
    row = desk.row(job.id)
    assert row["run_at"] == row["deadline"] == "2031-05-05T12:01:00+00:00"
    assert desk.history(job.id)[0]["next_at"] == row["run_at"]


def test_a_sleep_never_parks_a_job_beyond_its_deadline(desk: Desk) -> None:
    desk.freeze()
    worker_id, job = desk.executing(deadline_in=60)
    desk.end(worker_id, job, Ended(Ending.PARKED, run_at="2031-05-05T13:00:00+00:00"))
    row = desk.row(job.id)
    assert row["run_at"] == row["deadline"]


def test_a_sleep_parks_a_job_until_its_exact_end(desk: Desk) -> None:
    desk.freeze(NOON)
    worker_id, job = desk.executing()
    desk.end(worker_id, job, Ended(Ending.PARKED, run_at="2031-05-05T13:00:00.123456+00:00"))
    assert desk.row(job.id)["run_at"] == "2031-05-05T13:00:00.123456+00:00"


# --- Running again --------------------------------------------------------------------------------


def test_a_retry_allows_one_more_attempt_and_keeps_finished_steps_only(desk: Desk) -> None:
    worker_id, job = desk.executing(max_attempts=1)
    desk.record(
        worker_id, step_write(job, "kept"), step_write(job, "caught", seq=2, state="failed")
    )
    desk.end(worker_id, job, Ended(Ending.FAILED))
    assert desk.row(job.id)["state"] == "discarded"
    desk.run(jobs.retry([job.id]))
    row = desk.row(job.id)
    assert (row["failures"], row["max_attempts"], row["crashes"]) == (1, 2, 0)
    keys = desk.db.execute("SELECT key FROM holdfast.step WHERE job_id = %s", [job.id])
    assert keys == [("kept",)]
    (again,) = desk.claim(desk.worker()).jobs
    assert again.epoch == job.epoch + 1


@pytest.mark.parametrize("state", [State.ATTENTION, State.DISCARDED])
def test_a_retry_after_the_deadline_is_not_over_before_it_begins(desk: Desk, state: State) -> None:
    worker_id, job = desk.executing(deadline_in=60)
    ending = Ending.STOPPED if state is State.ATTENTION else Ending.DISCARDED
    desk.end(worker_id, job, Ended(ending))
    desk.db.move_time("1 hour")
    desk.run(jobs.retry([job.id]))
    (again,) = desk.claim(desk.worker()).jobs
    assert again.deadline_in_s is None or again.deadline_in_s > 0
