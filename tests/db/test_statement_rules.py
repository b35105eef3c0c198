"""The rules about SQL: where it lives, how it is written, and that it fits its operation."""

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import holdfast
from fixtures.desk import Desk, completion, lanes_of, settled, step_write
from holdfast.model.job import ClaimedJob, Job, JobTemplate, NewJob
from holdfast.model.outcome import Ending
from holdfast.model.queues import Served
from holdfast.model.watching import Cursor
from holdfast.model.writes import Forget, ProgressWrite
from holdfast.runtime.executor import Ended
from holdfast.storage import (
    callers,
    health,
    inspection,
    jobs,
    migrate,
    pooler,
    queues,
    statements,
    steps,
    workers,
)
from holdfast.storage.query import Query
from holdfast.storage.workers import Registration

PACKAGE = Path(holdfast.__file__).parent
SQL = PACKAGE / "storage" / "sql"
NAMES = sorted(
    path.relative_to(SQL).with_suffix("").as_posix()
    for path in SQL.rglob("*.sql")
    if path.parent.name != "migrations"
)
MIGRATIONS = sorted((SQL / "migrations").glob("*.sql"))
STATEMENTS = pytest.mark.parametrize("name", NAMES)

_PARAMETER = re.compile(r"%\((\w+)\)s")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
KEYWORDS = set(
    re.findall(
        r"\w+",
        """
        select insert update delete from where join cross lateral left on and or not in is null as
        set values returning with order by limit group having union all distinct case when then
        else end conflict do nothing materialized for exists array any using skip locked share key
        """,
    )
)
CLOCKS = re.compile(
    r"\b(now\s*\(|clock_timestamp|statement_timestamp|transaction_timestamp|current_timestamp"
    r"|current_date|current_time\b|localtime|timeofday)",
    re.IGNORECASE,
)

JOB = ClaimedJob(
    **{**dict.fromkeys(ClaimedJob._fields), "id": 1, "epoch": 1, "failures": 0, "max_attempts": 1}
    | {"crashes": 0, "max_crashes": 3}
)
SHOWN = Job(
    **{**dict.fromkeys(Job.__dataclass_fields__), "id": 1, "queue": "q", "name": "n"}
    | {"priority": 0, "run_at": datetime(2031, 1, 1, tzinfo=UTC)}
)
OPERATIONS: list[Query[Any]] = [
    jobs.enqueue([NewJob(JobTemplate(name="n"), "{}")]),
    jobs.claim(1, {"q": 1}, lanes_of({"q": 1})),
    jobs.complete(1, "s", [completion(JOB)]),
    jobs.settle(1, "s", [settled(JOB, Ended(Ending.FAILED))]),
    jobs.progress(1, [ProgressWrite(1, 1, 0.5, None, None, None)]),
    jobs.owned(1, everything=True),
    jobs.disown(1, "s", []),
    jobs.cancel([1], None),
    jobs.retry([1]),
    jobs.try_enqueue([NewJob(JobTemplate(name="n"), "{}")]),
    jobs.delete([1]),
    jobs.find_ids(),
    queues.settings("w"),
    queues.pause("q", "", "s"),
    queues.resume("q", "", "s"),
    queues.scale("q", "", 1, "s"),
    queues.queues(),
    queues.serve(1, Served({"q": 1})),
    queues.retention(),
    queues.keep("q", "", 1.0),
    queues.keep_as_others("q", ""),
    queues.prune(1),
    queues.drop_partition(),
    jobs.await_ends([1], "s"),
    jobs.endings([1]),
    jobs.find(),
    steps.record(1, [step_write(JOB)]),
    steps.forget([Forget(1, 1, "k")]),
    steps.load(1, "k"),
    workers.register(Registration(1, 1, 1, "h", "a", None, {}, [], 1.0), "s", locked=True),
    workers.take_lock("s", 1),
    workers.beat(1, lease_s=1.0, grace_s=1.0),
    workers.release([1], "s", outcome="o", reason="r", certain=True, charge=True),
    workers.claim_duty(),
    workers.make_partitions(1),
    workers.live_workers(),
    workers.worker_exists(1),
    inspection.executions(1),
    inspection.steps(1),
    inspection.queue_facts(SHOWN),
    health.server(),
    health.database_clock(),
    health.xmin_holders(),
    health.hidden_sessions(),
    health.table_health("s"),
    health.archive_health("s", 7),
    health.unreachable_jobs(60.0),
    health.stopped_jobs(),
    inspection.running(1, newest=True),
    inspection.finished(1.0),
    inspection.changes(Cursor(), most=1),
    migrate.installed_version(),
    pooler.session_pid(),
    callers.installed("s"),
]


def code_of(name: str) -> str:
    """Returns a statement without comments and string literals."""
    return _LITERAL.sub("''", statements.statement(name, "holdfast"))


# --- Shape ----------------------------------------------------------------------------------------


@STATEMENTS
def test_a_file_has_a_header_and_exactly_one_statement(name: str) -> None:
    text = statements.source(name)
    header = re.match(r"(?:--[^\n]*\n)+", text)
    assert header and re.match(r"-- [A-Z][a-z]+ [^.]+\.", header[0]), "no header that says its use"
    assert ";" not in code_of(name)
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= 100


@STATEMENTS
def test_keywords_are_upper_case(name: str) -> None:
    words = re.findall(r"(?<![.\"%(\w])[a-z]+(?![\w.(])", code_of(name))
    # `key`, `state` and their like are columns as well: only what never names one is judged.
    columns = {"key", "name", "queue", "state", "at", "share", "all"}
    assert sorted(set(words) & KEYWORDS - columns) == []


@STATEMENTS
def test_columns_are_named_except_where_parameters_become_rows(name: str) -> None:
    code = code_of(name)
    for match in re.finditer(r"(\w+\.)?\*(?=[\s,)])", code):
        before, after = code[: match.start()], code[match.end() :]
        if re.search(r"count\($", before) or re.search(r"[\w)] $", before):
            continue  # count(*), a product
        if match[1]:
            # A subquery may pass one relation through: the query around it names the columns.
            assert re.search(r"(FROM|JOIN) \(\s*SELECT\s+$", before), f"…{before[-60:]}{match[0]}"
        else:
            # The aliases of the arrays name the columns.
            assert re.match(r"\s*FROM unnest\(", after), f"…{before[-60:]}*"
            assert re.search(r"\w+ AS MATERIALIZED \(\s*SELECT\s+$", before)


@STATEMENTS
def test_time_comes_from_the_clock_of_the_schema(name: str) -> None:
    code = code_of(name)
    if name == "workers/beat":
        amnesty = "pg_postmaster_start_time() < clock_timestamp()"
        assert code.count(amnesty) == 1
        code = code.replace(amnesty, "")
    assert not CLOCKS.search(code)


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_uses_the_servers_time_for_its_clock_and_first_rows_only(path: Path) -> None:
    text = re.sub(r"--[^\n]*", "", path.read_text("utf-8"))
    allowed = (
        "AS $$ SELECT statement_timestamp() $$",
        "applied_at timestamptz NOT NULL DEFAULT clock_timestamp()",
        "VALUES ('partitions', interval '1 hour', clock_timestamp())",
        "VALUES ('prune', interval '10 minutes', clock_timestamp())",
    )
    for line in allowed:
        text = text.replace(line, "")
    assert not CLOCKS.search(_LITERAL.sub("''", text))


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=lambda path: path.stem)
def test_the_qualifier_is_only_where_it_can_be_rewritten(path: Path) -> None:
    text = re.sub(r"--[^\n]*", "", path.read_text("utf-8"))
    for literal in _LITERAL.findall(text):
        assert "holdfast" not in literal
    assert not re.search(r"create\s+schema|search_path", text, re.IGNORECASE)
    assert not re.search(r"\bholdfast\b(?!\.)", text)


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=lambda path: path.stem)
def test_every_relation_of_ours_is_qualified(path: Path) -> None:
    text = _LITERAL.sub("''", re.sub(r"--[^\n]*", "", path.read_text("utf-8")))
    tables = "job|job_archive|execution|step|blob|worker|duty|migration"
    found = re.findall(rf"(?:FROM|JOIN|INTO|UPDATE|TABLE|ON) ({tables})\b(?!\.)", text)
    assert found == []


# --- The statement and its operation --------------------------------------------------------------


def test_every_file_has_an_operation() -> None:
    assert {query.name for query in OPERATIONS} == set(NAMES)


def test_every_function_that_returns_a_query_is_known_here() -> None:
    built = {
        name
        for module in (jobs, steps, workers, queues, inspection, health, callers)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and str(inspect.signature(function).return_annotation).startswith("Query")
    }
    # One operation is in `migrate`, one in `pooler`.
    assert len(built) + 2 == len(OPERATIONS)


@pytest.mark.parametrize("query", OPERATIONS, ids=lambda query: query.name)
def test_an_operation_gives_exactly_the_parameters_its_statement_uses(query: Query[Any]) -> None:
    used = set(_PARAMETER.findall(statements.statement(query.name, "holdfast")))
    assert used == set(query.params)


@STATEMENTS
def test_every_parameter_has_a_type(name: str) -> None:
    text = statements.statement(name, "holdfast")
    assert not re.findall(r"%\(\w+\)s(?!::\w)", text)


@STATEMENTS
def test_a_statement_prepares_on_an_installed_schema(desk: Desk, name: str) -> None:
    text = statements.statement(name, desk.schema)
    order = list(dict.fromkeys(_PARAMETER.findall(text)))
    text = _PARAMETER.sub(lambda match: f"${order.index(match[1]) + 1}", text).replace("%%", "%")
    desk.conn.execute(f"PREPARE it AS {text}".encode())


# --- Fences ---------------------------------------------------------------------------------------


def moves() -> Iterator[tuple[str, str]]:
    """Every UPDATE or DELETE of the live table: its file, and the text up to its RETURNING."""
    for name in NAMES:
        for match in re.finditer(
            r"(UPDATE holdfast\.job AS j|DELETE FROM holdfast\.job AS j)\b.*?(?=RETURNING|\Z)",
            statements.source(name),
            re.DOTALL,
        ):
            yield name, match[0]


LOCKED_FIRST = {
    "jobs/claim": ("picked", ("j.state = 'available'", "FOR UPDATE SKIP LOCKED")),
    "jobs/settle": ("own", ("j.state = 'executing'", "j.worker_id =", "g.epoch = j.epoch")),
    "workers/release": ("lost", ("j.state = 'executing'", "j.worker_id = ANY", "SKIP LOCKED")),
}


@pytest.mark.parametrize(("name", "move"), list(moves()), ids=lambda value: str(value)[:24])
def test_every_move_of_a_job_is_guarded(name: str, move: str) -> None:
    if name == "jobs/await":
        assert "SET awaited = true\n" in move  # moves nothing
        return
    if name in LOCKED_FIRST:
        source, guards = LOCKED_FIRST[name]
        body = re.search(rf"\b{source} AS MATERIALIZED \((.*?)\n\)", statements.source(name), re.S)
        assert body is not None
        assert all(guard in body[1] for guard in guards)
        assert re.search(r"FROM (picked|own|lost) AS", move)
        return
    assert "j.state = 'executing'" in move
    assert "j.worker_id = %(worker_id)s" in move
    assert "epoch" in move


def test_the_guards_cover_every_file_that_moves_a_job() -> None:
    assert {name for name, _ in moves()} == {
        "jobs/await",
        "jobs/claim",
        "jobs/complete",
        "jobs/disown",
        "jobs/progress",
        "jobs/settle",
        "workers/release",
    }


# --- Where SQL is not -----------------------------------------------------------------------------

_STATEMENT = re.compile(
    r"^\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s"
    r"|(CREATE|ALTER|DROP)\s+(TABLE|SCHEMA|INDEX|FUNCTION|VIEW|ROLE|DATABASE)\s"
    r"|(LISTEN|NOTIFY)\s|SET\s+\w+\s*=)"
)
# The demo's agents are a program of a user's, with a table of their own.
_USERS_OWN = {"demo_agents"}


def modules(*layers: str) -> list[Path]:
    return [path for layer in layers for path in sorted((PACKAGE / layer).rglob("*.py"))]


OUTSIDE = [*modules("model", "runtime", "app", "cli", "testing"), *sorted(PACKAGE.glob("*.py"))]


def test_the_layers_are_all_looked_at() -> None:
    layers = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert layers == {"model", "runtime", "app", "cli", "testing", "storage"}


def texts(path: Path) -> Iterator[str]:
    """Every string in a module that is not a docstring."""
    tree = ast.parse(path.read_text("utf-8"))
    notes = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in notes:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("utf-8", "replace")


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.stem)
def test_no_module_outside_storage_has_sql(path: Path) -> None:
    found = [text for text in texts(path) if _STATEMENT.match(text)]
    if path.stem in _USERS_OWN:
        assert all("holdfast" not in text for text in found)
    else:
        assert found == []


def test_the_search_for_sql_finds_some_where_it_is_allowed() -> None:
    found = [t for path in modules("storage") for t in texts(path) if _STATEMENT.match(t)]
    assert len(found) >= 3


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.stem)
def test_psycopg_is_imported_in_storage_only(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"psycopg", "psycopg_pool", "psycopg_c", "psycopg_binary"}
