"""`holdfast jobs retry`, `cancel` and `delete`: of the jobs with these ids, or of all that match.

A query is counted and confirmed first. It means what `jobs list` shows for it, but leaves out those
on which the action would do nothing, and `retry` leaves out completed ones unless it names them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from holdfast import Holdfast, JobNotFound
from holdfast.app.operating import BulkAction
from holdfast.cli import machine
from holdfast.cli.failures import OK, exit_code_of, report, warn
from holdfast.cli.options import JOB_ID, connected, database_options, json_option, name, shown_state
from holdfast.cli.terminal import console, state_text, text
from holdfast.errors import UsageError
from holdfast.model.states import FINAL

F = TypeVar("F", bound=Callable[..., Any])

_DECLINED = 1
_LEFT_OUT: Mapping[str, frozenset[str]] = {
    "retry": frozenset({"executing", "completed"}),
    "cancel": frozenset(FINAL),
    "delete": frozenset({"executing"}),
}
_NOTES = {
    ("retry", "executing"): "left alone: it is running",
    ("cancel", "executing"): "its code is being stopped",
    ("delete", "executing"): "left alone: it is running; cancel it first",
}
_HINT = "Give IDs, or a query such as --state discarded; --all means every job."

_OPTIONS = (
    click.option("--state", type=shown_state, metavar="STATE", help="All in this state, as shown."),
    click.option("--queue", type=name("--queue"), metavar="NAME", help="All of this queue."),
    click.option("--name", type=name("--name"), metavar="NAME", help="All of this job function."),
    click.option("--tag", type=name("--tag"), metavar="NAME", help="All with this tag."),
    click.option("--all", "everything", is_flag=True, help="Every job; needed for no other query."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
)


def selecting(command: F) -> F:
    """Adds IDs, a query, and the options of every command."""
    command = json_option(database_options(command))
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("job_ids", type=JOB_ID, metavar="[ID]...", nargs=-1)(command)


@click.command()
@selecting
def retry(**given: Any) -> int:
    """Run jobs again now: failed, cancelled, completed, waiting, or stopped for a person.

    Finished steps are kept. A running job is left alone. A query leaves out completed jobs unless
    it says --state completed.
    """
    return _act("retry", None, **given)


@click.command()
@click.option("--reason", metavar="TEXT", help="Kept with the job.")
@selecting
def cancel(reason: str | None, **given: Any) -> int:
    """Cancel jobs; a running one is interrupted, and cancelled when its code has stopped."""
    return _act("cancel", reason, **given)


@click.command()
@selecting
def delete(**given: Any) -> int:
    """Delete jobs with their steps, history and results; a running one is left alone."""
    return _act("delete", None, **given)


def _act(
    action: BulkAction,
    reason: str | None,
    *,
    job_ids: Sequence[int],
    dsn: str | None,
    schema: str | None,
    everything: bool,
    yes: bool,
    as_json: bool,
    **query: str | None,
) -> int:
    is_query = everything or any(value is not None for value in query.values())
    if bool(job_ids) == is_query:
        what = "both IDs and a query" if job_ids else "neither IDs nor a query"
        raise UsageError(f"there are {what}", _HINT)
    with connected(dsn, schema) as app:
        if job_ids:
            return _each(app, action, reason, job_ids, as_json=as_json)
        found = _matching(app, action, query)
        if not found:
            warn("no jobs match: nothing was done")
            if as_json:
                machine.write({"action": action, "matched": 0, "states": {}})
            return OK
        warn(f"{_count(len(found))} match: {_summary(Counter(found.values()))}")
        if not yes and not _confirmed(action, len(found)):
            warn("nothing was done")
            return _DECLINED
        return _all(app, action, reason, list(found), as_json=as_json)


# --- By id ----------------------------------------------------------------------------------------


def _each(
    app: Holdfast,
    action: BulkAction,
    reason: str | None,
    job_ids: Iterable[int],
    *,
    as_json: bool,
) -> int:
    """Acts on one job after the other, so that a missing one does not hide what happened."""
    code: int = OK
    screen = console()
    for job_id in dict.fromkeys(job_ids):
        (states,) = app.bulk_sync(action, [job_id], reason=reason)
        if job_id not in states:
            error = JobNotFound(f"job {job_id} does not exist", job_id=job_id)
            report(error)
            code = exit_code_of(error) or code
        elif as_json:
            machine.write({"id": job_id, "state": states[job_id]})
        else:
            state = states[job_id]
            note = _NOTES.get((action, state))
            line = text(f"{job_id} ").append_text(state_text(state))
            screen.print(line.append_text(text(f" ({note})" if note else "")))
    return code


# --- By query -------------------------------------------------------------------------------------


def _matching(app: Holdfast, action: BulkAction, query: Mapping[str, str | None]) -> dict[int, str]:
    left_out = _LEFT_OUT[action]
    if action == "retry" and query["state"] == "completed":
        left_out = frozenset()
    found = app.matching_sync(**query)
    rest = Counter(state for state in found.values() if state in left_out)
    if rest:
        hint = ""
        if action == "retry" and "completed" in rest:
            hint = "; for completed ones say --state completed"
        warn(f"left out: {_summary(rest)}{hint}")
    return {job_id: state for job_id, state in found.items() if state not in left_out}


def _confirmed(action: BulkAction, count: int) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{action} of {_count(count)} is not confirmed", "Say --yes: nobody can be asked here."
        )
    return click.confirm(f"{action} {_count(count)}?", default=False, err=True)


def _all(
    app: Holdfast, action: BulkAction, reason: str | None, job_ids: Sequence[int], *, as_json: bool
) -> int:
    became: Counter[str] = Counter()
    shows_progress = sys.stderr.isatty()
    try:
        for states in app.bulk_sync(action, job_ids, reason=reason):
            became.update(states.values())
            if shows_progress:
                click.echo(f"\r{became.total():,} of {len(job_ids):,}", err=True, nl=False)
    finally:
        if shows_progress:
            click.echo("", err=True)
        # Also after an error or Ctrl-C: what was done is done.
        _write_summary(action, len(job_ids), became, as_json=as_json)
    return OK


def _write_summary(
    action: BulkAction, matched: int, became: Counter[str], *, as_json: bool
) -> None:
    if as_json:
        machine.write({"action": action, "matched": matched, "states": dict(became)})
        return
    screen = console()
    for state, count in became.most_common():
        note = _NOTES.get((action, state))
        line = text(f"{count:,} ").append_text(state_text(state))
        screen.print(line.append_text(text(f" ({note})" if note else "")))
    if left := matched - became.total():
        screen.print(text(f"{left:,} not touched, or gone meanwhile"))


def _summary(states: Counter[str]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in states.most_common())


def _count(number: int) -> str:
    return "1 job" if number == 1 else f"{number:,} jobs"
