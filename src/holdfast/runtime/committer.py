"""The committer: everything a worker process says to the database goes through here.

One exchange is in flight; what arrives meanwhile forms the next. Alone, a write goes out at once;
under load, hundreds share one round trip, one commit and one fsync. The claim for freed slots
rides along. A write that is refused makes its job stop; a row the database rejects is isolated and
fails alone; while the database is away, writes wait here and are sent again: each can be applied
twice without harm.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any, Literal, Protocol

from holdfast.model.job import Claim, Owned
from holdfast.model.queues import QueueSetting
from holdfast.model.writes import Completion, Forget, ProgressWrite, Settlement, StepWrite
from holdfast.runtime import batch as batches
from holdfast.runtime.batch import Batch, Question, Write
from holdfast.storage.exchange import Exchange, Rejected
from holdfast.storage.failures import is_connection_loss, is_locked, is_transient
from holdfast.storage.jobs import owned
from holdfast.storage.query import Query

log = logging.getLogger("holdfast.committer")

_PROGRESS_EVERY_S = 0.25
_MAX_BACKOFF_S = 2.0
_LOCKED_PAUSE_S = 0.2
_MAX_BYTES = 32 * 1024 * 1024
"""Results in one exchange: the server refuses messages of a gigabyte by hanging up."""


class Host(Protocol):
    """What the committer needs of the worker it writes for."""

    def next_claim(self) -> Query[Claim] | None:
        """Returns the claim to send along, or None when there is nothing to ask."""

    def claimed(self, claim: Claim, took_s: float) -> None:
        """Takes the claimed jobs."""

    def next_settings(self) -> list[Query[Any]]:
        """Returns what to ask and to say about the worker's queues, if anything."""

    def settings(self, found: list[QueueSetting] | None) -> None:
        """Takes what was set for queues; None: an answer without settings."""

    def wants_owned(self) -> Literal["cancelled", "all"] | None:
        """Returns once what to look up: the jobs to be cancelled, or all that are ours."""

    def cancels(self, job_ids: list[int]) -> None:
        """Stops the jobs that somebody asked to cancel."""

    def refused(self, job_id: int, epoch: int) -> None:
        """A write was refused: the lease on that job is lost."""

    def rejected(self, write: Write, error: Exception) -> None:
        """The database cannot store this write; no other write was harmed."""

    def known_jobs(self) -> list[tuple[int, int]]:
        """Returns (id, epoch) of the jobs this process runs."""

    def unanswered(self) -> None:
        """What was asked along with the last writes got no answer: ask again."""


class Committer:
    """Sends what has gathered, again and again, until stopped and empty."""

    def __init__(self, exchange: Exchange, host: Host, *, worker_id: int, schema: str) -> None:
        self._exchange = exchange
        self._host = host
        self._worker_id = worker_id
        self._schema = schema
        self._pending = Batch()
        self._taken = Batch()
        self._held = Batch()
        self._held_until = 0.0
        self._wake = asyncio.Event()
        self._stopping = False
        self._progress_sent = 0.0
        self._progress_timer: asyncio.TimerHandle | None = None
        self._unsure = False

    def complete(self, write: Completion) -> None:
        """Will archive a first-time success."""
        self._pending.completions.append(write)
        self._wake.set()

    def settle(self, write: Settlement) -> None:
        """Will end an attempt in any other way."""
        self._pending.settlements.append(write)
        self._wake.set()

    def forget(self, write: Forget) -> None:
        """Will forget a remembered error; goes out with the end that follows."""
        self._pending.forgets.append(write)

    def remember(self, write: StepWrite) -> None:
        """Will write a journal row that nobody waits for; goes out with the write that follows."""
        self._pending.add_step(write, None)

    def record(self, write: StepWrite) -> asyncio.Future[str | None]:
        """Will write a journal row; the future resolves when it is durable."""
        done: batches.StepDone = asyncio.get_running_loop().create_future()
        self._pending.add_step(write, done)
        self._wake.set()
        return done

    def progress(self, write: ProgressWrite) -> None:
        """Will raise a job's progress: at once, or 250 ms after the last time."""
        lease = (write.job_id, write.epoch)
        earlier = self._pending.progress.get(lease)
        if write.text is None and earlier is not None:
            write = write._replace(text=earlier.text)
        self._pending.progress[lease] = write
        if self._progress_timer is None:
            delay = max(0.0, self._progress_sent + _PROGRESS_EVERY_S - time.monotonic())
            loop = asyncio.get_running_loop()
            self._progress_timer = loop.call_later(delay, self._wake.set)

    def claim_soon(self) -> None:
        """Asks the host for a claim in the next exchange."""
        self._wake.set()

    def stop(self) -> None:
        """Ends `run` when all that waits is written."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Sends batches until stopped; survives any outage of the database."""
        while not (self._stopping and not self._pending and not self._held):
            await self._wake.wait()
            self._wake.clear()
            await self._retry_held()
            batch = self._taken = self._pending
            self._pending = Batch()
            questions = self._questions()
            if not batch and not questions and not self._unsure:
                continue
            self._note_progress(batch)
            *parts, last = batch.chunks(_MAX_BYTES)
            for part in parts:
                await self._send(part, [])
            await self._send(last, questions)
            if self._pending:
                self._wake.set()

    def _questions(self) -> list[Question]:
        """Returns what is asked along with the writes: sent once, never repeated."""
        questions: list[Question] = []
        look = self._host.wants_owned()
        if look is not None:
            questions.append((owned(self._worker_id, everything=look == "all"), self._owned))
        questions += [(query, self._host.settings) for query in self._host.next_settings()]
        claim = None if self._stopping else self._host.next_claim()
        if claim is not None:
            started = time.monotonic()
            took = self._host.claimed
            questions.append((claim, lambda answer: took(answer, time.monotonic() - started)))
        return questions

    def _note_progress(self, batch: Batch) -> None:
        if self._progress_timer is not None:
            self._progress_timer.cancel()
            self._progress_timer = None
        if batch.progress:
            self._progress_sent = time.monotonic()

    async def _send(self, batch: Batch, questions: list[Question]) -> None:
        """Writes `batch` for sure, however long the database is away."""
        failures = 0
        while batch or questions or self._unsure:
            try:
                await self._settle_doubts()
                await self._try(batch, questions)
                return
            except Rejected as error:
                await self._isolate(batch, error)
                if batch and questions:
                    self._host.unanswered()
                return
            except Exception as error:
                if not (is_connection_loss(error) or is_transient(error)):
                    raise
                if questions:
                    # A claim among them may have been carried out: after a lost connection nobody
                    # knows.
                    self._unsure = self._unsure or is_connection_loss(error)
                    self._host.unanswered()
                    questions = []
                if is_locked(error) and batch:
                    await self._send_around_lock(batch)
                    return
                failures += 1
                if failures == 1 and is_connection_loss(error):
                    log.warning("database.away keeping %d writes: %s", len(batch), error)
                await asyncio.sleep(_backoff(failures))
                self._wake.set()

    async def _try(self, batch: Batch, questions: list[Question]) -> None:
        plan = batches.plan(
            batch,
            questions,
            worker_id=self._worker_id,
            schema=self._schema,
            refused=self._host.refused,
        )
        answers = await self._exchange.send(plan.queries) if plan.queries else []
        for handler, answer in zip(plan.handlers, answers, strict=True):
            handler(answer)

    async def _settle_doubts(self) -> None:
        """Hands back what a claim whose answer was lost may have brought us."""
        if self._unsure:
            await self._exchange.disown(self._worker_id, self._known())
            self._unsure = False

    def _owned(self, rows: list[Owned]) -> None:
        """Learns what the database says is ours: what is to stop, and what we never heard of."""
        self._host.cancels([row.id for row in rows if row.cancel_requested])
        known = self._known()
        if any((row.id, row.epoch) not in known for row in rows):
            # A claim arrived although its answer did not: perhaps on a session that we had lost.
            self._unsure = True
            self._wake.set()

    def _known(self) -> set[tuple[int, int]]:
        """The leases of what runs and of all that is still to be reported, in whatever batch.

        A batch that is sent in parts is known as a whole until its last part is sent.
        """
        batches_ = (self._taken, self._held, self._pending)
        reported = {(w.job_id, w.epoch) for batch in batches_ for w in batch.writes()}
        return reported | set(self._host.known_jobs())

    async def _send_around_lock(self, batch: Batch) -> None:
        """Writes what it can; a row that somebody holds locked is put aside."""
        if len(batch) > 1:
            for single in batch.split():
                await self._send(single, [])
            return
        self._held.absorb(batch)
        self._held_until = time.monotonic() + _LOCKED_PAUSE_S
        asyncio.get_running_loop().call_later(_LOCKED_PAUSE_S, self._wake.set)

    async def _retry_held(self) -> None:
        """Tries the rows that were put aside, apart from the others, which must not wait."""
        if self._held and time.monotonic() >= self._held_until:
            held = self._taken = self._held
            self._held = Batch()
            await self._send(held, [])

    async def _isolate(self, batch: Batch, error: Rejected) -> None:
        """Writes half after half, so that only the writes the database rejects are lost.

        Of a thousand, one bad one costs the others some twenty round trips.
        """
        if len(batch) == 1:
            for write in batch.writes():
                self._host.rejected(write, error.cause)
            self._fail_waiting(batch, error.cause)
            return
        log.warning("batch.rejected looking for it among %d writes: %s", len(batch), error.cause)
        for half in batch.halves():
            await self._send(half, [])

    @staticmethod
    def _fail_waiting(batch: Batch, error: Exception) -> None:
        for _, waiting in batch.steps.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(error)


def _backoff(failures: int) -> float:
    return random.uniform(0.5, 1.0) * min(_MAX_BACKOFF_S, 0.05 * 2.0 ** min(failures, 10))
