"""What `jobs tail` reads: no change is missed and none repeated, whatever the order of commits."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fixtures.desk import Desk, completion
from holdfast.model.watching import Changes, Cursor
from holdfast.storage import inspection, jobs


@dataclass
class Look:
    """Looks again and again, from the place where the last look ended."""

    desk: Desk
    filters: dict[str, Any] = field(default_factory=dict)
    cursor: Cursor = field(default_factory=Cursor)

    def again(self) -> list[tuple[int, str]]:
        found = self.desk.run(inspection.changes(self.cursor, **{"most": 100, **self.filters}))
        self.cursor = self.cursor.after(found)
        return sorted((job.id, job.shown) for job in found.jobs)


@pytest.fixture
def look(desk: Desk) -> Look:
    """A look that has found its place: what was there before is not told."""
    desk.enqueue()
    desk.cancel(desk.enqueue())
    look = Look(desk)
    look.again()
    return look


def test_each_change_is_told_once(desk: Desk, look: Look) -> None:
    assert look.again() == []
    job_id = desk.enqueue(queue="q")
    assert look.again() == [(job_id, "available")]
    worker_id = desk.worker()
    (job,) = desk.claim(worker_id, {"q": 1}).jobs
    assert look.again() == [(job_id, "executing")]
    desk.complete(worker_id, completion(job))
    assert look.again() == [(job_id, "completed")]
    desk.run(jobs.retry([job_id]))
    assert look.again() == [(job_id, "available")]
    assert look.again() == []


def test_a_transaction_that_commits_late_is_told_when_it_does(desk: Desk, look: Look) -> None:
    late = desk.connect()
    late.execute("BEGIN")
    (early_id,) = desk.enqueue_all([{"name": "early"}], late)
    (ended_id,) = desk.enqueue_all([{"name": "ended"}], late)
    desk.run(jobs.cancel([ended_id], None), late)
    for _ in range(3):
        job_id = desk.enqueue()
        assert look.again() == [(job_id, "available")]
        assert look.again() == []
    late.execute("COMMIT")
    assert look.again() == [(early_id, "available"), (ended_id, "cancelled")]
    assert look.again() == []


def test_what_a_savepoint_has_written_is_told_when_its_transaction_commits(
    desk: Desk, look: Look
) -> None:
    late = desk.connect()
    late.execute("BEGIN")
    late.execute("SELECT pg_current_xact_id()")
    desk.enqueue()
    late.execute("SAVEPOINT inner_")
    (inner_id,) = desk.enqueue_all([{"name": "inner"}], late)
    late.execute("RELEASE inner_")
    assert len(look.again()) == 1
    assert look.again() == []
    late.execute("COMMIT")
    assert look.again() == [(inner_id, "available")]
    assert look.again() == []


def test_what_was_rolled_back_is_never_told(desk: Desk, look: Look) -> None:
    late = desk.connect()
    late.execute("BEGIN")
    desk.enqueue_all([{"name": "never"}], late)
    assert look.again() == []
    late.execute("ROLLBACK")
    assert look.again() == []


def test_a_transaction_that_was_open_before_the_first_look_is_told(desk: Desk) -> None:
    late = desk.connect()
    late.execute("BEGIN")
    (late_id,) = desk.enqueue_all([{"name": "late"}], late)
    before = desk.enqueue()
    look = Look(desk)
    assert look.again() == [(before, "available")]  # the first look only finds its place
    assert look.again() == []
    late.execute("COMMIT")
    assert look.again() == [(late_id, "available")]
    assert look.again() == []


def test_filters_choose_and_the_limit_takes_the_newest_and_counts_all(
    desk: Desk, look: Look
) -> None:
    some = Look(desk, {"queue": "mail", "states": ["cancelled"]})
    some.again()
    ids = desk.enqueue_all([{"name": "n", "queue": "mail"} for _ in range(5)])
    desk.run(jobs.cancel([ids[0], desk.enqueue()], None))
    assert some.again() == [(ids[0], "cancelled")]

    look.filters["most"] = 2
    found = desk.run(inspection.changes(look.cursor, most=2))
    assert (found.count, len(found.jobs)) == (6, 2)
    look.again()
    assert look.again() == []


def test_numbers_of_transactions_wrap_around() -> None:
    now = datetime(2031, 1, 1, tzinfo=UTC)
    before = Cursor().after(Changes(2**32 - 5, 2**32 - 1, now, 0, [str(2**32 - 3)], []))
    assert (before.floor, before.seen) == (str(2**32 - 5), [str(2**32 - 3)])
    found = Changes(2**32 + 2, 2**32 + 9, now + timedelta(seconds=1), 0, ["1", "7"], [])
    after = before.after(found)
    assert (after.floor, after.seen) == ("2", ["7"])
    assert after.since == now - timedelta(seconds=5)
