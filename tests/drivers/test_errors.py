"""Every driver's errors come out as ours, with the cause; what can be asked aborts nothing."""

from typing import Any

import psycopg
import pytest

from fixtures.callers import Caller
from holdfast import (
    DatabaseError,
    DatabaseUnavailable,
    Holdfast,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
)

VERSION = "SELECT max(version) FROM holdfast.migration"


async def the_transaction_goes_on(caller: Caller) -> None:
    await caller.execute("INSERT INTO own VALUES (1)")
    await caller.commit()


async def test_a_missing_schema_is_noticed_before_anything_fails(
    db: Any, caller: Caller, app: Holdfast
) -> None:
    other = app.with_settings(schema='not "here" at 100%')
    for name in ("cancel", "retry"):
        with pytest.raises(SchemaMissing) as caught:
            await caller.call(other, name, 1, conn=caller.conn)
    assert "--schema 'not \"here\" at 100%'" in caught.value.hint
    await the_transaction_goes_on(caller)


@pytest.mark.parametrize(("by", "error"), [(1, SchemaTooNew), (-1, SchemaTooOld)])
async def test_another_version_is_noticed_before_anything_fails(
    db: Any, caller: Caller, app: Holdfast, work: Any, by: int, error: type[Exception]
) -> None:
    needed = db.value(VERSION)
    change = "UPDATE holdfast.migration SET version = %s WHERE version = (" + VERSION + ")"
    function = app.with_settings().job_function("work").options(conn=caller.conn)
    moved = int(str(needed)) + by
    if by < 0:
        db.execute("UPDATE holdfast.migration SET version = -1 WHERE version = %s", [moved])
    db.execute(change, [moved])
    try:
        with pytest.raises(error):
            await caller.call(function, "enqueue", 1)
        await the_transaction_goes_on(caller)
    finally:
        db.execute(change, [needed])
        db.execute("UPDATE holdfast.migration SET version = %s WHERE version = -1", [moved])
    await caller.call(function, "enqueue", 1)


async def test_the_schema_is_asked_about_once(
    db: Any, caller: Caller, app: Holdfast, work: Any
) -> None:
    await caller.call(work.options(conn=caller.conn), "enqueue", 1)
    await caller.commit()
    raise_version = "UPDATE holdfast.migration SET version = version + %s WHERE version > 4"
    db.execute(raise_version, [1000])
    try:
        await caller.call(work.options(conn=caller.conn), "enqueue", 2)
    finally:
        db.execute(raise_version, [-1000])


async def test_a_role_without_rights_is_told_so_and_its_transaction_goes_on(
    db: Any, caller: Caller, work: Any
) -> None:
    role = f"{db.schema}-nobody"
    db.execute(f'CREATE ROLE "{role}"')
    try:
        await caller.execute("GRANT ALL ON own TO PUBLIC")
        await caller.execute(f'SET LOCAL ROLE "{role}"')
        with pytest.raises(DatabaseError, match="may not use schema") as caught:
            await caller.call(work.options(conn=caller.conn), "enqueue", 1)
        assert (caught.value.sqlstate, "GRANT" in caught.value.hint) == ("42501", True)
        await the_transaction_goes_on(caller)
    finally:
        db.execute(f'DROP ROLE "{role}"')


async def test_a_snapshot_that_is_too_old_says_that_the_transaction_must_run_again(
    db: Any, caller: Caller, work: Any
) -> None:
    await caller.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await caller.execute("SELECT count(*) FROM own")
    work.options(unique="k").enqueue_sync(1)
    with pytest.raises(DatabaseError) as caught:
        await caller.call(work.options(unique="k", conn=caller.conn), "enqueue", 2)
    assert type(caught.value) is DatabaseError
    assert (caught.value.sqlstate, caught.value.code) == ("40001", "HF-200")
    assert "run all of it again" in caught.value.hint
    assert caught.value.__cause__ is not None
    await caller.rollback()
    again = await caller.call(work.options(unique="k", conn=caller.conn), "enqueue", 2)
    assert again.conflict


async def test_a_lock_that_somebody_holds_too_long_is_not_waited_for_for_ever(
    db: Any, caller: Caller, app: Holdfast, work: Any
) -> None:
    handle = work.enqueue_sync(1)
    with psycopg.connect(db.dsn) as rival:
        rival.execute(f'SELECT 1 FROM "{db.schema}".job FOR UPDATE')
        await caller.execute("SET LOCAL lock_timeout = '50ms'")
        with pytest.raises(DatabaseError) as caught:
            await caller.call(app, "cancel", handle.id, conn=caller.conn)
    assert caught.value.sqlstate == "55P03"
    assert caught.value.hint.startswith("Another transaction holds the row.")
    assert "\n" not in caught.value.message
    await caller.rollback()
    await the_transaction_goes_on(caller)


async def test_a_transaction_that_has_failed_before_is_told_from_our_failures(
    caller: Caller, work: Any
) -> None:
    with pytest.raises(Exception, match="division by zero"):
        await caller.execute("SELECT 1 / 0")
    with pytest.raises(DatabaseError) as caught:
        await caller.call(work.options(conn=caller.conn), "enqueue", 1)
    assert caught.value.sqlstate == "25P02"
    assert "roll it back" in caught.value.hint
    await caller.rollback()
    await caller.call(work.options(conn=caller.conn), "enqueue", 1)
    await caller.commit()


async def test_a_connection_that_broke_is_an_unusable_database(
    db: Any, opener: Any, app: Holdfast, work: Any
) -> None:
    async with opener() as caller:
        await caller.call(work.options(conn=caller.conn), "enqueue", 1)
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            [f"test-{db.schema}"],
        )
        with pytest.raises(DatabaseUnavailable) as caught:
            await caller.call(work.options(conn=caller.conn), "enqueue", 1)
        assert caught.value.__cause__ is not None
    assert db.value("SELECT count(*) FROM holdfast.job") == 0
