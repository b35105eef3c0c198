"""Retention: which finished jobs go, what goes with them, and who must not notice."""

from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.desk import Desk
from holdfast.storage import jobs, queues
from holdfast.storage.queues import Pruned
from holdfast.storage.workers import make_partitions

# The desk's clock stands at 2031-05-05 12:00 UTC.
OLD, MIDDLE, RECENT = "2031-01-01", "2031-03-20", "2031-05-01"


@pytest.fixture
def archive(desk: Desk) -> Iterator[Desk]:
    """A desk in front of an archive with partitions for an old, a middle, and a recent day."""
    desk.freeze()
    before = partitions(desk)
    # Those of the real days are of the past for the frozen clock; the next test makes them anew.
    for name in before:
        if name != "job_archive_default":
            desk.db.execute(f"DROP TABLE holdfast.{name}")
    for day in (OLD, MIDDLE, RECENT):
        desk.db.execute(
            f"CREATE TABLE holdfast.{part(day)} PARTITION OF holdfast.job_archive "
            f"FOR VALUES FROM ('{day} 00:00+00') TO (timestamptz '{day} 00:00+00' + '1 day')"
        )
    yield desk
    desk.close()  # what a failed test holds locked
    for name in set(partitions(desk)) - set(before):
        desk.db.execute(f"DROP TABLE holdfast.{name}")


def part(day: str) -> str:
    return f"job_archive_{day.replace('-', '')}"


def partitions(desk: Desk) -> list[str]:
    rows = desk.db.execute(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'holdfast.job_archive'::regclass ORDER BY c.relname"
    )
    return [row[0] for row in rows]


def finished(desk: Desk, day: str, state: str = "completed", **keys: Any) -> int:
    """Returns a job that ended at noon of a day, with a step, a history row and a blob."""
    job_id = desk.enqueue(**keys)
    desk.cancel(job_id)
    desk.db.execute(
        "UPDATE holdfast.job_archive SET state = %s, finished_at = %s WHERE id = %s",
        [state, f"{day} 12:00+00", job_id],
    )
    desk.db.execute(
        "INSERT INTO holdfast.step (job_id, key, seq, kind, state, epoch, started_at, finished_at)"
        " VALUES (%s, 'fetch', 1, 'step', 'done', 1, now(), now())",
        [job_id],
    )
    desk.db.execute(
        "INSERT INTO holdfast.execution (job_id, epoch, ended_at, outcome)"
        " VALUES (%s, 1, now(), 'failed')",
        [job_id],
    )
    desk.db.execute("INSERT INTO holdfast.blob (job_id, key, data) VALUES (%s, '', 'x')", [job_id])
    return job_id


def left(desk: Desk) -> set[int]:
    """Returns the jobs there are; none of another one has anything left behind."""
    ids = {row[0] for row in desk.db.execute("SELECT id FROM holdfast.jobs")}
    for table in ("step", "execution", "blob"):
        rows = desk.db.execute(f"SELECT DISTINCT job_id FROM holdfast.{table}")
        assert {row[0] for row in rows} == ids, table
    return ids


def prune_all(desk: Desk) -> list[Pruned]:
    """Does what a worker's duty does."""
    done = []
    for query in (queues.drop_partition(), queues.prune(1000)):
        while (gone := desk.run(query)) is not None:
            done.append(gone)
    return done


# --- Which rule counts ----------------------------------------------------------------------------


def test_the_default_rules_keep_failures_longer_than_successes(archive: Desk) -> None:
    kept = {
        finished(archive, RECENT),
        finished(archive, MIDDLE, "discarded"),
        finished(archive, RECENT, "cancelled"),
    }
    for day, state in ((MIDDLE, "completed"), (MIDDLE, "cancelled"), (OLD, "discarded")):
        finished(archive, day, state)
    prune_all(archive)
    assert left(archive) == kept


def test_the_most_specific_rule_counts(archive: Desk) -> None:
    archive.run(queues.keep("", "", 1.0))
    archive.run(queues.keep("", "completed", None))
    archive.run(queues.keep("mail", "", 1.0))
    archive.run(queues.keep("mail", "completed", 86_400 * 60.0))
    kept = {
        finished(archive, OLD),  # by its state: for ever
        finished(archive, MIDDLE, queue="mail"),  # by queue and state: 60 days
    }
    finished(archive, OLD, queue="mail")
    finished(archive, RECENT, "discarded", queue="mail")  # by its queue, before its state
    prune_all(archive)
    assert left(archive) >= kept
    assert archive.run(queues.keep_as_others("mail", "completed")) is True
    assert archive.run(queues.keep_as_others("mail", "completed")) is False
    prune_all(archive)
    assert left(archive) == {min(kept)}  # its queue's rule counts now


def test_without_a_rule_jobs_are_kept_for_ever(archive: Desk) -> None:
    kept = finished(archive, OLD)
    for rule in archive.run(queues.retention()):
        archive.run(queues.keep_as_others(rule.queue, rule.state))
    assert prune_all(archive) == []
    assert left(archive) == {kept}
    assert part(OLD) in partitions(archive)


def test_a_job_is_kept_until_its_age_is_reached_and_not_longer(archive: Desk) -> None:
    finished(archive, RECENT)
    archive.run(queues.keep("", "completed", 4 * 86_400 + 1.0))
    assert prune_all(archive)[-1:] != [Pruned(None, 1)]
    archive.run(queues.keep("", "completed", 4 * 86_400.0))
    assert prune_all(archive) == [Pruned(None, 1)]


# --- Whole partitions -----------------------------------------------------------------------------


def test_a_partition_in_which_every_job_is_past_its_rule_is_dropped_whole(archive: Desk) -> None:
    for state in ("completed", "discarded", "cancelled"):
        finished(archive, OLD, state)
    kept = finished(archive, RECENT)
    assert archive.run(queues.drop_partition()) == Pruned(part(OLD), 3)
    assert left(archive) == {kept}
    assert part(OLD) not in partitions(archive)


def test_a_partition_is_kept_for_one_job_and_the_others_go_from_it(archive: Desk) -> None:
    archive.run(queues.keep("audit", "", None))
    kept = {finished(archive, OLD, queue="audit")}
    finished(archive, OLD)
    assert Pruned(None, 1) in prune_all(archive)
    assert left(archive) == kept
    assert part(OLD) in partitions(archive)


def test_an_empty_partition_goes_when_its_day_is_past_the_shortest_rule(archive: Desk) -> None:
    assert archive.run(queues.drop_partition()) == Pruned(part(OLD), 0)
    assert archive.run(queues.drop_partition()) == Pruned(part(MIDDLE), 0)
    assert archive.run(queues.drop_partition()) is None
    assert part(RECENT) in partitions(archive)


def test_the_partitions_of_today_and_the_coming_days_are_never_dropped(archive: Desk) -> None:
    assert archive.run(make_partitions(3)) == 4
    coming = [name for name in partitions(archive) if "20310505" <= name[-8:] <= "20310508"]
    assert len(coming) == 4
    archive.run(queues.keep("", "", 0.0))
    for state in ("completed", "discarded", "cancelled"):
        archive.run(queues.keep("", state, 0.0))
    job_id = archive.enqueue()
    archive.cancel(job_id)  # finished now, in today's partition, and past a rule of no time at all
    prune_all(archive)
    assert set(coming) <= set(partitions(archive))
    assert left(archive) == set()


def test_a_partition_that_somebody_reads_is_left_to_the_next_time_and_finishes_go_on(
    archive: Desk,
) -> None:
    finished(archive, OLD)
    worker_id, job = archive.executing()
    reader = archive.connect()
    reader.execute("BEGIN")
    reader.execute(f"SELECT count(*) FROM {archive.name}.job_archive").fetchone()

    dropping = archive.run_beside(queues.drop_partition())
    archive.wait_for_a_lock()
    # Queues behind the wait for the lock, which is given up soon: the reader reads on.
    assert archive.run(jobs.cancel([archive.enqueue()], None), archive.connect())
    assert dropping.result(20) is None
    assert part(OLD) in partitions(archive)

    reader.execute("COMMIT")
    assert archive.run(queues.drop_partition()) == Pruned(part(OLD), 1)
    assert archive.row(job.id)["worker_id"] == worker_id


def test_only_one_drops_partitions_and_the_other_does_not_wait(archive: Desk) -> None:
    finished(archive, OLD)
    rival = archive.connect()
    rival.execute("BEGIN")
    assert archive.run(queues.drop_partition(), rival) == Pruned(part(OLD), 1)
    assert archive.run(queues.drop_partition()) is None
    rival.execute("COMMIT")
    assert part(OLD) not in partitions(archive)


# --- Row by row -----------------------------------------------------------------------------------


def test_jobs_go_in_bounded_batches_the_oldest_first(archive: Desk) -> None:
    archive.run(queues.keep("audit", "", None))
    kept = finished(archive, MIDDLE, queue="audit")
    late = [finished(archive, MIDDLE) for _ in range(3)]
    early = [finished(archive, "2031-02-01") for _ in range(2)]  # in the default partition
    assert archive.run(queues.prune(2)) == Pruned(None, 2)
    assert left(archive) == {kept, *late}
    assert early[0] not in left(archive)
    assert archive.run(queues.prune(2)) == Pruned(None, 2)
    assert archive.run(queues.prune(2)) == Pruned(None, 1)
    assert archive.run(queues.prune(2)) is None


def test_two_that_prune_at_once_share_the_work_and_count_each_job_once(archive: Desk) -> None:
    for _ in range(4):
        finished(archive, MIDDLE)
    rival = archive.connect()
    rival.execute("BEGIN")
    assert archive.run(queues.prune(3), rival) == Pruned(None, 3)
    assert archive.run(queues.prune(3)) == Pruned(None, 1)
    assert archive.run(queues.prune(3)) is None
    rival.execute("COMMIT")
    assert left(archive) == set()


def test_keys_whose_period_is_over_go_even_when_no_job_does(archive: Desk) -> None:
    for number in range(5):
        archive.enqueue(args={"n": number}, unique={"period": 3600 if number else 86_400})
    archive.freeze("2031-05-05 14:00:00+00")
    assert archive.run(queues.prune(3)) == Pruned(None, 0, 3)
    assert archive.run(queues.prune(3)) == Pruned(None, 0, 1)
    assert archive.run(queues.prune(3)) is None
    assert archive.db.value("SELECT count(*) FROM holdfast.unique_key") == 1


# --- Beside `retry` -------------------------------------------------------------------------------


def test_a_job_that_is_being_retried_is_not_pruned(archive: Desk) -> None:
    job_id = finished(archive, MIDDLE)
    rival = archive.connect()
    rival.execute("BEGIN")
    assert archive.run(jobs.retry([job_id]), rival) == {job_id: "available"}
    assert archive.run(queues.prune(10)) is None
    assert archive.run(queues.drop_partition()) is None
    rival.execute("COMMIT")
    assert archive.run(queues.drop_partition()) == Pruned(part(OLD), 0)
    assert archive.run(queues.drop_partition()) == Pruned(part(MIDDLE), 0)
    assert archive.row(job_id)["state"] == "available"
    steps = archive.db.value("SELECT count(*) FROM holdfast.step WHERE job_id = %s", [job_id])
    assert steps == 1, "its finished steps are kept"


@pytest.mark.parametrize("query", [queues.drop_partition(), queues.prune(10)])
def test_a_retry_that_comes_while_its_job_goes_finds_nothing(archive: Desk, query: Any) -> None:
    job_id = finished(archive, OLD)
    rival = archive.connect()
    rival.execute("BEGIN")
    assert archive.run(query, rival).jobs == 1
    retrying = archive.run_beside(jobs.retry([job_id]))
    archive.wait_for_a_lock()
    rival.execute("COMMIT")
    assert retrying.result(20) == {}
    assert left(archive) == set()


# --- By hand --------------------------------------------------------------------------------------


def test_delete_takes_live_and_finished_jobs_with_all_that_is_known_of_them(archive: Desk) -> None:
    done = finished(archive, OLD)
    live = archive.enqueue(unique={"period": 3600})
    assert archive.run(jobs.delete([done, live, 999])) == {done: "deleted", live: "deleted"}
    assert left(archive) == set()
    assert archive.db.value("SELECT count(*) FROM holdfast.unique_key") == 0
    assert archive.run(jobs.delete([done, live])) == {}


def test_delete_leaves_a_running_job_and_its_journal_alone(archive: Desk) -> None:
    worker_id, job = archive.executing()
    archive.db.execute(
        "INSERT INTO holdfast.step (job_id, key, seq, kind, state, epoch, started_at, finished_at)"
        " VALUES (%s, 'fetch', 1, 'step', 'done', 1, now(), now())",
        [job.id],
    )
    assert archive.run(jobs.delete([job.id])) == {job.id: "executing"}
    assert archive.row(job.id)["worker_id"] == worker_id
    assert archive.db.value("SELECT count(*) FROM holdfast.step") == 1


def test_who_waits_for_a_deleted_job_is_told(archive: Desk) -> None:
    waited_for, other = archive.enqueue(), archive.enqueue()
    archive.run(jobs.await_ends([waited_for], archive.schema))
    listener = archive.connect()
    listener.execute(f'LISTEN "{archive.schema.replace("%", "%%")}:done"')
    archive.run(jobs.delete([other]))
    archive.run(jobs.delete([waited_for]))
    told = list(listener.notifies(timeout=20, stop_after=1))
    assert [notice.payload for notice in told] == [""]
    assert [e.state for e in archive.run(jobs.endings([waited_for]))] == [None]


def test_delete_of_a_job_that_ends_meanwhile_deletes_it(archive: Desk) -> None:
    job_id = archive.enqueue()
    rival = archive.connect()
    rival.execute("BEGIN")
    archive.run(jobs.cancel([job_id], None), rival)
    deleting = archive.run_beside(jobs.delete([job_id]))
    archive.wait_for_a_lock()
    rival.execute("COMMIT")
    assert deleting.result(20) == {job_id: "deleted"}
    assert archive.db.value("SELECT count(*) FROM holdfast.jobs") == 0
