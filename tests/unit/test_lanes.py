"""Lanes: slots, floors, and the sweeps that make up for floors."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.model.job import Claim, ClaimedJob
from holdfast.model.queues import Served
from holdfast.runtime.lanes import Lanes
from holdfast.storage.jobs import BEGINNING

NOON = datetime(2031, 5, 5, 12, tzinfo=UTC)


class Clock:
    """The monotonic clock of a test."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("holdfast.runtime.lanes.time.monotonic", clock)
    return clock


def claimed(*places: tuple[str, int, int, int]) -> Claim:
    """Returns a claim of jobs at (queue, priority, minutes after noon, id)."""
    jobs = [
        ClaimedJob(
            id=id_,
            epoch=1,
            queue=queue,
            name="work",
            args="{}",
            priority=priority,
            run_at=NOON + timedelta(minutes=minutes),
            failures=0,
            max_attempts=20,
            crashes=0,
            max_crashes=3,
            resumes=0,
            deadline_in_s=None,
            cancel_requested=False,
            code_version=None,
            tags=[],
            meta="{}",
            progress=None,
            journal=None,
        )
        for queue, priority, minutes, id_ in places
    ]
    return Claim(jobs, None, True)


def floors(lanes: Lanes, *queues: str) -> dict[tuple[str, int], tuple[datetime, int]]:
    """Returns the floors the next claim would look from, where they are not the beginning."""
    looked = lanes.lanes(dict.fromkeys(queues, 1))
    return {
        (lane.queue, lane.priority): (lane.floor_at, lane.floor_id)
        for lane in looked
        if lane.floor_at != BEGINNING
    }


def test_a_queue_without_a_free_slot_demands_nothing() -> None:
    lanes = Lanes(Served({"a": 2, "b": 1}))
    lanes.started("a")
    lanes.started("b")
    assert lanes.demands() == {"a": 1}
    assert lanes.running == 2
    lanes.ended("b")
    assert lanes.demands() == {"a": 1, "b": 1}


def test_a_claim_asks_for_half_of_the_slots_so_that_the_other_half_works_meanwhile() -> None:
    lanes = Lanes(Served({"a": 9}))
    assert lanes.demands() == {"a": 5}
    for _ in range(5):
        lanes.started("a")
    assert lanes.demands() == {"a": 4}


def test_a_paused_queue_demands_nothing_and_an_added_one_does() -> None:
    lanes = Lanes(Served({"a": 2}))
    lanes.serve(Served({"a": 2, "b": 2}, frozenset({"a"})))
    assert lanes.demands() == {"b": 1}
    assert (lanes.serves("a"), lanes.serves("b"), lanes.serves("c")) == (False, True, False)


def test_a_claim_looks_into_every_priority_of_the_demanded_queues_in_order() -> None:
    looked = Lanes(Served({"a": 1, "b": 1})).lanes({"b": 1, "a": 1})
    assert [(lane.queue, lane.priority) for lane in looked] == [
        (queue, priority) for queue in ("b", "a") for priority in range(10)
    ]


def test_the_first_claim_looks_from_the_beginning(clock: Clock) -> None:
    assert floors(Lanes(Served({"a": 1})), "a") == {}


def test_the_floor_of_a_lane_is_the_first_job_its_last_claim_returned(clock: Clock) -> None:
    lanes = Lanes(Served({"a": 9}))
    lanes.lanes({"a": 9})
    lanes.took(claimed(("a", 0, 1, 7), ("a", 0, 2, 3), ("a", 4, 0, 9)), 0.001)
    expected = {("a", 0): (NOON + timedelta(minutes=1), 7), ("a", 4): (NOON, 9)}
    assert floors(lanes, "a") == expected


def test_a_claim_that_found_nothing_in_a_lane_keeps_its_floor(clock: Clock) -> None:
    lanes = Lanes(Served({"a": 9}))
    lanes.lanes({"a": 9})
    lanes.took(claimed(("a", 0, 1, 7)), 0.001)
    before = floors(lanes, "a")
    lanes.took(claimed(), 0.001)
    assert floors(lanes, "a") == before != {}


def test_a_sweep_that_finds_an_earlier_job_lowers_the_floor(clock: Clock) -> None:
    lanes = Lanes(Served({"a": 9}))
    lanes.lanes({"a": 9})
    lanes.took(claimed(("a", 0, 30, 7)), 0.001)
    clock.now += 2.0
    assert floors(lanes, "a") == {}
    lanes.took(claimed(("a", 0, 5, 8)), 0.001)
    assert floors(lanes, "a") == {("a", 0): (NOON + timedelta(minutes=5), 8)}


@pytest.mark.parametrize(
    ("took_s", "pause_s"), [(0.0, 0.02), (0.001, 0.02), (0.01, 0.2), (0.05, 1.0), (60.0, 2.0)]
)
def test_sweeps_take_a_twentieth_of_the_time_and_are_never_far_apart(
    clock: Clock, took_s: float, pause_s: float
) -> None:
    lanes = Lanes(Served({"a": 9}))
    lanes.lanes({"a": 9})
    lanes.took(claimed(("a", 0, 1, 7)), took_s)
    clock.now += pause_s - 0.001
    assert floors(lanes, "a") != {}
    clock.now += 0.002
    assert floors(lanes, "a") == {}


def test_a_claim_with_floors_does_not_put_the_next_sweep_off(clock: Clock) -> None:
    lanes = Lanes(Served({"a": 9}))
    lanes.lanes({"a": 9})
    lanes.took(claimed(("a", 0, 1, 7)), 0.05)
    for _ in range(3):
        clock.now += 0.3
        lanes.lanes({"a": 9})
        lanes.took(claimed(("a", 0, 1, 7)), 10.0)
    clock.now += 0.2
    assert floors(lanes, "a") == {}
