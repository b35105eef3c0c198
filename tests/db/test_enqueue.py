"""Enqueueing: through one SQL function, in the caller's transaction, all jobs or none."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from fixtures.desk import Desk, completion
from holdfast import Holdfast
from holdfast.storage import workers
from holdfast.storage.failures import translate

_ARCHIVED = "SELECT tableoid::regclass::text FROM holdfast.job_archive WHERE id = %s"


def count(desk: Desk) -> int:
    return int(str(desk.db.value("SELECT count(*) FROM holdfast.job")))


# --- From plain SQL -------------------------------------------------------------------------------


def test_one_object_is_one_job_with_the_defaults(desk: Desk) -> None:
    desk.freeze()
    (job_id,) = desk.enqueue_all({"name": "work"})
    row = desk.row(job_id)
    assert row["created_at"] == row["run_at"] == "2031-05-05T12:00:00+00:00"
    chosen = ("state", "queue", "name", "args", "priority", "max_attempts", "max_crashes", "epoch")
    assert [row[key] for key in chosen] == ["available", "default", "work", {}, 0, 20, 3, 0]
    assert (row["tags"], row["meta"], row["deadline"]) == ([], {}, None)


def test_every_key_arrives_in_its_column(desk: Desk) -> None:
    desk.freeze()
    job = {
        "name": "report",
        "queue": "agents",
        "args": {"topic": "cats"},
        "priority": 7,
        "run_in": 90,
        "deadline_in": 30,
        "max_attempts": 2,
        "max_crashes": 1,
        "tags": ["a", "b"],
        "meta": {"tenant": 3},
        "code_version": "v1",
    }
    row = desk.row(desk.enqueue_all(job)[0])
    same = ("name", "queue", "args", "priority", "max_attempts", "max_crashes", "tags", "meta")
    assert {key: row[key] for key in same} == {key: job[key] for key in same}
    assert row["code_version"] == "v1"
    assert row["run_at"] == "2031-05-05T12:01:30+00:00"
    assert row["deadline"] == "2031-05-05T12:02:00+00:00"


def test_an_exact_time_wins_over_a_delay(desk: Desk) -> None:
    job_id = desk.enqueue(run_at="2040-01-02T03:04:05.678901+00:00", run_in=5, deadline_in=60)
    row = desk.row(job_id)
    assert row["run_at"] == "2040-01-02T03:04:05.678901+00:00"
    assert row["deadline"] == "2040-01-02T03:05:05.678901+00:00"


def test_an_array_is_many_jobs_with_ids_in_their_order(desk: Desk) -> None:
    ids = desk.enqueue_all([{"name": "work", "args": {"n": n}} for n in range(100)])
    assert ids == sorted(ids)
    assert [desk.row(job_id)["args"]["n"] for job_id in ids] == list(range(100))


def test_many_arguments_are_one_job_each_in_order(desk: Desk) -> None:
    plain = {"name": "work", "args": {"n": 0}}
    alike = {"name": "work", "queue": "agents", "priority": 3, "many": [{"n": 1}, {}, {"n": 2}]}
    ids = desk.enqueue_all([plain, alike, {**plain, "args": {"n": 3}}])
    assert ids == sorted(ids)
    rows = [desk.row(job_id) for job_id in ids]
    assert [row["args"] for row in rows] == [{"n": 0}, {"n": 1}, {}, {"n": 2}, {"n": 3}]
    assert [(row["queue"], row["priority"]) for row in rows[1:4]] == [("agents", 3)] * 3


def test_many_arguments_of_unique_jobs_are_one_job_for_each_that_differs(desk: Desk) -> None:
    jobs = [{"name": "work", "unique": {}, "many": [{"n": 1}, {"n": 2}, {"n": 1}]}]
    first, second, again = desk.enqueue_all(jobs)
    assert (again, count(desk)) == (first, 2)
    assert second != first


def test_one_statement_stores_jobs_of_several_functions_in_the_order_they_were_given(
    desk: Desk, app: Holdfast
) -> None:
    @app.job()
    def work(n: int) -> None: ...

    @app.job(queue="other")
    def other(n: int) -> None: ...

    later = work.options(run_in="5m")
    requests = [work.new(1), work.new(2), other.new(3), later.new(4), work.new(5)]
    handles = app.enqueue_many_sync(requests)
    rows = [desk.row(handle.id) for handle in handles]
    assert [row["args"]["n"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["name"] for row in rows] == ["work", "work", "other", "work", "work"]
    assert [row["run_at"] > row["created_at"] for row in rows] == [False, False, False, True, False]


def test_args_and_many_in_one_job_are_refused(desk: Desk) -> None:
    with pytest.raises(psycopg.Error, match="both args and many"):
        desk.enqueue_all({"name": "work", "many": [{}], "args": {}})
    assert count(desk) == 0


def test_an_empty_array_is_no_job(desk: Desk) -> None:
    assert desk.enqueue_all([]) == []


def test_fifty_thousand_jobs_are_one_statement(desk: Desk) -> None:
    ids = desk.enqueue_all([{"name": "work", "args": {"n": n}} for n in range(50_000)])
    assert len(ids) == 50_000 == count(desk)
    sample = [row[0] for row in desk.db.execute("SELECT args FROM holdfast.job ORDER BY id")]
    assert [args["n"] for args in sample] == list(range(50_000))
    assert ids == [row[0] for row in desk.db.execute("SELECT id FROM holdfast.job ORDER BY id")]


def test_an_unknown_key_is_an_error_that_names_it_and_the_known_ones(desk: Desk) -> None:
    with pytest.raises(psycopg.Error) as caught:
        desk.enqueue_all([{"name": "work"}, {"name": "work", "prio": 3}])
    assert caught.value.sqlstate == "HF102"
    ours = translate(caught.value, desk.schema)
    assert (ours.code, "'prio'" in ours.message) == ("HF-102", True)
    assert "priority" in ours.hint
    assert count(desk) == 0


WRONG: list[Any] = [
    "work",
    3,
    [3],
    [None],
    [["name"]],
    {},
    {"name": None},
    {"name": ""},
    {"name": "x" * 129},
    {"name": "work", "queue": ""},
    {"name": "work", "priority": 10},
    {"name": "work", "priority": -1},
    {"name": "work", "priority": 1.5},
    {"name": "work", "priority": "high"},
    {"name": "work", "args": [1]},
    {"name": "work", "args": "x"},
    {"name": "work", "meta": []},
    {"name": "work", "tags": "x"},
    {"name": "work", "tags": {"a": 1}},
    {"name": "work", "max_attempts": 0},
    {"name": "work", "max_crashes": 0},
    {"name": "work", "max_attempts": 2**40},
    {"name": "work", "run_in": "soon"},
    {"name": "work", "run_in": "NaN"},
    {"name": "work", "run_in": "Infinity"},
    {"name": "work", "run_in": 1e12},
    {"name": "work", "run_in": -1e12},
    {"name": "work", "run_at": "infinity"},
    {"name": "work", "run_at": "-infinity"},
    {"name": "work", "run_at": "0044-03-15 12:00:00+00 BC"},
    {"name": "work", "run_at": "12000-01-01 00:00:00+00"},
    {"name": "work", "run_at": "tomorrow-ish"},
    {"name": "work", "deadline_in": "Infinity"},
    {"name": "work", "deadline_in": 1e12},
    {"name": "work", "many": {"a": 1}},
    {"name": "work", "many": [[1]]},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong)[:60])
def test_a_wrong_job_is_refused_and_nothing_beside_it_is_stored(desk: Desk, wrong: Any) -> None:
    batch = [{"name": "good"}, *wrong] if isinstance(wrong, list) else wrong
    batch = [{"name": "good"}, wrong] if isinstance(wrong, dict) else batch
    with pytest.raises(psycopg.Error) as caught:
        desk.enqueue_all(batch)
    assert caught.value.sqlstate[:2] in ("22", "23"), caught.value
    assert count(desk) == 0


# --- Notifications --------------------------------------------------------------------------------


def heard(desk: Desk, listener: psycopg.Connection) -> list[str]:
    """Returns the payloads that came since the last call: a mark of our own ends the waiting."""
    desk.db.admin.execute("SELECT pg_notify(%s, '!end')", [f"{desk.schema}:wake"])
    payloads: list[str] = []
    for notice in listener.notifies(timeout=10):
        if notice.payload == "!end":
            return payloads
        payloads.append(notice.payload)
    raise AssertionError("the mark never came")


@pytest.fixture
def listener(desk: Desk) -> psycopg.Connection:
    conn = desk.connect()
    conn.execute(f'LISTEN "{desk.schema}:wake"')
    return conn


def test_a_statement_wakes_each_queue_once(desk: Desk, listener: psycopg.Connection) -> None:
    queues = ["a", "b", "a", "b", "a"]
    desk.enqueue_all([{"name": "work", "queue": queue} for queue in queues])
    assert sorted(heard(desk, listener)) == ["a", "b"]


@pytest.mark.parametrize(("run_in", "wakes"), [(0, 1), (9, 1), (10, 1), (10.001, 0), (3600, 0)])
def test_only_a_job_due_within_ten_seconds_wakes(
    desk: Desk, listener: psycopg.Connection, run_in: float, wakes: int
) -> None:
    desk.freeze()
    desk.enqueue(run_in=run_in)
    assert len(heard(desk, listener)) == wakes


def test_a_rolled_back_enqueue_wakes_nobody(desk: Desk, listener: psycopg.Connection) -> None:
    caller = desk.connect()
    with caller.transaction(force_rollback=True):
        desk.enqueue_all({"name": "work"}, caller)
    assert heard(desk, listener) == []


# --- In the caller's transaction ------------------------------------------------------------------


@pytest.fixture
def work(app: Holdfast) -> Any:
    @app.job(name="work")
    async def work(n: int) -> int:
        return n

    return work


ROW_FACTORIES = pytest.mark.parametrize("options", [{}, {"row_factory": dict_row}])


@ROW_FACTORIES
def test_a_blocking_transaction_decides_about_its_jobs(
    desk: Desk, work: Any, options: dict[str, Any]
) -> None:
    with psycopg.connect(desk.db.dsn, **options) as conn:
        handle = work.options(conn=conn).enqueue_sync(1)
        assert count(desk) == 0
        conn.commit()
        assert desk.row(handle.id)["args"]
        work.options(conn=conn).enqueue_sync(2)
        conn.rollback()
        assert count(desk) == 1
        assert conn.info.transaction_status.name == "IDLE"


@ROW_FACTORIES
async def test_an_async_transaction_decides_about_its_jobs(
    desk: Desk, work: Any, options: dict[str, Any]
) -> None:
    async with await psycopg.AsyncConnection.connect(desk.db.dsn, **options) as conn:
        handle = await work.options(conn=conn).enqueue(1)
        assert count(desk) == 0
        await conn.commit()
        assert desk.row(handle.id)["args"]
        await work.options(conn=conn).enqueue(2)
        await conn.rollback()
        assert count(desk) == 1
        assert conn.info.transaction_status.name == "IDLE"


def test_a_callers_connection_keeps_no_prepared_statement(desk: Desk, work: Any) -> None:
    with psycopg.connect(desk.db.dsn, prepare_threshold=None) as conn:
        work.options(conn=conn).enqueue_sync(1)
        prepared = conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert prepared == (0,)


def test_a_refused_enqueue_can_be_undone_to_a_savepoint_of_the_caller(desk: Desk) -> None:
    caller = desk.connect()
    with caller.transaction():
        kept = desk.enqueue_all({"name": "work"}, caller)
        with pytest.raises(psycopg.Error), caller.transaction():
            desk.enqueue_all({"name": "work", "priority": 99}, caller)
    assert desk.db.execute("SELECT id FROM holdfast.job") == [(kept[0],)]


def test_a_delayed_job_waits_for_its_time_in_the_index(desk: Desk, work: Any) -> None:
    at = datetime.now(UTC) + timedelta(hours=5)
    handle = work.options(run_at=at).enqueue_sync(1)
    assert desk.db.value("SELECT run_at FROM holdfast.job WHERE id = %s", [handle.id]) == at


# --- The archive's partitions ---------------------------------------------------------------------


def partitions(desk: Desk) -> set[str]:
    rows = desk.db.execute(
        "SELECT c.relname FROM pg_class AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid "
        "WHERE i.inhparent = 'holdfast.job_archive'::regclass"
    )
    return {row[0] for row in rows}


@pytest.fixture
def cleared(desk: Desk) -> Any:
    """Drops the partitions of far-off days that a test makes: the schema is used again."""
    before = partitions(desk)
    yield
    for name in partitions(desk) - before:
        desk.db.execute(f'DROP TABLE holdfast."{name}"')


@pytest.mark.usefixtures("cleared")
def test_partitions_are_made_once_for_each_coming_day(desk: Desk) -> None:
    desk.freeze("2033-02-27 23:59:59+00")
    assert desk.run(workers.make_partitions(2)) == 3
    days = {"job_archive_20330227", "job_archive_20330228", "job_archive_20330301"}
    assert days <= partitions(desk)
    assert desk.run(workers.make_partitions(2)) == 0
    desk.freeze("2033-02-28 00:00:00+00")
    assert desk.run(workers.make_partitions(2)) == 1


@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_finished_job_lies_in_the_partition_of_its_day_in_utc(desk: Desk, zone: str) -> None:
    desk.conn.execute(f"SET timezone = '{zone}'")
    desk.freeze("2033-03-01 00:00:00+00")
    desk.run(workers.make_partitions(1))
    for at, day in (
        ("2033-03-01 00:00:00+00", "20330301"),
        ("2033-03-01 23:59:59.999999+00", "20330301"),
        ("2033-03-02 00:00:00+00", "20330302"),
    ):
        desk.freeze(at)
        worker_id, job = desk.executing()
        desk.complete(worker_id, completion(job))
        assert str(desk.db.value(_ARCHIVED, [job.id])).endswith(f"job_archive_{day}")


@pytest.mark.usefixtures("cleared")
def test_a_day_with_rows_in_the_default_partition_is_left_there(desk: Desk) -> None:
    desk.freeze("2033-04-02 12:00:00+00")
    worker_id, job = desk.executing()
    desk.complete(worker_id, completion(job))
    assert str(desk.db.value(_ARCHIVED, [job.id])).endswith("job_archive_default")
    assert desk.run(workers.make_partitions(2)) == 2
    assert {"job_archive_20330403", "job_archive_20330404"} <= partitions(desk)
    assert "job_archive_20330402" not in partitions(desk)
    assert desk.row(job.id)["state"] == "completed"


@pytest.mark.usefixtures("cleared")
def test_partitions_made_by_two_at_once_are_made_once(desk: Desk) -> None:
    desk.freeze("2033-05-01 12:00:00+00")
    first = desk.connect()
    with first.transaction():
        assert desk.run(workers.make_partitions(1), first) == 2
        assert desk.run(workers.make_partitions(1)) == 0
    assert desk.run(workers.make_partitions(1)) == 0


@pytest.mark.usefixtures("cleared")
def test_a_long_reader_of_the_archive_puts_partitions_off_instead_of_blocking(desk: Desk) -> None:
    desk.freeze("2033-06-01 12:00:00+00")
    reader = desk.connect()
    with reader.transaction():
        reader.execute(f"SELECT 1 FROM {desk.name}.job_archive")
        assert desk.run(workers.make_partitions(1)) == 0
    assert desk.run(workers.make_partitions(1)) == 2
