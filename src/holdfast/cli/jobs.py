"""`holdfast jobs`: the table of its commands; `list` and `explain`."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from holdfast import Explanation, Job
from holdfast.cli import machine
from holdfast.cli.groups import HELP_OPTIONS, Entry, LazyGroup
from holdfast.cli.options import (
    JOB_ID,
    connected,
    database_options,
    json_option,
    name,
    shown_state,
)
from holdfast.cli.terminal import bar, console, state_text, table, text
from holdfast.model.durations import describe

_WIDE = 100

_ENTRIES = {
    "list": Entry("holdfast.cli.jobs:list_command", "List jobs, newest first."),
    "show": Entry("holdfast.cli.show:show", "Show one job: what happened, in order of time."),
    "explain": Entry("holdfast.cli.jobs:explain", "Say why a job is not running, until when."),
    "tail": Entry(
        "holdfast.cli.tail:tail", "Follow what happens to jobs, one line for each change."
    ),
    "retry": Entry("holdfast.cli.bulk:retry", "Run jobs again now; finished steps are kept."),
    "cancel": Entry("holdfast.cli.bulk:cancel", "Cancel jobs; running ones are interrupted."),
    "delete": Entry("holdfast.cli.bulk:delete", "Delete jobs with all that is known of them."),
}


@click.group(cls=LazyGroup, entries=_ENTRIES, context_settings=HELP_OPTIONS, no_args_is_help=True)
def jobs() -> None:
    """List, show, explain, tail, retry, cancel and delete jobs."""


@click.command("list")
@click.option(
    "--state",
    type=shown_state,
    metavar="STATE",
    help="As shown: scheduled, retryable, waiting … too.",
)
@click.option("--queue", type=name("--queue"), metavar="NAME", help="Only of this queue.")
@click.option("--name", type=name("--name"), metavar="NAME", help="Only of this job function.")
@click.option("--tag", type=name("--tag"), metavar="NAME", help="Only with this tag.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--before", "before_id", type=JOB_ID, metavar="ID", help="The page after this job.")
@database_options
@json_option
def list_command(dsn: str | None, schema: str | None, *, as_json: bool, **filters: Any) -> None:
    """List jobs, newest first.

    With --json, one line of JSON for each job.
    """
    with connected(dsn, schema) as app:
        found = app.jobs_sync(**filters)
    if as_json:
        machine.write_lines(map(machine.record, found))
        return
    screen = console()
    if not found:
        click.echo("no jobs match", err=True)
        return
    columns = ("id", "state", "name", "queue", "progress", "age", "detail")
    bar_width = 10 if screen.width >= _WIDE else 0
    rows = [_row(job, bar_width) for job in found]
    whole = ("id", "state", "progress", "age")
    screen.print(table(columns, rows, whole), soft_wrap=False)
    if len(found) == filters["limit"]:
        click.echo(f"there may be more: --before {found[-1].id}", err=True)


def _row(job: Job, bar_width: int) -> list[Text]:
    return [
        text(job.id),
        state_text(job.shown),
        text(job.name),
        text(job.queue),
        text(bar(job.progress, bar_width).strip()),
        text(describe((job.now - job.created_at).total_seconds())),
        text(_detail(job)),
    ]


def _detail(job: Job) -> str:
    parts = []
    if job.state == "available" and job.run_at > job.now:
        parts.append(f"in {describe((job.run_at - job.now).total_seconds())}")
    if job.failures:
        parts.append(f"{job.failures} of {job.max_attempts} attempts failed")
    if job.wait_reason and job.wait_reason != "retry":
        detail = f": {job.wait_detail}" if job.wait_detail else ""
        parts.append(f"{job.wait_reason}{detail}")
    elif job.state == "executing" and job.progress_text:
        parts.append(job.progress_text)
    return " ".join(", ".join(parts).split())  # one line, whatever a job wrote


@click.command()
@click.argument("job_id", type=JOB_ID, metavar="ID")
@database_options
@json_option
def explain(job_id: int, dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """Say why a job is not running, and until when."""
    with connected(dsn, schema) as app:
        found = app.explain_sync(job_id)
    if as_json:
        machine.write(machine.record(found))
    else:
        write_explanation(found)


def write_explanation(found: Explanation) -> None:
    """Writes the reason, the time and the advice for people."""
    screen = console()
    screen.print(text(f"job {found.job_id} is "), state_text(found.state), text(":"), end=" ")
    screen.print(text(found.reason))
    if found.until is not None:
        screen.print(text(f"until: {found.until.isoformat(timespec='seconds')}"))
    if found.advice:
        screen.print(text(f"advice: {found.advice}"))
