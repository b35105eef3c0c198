"""Claiming: the right jobs, in the right order, each to one worker."""

import threading
from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest

from fixtures.desk import Desk, completion, lanes_of, settled, step_write
from holdfast.model.job import Lane
from holdfast.model.outcome import Ending
from holdfast.model.queues import Served
from holdfast.runtime.executor import Ended
from holdfast.runtime.lanes import Lanes
from holdfast.storage import jobs
from holdfast.storage.jobs import decode_journal


def test_jobs_come_by_priority_then_time_then_id(desk: Desk) -> None:
    desk.freeze()
    noon = datetime(2031, 5, 5, 12, tzinfo=UTC)
    made = []
    for priority in (9, 0, 5):
        for minutes in (1, 3, 1):
            at = noon - timedelta(minutes=minutes)
            job_id = desk.enqueue(priority=priority, run_at=at.isoformat())
            made.append((priority, at, job_id))
    worker_id = desk.worker()
    claimed = [desk.claim(worker_id, {"default": 1}).jobs[0].id for _ in made]
    assert claimed == [job_id for _, _, job_id in sorted(made)]


def test_one_claim_takes_the_first_jobs_and_returns_them_in_order(desk: Desk) -> None:
    ids = [desk.enqueue(priority=priority) for priority in (3, 1, 2, 0)]
    claim = desk.claim(desk.worker(), {"default": 3})
    assert [job.id for job in claim.jobs] == [ids[3], ids[1], ids[2]]
    assert desk.row(ids[0])["state"] == "available"


def test_each_queue_gets_what_it_asks_for(desk: Desk) -> None:
    for queue in ("a", "b", "c"):
        desk.enqueue_all([{"name": "work", "queue": queue, "priority": n % 3} for n in range(9)])
    claim = desk.claim(desk.worker(), {"a": 2, "b": 5})
    queues = [job.queue for job in claim.jobs]
    assert (queues.count("a"), queues.count("b"), queues.count("c")) == (2, 5, 0)


def test_a_claim_of_nothing_takes_nothing(desk: Desk) -> None:
    job_id = desk.enqueue()
    worker_id = desk.worker()
    for demands in ({}, {"default": 0}):
        claim = desk.claim(worker_id, demands)
        assert (claim.jobs, claim.alive) == ([], True)
    assert desk.row(job_id)["state"] == "available"


def test_a_claim_gives_a_lease_and_forgets_why_the_job_waited(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.end(worker_id, job, Ended(Ending.SNOOZED, reason="busy"))
    (again,) = desk.claim(worker_id).jobs
    row = desk.row(job.id)
    assert (again.epoch, row["epoch"], row["worker_id"]) == (2, 2, worker_id)
    assert (row["wait_reason"], row["wait_detail"]) == (None, None)


def test_a_claim_locks_no_more_jobs_than_it_takes(desk: Desk) -> None:
    desk.enqueue_all([{"name": "work", "priority": n % 2} for n in range(10)])
    first = desk.connect()
    with first.transaction():
        one = desk.claim(desk.worker(), {"default": 3}, conn=first)
        other = desk.claim(desk.worker(), {"default": 100})
    assert (len(one.jobs), len(other.jobs)) == (3, 7)


def test_two_claimers_never_get_the_same_job(desk: Desk) -> None:
    total, claimers = 2_000, 4
    desk.enqueue_all([{"name": "work"}] * total)
    taken: dict[int, list[int]] = {}
    start = threading.Barrier(claimers)

    def drain(worker_id: int) -> None:
        conn = desk.connect()
        mine = taken.setdefault(worker_id, [])
        start.wait(10)
        while batch := desk.claim(worker_id, {"default": 17}, conn=conn).jobs:
            mine.extend(job.id for job in batch)

    threads = [threading.Thread(target=drain, args=[desk.worker()]) for _ in range(claimers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    everything = [job_id for mine in taken.values() for job_id in mine]
    assert len(everything) == len(set(everything))
    # A claimer may stop while others hold the last rows: whoever comes then takes the rest.
    rest = desk.claim(desk.worker(), {"default": total}).jobs
    assert len(everything) + len(rest) == total


# --- Time -----------------------------------------------------------------------------------------


def test_a_scheduled_job_is_claimed_at_its_time_and_not_before(desk: Desk) -> None:
    job_id = desk.enqueue(run_at="2031-05-05T12:00:00+00:00")
    worker_id = desk.worker()
    desk.freeze("2031-05-05 11:59:59.999999+00")
    assert desk.claim(worker_id).jobs == []
    desk.freeze("2031-05-05 12:00:00+00")
    assert [job.id for job in desk.claim(worker_id).jobs] == [job_id]


def test_a_claim_says_when_the_next_job_is_due(desk: Desk) -> None:
    desk.freeze("2031-05-05 12:00:00+00")
    worker_id = desk.worker()
    assert desk.claim(worker_id).due_in_s is None
    for seconds, priority, queue in ((90, 0, "default"), (30.5, 7, "default"), (10, 0, "other")):
        desk.enqueue(run_in=seconds, priority=priority, queue=queue)
    assert desk.claim(worker_id).due_in_s == 30.5
    assert desk.claim(worker_id, {"default": 1, "other": 1}).due_in_s == 10.0


def test_a_claim_that_got_all_it_asked_for_does_not_look_ahead(desk: Desk) -> None:
    desk.enqueue_all([{"name": "work"}, {"name": "work", "run_in": 60}])
    worker_id = desk.worker()
    claim = desk.claim(worker_id, {"default": 1})
    assert (len(claim.jobs), claim.due_in_s) == (1, None)
    assert 59 < (desk.claim(worker_id, {"default": 1}).due_in_s or 0) <= 60


def test_a_claim_says_how_long_a_job_has_until_its_deadline(desk: Desk) -> None:
    desk.freeze()
    _, job = desk.executing(deadline_in=45)
    assert job.deadline_in_s == 45.0


def test_a_claim_says_that_a_cancel_was_requested_of_a_job_handed_back(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.cancel(job.id)
    desk.run(jobs.disown(worker_id, desk.schema, []))
    (again,) = desk.claim(worker_id).jobs
    assert again.cancel_requested


# --- Floors ---------------------------------------------------------------------------------------


def test_a_floor_hides_what_lies_below_it_in_its_own_lane_only(desk: Desk) -> None:
    desk.freeze()
    at = datetime(2031, 5, 5, 11, tzinfo=UTC)
    below, on, above = (
        desk.enqueue(run_at=(at + timedelta(minutes=n)).isoformat()) for n in (-1, 0, 1)
    )
    other_lane = desk.enqueue(run_at=(at - timedelta(minutes=1)).isoformat(), priority=1)
    lanes = [Lane("default", 0, at, on), *lanes_of({"default": 1})[1:]]
    claim = desk.claim(desk.worker(), lanes=lanes)
    assert [job.id for job in claim.jobs] == [on, above, other_lane]
    assert desk.row(below)["state"] == "available"


def test_a_job_that_appears_below_the_floor_is_found_by_the_next_sweep(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("holdfast.runtime.lanes.time.monotonic", lambda: clock[0])
    desk.enqueue()
    worker_id = desk.worker()
    lanes = Lanes(Served({"default": 10}))

    def claim() -> list[int]:
        demands = lanes.demands()
        answer = desk.claim(worker_id, demands, lanes=lanes.lanes(demands))
        lanes.took(answer, took_s=0.01)
        return [job.id for job in answer.jobs]

    assert len(claim()) == 1
    late = desk.enqueue(run_at="2020-01-01T00:00:00+00:00")
    assert claim() == []
    clock[0] += 2.0
    assert claim() == [late]


# --- The journal ----------------------------------------------------------------------------------


def test_a_first_claim_brings_no_journal(desk: Desk) -> None:
    _, job = desk.executing()
    assert job.journal is None


def test_a_reclaim_brings_the_journal_along(desk: Desk) -> None:
    desk.freeze()
    worker_id, job = desk.executing()
    error = {"error_type": "ValueError", "error_message": 'quote " and ü'}
    desk.record(
        worker_id,
        step_write(job, "one", result=bytes(range(256)), code_version="v1"),
        step_write(job, "two", seq=2, state="failed", result=None, codec=None, **error),
        step_write(job, "three", seq=3, kind="sleep", result=None, codec=None, wake_s=90.0),
    )
    desk.settle(worker_id, settled(job, Ended(Ending.PARKED, run_at="2031-05-05T12:01:30+00")))
    desk.freeze("2031-05-05 12:02:00+00")
    (again,) = desk.claim(worker_id).jobs
    journal = decode_journal(again.journal)
    assert {key: step.seq for key, step in journal.items()} == {"one": 1, "two": 2, "three": 3}
    one, two, three = journal["one"], journal["two"], journal["three"]
    assert (one.data, one.codec, one.code_version) == (bytes(range(256)), 1, "v1")
    assert one.fingerprint == b"\x01"
    assert (two.state, two.error_message, two.data) == ("failed", 'quote " and ü', None)
    assert three.wake_in_s == -30.0


def test_results_beyond_four_mebibytes_are_left_to_be_loaded(desk: Desk) -> None:
    worker_id, job = desk.executing()
    mebibyte = b"\xff" * 2**20
    for n in range(6):
        desk.record(worker_id, step_write(job, f"step {n}", seq=n, result=mebibyte))
    desk.record(worker_id, step_write(job, "spilled", seq=9, result=b"blob", spill=True))
    desk.end(worker_id, job, Ended(Ending.SNOOZED))
    (again,) = desk.claim(worker_id).jobs
    journal = decode_journal(again.journal)
    came = [key for key, step in journal.items() if step.data is not None]
    assert sorted(came) == [f"step {n}" for n in range(4)]
    assert len(b64decode(str(again.journal).split('"result" : "')[1][:16])) > 0
    assert set(journal) == {f"step {n}" for n in range(6)} | {"spilled"}


def test_a_finished_job_is_not_claimed_again(desk: Desk) -> None:
    worker_id, job = desk.executing()
    desk.complete(worker_id, completion(job))
    assert desk.claim(worker_id).jobs == []
