"""Log lines of the commands: one line an event, the job's id with it."""

from __future__ import annotations

import logging


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        job_id = getattr(record, "job_id", None)
        return line if job_id is None else f"{line} job={job_id}"


def configure(level: str) -> None:
    """Sends log lines to standard error. For commands; a library leaves logging to its user."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Formatter("%(asctime)s %(levelname)-7s [%(process)d] %(name)s %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
