"""`holdfast doctor`: every check, on a real database in that condition."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fixtures.command import Ran
from fixtures.pgbouncer import pgbouncer
from fixtures.running import eventually_sync
from holdfast import Finding, Holdfast
from holdfast.app import diagnoses
from holdfast.model.health import ArchiveHealth, Driver, Holder, Server, Skew, TableHealth

__all__ = ["pgbouncer"]

Holdfast_ = Callable[..., Ran]
CHECKS = [
    "connection", "version", "driver", "pooler", "listen", "schema", "clock", "xmin", "bloat",
    "archive", "unreachable", "attention",
]  # fmt: skip


@pytest.fixture
def finding(app: Holdfast) -> Callable[[str], Finding]:
    """Returns what one check finds now."""

    def find(check: str) -> Finding:
        return next(found for found in app.doctor_sync() if found.check == check)

    return find


def enqueue(db, name: str = "work", queue: str = "default") -> int:
    return db.value("SELECT id FROM holdfast.enqueue(%s)", [Jsonb({"name": name, "queue": queue})])


def add_worker(db, queues: dict[str, int], names: list[str]) -> None:
    """A live worker, as its row says."""
    db.execute(
        "INSERT INTO holdfast.worker (id, supervisor_id, pid, host, app, started_at, renewed_at,"
        " expires_at, queues, job_names) VALUES (7, 7, 1, 'h', 'a', now(), now(),"
        " now() + interval '1 day', %s, %s)",
        [Jsonb(queues), names],
    )


# --- The command ----------------------------------------------------------------------------------


def test_a_healthy_database_has_a_line_for_each_check_and_exits_with_0(holdfast: Holdfast_) -> None:
    ran = holdfast("doctor")
    assert ran.code == 0, ran.out
    assert [line.split()[1] for line in ran.out.splitlines() if line.split()[0] == "ok"] == CHECKS
    assert ran.err == ""


def test_json_is_one_line_for_each_check(holdfast: Holdfast_) -> None:
    ran = holdfast("doctor", "--json")
    assert [line["check"] for line in ran.lines] == CHECKS
    assert all(list(f) == ["check", "level", "summary", "detail", "remedy"] for f in ran.lines)


def test_an_error_makes_it_exit_with_1_and_its_remedy_is_below_it(holdfast: Holdfast_, db) -> None:
    enqueue(db)
    db.execute("UPDATE holdfast.job SET run_at = run_at - interval '2 hours'")
    ran = holdfast("doctor", COLUMNS="120")
    assert ran.code == 1
    lines = ran.out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("ERROR"))
    assert lines[at].split()[1] == "unreachable"
    assert "1 × 'work' in queue 'default', the oldest for 2 h" in lines[at + 1]
    assert lines[at + 2].strip() == "→ Start a worker: holdfast worker your_module:app"


def test_a_server_that_is_not_there_is_a_finding_without_the_password(holdfast: Holdfast_) -> None:
    ran = holdfast("doctor", "--json", HOLDFAST_DSN="postgresql://me:s3cret@127.0.0.1:1/x")
    assert ran.code == 1
    (only,) = ran.lines
    assert (only["check"], only["level"]) == ("connection", "error")
    assert "s3cret" not in ran.out + ran.err


def test_the_password_is_not_in_the_address(app: Holdfast, db) -> None:
    with_password = app.with_settings(dsn=f"{db.dsn}&password=s3cret")
    found = with_password.doctor_sync()
    assert found[0].level == "ok"
    assert "s3cret" not in json.dumps([f.summary + f.detail for f in found])


def test_without_a_database_configured_it_is_an_error_like_everywhere(holdfast: Holdfast_) -> None:
    ran = holdfast("doctor", HOLDFAST_DSN="")
    assert ran.code == 3
    assert "no database is configured" in ran.err


def test_a_missing_schema_is_an_error_with_the_command_and_ends_the_checks_of_its_tables(
    holdfast: Holdfast_,
) -> None:
    ran = holdfast("doctor", "--schema", "not there", "--json")
    assert ran.code == 1
    *_, last = ran.lines
    assert (last["check"], last["level"]) == ("schema", "error")
    assert "holdfast db migrate --schema 'not there'" in last["remedy"]
    assert [line["check"] for line in ran.lines] == CHECKS[:6]


def test_names_from_jobs_cannot_move_the_cursor(holdfast: Holdfast_, db) -> None:
    job_id = enqueue(db)
    db.execute(
        "UPDATE holdfast.job SET state = 'attention', wait_reason = E'\\x1b[2J' WHERE id = %s",
        [job_id],
    )
    ran = holdfast("doctor")
    assert "\x1b[2J" not in ran.out
    assert "\\x1b[2J" in ran.out


# --- The checks -----------------------------------------------------------------------------------


def test_a_clock_that_is_off_is_a_warning_and_far_off_an_error(finding, db) -> None:
    assert finding("clock").level == "ok"
    db.move_time("3 seconds")
    assert finding("clock").level == "warning"
    assert "ahead of this machine's" in finding("clock").summary
    db.move_time("-2 hours")
    assert finding("clock").level == "error"
    assert "2 h behind" in finding("clock").summary


def test_a_held_snapshot_is_named_with_its_holder(finding, db) -> None:
    with psycopg.connect(db.dsn, application_name="nightly report") as held:
        pid = held.info.backend_pid
        held.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        held.execute(f"SELECT 1 /* {'x' * 300} */")
        db.move_time("9 minutes")
        assert finding("xmin").level == "ok"
        db.move_time("2 hours")
        found = finding("xmin")
    assert found.level == "warning"
    # By this clock, what other tests do at this moment has been going on for as long.
    line = next(line for line in found.detail.splitlines() if f"pid {pid}" in line)
    assert line.startswith(f"session 'nightly report', pid {pid}, for 2 h, user 'postgres', idle")
    assert "x" * 150 in line
    assert "x" * 200 not in line
    assert "held back by session" in found.summary
    assert "pg_terminate_backend(" in found.remedy
    eventually_sync(lambda: "nightly report" not in finding("xmin").detail)


def test_a_plain_role_is_told_what_it_may_not_see(app: Holdfast, db) -> None:
    role = f"plain-{db.schema}"
    db.execute(
        f'CREATE ROLE "{role}" LOGIN; GRANT USAGE ON SCHEMA "{db.schema}" TO "{role}";'
        f'GRANT SELECT ON ALL TABLES IN SCHEMA "{db.schema}" TO "{role}"'
    )
    try:
        plain = app.with_settings(dsn=db.dsn.replace("user=postgres", f"user={role}"))
        found = {f.check: f for f in plain.doctor_sync()}
        assert {f.level for f in found.values()} == {"ok"}
        assert "sessions of other roles could not be looked at" in found["xmin"].detail
        assert role in found["version"].summary
    finally:
        db.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_a_check_that_may_not_run_is_a_finding_and_the_others_go_on(app: Holdfast, db) -> None:
    role = f"bare-{db.schema}"
    db.execute(
        f'CREATE ROLE "{role}" LOGIN; GRANT USAGE ON SCHEMA "{db.schema}" TO "{role}";'
        f'GRANT SELECT ON "{db.schema}".migration, "{db.schema}".worker TO "{role}"'
    )
    try:
        bare = app.with_settings(dsn=db.dsn.replace("user=postgres", f"user={role}"))
        found = {f.check: f for f in bare.doctor_sync()}
        assert list(found) == CHECKS
        assert found["attention"].level == "error"
        assert "permission denied" in found["attention"].summary
        assert found["bloat"].level == "ok"
    finally:
        db.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_jobs_that_no_live_worker_serves_or_knows_are_counted(finding, db) -> None:
    add_worker(db, {"default": 1}, ["work"])
    for name, queue in (("work", "default"), ("work", "lonely"), ("odd", "default")):
        for _ in range(2):
            enqueue(db, name, queue)
    assert finding("unreachable").level == "ok"  # they are due only now
    db.execute("UPDATE holdfast.job SET run_at = run_at - interval '5 hours'")
    found = finding("unreachable")
    assert (found.level, found.summary) == ("error", "4 jobs wait that nobody can run")
    assert found.detail.splitlines() == [
        "2 × 'odd' in queue 'default', the oldest for 5 h: no live worker knows the name",
        "2 × 'work' in queue 'lonely', the oldest for 5 h: no live worker serves the queue",
    ]
    assert "Start a worker" in found.remedy
    assert "Deploy the code" in found.remedy


def test_a_job_that_workers_hand_back_as_unknown_is_found_at_once(finding, db) -> None:
    add_worker(db, {"default": 1}, ["work"])
    enqueue(db, "odd")
    db.execute(
        "UPDATE holdfast.job SET run_at = run_at + interval '15 s', wait_reason = 'unknown job'"
    )
    assert finding("unreachable").summary == "1 job waits that nobody can run"


def test_jobs_that_stopped_for_a_person_are_counted_by_reason(finding, db) -> None:
    ids = [enqueue(db) for _ in range(3)]
    db.execute(
        "UPDATE holdfast.job SET state = 'attention',"
        " wait_reason = CASE WHEN id = %s THEN 'drift' ELSE 'poison' END",
        [ids[2]],
    )
    found = finding("attention")
    assert (found.level, found.summary) == ("warning", "3 jobs wait for a person")
    assert found.detail.splitlines() == [
        f"2 × poison, for example job {ids[0]}",
        f"1 × drift, for example job {ids[2]}",
    ]
    assert f"holdfast jobs explain {ids[0]}" in found.remedy


def test_missing_partitions_and_rows_beside_them_are_found(finding, db) -> None:
    with far_ahead(db):
        assert "partitions none, not even for today" in finding("archive").summary
        job_id = enqueue(db)
        db.execute("SELECT holdfast.cancel(ARRAY[%s]::bigint[])", [job_id])
        found = finding("archive")
        assert found.level == "warning"
        assert "default partition holds 1 rows" in found.summary


@contextmanager
def far_ahead(db) -> Iterator[None]:
    """A time whose partitions nobody has made."""
    db.move_time("20 years")
    yield
    db.execute("TRUNCATE holdfast.job_archive")
    db.move_time("0")


def test_dead_rows_that_nobody_may_remove_are_found(finding, db) -> None:
    db.execute("ALTER TABLE holdfast.job SET (autovacuum_enabled = false)")
    try:
        db.execute(
            "SELECT count(*) FROM holdfast.enqueue("
            """(SELECT jsonb_agg('{"name": "work"}'::jsonb) FROM generate_series(1, 11000)))"""
        )
        with psycopg.connect(db.dsn) as held:
            held.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            held.execute("SELECT 1")
            for _ in range(2):
                db.execute("UPDATE holdfast.job SET run_at = run_at + interval '1 hour'")
            eventually_sync(lambda: finding("bloat").level == "warning")
            found = finding("bloat")
        assert found.summary.startswith("job: 2")
        assert "VACUUM job" in found.remedy
        db.execute("DELETE FROM holdfast.job")
        db.execute("VACUUM holdfast.job")
        eventually_sync(lambda: finding("bloat").level == "ok")
    finally:
        db.execute("ALTER TABLE holdfast.job RESET (autovacuum_enabled)")


def test_a_pooler_in_transaction_mode_is_a_warning_and_in_session_mode_none(
    pgbouncer, app: Holdfast
) -> None:
    bouncer = pgbouncer("transaction")
    for _ in range(2):
        found = {f.check: f for f in app.with_settings(dsn=bouncer.dsn).doctor_sync()}
        assert [f.check for f in found.values() if f.level != "ok"] == ["pooler", "listen"]
        assert "transaction mode" in found["pooler"].summary
    assert {row[6:] for row in bouncer.leftovers()} == {(0, 0, 0)}
    session = pgbouncer("session", 10)
    found = {f.check: f for f in app.with_settings(dsn=session.dsn).doctor_sync()}
    assert {f.level for f in found.values()} == {"ok"}
    assert "session mode" in found["pooler"].summary


# --- What cannot be brought about here ------------------------------------------------------------


def test_facts_that_this_machine_does_not_have_are_judged() -> None:
    assert diagnoses.version(Server(130_011, "13.11", "me")).level == "error"
    assert diagnoses.driver(Driver("3.2", "python")).remedy == 'pip install "psycopg[binary]"'
    assert diagnoses.connection("here", 0.2).level == "warning"
    assert diagnoses.clock(Skew(1.5, 0.8)).level == "ok"  # no more than the measurement's error
    assert diagnoses.archive(ArchiveHealth(1, 0)).summary.endswith("for 1 days only")
    session = Holder("session", 77, "report", "me", "active", 700.0, 5, None, None)
    assert "pg_terminate_backend(77)" in diagnoses.xmin([session], 0).remedy
    slot = Holder("replication slot", None, "standby", None, "inactive", None, 5, None, None)
    assert "pg_drop_replication_slot('standby')" in diagnoses.xmin([slot], 0).remedy
    active = Holder("replication slot", 9, "standby", None, "active", None, 5, None, None)
    assert diagnoses.xmin([active], 0).level == "ok"
    prepared = Holder("prepared transaction", None, "gid", "me", None, 4000.0, 5, None, None)
    assert "ROLLBACK PREPARED 'gid'" in diagnoses.xmin([prepared], 0).remedy
    fat = TableHealth("job", 10, 0, None, 1 << 30, 100 * 1024 * 1024)
    assert "REINDEX INDEX CONCURRENTLY job_claim" in diagnoses.bloat([fat]).remedy
