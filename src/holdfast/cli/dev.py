"""`holdfast dev`: an embedded PostgreSQL and a worker that follows the code."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from holdfast import EmbeddedPostgres, Holdfast
from holdfast.cli import machine
from holdfast.cli.failures import OK, warn
from holdfast.cli.options import json_option, target_argument
from holdfast.cli.reload import CodeWatch, WorkerTree, folder_of
from holdfast.cli.terminal import harmless

_POLL_S = 0.5
_STANDARD_ERROR = 2
_PASSWORD = re.compile(r"(?<=:)[^:@/]+(?=@)|(?<=password=)[^&\s]+")


@click.command()
@target_argument
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory of the embedded PostgreSQL [default: one for each project folder].",
)
@click.option("--dsn", metavar="DSN", help="Use this database instead of the embedded one.")
@click.option("--schema", metavar="NAME", help="The schema [default: $HOLDFAST_SCHEMA].")
@json_option
def dev(
    target: str, data: Path | None, dsn: str | None, schema: str | None, *, as_json: bool
) -> int:
    """Develop: an embedded PostgreSQL, the schema in it, and a worker that follows the code.

    Nothing has to be installed or configured. The data stay for the next time. The worker is
    started again when a .py file in the target's folder changes; jobs that run then are handed
    back and resume. Ctrl-C stops all of it.
    """
    stop = _stop_event()
    if dsn is not None:
        if data is not None:
            raise click.UsageError("--data and --dsn are both given: choose one database.")
        return _develop(Holdfast(dsn, schema=schema), target, None, stop, as_json=as_json)
    for name in ("HOLDFAST_DSN", "DATABASE_URL"):
        if os.environ.get(name):
            warn(f"{name} is set and ignored: dev uses its embedded PostgreSQL (or --dsn)")
    with _embedded(data or EmbeddedPostgres.default_data_dir(Path.cwd())) as server:
        app = Holdfast(server.dsn, schema=schema)
        return _develop(app, target, server, stop, as_json=as_json)


def _stop_event() -> threading.Event:
    """Returns an event that Ctrl-C, SIGTERM and a closed terminal set, instead of killing us."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def _embedded(data: Path) -> Iterator[EmbeddedPostgres]:
    if not data.exists():
        warn(f"making a PostgreSQL in {data} …")
    with EmbeddedPostgres(data) as server:
        yield server


def _develop(
    app: Holdfast,
    target: str,
    server: EmbeddedPostgres | None,
    stop: threading.Event,
    *,
    as_json: bool,
) -> int:
    app.migrate()
    dsn, schema = app.client.dsn, app.settings.schema
    _write_banner(app, target, server, as_json=as_json)
    tree = WorkerTree(
        [target, "--dsn", dsn, "--schema", schema],
        {**os.environ, "HOLDFAST_DSN": dsn, "HOLDFAST_SCHEMA": schema},
        _STANDARD_ERROR if as_json else None,
    )
    try:
        _follow_code(tree, CodeWatch(folder_of(target)), stop)
    finally:
        tree.stop()
    warn("stopped; the data stay" if server is not None else "stopped")
    return OK


def _follow_code(tree: WorkerTree, watch: CodeWatch, stop: threading.Event) -> None:
    tree.start()
    ended = False
    while not stop.wait(_POLL_S):
        if changed := watch.changes():
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            warn(f"{changed[0]}{more} changed: starting the worker again")
            tree.stop()
            tree.start()
            ended = False
        elif tree.exit_code is not None and not ended:
            ended = True
            warn(f"the worker ended with exit code {tree.exit_code}; waiting for a change of code")


def _write_banner(
    app: Holdfast, target: str, server: EmbeddedPostgres | None, *, as_json: bool
) -> None:
    installed, _ = app.schema_version()
    banner = {
        "postgresql": f"{server.version} (embedded)" if server is not None else "yours",
        "dsn": _PASSWORD.sub("…", app.client.dsn),
        "schema": app.settings.schema,
        "schema_version": installed,
        "worker": target,
    }
    if as_json:
        machine.write(banner)
        return
    for name, value in banner.items():
        click.echo(harmless(f"{name.replace('_', ' '):<15} {value}"))
    click.echo(f"{'watching':<15} {harmless(str(folder_of(target)))} (Ctrl-C stops)")
