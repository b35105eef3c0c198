"""Fencing: only the owner of a job's current lease writes about it, row by row."""

from collections.abc import Callable
from typing import Any

import pytest

from fixtures.desk import Desk, completion, settled, step_write, stopped
from holdfast.model.job import ClaimedJob
from holdfast.model.outcome import Ending
from holdfast.model.writes import Forget, ProgressWrite
from holdfast.runtime.executor import Ended
from holdfast.storage import jobs, steps
from holdfast.storage.query import Query


def _complete(worker_id: int, schema: str, *owned: ClaimedJob) -> Query[Any]:
    return jobs.complete(worker_id, schema, [completion(job, result=b"r") for job in owned])


def _settle(worker_id: int, schema: str, *owned: ClaimedJob) -> Query[Any]:
    ended = Ended(Ending.FAILED, error=ValueError("boom"), delay_s=60.0)
    return jobs.settle(worker_id, schema, [settled(job, ended) for job in owned])


def _progress(worker_id: int, schema: str, *owned: ClaimedJob) -> Query[Any]:
    writes = [ProgressWrite(job.id, job.epoch, 0.5, 1.0, 2.0, "half") for job in owned]
    return jobs.progress(worker_id, writes)


def _record(worker_id: int, schema: str, *owned: ClaimedJob) -> Query[Any]:
    return steps.record(worker_id, [step_write(job, result=b"r", spill=True) for job in owned])


Write = Callable[..., Query[Any]]
WRITES = pytest.mark.parametrize("write", [_complete, _settle, _progress, _record])


def ids_in(answer: Any) -> set[int]:
    """Returns the jobs an answer says were ours."""
    return {key[0] if isinstance(key, tuple) else key for key in answer}


@WRITES
@pytest.mark.parametrize("off_by", [-1, 1])
def test_a_write_with_another_epoch_changes_nothing(desk: Desk, write: Write, off_by: int) -> None:
    worker_id, job = desk.executing()
    before = desk.everything()
    stale = job._replace(epoch=job.epoch + off_by)
    assert ids_in(desk.run(write(worker_id, desk.schema, stale))) == set()
    assert desk.everything() == before


@WRITES
def test_a_write_of_another_worker_changes_nothing(desk: Desk, write: Write) -> None:
    _, job = desk.executing()
    before = desk.everything()
    assert ids_in(desk.run(write(desk.worker(), desk.schema, job))) == set()
    assert desk.everything() == before


@WRITES
@pytest.mark.parametrize("ending", [Ending.SNOOZED, Ending.STOPPED, Ending.DISCARDED])
def test_a_write_about_a_job_that_does_not_run_changes_nothing(
    desk: Desk, write: Write, ending: Ending
) -> None:
    worker_id, job = desk.executing()
    desk.end(worker_id, job, Ended(ending))
    before = desk.everything()
    assert ids_in(desk.run(write(worker_id, desk.schema, job))) == set()
    assert desk.everything() == before


@WRITES
def test_a_worker_that_lost_and_reclaimed_a_job_cannot_use_its_old_lease(
    desk: Desk, write: Write
) -> None:
    worker_id, old = desk.executing()
    desk.run(jobs.disown(worker_id, desk.schema, []))
    (new,) = desk.claim(worker_id).jobs
    assert new.epoch > old.epoch
    before = desk.everything()
    assert ids_in(desk.run(write(worker_id, desk.schema, old))) == set()
    assert desk.everything() == before


@WRITES
def test_refused_rows_do_not_stop_the_good_rows_of_their_batch(desk: Desk, write: Write) -> None:
    desk.enqueue_all([{"name": "work"}] * 6)
    worker_id, other_id = desk.worker(), desk.worker()
    good, stale, also_good, ended = desk.claim(worker_id, {"default": 4}).jobs
    foreign, _ = desk.claim(other_id).jobs
    desk.complete(worker_id, completion(ended))
    missing = good._replace(id=987654)
    refused = [foreign, stale._replace(epoch=stale.epoch + 1), ended, missing]
    before = {job.id: desk.row(job.id) for job in (stale, foreign, ended)}
    batch = [refused[0], good, *refused[1:], also_good]
    assert ids_in(desk.run(write(worker_id, desk.schema, *batch))) == {good.id, also_good.id}
    assert {job_id: desk.row(job_id) for job_id in before} == before
    touched = {row[0] for row in desk.db.execute("SELECT job_id FROM holdfast.step")}
    assert touched <= {good.id, also_good.id}


@WRITES
def test_the_same_write_twice_is_the_same_as_once(desk: Desk, write: Write) -> None:
    desk.freeze()
    worker_id, job = desk.executing()
    query = write(worker_id, desk.schema, job)
    desk.run(query)
    once = [row[3] for row in desk.everything()]
    desk.run(query)
    assert [row[3] for row in desk.everything()] == once


def test_a_stale_lease_cannot_forget_an_error_that_the_new_owner_remembers(desk: Desk) -> None:
    worker_id, old = desk.executing()
    desk.record(worker_id, step_write(old, state="failed", error_type="E"))
    desk.release(worker_id)
    (new,) = desk.claim(desk.worker()).jobs
    before = desk.everything()
    desk.run(steps.forget([Forget(old.id, old.epoch, "fetch")]))
    assert desk.everything() == before
    desk.run(steps.forget([Forget(new.id, new.epoch, "fetch")]))
    assert desk.db.value("SELECT count(*) FROM holdfast.step") == 0


def test_forgetting_leaves_finished_steps_alone(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.record(worker_id, step_write(job))
    desk.run(steps.forget([Forget(job.id, job.epoch, "fetch")]))
    assert desk.db.value("SELECT count(*) FROM holdfast.step") == 1


def test_progress_never_goes_back(desk: Desk) -> None:
    worker_id, job = desk.executing()
    for fraction, text in ((0.5, "half"), (0.2, "again"), (0.6, None)):
        write = ProgressWrite(job.id, job.epoch, fraction, fraction * 10, 10.0, text)
        assert desk.run(jobs.progress(worker_id, [write])) == {job.id}
    row = desk.row(job.id)
    assert (row["progress"], row["progress_done"], row["progress_text"]) == (0.6, 6.0, "half")


# --- Dead workers ---------------------------------------------------------------------------------


def test_a_worker_whose_row_is_gone_claims_nothing_and_is_told(desk: Desk) -> None:
    job_id = desk.enqueue()
    answer = desk.claim(4711)
    assert (answer.jobs, answer.alive) == ([], False)
    assert desk.row(job_id)["state"] == "available"


def test_a_worker_that_was_declared_dead_claims_nothing_and_is_told(desk: Desk) -> None:
    worker_id = desk.worker()
    desk.release(worker_id)
    job_id = desk.enqueue()
    answer = desk.claim(worker_id)
    assert (answer.jobs, answer.alive) == ([], False)
    assert desk.row(job_id)["state"] == "available"


def test_a_rescue_leaves_a_worker_alone_that_renewed_meanwhile(desk: Desk) -> None:
    worker_id, job = desk.executing()
    before = desk.everything()
    assert desk.release(worker_id, certain=False) == {}
    assert desk.everything() == before
    desk.db.move_time("2 minutes")
    assert desk.release(worker_id, certain=False) == {job.id: "available"}


def test_a_rescue_takes_a_worker_whose_lock_has_been_missing_for_the_grace(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.db.execute(
        "UPDATE holdfast.worker SET lock_missing_since = holdfast.clock() - interval '2 seconds'"
    )
    assert desk.release(worker_id, certain=False, grace_s=5.0) == {}
    assert desk.release(worker_id, certain=False, grace_s=1.0) == {job.id: "available"}


def test_a_second_rescue_moves_nothing_and_buries_the_worker(desk: Desk) -> None:
    worker_id, job = desk.executing()
    assert desk.release(worker_id) == {job.id: "available"}
    before = desk.everything()
    assert desk.release(worker_id) == {}
    assert desk.everything() == before
    assert desk.db.value("SELECT count(*) FROM holdfast.worker") == 0


def test_a_rescue_skips_a_locked_job_and_takes_it_at_the_next_call(desk: Desk) -> None:
    locked, free = desk.enqueue_all([{"name": "work"}] * 2)
    worker_id = desk.worker()
    desk.claim(worker_id)
    desk.conn.execute("SET lock_timeout = '100ms'")  # a rescue that waits fails here
    holder = desk.connect()
    with holder.transaction():
        holder.execute(f"SELECT 1 FROM {desk.name}.job WHERE id = %s FOR UPDATE", [locked])
        assert desk.release(worker_id) == {free: "available"}
        assert desk.release(worker_id) == {}
        assert desk.db.value("SELECT count(*) FROM holdfast.worker") == 1
    assert desk.release(worker_id) == {locked: "available"}


def test_a_rescue_skips_a_worker_whose_claim_is_in_flight(desk: Desk) -> None:
    job_id = desk.enqueue()
    worker_id = desk.worker()
    desk.conn.execute("SET lock_timeout = '100ms'")
    claimer = desk.connect()
    with claimer.transaction():
        assert len(desk.claim(worker_id, conn=claimer).jobs) == 1
        assert desk.release(worker_id) == {}
        assert desk.db.value("SELECT count(*) FROM holdfast.worker") == 1
    assert desk.release(worker_id) == {job_id: "available"}


def test_a_rescue_never_loses_a_job_claimed_between_its_snapshot_and_its_lock(desk: Desk) -> None:
    job_id = desk.enqueue()
    worker_id = desk.worker(lease_s=-1)
    # The clock is the first thing a rescue asks, after its snapshot and before its lock; volatile,
    # so that the planner does not ask it.
    desk.db.execute(
        "CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz LANGUAGE plpgsql "
        "VOLATILE AS $$ BEGIN IF current_setting('test.stall', true) = 'on' THEN "
        "PERFORM pg_advisory_xact_lock_shared(4711); END IF; RETURN statement_timestamp(); END $$"
    )
    rescuer, gate = desk.connect(), desk.connect()
    rescuer.execute("SET test.stall = 'on'")
    gate.execute("SELECT pg_advisory_lock(4711)")
    how = {"outcome": "crashed", "reason": "gone", "certain": False, "charge": True}
    future = desk.run_beside(desk.releasing(worker_id, **how), conn=rescuer)
    desk.wait_for_a_lock()
    assert len(desk.claim(worker_id).jobs) == 1
    gate.execute("SELECT pg_advisory_unlock(4711)")
    future.result(10)
    for _ in range(2):
        desk.release(worker_id, certain=False)
    assert desk.row(job_id)["state"] == "available"
    assert desk.db.value("SELECT count(*) FROM holdfast.worker") == 0


def test_a_hand_back_of_unknown_jobs_leaves_the_known_ones(desk: Desk) -> None:
    known, unknown = desk.enqueue_all([{"name": "work"}] * 2)
    worker_id = desk.worker()
    desk.claim(worker_id)
    assert desk.run(jobs.disown(worker_id, desk.schema, [(known, 1)])) == [unknown]
    row = desk.row(unknown)
    assert (row["state"], row["resumes"], row["epoch"]) == ("available", 1, 2)
    assert desk.row(known)["state"] == "executing"


def test_what_a_lost_lease_left_in_attention_is_not_touched_by_its_old_owner(desk: Desk) -> None:
    worker_id, job = desk.executing(max_crashes=1)
    desk.release(worker_id)
    before = desk.everything()
    assert desk.end(worker_id, job, stopped()) == {}
    assert desk.complete(worker_id, completion(job)) == set()
    assert desk.everything() == before
    assert desk.row(job.id)["wait_reason"] == "poison"
