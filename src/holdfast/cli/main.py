"""The entry point: the table of commands."""

from __future__ import annotations

import logging
import sys

import click

from holdfast.cli.groups import HELP_OPTIONS, Entry, RootGroup

_ENTRIES = {
    "dev": Entry("holdfast.cli.dev:dev", "Develop: an embedded PostgreSQL, a reloading worker."),
    "demo": Entry("holdfast.cli.demo:demo", "Watch agents survive the kill of a worker."),
    "worker": Entry("holdfast.cli.worker:worker", "Run jobs until told to stop."),
    "enqueue": Entry("holdfast.cli.enqueue:enqueue", "Store one job and print its id."),
    "run": Entry("holdfast.cli.run:run", "Store one job, follow it, print its result."),
    "jobs": Entry("holdfast.cli.jobs:jobs", "List, show, tail, retry, cancel and delete jobs."),
    "queues": Entry("holdfast.cli.queues:queues", "List, pause, resume and scale queues."),
    "workers": Entry("holdfast.cli.workers:workers", "List the worker processes."),
    "top": Entry("holdfast.cli.top:top", "Watch queues, workers and running jobs, live."),
    "doctor": Entry("holdfast.cli.doctor:doctor", "Examine the database; say what to do."),
    "db": Entry("holdfast.cli.db:db", "Install, update and prune the schema."),
}

_EPILOG = """\
\b
Exit codes:
  0  ok
  1  the job failed, was cancelled or stopped, or has not ended in time;
     for doctor: something is an error
  2  wrong use: an option, argument, job, or module
  3  the database cannot be used
  4  the schema is missing or has the wrong version
  130  interrupted

\b
Environment: HOLDFAST_DSN (or DATABASE_URL), HOLDFAST_SCHEMA, NO_COLOR.
TARGET is package.module:app or path/file.py:app; without :app, the module's
only Holdfast is meant.
"""


@click.group(
    cls=RootGroup, entries=_ENTRIES, context_settings=HELP_OPTIONS, epilog=_EPILOG,
    no_args_is_help=True,
)  # fmt: skip
@click.version_option(package_name="holdfast", message="%(prog)s %(version)s")
def cli() -> None:
    """Durable jobs for AI agents, in Python, on PostgreSQL."""


def main() -> None:
    """Runs the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks is shown as its escape.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # The connection pool logs each failed try; what matters of that is in our errors.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    cli(prog_name="holdfast")
