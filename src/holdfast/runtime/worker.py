"""One process's share of the work: claims jobs, runs them, reports how they ended.

Owns the committer, the listener and the running attempts; does not own the lease: a supervisor,
or a thread beside the loop, renews it, so that user code that blocks the loop never costs it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from holdfast.errors import HoldfastError
from holdfast.model.job import Claim, ClaimedJob
from holdfast.model.outcome import Ending, Facts, decide
from holdfast.model.queues import QueueSetting, Served, serve
from holdfast.model.text import error_text, storable
from holdfast.model.writes import Completion, Settlement
from holdfast.runtime.attempt import Attempt, Stop
from holdfast.runtime.batch import Write
from holdfast.runtime.committer import Committer
from holdfast.runtime.definition import Definition
from holdfast.runtime.executor import Ended, ended_by, execute, report, settlement
from holdfast.runtime.lanes import Lanes
from holdfast.storage import queues
from holdfast.storage.database import Database
from holdfast.storage.exchange import Exchange
from holdfast.storage.jobs import claim
from holdfast.storage.listen import Listener
from holdfast.storage.query import Query
from holdfast.storage.queues import CHANGED
from holdfast.storage.transaction import PoolSource

log = logging.getLogger("holdfast.worker")

_POLL_LISTENING_S = 5.0
_POLL_BLIND_S = 0.5
_STOP_GRACE_S = 5.0
_UNKNOWN_DELAY_S = 15.0
_IDLE_LOOKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """What a worker process is to do."""

    dsn: str
    schema: str
    queues: Mapping[str, int]
    registry: Mapping[str, Definition]
    grace_s: float
    name: str | None = None
    closed: bool = False

    def served(self, worker: str, settings: Sequence[QueueSetting] = ()) -> Served:
        """Returns the queues that a worker of this plan serves when these settings are in force."""
        return serve(self.queues, settings, worker=worker, closed=self.closed)


class Worker:
    """Runs jobs until told to stop; `run` owns every task it starts."""

    def __init__(self, plan: WorkerPlan, worker_id: int, name: str) -> None:
        self._plan = plan
        self.worker_id = worker_id
        self.name = name
        self._exchange = Exchange(plan.dsn, plan.schema)
        self._database = Database(plan.dsn, plan.schema)
        self._source = PoolSource(self._database, worker_id)
        self._committer = Committer(self._exchange, self, worker_id=worker_id, schema=plan.schema)
        self._lanes = Lanes(plan.served(name))
        self._settings_due = True
        self._told_to_ask = True
        self._tell_served = False
        self._attempts: dict[int, Attempt] = {}
        self._tasks: set[asyncio.Task[Ended | None]] = set()
        self._wanted = True
        self._look: Literal["cancelled", "all"] | None = None
        self._polls = 0
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()
        self._lost = False
        self._due: asyncio.TimerHandle | None = None
        self._last_claim = 0.0
        self._loop: asyncio.AbstractEventLoop

    # --- Life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claims and runs jobs until `stop`; then lets them finish for the grace time."""
        self._loop = asyncio.get_running_loop()
        listener = Listener(
            self._plan.dsn,
            self._plan.schema,
            ("wake", "cancel", CHANGED),
            heard=self._heard,
            caught_up=self._look_again,
        )
        committing = asyncio.create_task(self._committer.run(), name="holdfast committer")
        helpers = [
            asyncio.create_task(listener.run(), name="holdfast listener"),
            asyncio.create_task(self._poll(listener), name="holdfast poll"),
        ]
        self._look_again()
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait(
                [committing, stopping, *helpers], return_when=asyncio.FIRST_COMPLETED
            )
            await self._finish(committing)
        finally:
            await _end([*helpers, stopping, committing, *self._tasks])
            await self._exchange.close()
            await self._database.close()
        for task in (committing, *helpers):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def stop(self) -> None:
        """Stops claiming and tells the jobs; called twice, hands them back now."""
        if self._stopping.is_set():
            self._interrupt_all(Stop.SHUTDOWN)
        self._stopping.set()

    def lose_lease(self) -> None:
        """Stops every job at once and writes nothing more: they belong to others now."""
        self._lost = True
        self._interrupt_all(Stop.LEASE_LOST)
        self._stopping.set()

    @property
    def shutting_down(self) -> bool:
        """True once the worker wants to stop."""
        return self._stopping.is_set()

    @property
    def lost(self) -> bool:
        """True when the worker's lease was lost."""
        return self._lost

    async def _finish(self, committing: asyncio.Task[None]) -> None:
        self._stopping.set()
        if self._due is not None:
            self._due.cancel()
        if not self._lost and not committing.done():
            await self._wait_drained(self._plan.grace_s)
            self._interrupt_all(Stop.SHUTDOWN)
            await self._wait_drained(_STOP_GRACE_S)
            self._hand_back_rest()
            self._committer.stop()
            await asyncio.wait([committing], timeout=_STOP_GRACE_S)

    async def _wait_drained(self, seconds: float) -> None:
        if not self._attempts:
            return
        self._drained.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._drained.wait()
        except TimeoutError:
            return

    def _hand_back_rest(self) -> None:
        """Gives jobs whose code does not stop to others; this process is about to exit."""
        for attempt in self._attempts.values():
            log.warning("job.not_stopping handed back", extra={"job_id": attempt.job.id})
            ended = Ended(Ending.SHUTDOWN, reason="its worker was shut down, its code went on")
            self._settle(attempt.job, ended)
            attempt.abandon()
        self._attempts.clear()

    def _interrupt_all(self, why: Stop) -> None:
        for attempt in list(self._attempts.values()):
            attempt.interrupt(why)

    # --- Claiming ------------------------------------------------------------------------------

    def _heard(self, kind: str, payload: str) -> None:
        if kind == "cancel":
            self._look = self._look or "cancelled"
            self._committer.claim_soon()
        elif kind == CHANGED:
            self._settings_due = self._told_to_ask = True
            self._committer.claim_soon()
        elif self._lanes.serves(payload):
            self._want()

    def _look_again(self) -> None:
        self._look = "all"
        self._settings_due = self._told_to_ask = True
        self._want()

    def _want(self) -> None:
        self._wanted = True
        self._committer.claim_soon()

    async def _poll(self, listener: Listener) -> None:
        """Looks without being told: rarely while notifications come, often while they do not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_BLIND_S):
                await listener.listening.wait()
        while True:
            blind = not listener.listening.is_set()
            period = _POLL_BLIND_S if blind else _POLL_LISTENING_S
            await asyncio.sleep(period * random.uniform(0.8, 1.0))
            self._polls += 1
            self._settings_due = self._settings_due or blind
            # Jobs that are ours and unknown to us come from lost answers only: an idle worker need
            # not ask each time.
            if self._attempts or self._polls % _IDLE_LOOKS == 0:
                self._look = "all"
                self._committer.claim_soon()
            if time.monotonic() - self._last_claim >= period * 0.5:
                self._want()

    def next_claim(self) -> Query[Claim] | None:
        """Returns the claim to send along, or None when nothing is due or no slot is free."""
        if not self._wanted or self._stopping.is_set():
            return None
        if self._told_to_ask:
            return None  # what is paused must be known first: the answer asks again
        demands = self._lanes.demands()
        if not demands:
            return None  # the first slot to be freed asks again
        self._wanted = False
        return claim(self.worker_id, demands, self._lanes.lanes(demands))

    def next_settings(self) -> list[Query[Any]]:
        """Returns what to ask and to say about the queues of this worker, if anything."""
        questions: list[Query[Any]] = []
        if self._tell_served:
            questions.append(queues.serve(self.worker_id, self._lanes.served))
        if (self._settings_due or self._told_to_ask) and not self._stopping.is_set():
            self._settings_due = False
            questions.append(queues.settings(self.name))
        return questions

    def settings(self, found: list[QueueSetting] | None) -> None:
        """Serves the queues that are in force now; None: an answer without settings."""
        if found is None:
            self._tell_served = False
            return
        if self._told_to_ask and not self._settings_due:  # else told again meanwhile
            self._told_to_ask = False
            self._want()
        served = self._plan.served(self.name, found)
        if served != self._lanes.served:
            log.info("worker.serves %s paused: %s", dict(served.slots), sorted(served.paused))
            self._lanes.serve(served)
            self._tell_served = True
            self._want()

    def claimed(self, answer: Claim, took_s: float) -> None:
        """Starts the claimed jobs, and sets the timer for the next one that is due."""
        self._last_claim = time.monotonic()
        if not answer.alive:
            log.error("worker.declared_dead its row is gone; stopping")
            self.lose_lease()
            return
        more = self._lanes.took(answer, took_s)
        for job in answer.jobs:
            self._start(job)
        if more:
            self._want()
        self._set_timer([answer.due_in_s, self._lanes.sweep_in_s()])

    def _set_timer(self, waits: list[float | None]) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        near = [wait for wait in waits if wait is not None and wait < 3600]
        if near:
            self._due = self._loop.call_later(max(0.001, min(near) + 0.0005), self._want)

    def wants_owned(self) -> Literal["cancelled", "all"] | None:
        """Returns once what to look up: the jobs to be cancelled, or all that are ours."""
        look, self._look = self._look, None
        return None if look == "cancelled" and not self._attempts else look

    def cancels(self, job_ids: list[int]) -> None:
        """Stops the jobs that somebody asked to cancel."""
        for job_id in job_ids:
            if job_id in self._attempts:
                self._attempts[job_id].interrupt(Stop.CANCEL)

    def known_jobs(self) -> list[tuple[int, int]]:
        """Returns (id, epoch) of the jobs this process runs."""
        return [(a.job.id, a.job.epoch) for a in self._attempts.values()]

    def unanswered(self) -> None:
        """A claim and the question for cancels were lost: they are asked again."""
        self._look_again()

    # --- Running -------------------------------------------------------------------------------

    def _start(self, job: ClaimedJob) -> None:
        stale = self._attempts.get(job.id)
        if stale is not None:
            # Rescued from us and claimed by us again: only the new lease counts.
            stale.interrupt(Stop.LEASE_LOST)
        definition = self._plan.registry.get(job.name)
        self._lanes.started(job.queue)
        if definition is None:
            self._unknown(job)
            return
        try:
            attempt = Attempt(
                job,
                definition,
                self._committer,
                self._source,
                self._stopping.is_set,
                self._plan.schema,
                self._loop,
            )
        except Exception as error:  # an undecodable journal must not stop the worker
            self._undecodable(job, error)
            return
        self._attempts[job.id] = attempt
        # Not by asyncio.create_task(), which asks for the process id each time.
        task = self._loop.create_task(execute(attempt), name=f"holdfast job {job.id}")
        attempt.task = task
        self._tasks.add(task)
        # Not awaited in a coroutine of ours: what some errors do to those that await them, and a
        # cancel before the first step, would leave the job without an end.
        task.add_done_callback(partial(self._ended, attempt))

    def _ended(self, attempt: Attempt, task: asyncio.Task[Ended | None]) -> None:
        job = attempt.job
        self._tasks.discard(task)
        # The task's context knows the attempt: left as it is, only the garbage collector would free
        # the two, and looking through thousands of them took a fifth of a busy process's time.
        attempt.task = None
        self._lanes.ended(job.queue)
        if self._attempts.get(job.id) is attempt:
            del self._attempts[job.id]
            ended = ended_by(attempt, task)
            if ended is not None:
                report(
                    attempt,
                    ended,
                    complete=self._committer.complete,
                    settle=self._committer.settle,
                )
                _log(attempt, ended)
        if self._lanes.was_full(job.queue) and not self._stopping.is_set():
            self._want()
        if not self._attempts:
            self._drained.set()

    def _unknown(self, job: ClaimedJob) -> None:
        reason = f"no job function named {job.name!r} is registered in this worker"
        log.warning("job.unknown %s", reason, extra={"job_id": job.id})
        self._settle(
            job, Ended(Ending.UNKNOWN_JOB, reason=storable(reason), delay_s=_UNKNOWN_DELAY_S)
        )
        self._lanes.ended(job.queue)

    def _undecodable(self, job: ClaimedJob, error: Exception) -> None:
        reason = f"its journal cannot be read: {error_text(error)}"
        self._settle(job, Ended(Ending.STOPPED, error=error, reason=storable(reason)))
        self._lanes.ended(job.queue)

    def _settle(self, job: ClaimedJob, ended: Ended) -> None:
        facts = Facts(delay_s=ended.delay_s, reason=ended.reason)
        verdict = decide(ended.ending, facts)
        self._committer.settle(settlement(job.id, job.epoch, ended, verdict))

    def refused(self, job_id: int, epoch: int) -> None:
        """A write was refused: the lease on that job is lost; its code stops."""
        attempt = self._attempts.get(job_id)
        if attempt is not None and attempt.job.epoch == epoch:
            log.warning("job.lease_lost stopping it here", extra={"job_id": job_id})
            attempt.interrupt(Stop.LEASE_LOST)

    def rejected(self, write: Write, error: Exception) -> None:
        """The database cannot store an ending: the job stops for a person, with the reason."""
        log.error("write.rejected %s", error, extra={"job_id": write.job_id})
        if not isinstance(write, Completion | Settlement):
            return
        if isinstance(write, Settlement) and write.outcome == Ending.STOPPED:
            return
        text = error.message if isinstance(error, HoldfastError) else str(error)
        reason = storable(f"how it ended could not be stored: {text}")
        ended = Ended(Ending.STOPPED, reason=reason)
        verdict = decide(ended.ending, Facts(reason=reason))
        self._committer.settle(settlement(write.job_id, write.epoch, ended, verdict))


def _log(attempt: Attempt, ended: Ended) -> None:
    if ended.ending is Ending.COMPLETED:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("job.completed", extra={"job_id": attempt.job.id})
    elif ended.error is not None:
        log.warning(
            "job.%s %s: %s",
            ended.ending.value,
            attempt.job.name,
            error_text(ended.error),
            extra={"job_id": attempt.job.id},
        )
    else:
        log.info(
            "job.%s %s", ended.ending.value, attempt.job.name, extra={"job_id": attempt.job.id}
        )


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending, timeout=_STOP_GRACE_S)
