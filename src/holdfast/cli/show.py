"""`holdfast jobs show`: one job, and everything that happened to it."""

from __future__ import annotations

from datetime import datetime

import click
from rich.console import Console
from rich.text import Text

from holdfast import Explanation, History, HoldfastError, Job
from holdfast.app.client import Client
from holdfast.app.readable import result_of
from holdfast.cli import machine
from holdfast.cli.options import JOB_ID, connected, database_options, json_option
from holdfast.cli.terminal import STATE_STYLES, bar, console, state_text, text
from holdfast.cli.timeline import Event, events, first_start, offset, stamp

_STYLES = {
    **STATE_STYLES,
    "failed": "red",
    "timed_out": "red",
    "deadline": "red",
    "crashed": "bold red",
    "stopped": "bold magenta",
    "retrying": "yellow",
    "snoozed": "blue",
    "parked": "blue",
    "done": "green",
}


@click.command()
@click.argument("job_id", type=JOB_ID, metavar="ID")
@database_options
@json_option
def show(job_id: int, dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """Show one job: its header, then what happened in order of time, then why it is where it is.

    A slice is one stay on a worker: a whole attempt, or a part of one between two waits.
    """
    with connected(dsn, schema) as app:
        history = app.history_sync(job_id)
        explanation = app.explain_sync(job_id)
        result, unreadable = _result(app.client, history.job)
    if as_json:
        machine.write(_document(history, explanation, result))
        return
    screen = console()
    _write_header(screen, history.job)
    _write_timeline(screen, history)
    if history.job.state == "completed":
        screen.print(text("\nresult", "bold"))
        screen.print(text(unreadable or machine.dump(result, indent=2, ascii_only=False)))
    _write_explanation(screen, explanation)


def _result(client: Client, job: Job) -> tuple[object, str | None]:
    """Returns the result, or the reason why it cannot be read: the rest is shown all the same."""
    if job.state != "completed":
        return None, None
    try:
        return result_of(client, job.id), None
    except HoldfastError as error:
        return None, f"(cannot be read: {error.message})"


def _document(history: History, explanation: Explanation, result: object) -> dict[str, object]:
    return {
        "job": machine.record(history.job),
        "executions": [machine.record(execution) for execution in history.executions],
        "steps": [machine.record(step) for step in history.steps],
        "result": result,
        "explanation": machine.record(explanation),
    }


def _write_header(screen: Console, job: Job) -> None:
    screen.print(
        Text.assemble(
            (f"job {job.id} ", "bold"), text(job.name, "bold"), " ", state_text(job.shown)
        )
    )
    counters = (
        f"{job.failures} of {job.max_attempts} attempts failed, "
        f"{job.crashes} of {job.max_crashes} crashes, {job.resumes} resumes"
    )
    # JSON on one line: `args` come from anywhere and may hold newlines.
    args, meta = _one_line(job.args), _one_line(job.meta)
    fields = {
        "queue": f"{job.queue}, priority {job.priority}",
        "counters": counters,
        "enqueued": stamp(job.created_at),
        "due": stamp(job.run_at),
        "started": _stamp(job.started_at),
        "finished": _stamp(job.finished_at),
        "deadline": _stamp(job.deadline),
        "cancel": f"requested {stamp(job.cancel_requested_at)}" if job.cancel_requested_at else "",
        "code": job.code_version or "",
        "tags": ", ".join(map(str, job.tags)),
        "meta": meta if meta != "{}" else "",
        "args": args,
        "progress": _progress(job),
    }
    for name, value in fields.items():
        if value:
            screen.print(Text.assemble((f"  {name:<9} ", "dim"), text(value)))


def _one_line(stored: str) -> str:
    """Returns JSON on one line; as it is stored, when it is beyond our parser."""
    value = machine.stored(stored)
    return stored if value is stored else machine.dump(value, ascii_only=False)


def _stamp(at: datetime | None) -> str:
    return "" if at is None else stamp(at)


def _progress(job: Job) -> str:
    counted = ""
    if job.progress_total:
        counted = f"{job.progress_done or 0:g}/{job.progress_total:g}"
    parts = (bar(job.progress), counted, job.progress_text or "")
    return "  ".join(filter(None, parts))


def _write_timeline(screen: Console, history: History) -> None:
    origin = first_start(history)
    screen.print(text(f"\ntimeline, from {stamp(origin)}", "bold"))
    for event in events(history):
        screen.print(_line(event, origin))
        if event.below is not None:
            below = "\n".join(f"{'':14}{line}" for line in event.below.splitlines())
            screen.print(text(below, "red"))


def _line(event: Event, origin: datetime) -> Text:
    facts = ", ".join(event.facts)
    return Text.assemble(
        (f"  {offset(event.at, origin):>11} ", "dim"),
        text(event.what, _STYLES.get(event.state, "")),
        text(f"  {facts}" if facts else ""),
    )


def _write_explanation(screen: Console, found: Explanation) -> None:
    screen.print(text(f"\nwhy: {found.reason}"))
    if found.until is not None:
        screen.print(text(f"until: {stamp(found.until)}"))
    if found.advice:
        screen.print(text(f"advice: {found.advice}"))
