"""Installing the schema: once, by one process at a time, under any name, beside others."""

import multiprocessing
import os
import shlex
from collections.abc import Callable, Iterator

import psycopg
import pytest

from fixtures.database import Installation
from fixtures.desk import Desk
from holdfast import EmbeddedPostgres, Holdfast
from holdfast.errors import HoldfastError, InvalidSettings, SchemaMissing
from holdfast.storage import migrate as migrating
from holdfast.storage import workers
from holdfast.storage.listen import Listener
from holdfast.storage.migrate import latest_version, migrate, read_version
from holdfast.storage.statements import channel, check_schema, quoted

ODD_NAMES = [
    "with space",
    'quote"d',
    "it's",
    "per%cent",
    "%(placeholder)s",
    "dot.ted",
    "holdfast.holdfast",
    "Ünïcödé ☃",
    "back\\slash\\1",
    "dollars$$body$x",
    "UPPER",
    "select",
    "a-b:c",
    "n" * 50,
    "ü" * 25,
]
_NEXT = latest_version() + 1


@pytest.fixture
def named(server: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Gives names to schemas that are dropped at the end of the test."""
    names: list[str] = []

    def name(text: str) -> str:
        names.append(text)
        return text

    yield name
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        for schema in names:
            conn.execute(f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE".encode())


@pytest.fixture
def fresh(named: Callable[[str], str]) -> str:
    """The name of a schema that does not exist yet."""
    return named(f"fresh-{os.urandom(4).hex()}")


def test_migrating_again_applies_nothing(server: EmbeddedPostgres, fresh: str) -> None:
    assert read_version(server.dsn, fresh) == 0
    every = list(range(1, latest_version() + 1))
    assert migrate(server.dsn, fresh) == every
    before = catalogue(server, fresh)
    assert migrate(server.dsn, fresh) == []
    assert catalogue(server, fresh) == before
    assert read_version(server.dsn, fresh) == latest_version()


def test_a_migration_that_fails_leaves_nothing_behind(
    server: EmbeddedPostgres, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*migrating.migrations(), (_NEXT, "broken", "CREATE TABLE holdfast.job (id int)")]
    monkeypatch.setattr(migrating, "migrations", lambda: broken)
    with pytest.raises(HoldfastError):
        migrate(server.dsn, fresh)
    monkeypatch.undo()
    with psycopg.connect(server.dsn) as conn:
        found = conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [fresh]).fetchone()
    assert found is None
    assert migrate(server.dsn, fresh) == list(range(1, _NEXT))


def test_a_later_migration_is_applied_to_an_installed_schema(
    server: EmbeddedPostgres, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(server.dsn, fresh)
    later = [*migrating.migrations(), (_NEXT, "more", "CREATE TABLE holdfast.more (id int)")]
    monkeypatch.setattr(migrating, "migrations", lambda: later)
    assert migrate(server.dsn, fresh) == [_NEXT]
    assert read_version(server.dsn, fresh) == _NEXT


def _migrate_in_a_process(dsn: str, schema: str, answers: object) -> None:
    try:
        answers.put(migrate(dsn, schema))  # type: ignore[attr-defined]
    except BaseException as error:
        answers.put(repr(error))  # type: ignore[attr-defined]


def test_four_processes_that_migrate_at_once_apply_each_migration_once(
    server: EmbeddedPostgres, fresh: str
) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=_migrate_in_a_process, args=[server.dsn, fresh, answers])
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert sorted(found, key=str) == sorted(
        [list(range(1, latest_version() + 1)), [], [], []], key=str
    )


# --- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ODD_NAMES)
def test_a_schema_of_any_name_works(
    server: EmbeddedPostgres, named: Callable[[str], str], schema: str
) -> None:
    migrate(server.dsn, named(schema))
    assert migrate(server.dsn, schema) == []
    app = Holdfast(server.dsn, schema=schema)

    @app.job()
    async def work() -> None: ...

    listener = psycopg.connect(server.dsn, autocommit=True)
    listener.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(f"{schema}:wake")))
    handle = work.enqueue_sync()
    notices = list(listener.notifies(timeout=10, stop_after=1))
    listener.close()
    assert [(notice.channel, notice.payload) for notice in notices] == [
        (channel(schema, "wake"), "default")
    ]
    assert handle.cancel_sync("enough") == "cancelled"
    assert handle.job_sync().wait_detail == "enough"
    app.close_sync()


@pytest.mark.parametrize(
    "schema", ["", "nul\0", "line\nbreak", "lone \ud800", "pg_catalog", "pg_mine", "x" * 51]
)
def test_a_name_that_cannot_be_a_schema_is_refused(server: EmbeddedPostgres, schema: str) -> None:
    with pytest.raises(InvalidSettings):
        check_schema(schema)
    with pytest.raises(InvalidSettings):
        migrate(server.dsn, schema)


# --- Several installations ------------------------------------------------------------------------


@pytest.fixture
def neighbour(server: EmbeddedPostgres, named: Callable[[str], str]) -> Iterator[Desk]:
    """A second installation in the same database."""
    schema = named(f"neighbour-{os.urandom(4).hex()}")
    migrate(server.dsn, schema)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        desk = Desk(Installation(server.dsn, schema, admin))
        yield desk
        desk.close()


def test_installations_do_not_see_each_others_jobs(desk: Desk, neighbour: Desk) -> None:
    mine = desk.enqueue_all([{"name": "mine"}] * 3)
    neighbour.enqueue_all([{"name": "theirs"}] * 5)
    assert neighbour.cancel(mine[0]) in ({}, {mine[0]: "cancelled"})
    assert {job.name for job in desk.claim(desk.worker()).jobs} == {"mine"}
    theirs = neighbour.claim(neighbour.worker()).jobs
    assert {job.name for job in theirs} == {"theirs"}
    assert desk.db.value("SELECT count(*) FROM holdfast.jobs") == 3


def test_installations_do_not_hear_each_other(desk: Desk, neighbour: Desk) -> None:
    conn = desk.connect()
    for kind in ("wake", "cancel", "done"):
        conn.execute(f'LISTEN "{desk.schema}:{kind}"')
    _, theirs = neighbour.executing()
    neighbour.cancel(theirs.id)
    desk.enqueue(queue="mine")
    notices = list(conn.notifies(timeout=10, stop_after=1))
    assert [(n.channel, n.payload) for n in notices] == [(f"{desk.schema}:wake", "mine")]


def test_installations_do_not_share_locks(desk: Desk, neighbour: Desk) -> None:
    assert desk.run(workers.take_lock(desk.schema, 7))
    assert neighbour.run(workers.take_lock(neighbour.schema, 7))
    suspect = neighbour.worker(supervisor_id=9, locked=True)
    # The neighbour's supervisor 9 is gone; ours holds a lock under the same number.
    assert desk.run(workers.take_lock(desk.schema, 9))
    answer = neighbour.run(workers.beat(1, lease_s=0.001, grace_s=1.0))
    assert answer.suspects == {suspect}


def test_a_listener_names_its_channels_by_schema() -> None:
    def ignore(*_: str) -> None:
        raise AssertionError("nothing is heard before it runs")

    listener = Listener("", "a", ("wake",), heard=ignore, caught_up=ignore)
    assert listener._channels == {"a:wake": "wake"}


# --- Versions that do not fit ---------------------------------------------------------------------


def opened(server: EmbeddedPostgres, schema: str) -> HoldfastError:
    """Returns the error with which an application refuses to use a schema."""
    app = Holdfast(server.dsn, schema=schema)
    with pytest.raises(HoldfastError) as caught:
        app.jobs_sync()
    app.close_sync()
    return caught.value


async def test_a_missing_schema_is_refused_with_the_command(
    server: EmbeddedPostgres, fresh: str
) -> None:
    error = opened(server, fresh)
    assert isinstance(error, SchemaMissing)
    assert f"holdfast db migrate --schema {fresh}" in error.hint
    app = Holdfast(server.dsn, schema=fresh)

    @app.job()
    async def work() -> None: ...

    with pytest.raises(SchemaMissing):
        await work.enqueue()
    with pytest.raises(SchemaMissing):
        async with app.running():
            raise AssertionError("a worker started without a schema")
    await app.close()


def test_the_command_in_a_hint_can_be_pasted_into_a_shell(server: EmbeddedPostgres) -> None:
    error = opened(server, "it's; not there")
    command = error.hint.split("`")[1]
    assert shlex.split(command) == ["holdfast", "db", "migrate", "--schema", "it's; not there"]


@pytest.mark.parametrize(
    ("version", "code", "command"),
    [
        (0, "HF-202", "`holdfast db migrate --schema "),
        (_NEXT, "HF-204", "Upgrade the holdfast package"),
    ],
)
def test_a_schema_of_another_version_is_refused_with_the_remedy(
    desk: Desk, server: EmbeddedPostgres, version: int, code: str, command: str
) -> None:
    set_version(desk, version)
    try:
        error = opened(server, desk.schema)
        assert (error.code, command in error.hint) == (code, True)
        if version > latest_version():
            with pytest.raises(HoldfastError) as caught:
                migrate(server.dsn, desk.schema)
            assert caught.value.code == "HF-204"
    finally:
        set_version(desk, latest_version())


def test_a_schema_that_is_too_old_is_refused_with_the_command(
    desk: Desk, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = [*migrating.migrations(), (_NEXT, "more", "")]
    monkeypatch.setattr(migrating, "migrations", lambda: later)
    error = opened(server, desk.schema)
    assert error.code == "HF-203"
    assert f"holdfast db migrate --schema {desk.schema}" in error.hint


def set_version(desk: Desk, version: int) -> None:
    desk.db.execute(
        "DELETE FROM holdfast.migration "
        "WHERE version < (SELECT max(version) FROM holdfast.migration)"
    )
    desk.db.execute("UPDATE holdfast.migration SET version = %s", [version])


# --- The script -----------------------------------------------------------------------------------


def test_the_script_makes_the_schema_that_migrating_makes(
    server: EmbeddedPostgres, named: Callable[[str], str]
) -> None:
    migrated, scripted = named("made by 100% us"), named("made by 100% them")
    migrate(server.dsn, migrated)
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        # The simple protocol, statement after statement, as psql sends a file.
        conn.execute(migrating.sql(scripted).encode())
    assert read_version(server.dsn, scripted) == latest_version()
    assert migrate(server.dsn, scripted) == []
    ours, theirs = catalogue(server, migrated), catalogue(server, scripted)
    assert ours == theirs
    assert {kind for kind, *_ in ours} == {"column", "constraint", "function", "index", "relation"}


def test_the_script_after_a_version_leaves_out_what_is_applied(
    server: EmbeddedPostgres, fresh: str
) -> None:
    script = migrating.sql(fresh, after=latest_version())
    assert "CREATE" not in script
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute(script.encode())


def catalogue(server: EmbeddedPostgres, schema: str) -> list[tuple]:
    """Returns everything the catalogue knows of a schema's objects, its name taken out.

    The archive's partitions of single days are left out: a duty makes them.
    """
    oid = "%(schema)s::regnamespace"
    parts = {
        "relation": "SELECT relname, relkind::text, reloptions::text, relpersistence::text "
        f"FROM pg_class WHERE relnamespace = {oid}",
        "column": "SELECT c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), "
        "a.attnotnull, a.attidentity::text, a.attstorage::text, "
        "pg_get_expr(d.adbin, d.adrelid) FROM pg_class AS c "
        "JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 "
        "LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum "
        f"WHERE c.relnamespace = {oid}",
        "index": f"SELECT tablename, indexname, indexdef FROM pg_indexes "
        f"WHERE schemaname = %(name)s AND {oid} IS NOT NULL",
        "constraint": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) "
        f"FROM pg_constraint WHERE connamespace = {oid}",
        "function": "SELECT proname, pg_get_functiondef(oid), provolatile::text "
        f"FROM pg_proc WHERE pronamespace = {oid}",
    }
    found = []
    with psycopg.connect(server.dsn) as conn:
        for kind, sql in parts.items():
            params = {"schema": quoted(schema), "name": schema}
            for row in conn.execute(sql.encode(), params).fetchall():
                text = tuple(str(value).replace(schema, "…") for value in row)
                if not any("job_archive_2" in value for value in text):
                    found.append((kind, *text))
    return sorted(found)
