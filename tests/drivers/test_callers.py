"""One behaviour on every connection: your transaction decides, and it stays usable."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import psycopg2
import pytest

from fixtures.callers import Caller
from holdfast import DatabaseError, Holdfast, InvalidArguments, JobNotFound, Unique


def stored(db: Any) -> list[int]:
    return [row[0] for row in db.execute("SELECT id FROM holdfast.jobs ORDER BY id")]


def state(db: Any, job_id: int) -> object:
    return db.value("SELECT state FROM holdfast.jobs WHERE id = %s", [job_id])


def heard(db: Any, listener: psycopg.Connection) -> list[str]:
    db.admin.execute("SELECT pg_notify(%s, '!end')", [f"{db.schema}:wake"])
    payloads: list[str] = []
    for notice in listener.notifies(timeout=10):
        if notice.payload == "!end":
            return payloads
        payloads.append(notice.payload)
    raise AssertionError("the mark never came")


# --- Enqueue --------------------------------------------------------------------------------------


async def test_commit_makes_a_job_visible_and_wakes_and_not_before(
    db: Any, caller: Caller, work: Any, listener: psycopg.Connection
) -> None:
    await caller.execute("INSERT INTO own VALUES (1)")
    handle = await caller.call(work.options(conn=caller.conn), "enqueue", 7)
    assert (stored(db), heard(db, listener)) == ([], [])
    await caller.commit()
    assert stored(db) == [handle.id]
    assert db.value("SELECT args FROM holdfast.job") == {"n": 7}
    assert heard(db, listener) == ["default"]
    assert (handle.conflict, handle.replaced) == (False, False)


async def test_rollback_leaves_nothing_and_wakes_nobody(
    db: Any, caller: Caller, work: Any, listener: psycopg.Connection
) -> None:
    handle = await caller.call(work.options(conn=caller.conn), "enqueue", 7)
    await caller.rollback()
    assert (stored(db), heard(db, listener)) == ([], [])
    with pytest.raises(JobNotFound):
        handle.job_sync()


async def test_without_a_transaction_a_job_is_visible_at_once(
    db: Any, opener: Any, work: Any
) -> None:
    async with opener(autocommit=True) as caller:
        handle = await caller.call(work.options(conn=caller.conn), "enqueue", 7)
        assert stored(db) == [handle.id]


async def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(
    db: Any, caller: Caller, work: Any
) -> None:
    function = work.options(conn=caller.conn)
    kept = await caller.call(function, "enqueue", 1)
    await caller.execute("SAVEPOINT here")
    await caller.call(function, "enqueue", 2)
    await caller.execute("ROLLBACK TO SAVEPOINT here")
    await caller.commit()
    assert stored(db) == [kept.id]


async def test_many_jobs_are_one_statement_in_their_order(
    db: Any, caller: Caller, app: Holdfast, work: Any
) -> None:
    requests = [work.new(n) for n in range(100)]
    handles = await caller.call(app, "enqueue_many", requests, conn=caller.conn)
    assert stored(db) == []
    await caller.commit()
    assert stored(db) == [handle.id for handle in handles]
    rows = db.execute("SELECT (args ->> 'n')::integer FROM holdfast.job ORDER BY id")
    assert [row[0] for row in rows] == list(range(100))


async def test_none_of_no_jobs_is_enqueued(caller: Caller, app: Holdfast) -> None:
    assert await caller.call(app, "enqueue_many", [], conn=caller.conn) == []


async def test_text_of_any_kind_arrives_as_it_was(db: Any, caller: Caller, app: Holdfast) -> None:
    @app.job()
    async def say(text: str) -> None: ...

    said = "50 % of $1, :name ? %s %(x)s {} \\ ' \" — żółw 🐢"
    await caller.call(say.options(conn=caller.conn), "enqueue", said)
    await caller.commit()
    assert db.value("SELECT args FROM holdfast.job") == {"text": said}


async def test_the_callers_own_statements_go_on_beside_ours(
    db: Any, caller: Caller, work: Any
) -> None:
    for n in range(3):
        await caller.execute(f"INSERT INTO own VALUES ({n})")
        await caller.call(work.options(conn=caller.conn), "enqueue", n)
    await caller.commit()
    assert len(stored(db)) == 3


# --- Unique ---------------------------------------------------------------------------------------


async def test_a_conflict_names_the_job_that_was_there(db: Any, caller: Caller, work: Any) -> None:
    first = work.options(unique="k").enqueue_sync(1)
    second = await caller.call(work.options(unique="k", conn=caller.conn), "enqueue", 2)
    assert (second.id, second.conflict, second.replaced) == (first.id, True, False)
    await caller.commit()
    assert stored(db) == [first.id]


async def test_replacing_happens_when_the_transaction_commits(
    db: Any, caller: Caller, work: Any
) -> None:
    first = work.options(unique="k").enqueue_sync(1)
    rule = Unique("k", replace=["args", "priority"])
    function = work.options(unique=rule, priority=4, conn=caller.conn)
    second = await caller.call(function, "enqueue", 2)
    assert (second.id, second.conflict, second.replaced) == (first.id, True, True)
    read = "SELECT args, priority FROM holdfast.job"
    assert db.execute(read) == [({"n": 1}, 0)]
    await caller.rollback()
    assert db.execute(read) == [({"n": 1}, 0)]
    await caller.call(function, "enqueue", 3)
    await caller.commit()
    assert db.execute(read) == [({"n": 3}, 4)]


# --- Refusals -------------------------------------------------------------------------------------


@pytest.fixture
def strict(db: Any) -> Iterator[None]:
    """The database refuses jobs of priority 9, which the library lets through."""
    db.execute("ALTER TABLE holdfast.job ADD CONSTRAINT no_nine CHECK (priority <> 9)")
    yield
    db.execute("ALTER TABLE holdfast.job DROP CONSTRAINT no_nine")


async def test_a_refused_job_is_an_error_of_ours_and_the_transaction_goes_on(
    strict: None, db: Any, caller: Caller, app: Holdfast, work: Any
) -> None:
    kept = await caller.call(work.options(conn=caller.conn), "enqueue", 1)
    batch = [work.new(2), work.options(priority=9).new(2)]
    with pytest.raises(InvalidArguments, match="no_nine"):
        await caller.call(app, "enqueue_many", batch, conn=caller.conn)
    await caller.execute("INSERT INTO own VALUES (1)")
    also = await caller.call(work.options(conn=caller.conn), "enqueue", 3)
    await caller.commit()
    assert stored(db) == [kept.id, also.id]


async def test_a_read_only_transaction_refuses_a_job_and_goes_on(caller: Caller, work: Any) -> None:
    await caller.execute("SET TRANSACTION READ ONLY")
    with pytest.raises(DatabaseError) as caught:
        await caller.call(work.options(conn=caller.conn), "enqueue", 1)
    assert caught.value.sqlstate == "25006"
    await caller.execute("SELECT 1")
    await caller.commit()


# --- Cancel and retry -----------------------------------------------------------------------------


async def test_a_cancel_is_in_force_when_the_transaction_commits(
    db: Any, caller: Caller, app: Holdfast, work: Any
) -> None:
    handle = work.enqueue_sync(1)
    await caller.call(app, "cancel", handle.id, reason="enough", conn=caller.conn)
    assert state(db, handle.id) == "available"
    await caller.rollback()
    assert state(db, handle.id) == "available"
    assert await caller.call(handle, "cancel", conn=caller.conn) == "cancelled"
    await caller.commit()
    assert state(db, handle.id) == "cancelled"


async def test_a_retry_is_in_force_when_the_transaction_commits(
    db: Any, caller: Caller, app: Holdfast, work: Any
) -> None:
    handles = app.enqueue_many_sync([work.new(n) for n in range(2)])
    ids = [handle.id for handle in handles]
    app.cancel_sync(*ids)
    await caller.call(app, "retry", *ids, conn=caller.conn)
    assert state(db, ids[0]) == "cancelled"
    await caller.rollback()
    assert state(db, ids[0]) == "cancelled"
    states = await caller.call(app, "retry", *ids, conn=caller.conn)
    assert states == dict.fromkeys(ids, "available")
    await caller.commit()
    assert [state(db, job_id) for job_id in ids] == ["available", "available"]


async def test_a_job_that_does_not_exist_leaves_the_transaction_usable(
    db: Any, caller: Caller, app: Holdfast, work: Any
) -> None:
    for name in ("cancel", "retry"):
        with pytest.raises(JobNotFound):
            await caller.call(app, name, 999_999, conn=caller.conn)
    handle = await caller.call(work.options(conn=caller.conn), "enqueue", 1)
    await caller.commit()
    assert stored(db) == [handle.id]


def test_a_pipeline_of_the_caller_goes_on(db: Any, work: Any) -> None:
    with psycopg.connect(db.dsn) as conn, conn.pipeline():
        conn.execute("CREATE TEMPORARY TABLE own (n integer)")
        handle = work.options(conn=conn).enqueue_sync(1)
        conn.execute("INSERT INTO own VALUES (1)")
        assert stored(db) == []
        conn.commit()
        assert stored(db) == [handle.id]


def test_the_rows_that_a_cursor_has_not_fetched_yet_are_still_there(db: Any, work: Any) -> None:
    for connect in (psycopg.connect, psycopg2.connect):
        with closing(connect(db.dsn)) as conn, conn.cursor() as cursor:
            cursor.execute("SELECT n FROM generate_series(1, 3) AS n")
            function = work.options(conn=cursor)
            read = iter(cursor.fetchone, None)
            assert len([function.enqueue_sync(n) for (n,) in read]) == 3
            conn.rollback()
