"""Following one job: a notification brings its end, a poll draws what happens until then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from holdfast import Handle, Job
from holdfast.cli.terminal import harmless, state_text, text
from holdfast.errors import DatabaseUnavailable, ResultTimeout

_POLL_S = 0.25
_EXPLAIN_AFTER_S = 3.0
_PATIENCE_S = 30.0


class Follower:
    """Waits for one job's result and shows its progress: a live bar, or lines into a pipe."""

    def __init__(
        self, handle: Handle[Any], screen: Console, *, patience_s: float = _PATIENCE_S
    ) -> None:
        """A database that is away for longer than `patience_s` ends the following."""
        self._handle = handle
        self._screen = screen
        self._patience_s = patience_s
        self._seen_at = time.monotonic()
        self._over = threading.Event()
        self._outcome: list[Any] = []
        self._is_lost = False

    def result(self, timeout_s: float | None) -> Any:
        """Returns the job's result or raises as `Handle.result_sync` does."""
        # A daemon: Ctrl-C must not wait for the job.
        threading.Thread(target=self._wait, args=[timeout_s], daemon=True).start()
        if self._screen.is_terminal:
            with _progress(self._screen) as progress:
                task = progress.add_task("", total=1.0, state="", detail="")
                self._watch(lambda job: _draw(progress, task, job))
        else:
            lines = _Lines(self._screen)
            self._watch(lines.draw)
        value, error = self._outcome
        if error is not None:
            raise error
        return value

    def _wait(self, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._outcome = [self._await_end(deadline), None]
        except BaseException as error:
            if isinstance(error, ResultTimeout) and timeout_s is not None:
                # The wait may have begun again: what counts is what was asked for.
                error = ResultTimeout(
                    f"job {self._handle.id} has not ended within {timeout_s:g} s",
                    error.hint,
                    self._handle.id,
                )
            self._outcome = [None, error]
        self._over.set()

    def _await_end(self, deadline: float | None) -> Any:
        """Waits for the end, also through the restart of a database."""
        while True:
            left = None if deadline is None else max(0.001, deadline - time.monotonic())
            try:
                return self._handle.result_sync(left)
            except DatabaseUnavailable:
                now = time.monotonic()
                if now - self._seen_at > self._patience_s:
                    raise
                if deadline is not None and now >= deadline:
                    raise
            time.sleep(_POLL_S)

    def _watch(self, draw: Callable[[Job], None]) -> None:
        explain_at: float | None = time.monotonic() + _EXPLAIN_AFTER_S
        is_over = False
        while True:
            job = self._look()
            if job is not None:
                draw(job)
                if job.state != "available" or job.epoch > 0:
                    explain_at = None
            if is_over:
                return
            if explain_at is not None and job is not None and time.monotonic() >= explain_at:
                explain_at = None
                self._explain()
            # Looks once more after the end, so that the last state is seen.
            is_over = self._over.wait(_POLL_S)

    def _look(self) -> Job | None:
        try:
            job = self._handle.job_sync()
        except DatabaseUnavailable as error:
            if not self._is_lost:
                self._is_lost = True
                self._say(f"the database is away, waiting for it: {error.message}")
            return None
        self._seen_at = time.monotonic()
        if self._is_lost:
            self._is_lost = False
            self._say("the database is back")
        return job

    def _explain(self) -> None:
        try:
            found = self._handle.client.explain_sync(self._handle.id)
        except DatabaseUnavailable:
            return  # the next look says so
        advice = f". {found.advice}" if found.advice else ""
        self._say(f"not started yet: {found.reason}{advice}")

    def _say(self, line: str) -> None:
        self._screen.print(text(f"job {self._handle.id}: {line}", "yellow"))


class _State(ProgressColumn):
    """The job's state in its colour."""

    def render(self, task: Task) -> Text:
        return state_text(task.fields["state"])


class _Detail(ProgressColumn):
    """What the job says it is doing."""

    def render(self, task: Task) -> Text:
        return text(task.fields["detail"])


def _progress(screen: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        _State(),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TimeElapsedColumn(),
        _Detail(),
        console=screen,
        transient=False,
    )


def _draw(progress: Progress, task: Any, job: Job) -> None:
    progress.update(
        task,
        description=harmless(f"job {job.id} {job.name}"),
        completed=_fraction(job),
        state=job.shown,
        detail=_detail(job),
    )


class _Lines:
    """One line for each change."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._last: str | None = None

    def draw(self, job: Job) -> None:
        percent = f" {_fraction(job) * 100:.0f} %" if job.progress is not None else ""
        detail = _detail(job)
        line = f"job {job.id} {job.name}: {job.shown}{percent}" + (f" {detail}" if detail else "")
        if line != self._last:
            self._last = line
            self._screen.print(text(line))


def _fraction(job: Job) -> float:
    return 1.0 if job.state == "completed" else job.progress or 0.0


def _detail(job: Job) -> str:
    counted = ""
    if job.progress_total:
        counted = f"{job.progress_done or 0:g}/{job.progress_total:g}"
    said = [counted, job.progress_text or ""]
    if job.state == "available" and job.failures:
        said.append(f"(failed {job.failures} of {job.max_attempts} attempts)")
    return " ".join(filter(None, said))
