"""`holdfast doctor`: look at everything that could keep jobs from running."""

from __future__ import annotations

import click
from rich.table import Table

from holdfast import Finding
from holdfast.cli import machine
from holdfast.cli.failures import OK
from holdfast.cli.options import connected, database_options, json_option
from holdfast.cli.terminal import console, text

_UNWELL = 1
_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "bold red")}


@click.command()
@database_options
@json_option
def doctor(dsn: str | None, schema: str | None, *, as_json: bool) -> int:
    """Examine the database: what is wrong, or will be, and what to do.

    Looks at the connection, versions, the pooler, LISTEN, clocks, old transactions, dead rows, the
    archive's partitions, jobs that nobody can run and jobs that wait for a person. Needs no more
    rights than a worker, changes nothing.

    Exits with 0 when nothing is an error (there may be warnings), with 1 when something is. With
    --json, one line of JSON for each check.
    """
    with connected(dsn, schema) as app:
        findings = app.doctor_sync()
    if as_json:
        machine.write_lines(map(machine.record, findings))
    else:
        console().print(_table(findings), soft_wrap=False)
    return _UNWELL if any(finding.level == "error" for finding in findings) else OK


def _table(findings: list[Finding]) -> Table:
    """One row a check; below a check that is not well, what it means and what to do."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.level]
        made.add_row(text(mark, style), text(finding.check, "bold"), text(finding.summary))
        for line in finding.detail.splitlines():
            made.add_row("", "", text(line, "bright_black"))
        if finding.remedy and finding.level != "ok":
            made.add_row("", "", text(f"→ {finding.remedy}", style))
    return made
