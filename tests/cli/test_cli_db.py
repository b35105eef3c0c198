"""`holdfast db`, the exit codes of the database, and the command line's own manners."""

import os

import psycopg
import pytest

from fixtures.command import environment, run_command


@pytest.fixture
def empty_schema(server):
    """The name of a schema that does not exist; whatever is made under it goes at the end."""
    name = f"cli-{os.urandom(4).hex()}"
    yield name
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


def test_migrate_installs_once_and_then_has_nothing_to_do(server, empty_schema) -> None:
    env = environment(HOLDFAST_DSN=server.dsn)
    first = run_command("db", "migrate", "--schema", empty_schema, env=env)
    assert first.code == 0
    assert f"schema '{empty_schema}' now has version" in first.out
    again = run_command("db", "migrate", "--schema", empty_schema, "--json", env=env)
    assert again.document["applied"] == []
    assert again.document["schema"] == empty_schema
    plain = run_command("db", "migrate", "--schema", empty_schema, env=env)
    assert "nothing to do" in plain.out


def test_version_says_that_the_schema_is_current(holdfast, db) -> None:
    ran = holdfast("db", "version")
    assert ran.code == 0
    assert ran.out.endswith(": current\n")
    assert holdfast("db", "version", "--json").document["state"] == "current"


def test_version_exits_with_4_for_a_missing_schema_and_names_the_command(server) -> None:
    env = environment(HOLDFAST_DSN=server.dsn)
    ran = run_command("db", "version", "--schema", "nowhere", env=env)
    assert ran.code == 4
    assert ran.out.endswith("Run: holdfast db migrate --schema nowhere\n")
    as_json = run_command("db", "version", "--schema", "nowhere", "--json", env=env)
    assert (as_json.code, as_json.document["state"]) == (4, "missing")


def test_version_exits_with_4_for_a_schema_of_a_newer_holdfast(holdfast, db) -> None:
    db.execute(
        "INSERT INTO holdfast.migration (version, name, checksum) VALUES (9999, 'future', '')"
    )
    try:
        ran = holdfast("db", "version", "--json")
        assert (ran.code, ran.document["state"]) == (4, "too new")
        refused = holdfast("jobs", "list")
        assert refused.code == 4
        assert "HF-204" in refused.err
    finally:
        db.execute("DELETE FROM holdfast.migration WHERE version = 9999")


def test_sql_prints_a_script_that_installs_the_schema_without_a_database_at_hand(
    server, empty_schema
) -> None:
    script = run_command("db", "sql", "--schema", empty_schema, env=environment())
    assert script.code == 0
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute(script.out)
    env = environment(HOLDFAST_DSN=server.dsn)
    assert run_command("db", "version", "--schema", empty_schema, env=env).code == 0


def test_sql_from_the_newest_version_has_nothing_in_it(holdfast, db) -> None:
    newest = holdfast("db", "version", "--json").document["installed"]
    ran = holdfast("db", "sql", "--from", newest, "--json")
    assert ran.document["from"] == newest
    assert "CREATE" not in ran.document["sql"]


def test_a_missing_schema_exits_with_4_and_the_exact_remedy(server, tasks, empty_schema) -> None:
    env = environment(HOLDFAST_DSN=server.dsn, HOLDFAST_SCHEMA=empty_schema)
    remedy = f"`holdfast db migrate --schema {empty_schema}`"
    for command in (
        ["jobs", "list"],
        ["jobs", "show", 1],
        ["enqueue", tasks, "add", "a=1"],
        ["run", tasks, "add", "a=1"],
        ["worker", tasks, "--json"],
    ):
        ran = run_command(*command, env=env)
        assert ran.code == 4, ran.err
        assert ran.out == "" or ran.document["exit_code"] == 4
        assert remedy in ran.err and "Traceback" not in ran.err


def test_a_server_that_is_not_there_exits_with_3(tasks, tmp_path) -> None:
    env = environment(HOLDFAST_DSN=f"postgresql:///x?host={tmp_path}")
    for command in (["jobs", "list"], ["db", "version"], ["run", tasks, "add", "a=1"]):
        ran = run_command(*command, env=env)
        assert ran.code == 3
        assert "code: HF-201" in ran.err and "hint: Check HOLDFAST_DSN" in ran.err
        assert "Traceback" not in ran.err
    assert run_command("worker", tasks, env=env).code == 3


def test_no_database_configured_exits_with_3_and_says_how_to_configure_one() -> None:
    ran = run_command("jobs", "list", env=environment())
    assert ran.code == 3
    assert "Set HOLDFAST_DSN or DATABASE_URL" in ran.err


def test_options_win_over_the_environment(db) -> None:
    env = environment(HOLDFAST_DSN="postgresql:///x?host=/nowhere", HOLDFAST_SCHEMA="nowhere")
    ran = run_command("db", "version", "--dsn", db.dsn, "--schema", db.schema, env=env)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["jbos"], "Did you mean 'jobs'?"),
        (["jobs", "lst"], "Did you mean 'list'?"),
        (["db", "migrat"], "Did you mean 'migrate'?"),
        (["jobs", "list", "--limt", "3"], "Did you mean '--limit'?"),
        (["jobs", "list", "--state", "scheduld"], "Did you mean 'scheduled'?"),
        (["jobs", "show", "x"], "'x' is not a valid"),
        (["jobs", "show", 2**63], "is not in the range"),
        (["jobs", "show"], "Missing argument"),
        (["jobs", "retry"], "neither IDs nor a query"),
        (["worker", "x:app", "-q", "agents:none"], "concurrency 'none'"),
        (["worker", "x:app", "--log-level", "LOUD"], "LOUD"),
        (["worker", "x:app", "--schema", "a\nb"], "schema"),
    ],
)
def test_wrong_use_of_the_command_line_is_explained(args, said) -> None:
    ran = run_command(*args, env=environment())
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.startswith("error: ") and "Traceback" not in ran.err


def test_help_documents_the_exit_codes_and_loads_no_command() -> None:
    ran = run_command("--help", env=environment())
    assert ran.code == 0
    for line in ("0  ok", "2  wrong use", "3  the database cannot", "4  the schema is missing"):
        assert line in ran.out


def test_the_summaries_in_the_tables_belong_to_commands_that_exist() -> None:
    import click

    from holdfast.cli.groups import LazyGroup, load
    from holdfast.cli.main import cli

    def walk(group: LazyGroup) -> list[click.Command]:
        found = [load(entry.target) for entry in group.entries.values()]
        nested = [walk(command) for command in found if isinstance(command, LazyGroup)]
        return found + [command for inner in nested for command in inner]

    commands = walk(cli)
    assert len(commands) >= 14
    for command in commands:
        names = {option for parameter in command.params for option in parameter.opts}
        assert isinstance(command, LazyGroup) or "--json" in names, command.name


def test_asking_for_help_imports_no_module_of_a_command() -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from holdfast.cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = [m for m in sys.modules if m.startswith('holdfast.cli.')]\n"
        "print(sorted(loaded), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "holdfast.cli.main" in done.stderr
    for name in ("worker", "dev", "demo", "run", "enqueue", "jobs", "db", "options"):
        assert f"holdfast.cli.{name}'" not in done.stderr


def test_version_prints_the_version_of_the_package() -> None:
    import holdfast

    ran = run_command("--version", env=environment())
    assert ran.out == f"holdfast {holdfast.__version__}\n"
