"""`holdfast top`: queues, workers and running jobs on one screen, live."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from rich.live import Live

from holdfast import Holdfast
from holdfast.cli import machine
from holdfast.cli.failures import OK
from holdfast.cli.options import connected, database_options, duration, json_option
from holdfast.cli.terminal import console
from holdfast.cli.top_frame import frame
from holdfast.cli.workers import document
from holdfast.errors import DatabaseUnavailable, InvalidOption
from holdfast.model.watching import Overview

_MOST_RUNNING = 200
_ONCE_S = 60.0
_FASTEST_S = 0.2


def _period(value: str) -> float:
    found = duration("--every")(value)
    if found < _FASTEST_S:
        raise InvalidOption(f"--every={value!r} is too often", "At least 200ms.")
    return found


@click.command()
@click.option("--once", is_flag=True, help="Print one frame: ends of the last minute.")
@click.option(
    "--every", type=_period, metavar="DURATION", default="2s", show_default=True,
    help="How often to look.",
)  # fmt: skip
@click.option("--newest", is_flag=True, help="Jobs that started last, not those that run longest.")
@database_options
@json_option
def top(
    dsn: str | None,
    schema: str | None,
    *,
    once: bool,
    every: float,
    newest: bool,
    as_json: bool,
) -> int:
    """Watch queues, workers and running jobs, until Ctrl-C.

    Into a pipe it prints one frame, as with --once. With --json, one document, or with a terminal
    and without --once one line of JSON for each look.
    """
    with connected(dsn, schema) as app:
        try:
            if once or not (sys.stdout.isatty() or as_json):
                _print(app, _look(app, _ONCE_S, newest=newest), as_json=as_json)
            elif as_json:
                _lines(app, every, newest=newest)
            else:
                _live(app, every, newest=newest)
        except KeyboardInterrupt:
            return OK
    return OK


def _look(app: Holdfast, seconds: float, *, newest: bool) -> Overview:
    return app.client.overview_sync(most=_MOST_RUNNING, newest=newest, seconds=seconds)


def _print(app: Holdfast, found: Overview, *, as_json: bool) -> None:
    if as_json:
        machine.write(_document(found, _ONCE_S))
    else:
        screen = console()
        schema = app.settings.schema
        screen.print(frame(found, schema, _ONCE_S, width=screen.width, height=None))


def _lines(app: Holdfast, every: float, *, newest: bool) -> None:
    while True:
        machine.write(_document(_look(app, every, newest=newest), every))
        sys.stdout.flush()
        time.sleep(every)


def _live(app: Holdfast, every: float, *, newest: bool) -> None:
    screen = console()
    found, seconds, trouble = _look(app, every, newest=newest), every, ""
    looked_at = time.monotonic()
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            drawn = frame(
                found,
                app.settings.schema,
                seconds,
                width=screen.width,
                height=screen.height,
                trouble=trouble,
            )
            live.update(drawn, refresh=True)
            time.sleep(every)
            try:
                now = time.monotonic()
                found, trouble = _look(app, now - looked_at, newest=newest), ""
                seconds, looked_at = now - looked_at, now
            except DatabaseUnavailable as error:
                trouble = error.message


def _document(found: Overview, seconds: float) -> dict[str, Any]:
    return {
        "queues": [machine.record(queue) for queue in found.queues],
        "workers": [document(worker) for worker in found.workers],
        "running": [job._asdict() for job in found.running],
        "finished": {"seconds": seconds, "states": found.finished},
    }
