"""One running job in this process: its lease, its journal, and how it is stopped.

Everything that may stop a job's code (cancel, timeout, shutdown, a lost lease, parking) comes here;
the executor reads afterwards why it stopped.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.errors import Interrupted, LeaseLost, Suspended, UsageError
from holdfast.model.job import ClaimedJob
from holdfast.model.writes import Forget, ProgressWrite, StepWrite
from holdfast.runtime.journal import Journal
from holdfast.runtime.threads import Thread
from holdfast.storage.jobs import decode_journal
from holdfast.storage.transaction import TransactionSource

if TYPE_CHECKING:
    from holdfast.runtime.definition import Definition

CURRENT: contextvars.ContextVar[Attempt] = contextvars.ContextVar("holdfast_attempt")

Path = tuple[asyncio.Task[Any], ...]
BRANCH: contextvars.ContextVar[Path] = contextvars.ContextVar("holdfast_branch", default=())
"""The tasks of `ctx.map` and `ctx.gather` the current code runs in, outermost first."""

_NO_KEYS: frozenset[str] = frozenset()

PARK_AFTER_S = 5.0
"""Waits longer than this give the slot to another job."""


class Stop(StrEnum):
    """Why a job's code is stopped from outside."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


class Recorder(Protocol):
    """The committer, as a running job sees it."""

    def record(self, write: StepWrite) -> asyncio.Future[str | None]:
        """Writes a journal row; the future resolves when it is durable."""

    def remember(self, write: StepWrite) -> None:
        """Writes a journal row along with the write that follows."""

    def forget(self, write: Forget) -> None:
        """Forgets a remembered error along with the end that follows."""

    def progress(self, write: ProgressWrite) -> None:
        """Raises the job's progress soon."""


class Attempt:
    """The state of one attempt or slice of a job.

    What only durable jobs need is made when they first need it: a plain job must cost little.
    """

    __slots__ = (
        "__weakref__", "_branches", "_busy", "_changed", "_errors", "_journal", "_loop",
        "_shutting_down", "_sleepers", "_threads", "definition", "failed_keys", "job",
        "progress_floor", "recorder", "schema", "source", "stop", "suspended", "suspended_until",
        "task",
    )  # fmt: skip

    def __init__(
        self,
        job: ClaimedJob,
        definition: Definition,
        recorder: Recorder,
        source: TransactionSource,
        shutting_down: Callable[[], bool],
        schema: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.schema = schema
        self._loop = loop
        self.job = job
        self.definition = definition
        self.recorder = recorder
        self.source = source
        # A recorded journal is read at once: one that cannot be read is no fault of the job's code.
        self._journal = Journal(decode_journal(job.journal)) if job.journal else None
        self.task: asyncio.Task[Any] | None = None
        self._threads: set[Thread] | None = None
        self.stop: Stop | None = None
        self.suspended_until: str | None = None
        self.suspended = False
        self._shutting_down = shutting_down
        self._busy = 0
        self._branches = 1
        self._changed: asyncio.Event | None = None
        self._sleepers: dict[object, tuple[float, str | None]] | None = None
        self._errors: tuple[tuple[StepWrite, asyncio.Task[Any] | None, Path], ...] = ()
        self.failed_keys: frozenset[str] = _NO_KEYS
        if self._journal is not None:
            self.failed_keys = frozenset(self._journal.failed_keys())
        self.progress_floor = job.progress or 0.0

    @property
    def journal(self) -> Journal:
        """The job's recorded steps and the keys of this run."""
        if self._journal is None:
            self._journal = Journal({})
        return self._journal

    @property
    def threads(self) -> set[Thread]:
        """The threads that run code of this job now."""
        if self._threads is None:
            self._threads = set()
        return self._threads

    @property
    def code_version(self) -> str:
        """The version of the job function's code."""
        return self.definition.code_version

    @property
    def orphans(self) -> list[str]:
        """The recorded steps that this run has not asked for."""
        return [] if self._journal is None else self._journal.unreached()

    @property
    def shutting_down(self) -> bool:
        """True once the worker wants to stop."""
        return self._shutting_down()

    def check(self) -> None:
        """Raises when the job's code must not go on; every use of the context begins here."""
        if asyncio.get_running_loop() is not self._loop:
            # What it would wait for is resolved in the worker's loop, which cannot wake this one.
            raise UsageError(
                "the job's context was used in another event loop than the job's",
                "Do not call asyncio.run() around steps: make the job function async.",
            )
        self.check_stop()

    def check_stop(self) -> None:
        """Raises when the job's code must not go on; for callers in the worker's own loop."""
        if self.suspended:
            raise Suspended("the job is parked; its code must let Suspended pass")
        if self.stop is Stop.LEASE_LOST:
            raise LeaseLost(f"job {self.job.id} belongs to another worker now")
        if self.stop is not None:
            raise Interrupted(self.stop.value)

    def interrupt(self, why: Stop) -> None:
        """Stops the job's code now; the first reason counts, a lost lease always does."""
        if self.stop is None or why is Stop.LEASE_LOST:
            self.stop = why
        if self.task is not None:
            self.task.cancel()
        for thread in list(self._threads or ()):
            thread.interrupt()

    def abandon(self) -> None:
        """Waits for code that does not stop no longer; this process is about to end."""
        for thread in list(self._threads or ()):
            thread.abandon()

    # --- Waiting and parking ---------------------------------------------------------------

    def begin_work(self) -> None:
        """A step begins: the job must not be parked under it."""
        self._busy += 1

    def end_work(self) -> None:
        """A step has ended and is recorded."""
        self._busy -= 1
        self._wake_sleepers()

    def split(self, branches: int) -> None:
        """The running code waits for branches of its own from now on."""
        self._branches += branches - 1

    def branch_rests(self) -> None:
        """One branch has ended or waits for its turn; those that sleep may be all others."""
        self._branches -= 1
        self._wake_sleepers()

    def branch_goes_on(self) -> None:
        """A branch has its turn, or the code that waited for branches goes on."""
        self._branches += 1

    async def pause(self, seconds: float, wake_at: str | None) -> None:
        """Waits; a long wait parks the job once no step is in flight and every branch waits.

        `wake_at` is the end of the wait by the database's clock, None when it is not recorded.
        """
        if wake_at is None or seconds <= PARK_AFTER_S:
            await asyncio.sleep(max(0.0, seconds))
            return
        until = time.monotonic() + seconds
        token = object()
        if self._sleepers is None:
            self._sleepers = {}
        self._sleepers[token] = (until, wake_at)
        try:
            while (left := until - time.monotonic()) > 0:
                nearest, nearest_at = min(self._sleepers.values(), key=lambda entry: entry[0])
                idle = self._busy == 0 and len(self._sleepers) >= self._branches
                if idle and nearest - time.monotonic() > PARK_AFTER_S:
                    self.suspend(nearest_at)
                if self._changed is None:
                    self._changed = asyncio.Event()
                self._changed.clear()
                await _wait_for(self._changed, left)
        finally:
            del self._sleepers[token]
            self._wake_sleepers()

    def _wake_sleepers(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def suspend(self, until: str | None) -> None:
        """Parks the job: its code stops here and resumes by replay at `until`."""
        self.suspended = True
        self.suspended_until = until
        if self.task is not None and asyncio.current_task() is not self.task:
            self.task.cancel()
        raise Suspended("the job is parked")

    # --- Errors that the job acted upon ------------------------------------------------------

    def observe(self, write: StepWrite) -> None:
        """Keeps a step's error; it is recorded with the next write of whoever caught it."""
        self._errors += ((write, asyncio.current_task(), BRANCH.get()),)

    def acted_upon(self) -> list[StepWrite]:
        """Takes the errors that the code making the next write has already caught.

        An error counts as acted upon when the task that got it goes on, or when the code that
        waited for that task goes on after it has ended. A sibling's write proves nothing.
        """
        taken = [entry for entry in self._errors if self._is_past(*entry[1:])]
        self._errors = tuple(entry for entry in self._errors if entry not in taken)
        self.failed_keys |= {entry[0].key for entry in taken}
        return [entry[0] for entry in taken]

    def _is_past(self, task: asyncio.Task[Any] | None, path: Path) -> bool:
        current, mine = asyncio.current_task(), BRANCH.get()
        if task is current:
            return True
        owner = mine[-1] if mine else self.task
        if current is not owner and (mine or self.definition.is_async):
            return False  # a task of the user's own making: nobody knows who waits for it
        below = path[len(mine) :]
        return path[: len(mine)] == mine and all(t is None or t.done() for t in (task, *below))

    def remember_observed(self) -> None:
        """Records the errors that were acted upon, along with the write that follows."""
        for write in self.acted_upon():
            self.recorder.remember(write)

    def start_over(self, keys: set[str]) -> None:
        """Gives steps whose errors end the attempt all their tries again in the next one."""
        for write, _, _ in self._errors:
            if write.key in keys and write.attempts > 1:
                self.recorder.remember(write._replace(state="retrying", attempts=0))


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
