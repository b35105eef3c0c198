"""`holdfast queues`: what waits where, and pause, resume and scale without a restart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from rich.text import Text

from holdfast import Holdfast, InvalidOption, QueueInfo, WorkerInfo
from holdfast.cli import machine
from holdfast.cli.failures import warn
from holdfast.cli.groups import HELP_OPTIONS, Entry, LazyGroup
from holdfast.cli.options import connected, database_options, json_option, name
from holdfast.cli.terminal import console, table, text
from holdfast.model.durations import describe
from holdfast.model.names import check_name, unknown

_ENTRIES = {
    "list": Entry("holdfast.cli.queues:list_command", "List queues: jobs, slots, pauses."),
    "pause": Entry(
        "holdfast.cli.queues:pause", "Start no more jobs of queues; running ones go on."
    ),
    "resume": Entry("holdfast.cli.queues:resume", "Start jobs of paused queues again."),
    "scale": Entry("holdfast.cli.queues:scale", "Set how many jobs each process runs at once."),
}
_HINT = "Write agents=20, agents=0 to stop serving it, or agents=default."

queue_names = click.argument("queues", metavar="NAME...", nargs=-1, required=True)
worker_option = click.option(
    "--worker",
    type=name("--worker"),
    metavar="NAME",
    help="Only for workers of this name [default: for all].",
)


@click.group(cls=LazyGroup, entries=_ENTRIES, context_settings=HELP_OPTIONS, no_args_is_help=True)
def queues() -> None:
    """List, pause, resume and scale queues while workers run."""


@click.command("list")
@database_options
@json_option
def list_command(dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """List every queue that anybody knows: set, served, or with unfinished jobs.

    With --json, one line of JSON for each queue.
    """
    with connected(dsn, schema) as app:
        found = app.queues_sync()
    if as_json:
        machine.write_lines(map(machine.record, found))
    elif not found:
        click.echo("there are no queues yet", err=True)
    else:
        columns = (
            "queue", "available", "later", "running", "attention", "waiting", "workers", "slots",
            "note",
        )  # fmt: skip
        console().print(table(columns, [_row(queue) for queue in found], columns[1:-1]))


def _row(queue: QueueInfo) -> list[Text]:
    waiting = "" if queue.waiting_s is None else describe(queue.waiting_s)
    return [
        text(queue.name),
        text(queue.available),
        text(queue.later),
        text(queue.executing),
        text(queue.attention, "bold magenta" if queue.attention else ""),
        text(waiting),
        text(queue.workers),
        text(queue.slots),
        note_of(queue),
    ]


def note_of(queue: QueueInfo) -> Text:
    """Returns what somebody has set for a queue, and when that leaves it unserved."""
    if queue.paused_at is not None:
        return text(f"paused since {queue.paused_at:%Y-%m-%d %H:%M:%S %Z}", "yellow")
    parts = []
    if queue.paused_workers:
        parts.append(f"paused in {queue.paused_workers} of {queue.workers} processes")
    if queue.set_slots is not None:
        parts.append(f"{queue.set_slots} slots set")
    if not queue.workers and (queue.available or queue.later):
        parts.append("no worker serves it")
    return text(", ".join(parts), "yellow" if parts else "")


@click.command()
@queue_names
@worker_option
@database_options
@json_option
def pause(
    queues: Sequence[str],
    worker: str | None,
    dsn: str | None,
    schema: str | None,
    *,
    as_json: bool,
) -> None:
    """Start no more jobs of these queues; running ones go on. Durable, and safe to repeat."""
    with connected(dsn, schema) as app:
        chosen = _known(app, queues)
        for queue in chosen:
            app.pause_sync(queue, worker=worker)
            _say(queue, worker, "is paused", {"paused": True}, as_json=as_json)
        _warn_of_absent(app, worker)


@click.command()
@queue_names
@worker_option
@database_options
@json_option
def resume(
    queues: Sequence[str],
    worker: str | None,
    dsn: str | None,
    schema: str | None,
    *,
    as_json: bool,
) -> None:
    """Start jobs of these queues again; without --worker also where one worker was paused."""
    with connected(dsn, schema) as app:
        for queue in _known(app, queues):
            ended = app.resume_sync(queue, worker=worker)
            what = "is resumed" if ended else "was not paused"
            _say(queue, worker, what, {"pauses_ended": ended}, as_json=as_json)
        if worker is not None:
            for info in app.queues_sync():
                if info.name in queues and info.paused_at is not None:
                    warn(f"queue {info.name!r} is still paused for all workers")
        _warn_of_absent(app, worker)


@click.command()
@click.argument("settings", metavar="NAME=SLOTS...", nargs=-1, required=True)
@worker_option
@database_options
@json_option
def scale(
    settings: Sequence[str],
    worker: str | None,
    dsn: str | None,
    schema: str | None,
    *,
    as_json: bool,
) -> None:
    """Set how many jobs of a queue each process runs at once; durable, in force at once.

    0 stops serving a queue, `default` returns to what each worker was started with. A queue that
    is new is served by all workers that were started without a list of queues.
    """
    wanted = [_setting(pair) for pair in settings]
    with connected(dsn, schema) as app:
        for queue, slots in wanted:
            app.scale_sync(queue, slots, worker=worker)
            what = "has the slots each worker was started with"
            if slots is not None:
                what = f"has {slots} slots in each process"
            _say(queue, worker, what, {"slots": slots}, as_json=as_json)
        live = _warn_of_absent(app, worker)
    for queue, slots in wanted:
        if slots and worker is None and live and not any(_takes(w, queue) for w in live):
            warn(
                f"no live worker takes queue {queue!r}: all were started with a list of queues\n"
                f"hint: Name one: holdfast queues scale {queue}={slots} --worker {live[0].name}"
            )


def _setting(pair: str) -> tuple[str, int | None]:
    queue, equals, slots = pair.rpartition("=")
    if not equals or not (slots == "default" or (slots.isascii() and slots.isdigit())):
        raise InvalidOption(f"{pair!r} is not NAME=SLOTS", _HINT)
    return check_name(queue, field="queue"), None if slots == "default" else int(slots)


def _takes(worker: WorkerInfo, queue: str) -> bool:
    return not worker.closed or queue in worker.queues


def _known(app: Holdfast, queues: Iterable[str]) -> list[str]:
    """Returns the queues, or raises before anything is done when nobody knows one of them."""
    known = [info.name for info in app.queues_sync()]
    chosen = list(dict.fromkeys(check_name(queue, field="queue") for queue in queues))
    for queue in chosen:
        if queue not in known:
            raise unknown("queue", queue, known)
    return chosen


def _warn_of_absent(app: Holdfast, worker: str | None) -> list[WorkerInfo]:
    """Returns the live workers; says when none of them has the name that was given."""
    live = [info for info in app.workers_sync() if info.expires_at > info.now]
    if worker is not None and not any(info.name == worker for info in live):
        warn(f"no live worker is named {worker!r}: it counts when one of that name starts")
    return live


def _say(
    queue: str, worker: str | None, what: str, facts: dict[str, object], *, as_json: bool
) -> None:
    if as_json:
        machine.write({"queue": queue, "worker": worker, **facts})
        return
    whom = "all workers" if worker is None else f"worker {worker!r}"
    console().print(text(f"queue {queue!r} {what}, for {whom}"))
