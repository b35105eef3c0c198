"""`holdfast jobs tail`: follow what happens to jobs, one line for each change.

One statement asks at a modest period what has changed; its cursor neither misses nor repeats a
change, whatever the order of commits. What happened twice between two looks is told by what the row
remembers: a job that was enqueued, started and ended has three lines.
"""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click

from holdfast.app.client import Client
from holdfast.cli import machine
from holdfast.cli.failures import OK, warn
from holdfast.cli.options import connected, database_options, json_option, name, shown_state
from holdfast.cli.terminal import STATE_STYLES, console, text
from holdfast.errors import DatabaseUnavailable
from holdfast.model.durations import describe
from holdfast.model.watching import ChangedJob, Changes, Cursor

_PERIOD_S = 0.5
_SHARE = 10.0
_PATIENCE_S = 30.0
_MOST_LINES = 100
_MOST_DOCUMENTS = 10_000
_REMEMBERED = 50_000


class Event(NamedTuple):
    """One thing that happened to a job."""

    at: datetime
    what: str
    detail: str
    job: ChangedJob


Write = Callable[[Sequence[Event], int], None]


@click.command()
@click.option(
    "--state", "states", type=shown_state, metavar="STATE", multiple=True,
    help="Only changes that leave a job in this state, as shown; may be repeated.",
)  # fmt: skip
@click.option("--queue", type=name("--queue"), metavar="NAME", help="Only of this queue.")
@click.option("--name", type=name("--name"), metavar="NAME", help="Only of this job function.")
@database_options
@json_option
def tail(dsn: str | None, schema: str | None, *, as_json: bool, **filters: Any) -> int:
    """Follow jobs as they are enqueued, start, report progress and end, until Ctrl-C.

    At most so many lines at a time: when more happens, the last line says how much more. Deleted
    jobs are not told. With --json, one line of JSON for each change.
    """
    filters["states"] = filters["states"] or None
    filters["most"] = _MOST_DOCUMENTS if as_json else _MOST_LINES
    try:
        with connected(dsn, schema) as app:
            _follow(app.client, filters, _documents if as_json else _lines)
    except KeyboardInterrupt:
        return OK
    except (BrokenPipeError, SystemExit):
        # Who read us has gone, as `head` does; nothing more can be flushed there. Rich makes that a
        # failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _follow(client: Client, filters: dict[str, Any], write: Write) -> None:
    cursor, teller = Cursor(), Teller()
    seen_at, is_lost, is_first = time.monotonic(), False, True
    while True:
        asked_at = time.monotonic()
        try:
            found = client.changes_sync(cursor, **filters)
        except DatabaseUnavailable as error:
            if is_first or asked_at - seen_at > _PATIENCE_S:
                raise
            if not is_lost:
                warn(f"the database is away, waiting for it: {error.message}")
            is_lost = True
            time.sleep(_PERIOD_S)
            continue
        if is_lost:
            warn("the database is back")
        seen_at, is_lost = time.monotonic(), False
        if is_first:
            teller.begun = found.at
            warn("following; Ctrl-C ends")
        else:
            write(teller.events(found), found.count - len(found.jobs))
        is_first, cursor = False, cursor.after(found)
        # A large table makes the question expensive: it is asked a tenth of the time at most.
        time.sleep(max(_PERIOD_S, (seen_at - asked_at) * _SHARE))


class Teller:
    """Tells changes as events: remembers what was told of each job, so that nothing is repeated."""

    def __init__(self) -> None:
        self.begun = datetime.max.replace(tzinfo=UTC)
        self._told: OrderedDict[int, ChangedJob] = OrderedDict()

    def events(self, found: Changes) -> list[Event]:
        """Returns what has happened, in order of time."""
        events = [event for job in found.jobs for event in self._of(job, found.at)]
        if found.count > len(found.jobs):
            # What was left out counts as told, so that it does not come late and out of order.
            self.begun = found.at
        for job in found.jobs:
            self._told[job.id] = job
            self._told.move_to_end(job.id)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return sorted(events, key=lambda event: event.at)

    def _of(self, job: ChangedJob, at: datetime) -> Iterator[Event]:
        before = self._told.get(job.id)
        is_new = before is None and job.created_at >= self.begun
        if is_new:
            detail = f"due in {describe((job.run_at - at).total_seconds())}"
            is_later = job.epoch == 0 and job.run_at > at
            yield Event(job.created_at, "enqueued", detail if is_later else "", job)
        if job.started_at is not None and self._has_started(job, before):
            yield Event(job.started_at, "started", f"start {job.epoch}", job)
        if job.finished_at is not None:
            yield Event(job.finished_at, job.state, _ended(job), job)
        elif job.state == "executing":
            yield from _running(job, before, at)
        elif not (is_new and job.epoch == 0) and (before is None or _waits(before) != _waits(job)):
            back = before is not None and before.finished_at is not None
            yield Event(at, "retried" if back else job.shown, _waiting(job, at), job)

    def _has_started(self, job: ChangedJob, before: ChangedJob | None) -> bool:
        if before is not None:
            return job.epoch > before.epoch
        return job.started_at is not None and job.started_at >= self.begun


def _waits(job: ChangedJob) -> tuple[object, ...]:
    return job.epoch, job.shown, job.run_at, job.finished_at


def _running(job: ChangedJob, before: ChangedJob | None, at: datetime) -> Iterator[Event]:
    told = (None, None) if before is None else (before.progress, before.progress_text)
    if (job.progress, job.progress_text) not in (told, (None, None)):
        percent = "" if job.progress is None else f"{job.progress * 100:.0f} %"
        yield Event(at, "progress", f"{percent} {job.progress_text or ''}".strip(), job)
    if job.is_cancelled and not (before is not None and before.is_cancelled):
        yield Event(at, "cancel requested", "", job)


def _ended(job: ChangedJob) -> str:
    assert job.finished_at is not None
    since = job.started_at or job.created_at
    took = describe(max(0.0, (job.finished_at - since).total_seconds()))
    after = f"after {took}" if job.started_at is not None else "never started"
    return ", ".join(filter(None, (after, job.wait_detail)))


def _waiting(job: ChangedJob, at: datetime) -> str:
    parts = [job.wait_reason or "", job.wait_detail or ""]
    if job.state == "available" and job.run_at > at:
        parts.append(f"due in {describe((job.run_at - at).total_seconds())}")
    return ", ".join(filter(None, parts))


def _lines(events: Sequence[Event], more: int) -> None:
    screen = console()
    dropped = len(events) - _MOST_LINES
    for event in events[max(0, dropped) :]:
        job = event.job
        line = text(f"{event.at.astimezone():%H:%M:%S.%f}"[:-3] + " ", "dim")
        line.append_text(text(f"{job.id:>8} "))
        line.append_text(text(f"{event.what:<10} ", STATE_STYLES.get(event.what, "bold")))
        detail = " ".join(event.detail.split())  # one line, whatever a job wrote
        line.append_text(text(f"{job.name} [{job.queue}]  {detail}".rstrip()))
        screen.print(line)
    if more or dropped > 0:
        lines = f"{dropped:,} more lines" if dropped > 0 else ""
        jobs = f"changes of {more:,} more jobs" if more else ""
        screen.print(text(f"… {' and '.join(filter(None, (lines, jobs)))}", "yellow"))
    sys.stdout.flush()


def _documents(events: Sequence[Event], more: int) -> None:
    for event in events:
        job = event.job
        machine.write(
            {
                "at": event.at,
                "event": event.what,
                "detail": event.detail,
                "id": job.id,
                "name": job.name,
                "queue": job.queue,
                "state": job.shown,
                "epoch": job.epoch,
                "failures": job.failures,
                "progress": job.progress,
                "progress_text": job.progress_text,
            }
        )
    if more:
        machine.write({"event": "more", "count": more})
    sys.stdout.flush()
