"""Housekeeping: done by one worker at a time, beside its heartbeats and its jobs."""

import psycopg
import pytest

from fixtures.running import eventually, running
from holdfast import Holdfast


@pytest.fixture
def counted(db):
    """Counts in a table how often each duty is taken, and makes none due."""
    db.execute("CREATE TABLE holdfast.taken (name text)")
    db.execute(
        "CREATE FUNCTION holdfast.count_duty() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO holdfast.taken (name) VALUES (new.name); RETURN NULL; END $$"
    )
    db.execute("UPDATE holdfast.duty SET next_at = now() + interval '1 day'")
    db.execute(
        "CREATE TRIGGER count_duty AFTER UPDATE ON holdfast.duty FOR EACH ROW"
        " WHEN (new.next_at > old.next_at) EXECUTE FUNCTION holdfast.count_duty()"
    )
    yield db
    db.execute("DROP FUNCTION holdfast.count_duty CASCADE")
    db.execute("DROP TABLE holdfast.taken")


def due(db, name: str = "prune") -> None:
    db.execute("UPDATE holdfast.duty SET next_at = now() - interval '1 s' WHERE name = %s", [name])


def old_job(db) -> None:
    db.execute('SELECT holdfast.enqueue(\'{"name": "old", "queue": "nobodys"}\')')
    db.execute("SELECT holdfast.cancel(ARRAY(SELECT id FROM holdfast.job))")
    db.execute("UPDATE holdfast.job_archive SET finished_at = now() - interval '40 days'")


def times_taken(db) -> list[tuple]:
    return db.execute("SELECT name, count(*) FROM holdfast.taken GROUP BY name")


async def test_one_of_several_workers_prunes_what_is_past_its_age(app: Holdfast, counted) -> None:
    @app.job()
    async def work() -> None: ...

    others = [app.with_settings(worker_name=f"w{n}") for n in range(2)]
    old_job(counted)
    due(counted)
    async with running(app), running(others[0]), running(others[1]):
        await eventually(lambda: counted.value("SELECT count(*) FROM holdfast.jobs") == 0)
        beats = {name: renewals(counted, name) for name in ("w0", "w1")}
        await eventually(lambda: all(renewals(counted, n) != beats[n] for n in beats))
    assert times_taken(counted) == [("prune", 1)]


async def test_a_duty_that_hangs_delays_neither_heartbeats_nor_jobs(app: Holdfast, counted) -> None:
    @app.job()
    async def work(n: int) -> int:
        return n

    named = app.with_settings(worker_name="blue")
    old_job(counted)
    with psycopg.connect(counted.server_dsn) as rival:
        rival.execute(f'LOCK TABLE "{counted.schema}".unique_key IN ACCESS EXCLUSIVE MODE')
        due(counted)
        async with running(named):
            await eventually(lambda: waits_for_lock(counted))
            for _ in range(2):
                before = renewals(counted, "blue")
                await eventually(lambda before=before: renewals(counted, "blue") > before)
            handle = await named.job_function("work").enqueue(7)
            assert await handle.result(timeout=10) == 7
            assert waits_for_lock(counted), "the duty is still at it"
            rival.rollback()
            await eventually(
                lambda: not counted.value("SELECT count(*) FROM holdfast.jobs WHERE name = 'old'")
            )


async def test_partitions_of_the_coming_days_are_made_before_they_are_needed(
    app: Holdfast, db
) -> None:
    @app.job()
    async def work() -> None: ...

    before = partitions(db)
    db.move_time("20 days")
    wanted = db.value(
        "SELECT 'job_archive_' || to_char((now() + interval '22 days') AT TIME ZONE 'UTC', %s)",
        ["YYYYMMDD"],
    )
    db.execute("UPDATE holdfast.duty SET next_at = now() WHERE name = 'partitions'")
    try:
        async with running(app):
            await eventually(lambda: wanted in partitions(db))
    finally:
        for name in set(partitions(db)) - set(before):
            db.execute(f"DROP TABLE holdfast.{name}")
        db.execute("UPDATE holdfast.duty SET next_at = now() + interval '10 minutes'")


def partitions(db) -> list[str]:
    rows = db.execute(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'holdfast.job_archive'::regclass AND c.relname ~ '[0-9]{8}$'"
    )
    return [row[0] for row in rows]


def renewals(db, name: str) -> object:
    rows = db.execute("SELECT renewed_at FROM holdfast.worker WHERE name = %s", [name])
    return rows[0][0] if rows else None


def waits_for_lock(db) -> bool:
    return bool(
        db.admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND query LIKE %s",
            [f"%{db.schema}%prune%"],
        ).fetchone()[0]
    )
