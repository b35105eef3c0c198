"""`holdfast enqueue`: store one job and print its id."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import machine
from holdfast.cli.arguments import JobRequest, job_options
from holdfast.cli.options import database_options, json_option, located, target_argument


@click.command()
@target_argument
@job_options
@database_options
@json_option
def enqueue(
    target: str, dsn: str | None, schema: str | None, *, as_json: bool, **described: Any
) -> None:
    """Store one job and print its id.

    Arguments are checked against the job function's signature first. A value that is JSON counts
    as such (n=3, urls='["a"]'), unless the parameter wants a string.
    """
    with located(target, dsn, schema) as app:
        handle = JobRequest(**described).enqueue(app)
        job = handle.job_sync() if as_json else None
    if job is None:
        click.echo(handle.id)
    else:
        machine.write(machine.record(job))
