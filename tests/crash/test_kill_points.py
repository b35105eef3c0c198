"""A worker process is killed before and after each of its writes: the outcome is the same.

One job for each point at which its process dies (SIGKILL), spread over the tests of this file so
that they can run side by side. All jobs of a test run in one real `holdfast worker`.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from holdfast import Holdfast

GROUPS = 6
STEPS = 20
RESULT = sum(n * n for n in range(STEPS)) + sum(n * n for n in range(STEPS // 2))
MIN_POINTS = 2 * (STEPS + 2) + 3  # before and after: each step, the sleep, the end; a transaction

_WATCH = """
CREATE TABLE holdfast.report (job integer, total integer);
CREATE TABLE holdfast.seen (n bigserial, job bigint, progress double precision);
CREATE FUNCTION holdfast.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO holdfast.seen (job, progress) VALUES (new.id, new.progress);
    RETURN NULL;
END $$;
CREATE TRIGGER see AFTER UPDATE OF progress ON holdfast.job
FOR EACH ROW EXECUTE FUNCTION holdfast.see();
"""
_UNWATCH = """
DROP TRIGGER see ON holdfast.job; DROP FUNCTION holdfast.see();
DROP TABLE holdfast.report, holdfast.seen;
"""


@pytest.fixture
def watched(db) -> Iterator[None]:
    """The job's own table, and a ledger of every progress value that was ever written."""
    db.execute(_WATCH)
    yield
    db.execute(_UNWATCH)


def enqueue(db, points: list[int]) -> dict[int, int]:
    """Enqueues one job for each point; returns point to job id."""
    jobs = [{"name": "long", "args": {"kill_at": n}, "max_crashes": 50} for n in points]
    ids = [row[0] for row in db.execute("SELECT id FROM holdfast.enqueue(%s)", [Jsonb(jobs)])]
    return dict(zip(points, ids, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_a_job_killed_at_any_write_ends_as_if_nothing_had_happened(
    app: Holdfast, db, worker_command, watched, tmp_path: Path, group: int
) -> None:
    module = tmp_path / "kill_points_jobs.py"
    shutil.copy(Path(__file__).with_name(module.name), module)
    worker_command(module, "--processes", "2")

    (calm,) = enqueue(db, [0]).values()
    assert app.handle(calm).result_sync(timeout=30) == RESULT
    points = int((tmp_path / "points-0").read_text())
    assert points >= MIN_POINTS

    ids = enqueue(db, list(range(group + 1, points + 1, GROUPS)))
    for point, job_id in ids.items():
        assert app.handle(job_id).result_sync(timeout=60) == RESULT
        assert (tmp_path / f"killed-{point}").exists(), f"never came to point {point}"
        assert_no_step_was_repeated_but_the_one_in_flight(tmp_path, point)
        assert_every_trace_is_right(db, point, job_id, is_last=point == points)


def assert_no_step_was_repeated_but_the_one_in_flight(folder: Path, point: int) -> None:
    runs = Counter(map(int, (folder / f"effects-{point}").read_text().split()))
    assert set(runs) == set(range(STEPS))
    repeated = {number: count for number, count in runs.items() if count > 1}
    assert repeated in ({}, dict.fromkeys(repeated, 2))
    assert len(repeated) <= 1


def assert_every_trace_is_right(db, point: int, job_id: int, *, is_last: bool) -> None:
    assert db.value("SELECT count(*) FROM holdfast.report WHERE job = %s", [point]) == 1
    state, failures, progress = db.execute(
        "SELECT state, failures, progress FROM holdfast.jobs WHERE id = %s", [job_id]
    )[0]
    assert (state, failures, progress) == ("completed", 0, 1.0)
    rows = db.execute("SELECT progress FROM holdfast.seen WHERE job = %s ORDER BY n", [job_id])
    seen = [row[0] for row in rows]
    assert seen == sorted(seen)
    steps = db.value("SELECT count(*) FROM holdfast.step WHERE job_id = %s", [job_id])
    assert steps == STEPS + 2
    if not is_last:  # the last point lies after the job's end: nobody is charged
        crashes = db.execute(
            "SELECT reason FROM holdfast.execution WHERE job_id = %s AND charged = 'crash'",
            [job_id],
        )
        assert ("its worker process was killed by SIGKILL",) in crashes
