"""Options and values that commands share, and how a command gets its application."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from typing import Any, TypeVar

import click

from holdfast import Holdfast
from holdfast.app.locate import locate
from holdfast.cli.terminal import STATE_STYLES
from holdfast.errors import InvalidOption
from holdfast.model.durations import seconds
from holdfast.model.names import check_name, nearest

F = TypeVar("F", bound=Callable[..., Any])

JOB_ID = click.IntRange(1, 2**63 - 1)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON to standard output, for programs."
)
target_argument = click.argument("target", metavar="TARGET")


def database_options(command: F) -> F:
    """Adds --dsn and --schema."""
    command = click.option(
        "--schema", metavar="NAME", help="The schema [default: $HOLDFAST_SCHEMA or holdfast]."
    )(command)
    return click.option(
        "--dsn",
        metavar="DSN",
        help="The database [default: $HOLDFAST_DSN or $DATABASE_URL]. "
        "Prefer the environment: `ps` shows everybody what stands here.",
    )(command)


def duration(field: str) -> Callable[[str], float]:
    """Returns the reader of a length of time such as 30, 5m or 1h30m, in seconds."""
    return lambda value: seconds(value, field=field)


def moment(field: str) -> Callable[[str], datetime]:
    """Returns the reader of a time in ISO 8601 with its offset from UTC."""
    hint = "Write it like 2030-01-31T09:00+01:00, or with a Z for UTC."

    def read(value: str) -> datetime:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidOption(f"{field}={value!r} is not a time", hint) from None
        if found.utcoffset() is None:
            raise InvalidOption(f"{field}={value!r} has no offset from UTC", hint)
        return found

    return read


def name(field: str) -> Callable[[str], str]:
    """Returns the reader of the name of a queue, a job or a tag."""
    return lambda value: check_name(value, field=field)


def shown_state(value: str) -> str:
    """Returns a state as it is shown if there is one of that name."""
    if value not in STATE_STYLES:
        near = nearest(value, STATE_STYLES)
        hint = f"Did you mean {near!r}?" if near else f"One of: {', '.join(STATE_STYLES)}."
        raise InvalidOption(f"there is no state {value!r}", hint)
    return value


@contextmanager
def connected(dsn: str | None, schema: str | None) -> Iterator[Holdfast]:
    """Lends an application that has no job functions; its connections are closed at the end."""
    app = Holdfast(dsn, schema=schema)
    try:
        yield app
    finally:
        app.close_sync()


@contextmanager
def located(target: str, dsn: str | None, schema: str | None) -> Iterator[Holdfast]:
    """Lends the application a target names, on the database the options name."""
    app = _load(target)
    app.point_at(dsn=dsn, schema=schema)
    try:
        yield app
    finally:
        app.close_sync()


def _load(target: str) -> Holdfast:
    """Imports the user's code; what it prints meanwhile must not mix with our output."""
    with redirect_stdout(sys.stderr):
        return locate(target)
