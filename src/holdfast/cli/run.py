"""`holdfast run`: store one job, follow it to its end, print its result."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import click

from holdfast import Handle, Holdfast
from holdfast.app.readable import readable
from holdfast.cli import machine
from holdfast.cli.arguments import JobRequest, job_options
from holdfast.cli.failures import JOB_FAILED, OK, report, warn
from holdfast.cli.follow import Follower
from holdfast.cli.options import (
    database_options,
    duration,
    json_option,
    located,
    target_argument,
)
from holdfast.cli.terminal import console, harmless
from holdfast.errors import DatabaseUnavailable, HoldfastError, JobError, JobNotFound

_NOT_THE_USERS = (str(Path(__file__).parents[1]), "site-packages", sysconfig.get_path("stdlib"))


@click.command()
@target_argument
@job_options
@click.option(
    "--timeout",
    type=duration("--timeout"),
    metavar="DURATION",
    help="Follow no longer than this; the job goes on.",
)
@database_options
@json_option
def run(
    target: str,
    dsn: str | None,
    schema: str | None,
    *,
    timeout: float | None,
    as_json: bool,
    **described: Any,
) -> int:
    """Store one job, follow it with a progress bar, and print its result as JSON.

    A worker must run: `holdfast worker TARGET`. Progress goes to standard error. Exits with 0 when
    the job completed, with 1 when it was discarded, cancelled, stopped for a person, or did not
    end within --timeout. Ctrl-C stops the following, not the job.
    """
    with located(target, dsn, schema) as app:
        handle = JobRequest(**described).enqueue(app)
        try:
            value = Follower(handle, console(stderr=True)).result(timeout)
        except KeyboardInterrupt:
            warn(f"\njob {handle.id} goes on; see `holdfast jobs show {handle.id}`")
            raise
        except HoldfastError as error:
            return _failed(app, handle, error, as_json=as_json)
        plain = readable(value)
        if as_json:
            machine.write({**_summary(handle), "result": plain, "error": None})
        else:
            click.echo(harmless(machine.dump(plain, indent=2, ascii_only=False)))
        return OK


def _failed(app: Holdfast, handle: Handle[Any], error: HoldfastError, *, as_json: bool) -> int:
    """Says why there is no result: the error, and where in the user's code it came from."""
    if isinstance(error, DatabaseUnavailable):
        warn(
            f"job {handle.id} is stored; once the database is back: holdfast jobs show {handle.id}"
        )
    if not isinstance(error, JobError) or isinstance(error, JobNotFound):
        raise error
    stack = next(
        (e.error_stack for e in reversed(app.history_sync(handle.id).executions) if e.error_stack),
        None,
    )
    if as_json:
        found = {"code": error.code, "message": error.message, "hint": error.hint, "stack": stack}
        machine.write({**_summary(handle), "result": None, "error": found})
    report(error)
    if location := _location(stack):
        warn(f"at: {location}")
    return JOB_FAILED


def _summary(handle: Handle[Any]) -> dict[str, Any]:
    job = handle.job_sync()
    return {"id": job.id, "name": job.name, "queue": job.queue, "state": job.shown}


def _location(stack: str | None) -> str | None:
    """Returns the innermost line of the user's code in a stack; of any code if it has none.

    >>> _location('Traceback:\\n  File "a.py", line 3, in f\\n    boom()\\nValueError')
    'File "a.py", line 3, in f'
    """
    lines = [line.strip() for line in (stack or "").splitlines()]
    frames = [line for line in reversed(lines) if line.startswith('File "')]
    own = [line for line in frames if not any(folder in line for folder in _NOT_THE_USERS)]
    return next(iter(own or frames), None)
