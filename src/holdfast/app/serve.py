"""`holdfast worker`: the supervisor's process."""

from __future__ import annotations

import json
import sys

from holdfast.app.logs import configure
from holdfast.runtime.supervisor import Supervisor


def serve(
    target: str,
    *,
    processes: int = 1,
    queues: str | None = None,
    name: str | None = None,
    dsn: str | None = None,
    schema: str | None = None,
    log_level: str = "INFO",
) -> int:
    """Runs worker processes until SIGTERM or SIGINT; returns the exit code.

    First signal: no new jobs, running ones may finish for the grace time. Second: they are handed
    back now. Third: the processes are killed.
    """
    configure(log_level)
    options = {
        "queues": queues,
        "name": name,
        "dsn": dsn,
        "schema": schema,
        "log_level": log_level,
    }
    given = json.dumps({key: value for key, value in options.items() if value is not None})
    # -P: a user's queue.py must not stand in for the standard library's before we are loaded.
    command = [sys.executable, "-P", "-m", "holdfast.app.child", target, given]
    return Supervisor(command, processes).run()
