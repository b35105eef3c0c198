"""Heartbeats: who is renewed, who is suspect, who is dead, and who is spared."""

from collections.abc import Iterator

import psycopg
import pytest

from fixtures.desk import Desk
from holdfast.storage import workers
from holdfast.storage.workers import Beat

# Shorter than the test server has been up, so that the amnesty after a start is over.
LEASE_S = 0.001
OBSERVER, OTHER, THIRD = 1, 2, 3


@pytest.fixture
def lock(desk: Desk) -> Iterator[psycopg.Connection]:
    """A connection that holds the session lock of the other supervisor."""
    conn = desk.connect()
    assert desk.run(workers.take_lock(desk.schema, OTHER), conn)
    yield conn
    conn.close()


def beat(
    desk: Desk, supervisor_id: int = OBSERVER, *, lease_s: float = LEASE_S, grace_s: float = 1.0
) -> Beat:
    return desk.run(workers.beat(supervisor_id, lease_s=lease_s, grace_s=grace_s))


def lease_of(desk: Desk, worker_id: int) -> tuple:
    (row,) = desk.db.execute(
        "SELECT renewed_at, expires_at, lock_missing_since FROM holdfast.worker WHERE id = %s",
        [worker_id],
    )
    return row


def wait_until_released(desk: Desk, supervisor_id: int) -> None:
    """Returns once the server has noticed that a supervisor's session is gone."""
    for _ in range(500):
        if desk.run(workers.take_lock(desk.schema, supervisor_id)):
            desk.conn.execute("SELECT pg_advisory_unlock_all()")
            return
        desk.db.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("the session lock is still held")


def test_a_heartbeat_renews_every_worker_of_its_supervisor_and_no_other(desk: Desk) -> None:
    mine, also_mine = desk.worker(), desk.worker()
    foreign = desk.worker(supervisor_id=OTHER)
    before = lease_of(desk, foreign)
    desk.db.move_time("30 seconds")
    answer = beat(desk, lease_s=45.0)
    assert answer.renewed == {mine, also_mine}
    assert lease_of(desk, foreign) == before
    for worker_id in (mine, also_mine):
        renewed_at, expires_at, _ = lease_of(desk, worker_id)
        assert (expires_at - renewed_at).total_seconds() == 45.0
        assert (renewed_at - before[0]).total_seconds() >= 30.0


def test_a_worker_whose_lease_is_over_is_dead(desk: Desk) -> None:
    foreign = desk.worker(supervisor_id=OTHER, lease_s=60)
    assert beat(desk).dead == set()
    desk.db.move_time("59 seconds")
    assert beat(desk).dead == set()
    desk.db.move_time("61 seconds")
    assert beat(desk).dead == {foreign}


def test_an_expired_lease_counts_even_while_the_lock_is_held(
    desk: Desk, lock: psycopg.Connection
) -> None:
    frozen = desk.worker(supervisor_id=OTHER, lease_s=60, locked=True)
    desk.db.move_time("61 seconds")
    assert beat(desk).dead == {frozen}


def test_a_worker_whose_lock_is_held_is_alive(desk: Desk, lock: psycopg.Connection) -> None:
    desk.worker(supervisor_id=OTHER, locked=True)
    answer = beat(desk, grace_s=0.0)
    assert (answer.suspects, answer.dead) == (set(), set())


def test_a_worker_whose_lock_is_gone_is_suspect_and_then_dead(
    desk: Desk, lock: psycopg.Connection
) -> None:
    foreign = desk.worker(supervisor_id=OTHER, locked=True)
    lock.close()
    wait_until_released(desk, OTHER)
    desk.freeze("2031-05-05 12:00:00+00")
    desk.db.execute("UPDATE holdfast.worker SET expires_at = '2031-05-05 13:00:00+00'")
    for at in ("12:00:00", "12:00:00.9"):
        desk.freeze(f"2031-05-05 {at}+00")
        answer = beat(desk)
        assert (answer.suspects, answer.dead) == ({foreign}, set())
    desk.freeze("2031-05-05 12:00:01+00")
    answer = beat(desk)
    assert (answer.suspects, answer.dead) == (set(), {foreign})


def test_a_renewal_clears_the_suspicion(desk: Desk) -> None:
    foreign = desk.worker(supervisor_id=OTHER, locked=True)
    assert beat(desk).suspects == {foreign}
    assert lease_of(desk, foreign)[2] is not None
    assert beat(desk, OTHER, lease_s=60.0).renewed == {foreign}
    assert lease_of(desk, foreign)[2] is None


def test_a_worker_without_a_lock_is_judged_by_its_lease_alone(desk: Desk) -> None:
    pooled = desk.worker(supervisor_id=OTHER, locked=False, lease_s=60)
    answer = beat(desk, grace_s=0.0)
    assert (answer.suspects, answer.dead) == (set(), set())
    desk.db.move_time("61 seconds")
    assert beat(desk).dead == {pooled}


def test_nobody_is_dead_while_the_server_is_younger_than_a_lease(desk: Desk) -> None:
    foreign = desk.worker(supervisor_id=OTHER, locked=True)
    desk.db.move_time("61 seconds")
    beat(desk)
    age_s = float(
        desk.db.value("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
    )
    answer = beat(desk, lease_s=age_s + 3600.0, grace_s=0.0)
    assert (answer.suspects, answer.dead) == ({foreign}, set())
    assert beat(desk, lease_s=age_s / 2, grace_s=0.0).dead == {foreign}


def test_a_noted_lock_is_not_waited_for(desk: Desk) -> None:
    foreign = desk.worker(supervisor_id=OTHER, locked=True)
    desk.conn.execute("SET lock_timeout = '100ms'")
    holder = desk.connect()
    with holder.transaction():
        holder.execute(f"SELECT 1 FROM {desk.name}.worker FOR UPDATE")
        assert beat(desk).suspects == {foreign}
    assert lease_of(desk, foreign)[2] is None


def test_two_supervisors_see_the_same_dead_and_only_one_rescues_a_job(desk: Desk) -> None:
    job_id = desk.enqueue()
    dead = desk.worker(supervisor_id=THIRD, lease_s=60)
    desk.claim(dead)
    desk.db.move_time("61 seconds")
    assert beat(desk, OBSERVER).dead == beat(desk, OTHER).dead == {dead}
    rescues = [
        desk.run_beside(
            desk.releasing(dead, charge=True, certain=False, outcome="crashed", reason="gone")
        )
        for _ in range(2)
    ]
    moved = [rescue.result(10) for rescue in rescues]
    assert sorted(moved, key=len) == [{}, {job_id: "available"}]
    row = desk.row(job_id)
    assert (row["crashes"], row["epoch"]) == (1, 2)
    assert len(desk.history(job_id)) == 1


def test_two_supervisors_keep_each_other_alive(desk: Desk, lock: psycopg.Connection) -> None:
    mine = desk.worker(supervisor_id=OBSERVER)
    theirs = desk.worker(supervisor_id=OTHER, locked=True)
    for supervisor_id, worker_id in ((OBSERVER, mine), (OTHER, theirs)):
        answer = beat(desk, supervisor_id, lease_s=60.0)
        assert (answer.renewed, answer.suspects, answer.dead) == ({worker_id}, set(), set())


def test_a_worker_that_was_declared_dead_is_not_renewed_any_more(desk: Desk) -> None:
    worker_id = desk.worker()
    desk.release(worker_id)
    assert beat(desk, lease_s=60.0).renewed == set()


def test_a_session_lock_is_given_to_one_connection_only(
    desk: Desk, lock: psycopg.Connection
) -> None:
    assert not desk.run(workers.take_lock(desk.schema, OTHER))
    assert desk.run(workers.take_lock(desk.schema, THIRD))


def test_the_lock_of_one_installation_says_nothing_about_another() -> None:
    keys = {workers.lock_key(schema, 7) for schema in ("holdfast", "other", "Holdfast")}
    assert len(keys) == 3
    assert all(0 <= key < 2**63 for key in keys)


# --- Duties ---------------------------------------------------------------------------------------


def only_partitions_due(desk: Desk) -> None:
    desk.db.execute(
        "UPDATE holdfast.duty SET next_at = holdfast.clock() + "
        "CASE WHEN name = 'partitions' THEN interval '0' ELSE interval '1 day' END"
    )


def test_a_duty_that_is_due_is_announced_and_taken_once(desk: Desk) -> None:
    only_partitions_due(desk)
    assert beat(desk).duty_due
    assert desk.run(workers.claim_duty()) == "partitions"
    assert desk.run(workers.claim_duty()) is None
    assert not beat(desk).duty_due
    desk.db.move_time("61 minutes")
    assert beat(desk).duty_due


def test_a_duty_that_a_rival_is_taking_is_skipped(desk: Desk) -> None:
    only_partitions_due(desk)
    desk.conn.execute("SET lock_timeout = '100ms'")
    rival = desk.connect()
    with rival.transaction():
        assert desk.run(workers.claim_duty(), rival) == "partitions"
        assert desk.run(workers.claim_duty()) is None
