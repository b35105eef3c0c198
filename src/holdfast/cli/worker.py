"""`holdfast worker`: run jobs until told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading

import click

from holdfast import Holdfast
from holdfast.app.serve import serve
from holdfast.app.settings import read_queues
from holdfast.cli import machine
from holdfast.cli.options import database_options, json_option, name, target_argument

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@click.command()
@target_argument
@click.option(
    "-q",
    "--queues",
    metavar="LIST",
    help="Queues with their slots in each process, such as agents:10,default:5 "
    "[default: every queue of the application, 10 each].",
)
@click.option(
    "-p",
    "--processes",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@click.option(
    "--name",
    type=name("--name"),
    metavar="NAME",
    help="What `queues pause --worker` and `scale --worker` call it [default: a random one].",
)
@click.option(
    "--log-level", type=click.Choice(_LEVELS, case_sensitive=False), default="INFO",
    show_default=True,
)  # fmt: skip
@click.option("--stop-with-stdin", is_flag=True, hidden=True)
@database_options
@json_option
def worker(
    target: str,
    queues: str | None,
    processes: int,
    name: str | None,
    dsn: str | None,
    schema: str | None,
    *,
    log_level: str,
    stop_with_stdin: bool,
    as_json: bool,
) -> int:
    """Run jobs until told to stop.

    SIGTERM or Ctrl-C: no new jobs; running ones may finish for the grace time. A second one: they
    are handed back now. A third one: the processes are killed, and the jobs run again elsewhere.

    With --json, one document when all is over; what jobs print goes to standard error then.
    """
    _check(queues, dsn, schema)
    if stop_with_stdin:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    out = _set_stdout_aside() if as_json else None
    code = serve(
        target,
        processes=processes,
        queues=queues,
        name=name,
        dsn=dsn,
        schema=schema,
        log_level=log_level,
    )
    if out is not None:
        os.write(out, f"{machine.dump({'target': target, 'exit_code': code})}\n".encode())
    return code


def _check(queues: str | None, dsn: str | None, schema: str | None) -> None:
    """Refuses wrong settings before a process is started; tells the processes the right ones.

    By environment too: the application object of the user's own modules reads them there.
    """
    if queues is not None:
        read_queues(queues)
    settings = Holdfast(dsn, schema=schema).settings
    if dsn is not None:
        os.environ["HOLDFAST_DSN"] = dsn
    if schema is not None:
        os.environ["HOLDFAST_SCHEMA"] = settings.schema


def _set_stdout_aside() -> int:
    """Sends what jobs print to standard error; returns where standard output was."""
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    return out


def _stop_with_stdin() -> None:
    """Stops this worker when `holdfast dev` is gone, however it died: at once, jobs handed back."""
    sys.stdin.buffer.read()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
