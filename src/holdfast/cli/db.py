"""`holdfast db`: the schema's installation, and what is removed from it."""

from __future__ import annotations

import click

from holdfast.cli import machine
from holdfast.cli.failures import OK, WRONG_SCHEMA
from holdfast.cli.groups import HELP_OPTIONS, Entry, LazyGroup
from holdfast.cli.options import connected, database_options, json_option
from holdfast.cli.terminal import harmless

_ENTRIES = {
    "migrate": Entry("holdfast.cli.db:migrate", "Bring the schema up to date; safe to repeat."),
    "version": Entry("holdfast.cli.db:version", "Say which version is installed and needed."),
    "sql": Entry("holdfast.cli.db:sql", "Print the migrations as one SQL script."),
    "retention": Entry("holdfast.cli.retention:retention", "How long finished jobs are kept."),
    "prune": Entry("holdfast.cli.retention:prune", "Remove finished jobs past their age now."),
}


@click.group(cls=LazyGroup, entries=_ENTRIES, context_settings=HELP_OPTIONS, no_args_is_help=True)
def db() -> None:
    """Install the schema, bring it up to date, and prune it."""


@click.command()
@database_options
@json_option
def migrate(dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """Bring the schema up to date; safe to repeat.

    Many processes may do this at once: one works, the others wait and then have nothing to do.
    """
    with connected(dsn, schema) as app:
        applied = app.migrate()
        installed, _ = app.schema_version()
        name = app.settings.schema
    if as_json:
        machine.write({"schema": name, "applied": applied, "version": installed})
    elif applied:
        done = ", ".join(map(str, applied))
        click.echo(harmless(f"schema {name!r} now has version {installed}; applied: {done}"))
    else:
        click.echo(harmless(f"schema {name!r} has version {installed}: nothing to do"))


@click.command()
@database_options
@json_option
def version(dsn: str | None, schema: str | None, *, as_json: bool) -> int:
    """Say which version is installed and needed.

    Exits with 0 when they are the same, with 4 when the schema is missing, too old or too new.
    """
    with connected(dsn, schema) as app:
        installed, needed = app.schema_version()
        name = app.settings.schema
    state = _state(installed, needed)
    if as_json:
        document = {"schema": name, "installed": installed, "needed": needed, "state": state}
        machine.write(document)
    else:
        have = f"version {installed}" if installed else "no version"
        click.echo(harmless(f"schema {name!r} has {have}, needed is {needed}: {state}"))
        if state in ("missing", "too old"):
            click.echo(harmless(f"Run: holdfast db migrate --schema {name}"))
    return OK if state == "current" else WRONG_SCHEMA


@click.command()
@click.option(
    "--from",
    "after",
    metavar="VERSION",
    type=click.IntRange(min=0),
    default=0,
    help="Only what comes after this version.",
)
@database_options
@json_option
def sql(after: int, dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """Print the migrations as one SQL script, for other migration tools.

    Needs no database.
    """
    with connected(dsn, schema) as app:
        script = app.schema_sql(after=after)
        name = app.settings.schema
    if as_json:
        machine.write({"schema": name, "from": after, "sql": script})
    else:
        click.echo(script, nl=False)


def _state(installed: int, needed: int) -> str:
    if installed == needed:
        return "current"
    if installed == 0:
        return "missing"
    return "too old" if installed < needed else "too new"
