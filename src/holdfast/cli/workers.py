"""`holdfast workers`: who works, on what, and since when."""

from __future__ import annotations

from datetime import datetime

import click
from rich.text import Text

from holdfast import WorkerInfo
from holdfast.cli import machine
from holdfast.cli.groups import HELP_OPTIONS, Entry, LazyGroup
from holdfast.cli.options import connected, database_options, json_option
from holdfast.cli.terminal import console, table, text
from holdfast.model.durations import describe

_ENTRIES = {
    "list": Entry("holdfast.cli.workers:list_command", "List worker processes and their queues."),
}
_LATE_S = 5.0


@click.group(cls=LazyGroup, entries=_ENTRIES, context_settings=HELP_OPTIONS, no_args_is_help=True)
def workers() -> None:
    """List the worker processes."""


@click.command("list")
@database_options
@json_option
def list_command(dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """List worker processes, the oldest first; several of one name are one `holdfast worker`.

    With --json, one line of JSON for each process.
    """
    with connected(dsn, schema) as app:
        found = app.workers_sync()
    if as_json:
        machine.write_lines(map(document, found))
    elif not found:
        click.echo("no worker is running", err=True)
    else:
        columns = ("name", "id", "pid", "host", "app", "since", "renewed", "running", "queues")
        whole = ("name", "id", "pid", "since", "renewed", "running")
        console().print(table(columns, [_row(worker) for worker in found], whole))


def document(worker: WorkerInfo) -> dict[str, object]:
    """Returns a worker as JSON has it."""
    return {**machine.record(worker), "alive": worker.expires_at > worker.now}


def _row(worker: WorkerInfo) -> list[Text]:
    return [
        text(worker.name),
        text(short_id(worker.id)),
        text(worker.pid),
        text(worker.host),
        text(worker.app),
        text(_ago(worker.started_at, worker.now)),
        renewed(worker),
        text(worker.running),
        queues_of(worker),
    ]


def short_id(worker_id: int) -> str:
    """Returns the part of a worker's id by which people tell it from others.

    >>> short_id(0x1234567890ABCDEF)
    '90abcdef'
    """
    return f"{worker_id & 0xFFFFFFFF:08x}"


def renewed(worker: WorkerInfo) -> Text:
    """Returns when a lease was renewed; in colour when that is long ago, or over."""
    if worker.expires_at <= worker.now:
        return text("lease over", "bold red")
    age_s = (worker.now - worker.renewed_at).total_seconds()
    return text(describe(age_s), "yellow" if age_s > _LATE_S else "")


def queues_of(worker: WorkerInfo) -> Text:
    """Returns the queues that a worker serves, with their slots; paused ones are marked."""
    parts = []
    for queue, slots in sorted(worker.queues.items()):
        is_paused = queue in worker.paused
        mark = " (paused)" if is_paused else ""
        parts.append(text(f"{queue}:{slots}{mark}", "yellow" if is_paused else ""))
    return Text(", ").join(parts) if parts else text("none", "dim")


def _ago(since: datetime, now: datetime) -> str:
    return describe((now - since).total_seconds())
