"""Negative, naive and year-10,000 times: refused where they are written, by name."""

import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fixtures.command import TASKS, environment, run_command
from fixtures.hostile import ENTRANCES, enqueue, stored
from fixtures.looking import counters, ended
from fixtures.running import running
from holdfast import Context, Holdfast, InvalidOption, JobFailed
from holdfast.storage.failures import translate


class Broken(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        raise ValueError("no offset for you")


AHEAD, BEHIND = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
WRONG_TIMES: dict[str, Any] = {
    "naive": datetime(2030, 1, 1),  # noqa: DTZ001
    "negative": datetime(1, 1, 1, tzinfo=UTC),
    "before the epoch": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    "before the epoch in UTC": datetime(1970, 1, 1, tzinfo=AHEAD),
    "no such time in UTC": datetime.min.replace(tzinfo=AHEAD),
    "the last year": datetime.max.replace(tzinfo=UTC),
    "year 10,000 in UTC": datetime.max.replace(tzinfo=BEHIND),
    "year 9,001": datetime(9001, 1, 1, tzinfo=UTC),
    "broken zone": datetime(2030, 1, 1, tzinfo=Broken()),
    "text": "2030-01-01T00:00:00Z",
    "number": 1_893_456_000,
    "delta": timedelta(days=1),
}
WRONG_DURATIONS: list[Any] = [
    -1,
    -0.001,
    "-5m",
    "-1",
    timedelta(seconds=-1),
    timedelta.max,
    timedelta.min,
    "10000y",
    "99999999999d",
    "1" * 10_000,
    "",
    "m5",
    b"5m",
    datetime(2030, 1, 1, tzinfo=UTC),
]


@pytest.fixture
def work(app: Holdfast):
    @app.job()
    async def work() -> str:
        return "ran"

    return work


@pytest.mark.parametrize("name", WRONG_TIMES)
def test_negative_naive_and_year_10_000_times_are_refused_where_they_are_written(
    work, name: str
) -> None:
    with pytest.raises(InvalidOption, match=r"^.HF-101. run_at=") as caught:
        work.options(run_at=WRONG_TIMES[name])
    assert caught.value.hint
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("duration", WRONG_DURATIONS, ids=lambda d: str(d)[:20])
def test_negative_and_endless_durations_are_refused_where_they_are_written(
    app: Holdfast, work, duration: Any
) -> None:
    for field in ("run_in", "deadline"):
        with pytest.raises(InvalidOption, match=f"{field}="):
            work.options(**{field: duration})
    for field in ("timeout", "deadline"):
        with pytest.raises(InvalidOption, match=f"{field}="):
            app.job(**{field: duration})


@pytest.mark.parametrize(
    "at",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2, microseconds=1))),
        datetime(2001, 1, 1, tzinfo=timezone(timedelta(seconds=-86_399, microseconds=7))),
    ],
)
async def test_a_time_long_past_with_any_offset_means_now(
    app: Holdfast, work, at: datetime
) -> None:
    if at.astimezone(UTC).year < 1970:
        with pytest.raises(InvalidOption, match="out of range"):
            work.options(run_at=at)
        return
    async with running(app):
        for entrance in ENTRANCES:
            handle = await enqueue(entrance, app, work.options(run_at=at))
            assert await handle.result(timeout=10) == "ran"
            assert (await handle.job()).run_at == at


def test_the_last_time_is_stored_with_the_longest_deadline(app: Holdfast, work, db) -> None:
    last = datetime(9000, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    handle = work.options(run_at=last, deadline="3650d").enqueue_sync()
    job = handle.job_sync()
    assert (job.run_at, job.shown) == (last, "scheduled")
    assert job.deadline == last + timedelta(days=3650)
    assert app.explain_sync(handle.id).until == last


@pytest.mark.parametrize(
    "at", ["10000-01-01T00:00:00Z", "infinity", "-infinity", "0044-03-15 BC", "1969-12-31 23:59Z"]
)
def test_times_beyond_the_range_from_plain_sql_are_refused_by_the_database(db, at: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        db.execute("SELECT * FROM holdfast.enqueue(%s)", [Jsonb({"name": "work", "run_at": at})])
    assert translate(caught.value, db.schema).code == "HF-104"
    assert stored(db) == 0


async def test_a_deadline_of_zero_is_a_deadline_and_not_none(app: Holdfast, db) -> None:
    @app.job(deadline="1h")
    async def work() -> str:
        return "ran"

    async with running(app):
        handle = await work.options(deadline=0).enqueue()
        with pytest.raises(JobFailed, match="deadline"):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("discarded", 1, 0, 0)


@pytest.mark.parametrize("wait", [-1, "-1s", float("nan"), float("inf"), 2**63, None, "soon"])
async def test_a_sleep_that_is_no_duration_is_an_error_of_the_jobs_code(
    app: Holdfast, wait: Any
) -> None:
    @app.job(max_attempts=1)
    async def work(ctx: Context) -> None:
        await ctx.sleep(wait)

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(JobFailed, match="duration="):
            await handle.result(timeout=10)


async def test_a_clock_of_the_year_9000_does_not_stop_the_worker(app: Holdfast, work, db) -> None:
    db.execute(
        "CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz LANGUAGE sql "
        "STABLE PARALLEL SAFE AS $$ SELECT timestamptz '9000-01-01 00:00:00+00' $$"
    )
    handle = work.enqueue_sync()
    async with running(app):
        job = await ended(app, handle.id, "completed")
    assert job.finished_at == datetime(9000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("option", ["--at=10000-01-01T00:00Z", "--at=2030-01-01", "--in=-5m"])
def test_the_command_refuses_the_same_times(db, tmp_path, option: str) -> None:
    module = tmp_path / "tasks.py"
    module.write_text(TASKS)
    env = environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema)
    ran = run_command("enqueue", module, "add", "a=1", option, env=env)
    assert ran.code == 2, sys.stderr.write(ran.err)
    assert option.split("=")[0] in ran.err
    assert "Traceback" not in ran.err
    assert stored(db) == 0
