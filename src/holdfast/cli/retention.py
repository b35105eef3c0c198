"""`holdfast db retention` and `db prune`: how long finished jobs are kept, and removing them."""

from __future__ import annotations

import click

from holdfast import InvalidOption, RetentionRule
from holdfast.cli import machine
from holdfast.cli.groups import HELP_OPTIONS, Entry, LazyGroup
from holdfast.cli.options import connected, database_options, json_option, name
from holdfast.cli.terminal import console, table, text
from holdfast.errors import UsageError
from holdfast.model.durations import describe, seconds
from holdfast.model.names import unknown
from holdfast.model.states import FINAL

_ENTRIES = {
    "set": Entry("holdfast.cli.retention:set_command", "Keep finished jobs for so long."),
    "unset": Entry("holdfast.cli.retention:unset", "Remove a rule; a more general one counts."),
}


def _age(value: str) -> float | None:
    """Returns seconds, or None for ever; a bare number would mean seconds, and hardly be meant."""
    if value == "forever":
        return None
    if value.replace(".", "", 1).isdigit():
        raise InvalidOption(f"AGE={value!r} has no unit", "Write 30d, 12h, or forever.")
    return seconds(value, field="AGE")


def _final(value: str) -> str:
    if value not in FINAL:
        raise unknown("final state", value, sorted(FINAL))
    return value


queue_option = click.option("--queue", type=name("--queue"), metavar="NAME", help="Of this queue.")
state_option = click.option(
    "--state", type=_final, metavar="STATE", help="Only completed, discarded or cancelled ones."
)


@click.group(
    cls=LazyGroup, entries=_ENTRIES, context_settings=HELP_OPTIONS, invoke_without_command=True
)
@database_options
@json_option
@click.pass_context
def retention(ctx: click.Context, dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """List how long finished jobs are kept, or set it.

    The most specific rule counts: queue and state, then queue, then state. What has no rule is kept
    for ever. With --json, one line of JSON for each rule.
    """
    if ctx.invoked_subcommand is not None:
        if dsn is not None or schema is not None or as_json:
            raise UsageError("options of `retention set` stand before `set`", "Write them last.")
        return
    with connected(dsn, schema) as app:
        found = app.retention_sync()
    if as_json:
        machine.write_lines(map(machine.record, found))
    elif not found:
        click.echo("there are no rules: finished jobs are kept for ever", err=True)
    else:
        rows = [
            [text(rule.queue or "any"), text(rule.state or "any"), text(_kept(rule.keep_s))]
            for rule in found
        ]
        console().print(table(("queue", "state", "kept"), rows))


@click.command("set")
@click.argument("age", type=_age, metavar="AGE")
@queue_option
@state_option
@database_options
@json_option
def set_command(
    age: float | None,
    queue: str | None,
    state: str | None,
    dsn: str | None,
    schema: str | None,
    *,
    as_json: bool,
) -> None:
    """Keep finished jobs for AGE, such as 30d, 12h or forever, counted from their end.

    Workers remove what is older every ten minutes; `holdfast db prune` does it now.
    """
    with connected(dsn, schema) as app:
        app.keep_sync(age, queue=queue, state=state)
    if as_json:
        machine.write(machine.record(RetentionRule(queue or "", state or "", age)))
    else:
        console().print(text(f"{_which(queue, state)} are kept {_kept(age)}"))


@click.command()
@queue_option
@state_option
@database_options
@json_option
def unset(
    queue: str | None, state: str | None, dsn: str | None, schema: str | None, *, as_json: bool
) -> None:
    """Remove a rule, so that a more general one counts, or none: kept for ever."""
    with connected(dsn, schema) as app:
        found = app.keep_as_others_sync(queue=queue, state=state)
    if as_json:
        machine.write({"queue": queue or "", "state": state or "", "removed": found})
    else:
        done = "the rule is removed" if found else "there was no rule"
        console().print(text(f"{_which(queue, state)}: {done}"))


@click.command()
@database_options
@json_option
def prune(dsn: str | None, schema: str | None, *, as_json: bool) -> None:
    """Remove finished jobs that are past their rule now; workers do it every ten minutes.

    And unique keys whose period is over. Safe beside workers.
    """
    partitions, jobs, keys = [], 0, 0
    with connected(dsn, schema) as app:
        for gone in app.prune_sync():
            jobs += gone.jobs
            keys += gone.keys
            if gone.partition is not None:
                partitions.append({"name": gone.partition, "jobs": gone.jobs})
                if not as_json:
                    click.echo(f"dropped {gone.partition}: {gone.jobs} jobs")
    if as_json:
        machine.write({"jobs": jobs, "keys": keys, "partitions": partitions})
    else:
        dropped = f", {len(partitions)} partitions dropped" if partitions else ""
        freed = f", {keys} unique keys freed" if keys else ""
        click.echo(f"{jobs} finished jobs removed{dropped}{freed}")


def _which(queue: str | None, state: str | None) -> str:
    return f"{state or 'finished'} jobs of {'all queues' if queue is None else f'queue {queue!r}'}"


def _kept(keep_s: float | None) -> str:
    return "for ever" if keep_s is None else f"for {describe(keep_s)}"
