"""Errors as people see them: words on standard error, and an exit code that means something.

0 ok · 1 the job failed, or has not ended in time · 2 wrong use · 3 the database cannot be used ·
4 the schema is missing or has the wrong version · 130 interrupted.
"""

from __future__ import annotations

import sys

import click

from holdfast.cli.terminal import harmless
from holdfast.errors import (
    DatabaseError,
    EmbeddedServerError,
    HoldfastError,
    JobError,
    JobNotFound,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    UsageError,
)

OK = 0
JOB_FAILED = 1
WRONG_USE = 2
NO_DATABASE = 3
WRONG_SCHEMA = 4
INTERRUPTED = 130

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (click.Abort, INTERRUPTED),
    (SchemaMissing, WRONG_SCHEMA),
    (SchemaTooOld, WRONG_SCHEMA),
    (SchemaTooNew, WRONG_SCHEMA),
    (DatabaseError, NO_DATABASE),
    (EmbeddedServerError, NO_DATABASE),
    (UsageError, WRONG_USE),
    (JobNotFound, WRONG_USE),
    (HoldfastError, JOB_FAILED),
)


def exit_code_of(error: BaseException) -> int | None:
    """Returns the exit code an error stands for; None for one that nobody foresaw."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


def report(error: BaseException) -> None:
    """Writes an error to standard error: what happened, what to do, its code."""
    if isinstance(error, HoldfastError):
        _write_ours(error)
    elif isinstance(error, click.ClickException):
        _write_clicks(error)


def warn(text: str) -> None:
    """Writes one remark to standard error."""
    click.echo(harmless(text), err=True)
    sys.stderr.flush()


def _write_ours(error: HoldfastError) -> None:
    hint = error.hint
    if isinstance(error, JobError) and error.job_id is not None:
        for command in ("show", "retry"):
            hint = hint.replace(f"jobs {command} ID", f"jobs {command} {error.job_id}")
    _write(error.message, hint, error.code)


def _write_clicks(error: click.ClickException) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        click.echo(error.format_message(), err=True)
        return
    message, hint = error.format_message(), ""
    if isinstance(error, click.NoSuchOption):
        message = f"there is no option {error.option_name!r}"
        if error.possibilities:
            hint = f"Did you mean {' or '.join(map(repr, error.possibilities))}?"
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and not hint:
        hint = f"See `{context.command_path} --help`."
    _write(message, hint, None)


def _write(message: str, hint: str, code: str | None) -> None:
    lines = [f"error: {message}"]
    lines += [f"hint: {hint}"] if hint else []
    lines += [f"code: {code}"] if code else []
    warn("\n".join(lines))
