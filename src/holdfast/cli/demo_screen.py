"""What the demo shows: one live bar an agent, and a table at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from holdfast import Job
from holdfast.cli.demo_verdict import Evidence, Verdict

_LINE_EVERY_S = 2.0


class Screen:
    """Live progress bars on a terminal; a line now and then elsewhere."""

    def __init__(self, console: Console, names: Mapping[int, str]) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<20.20}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            auto_refresh=False,
        )
        self._bars: dict[int, TaskID] = {
            job_id: self._progress.add_task(name, total=1.0, note="")
            for job_id, name in names.items()
        }
        self._printed = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def show(self, jobs: list[Job]) -> None:
        """Draws the jobs as they are now."""
        if not self._console.is_terminal:
            self._line(jobs)
            return
        for job in jobs:
            self._progress.update(
                self._bars[job.id], completed=_fraction(job), note=_note(job), refresh=False
            )
        self._progress.refresh()

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self._progress.console.print(text, style="bold yellow")

    def _line(self, jobs: list[Job]) -> None:
        if time.monotonic() - self._printed < _LINE_EVERY_S:
            return
        self._printed = time.monotonic()
        done = sum(1 for job in jobs if job.finished_at)
        mean = sum(map(_fraction, jobs)) / max(1, len(jobs))
        self._console.print(f"{done} of {len(jobs)} agents done, {mean:.0%} on average")


def _document(job: Job) -> str:
    name: str = json.loads(job.args)["source"]["name"]
    return Path(name).name


def _fraction(job: Job) -> float:
    return 1.0 if job.state == "completed" else job.progress or 0.0


def _note(job: Job) -> str:
    crashed = "  (resumed after a crash)" if job.crashes else ""
    count = f" {job.progress_done:g}/{job.progress_total:g}" if job.progress_total else ""
    text = "" if job.state == "completed" else f"{job.progress_text or ''}{count}"
    return f"{job.shown} {text}{crashed}".strip()


def summary_table(evidence: Evidence, verdict: Verdict) -> Table:
    """Returns one line an agent."""
    table = Table(title="\nWhat became of the agents", title_justify="left")
    for column in ("job", "document", "state", "steps", "history", "report"):
        table.add_column(column)
    for history in evidence.histories:
        job = history.job
        slices = ", ".join(e.outcome for e in history.executions) or "completed at once"
        written = evidence.report_jobs.count(job.id)
        table.add_row(
            str(job.id),
            _document(job),
            job.state,
            str(len(history.steps)),
            slices,
            "once" if written == 1 else f"{written} times",
        )
    table.caption = "as promised" if verdict.kept else "NOT as promised"
    return table
