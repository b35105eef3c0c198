"""Running one step: look it up, else run it, record it, return it. One round trip.

A step that failed for good raises. What the job does with the error decides whether it is
remembered: see `Attempt.remember_observed`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from holdfast.errors import (
    DurabilityError,
    LeaseLost,
    NonDeterminism,
    StepTimeout,
    Suspended,
    Undecodable,
    UsageError,
)
from holdfast.model.backoff import Retry, retry_after
from holdfast.model.codec import SPILL_BYTES, adapter_for, check_size, decode, encode
from holdfast.model.fingerprint import fingerprint
from holdfast.model.job import RecordedStep
from holdfast.model.text import error_stack, error_text, error_type, storable
from holdfast.model.writes import StepWrite
from holdfast.runtime.attempt import Attempt, Stop
from holdfast.runtime.remembered import mark, remembered_error
from holdfast.runtime.threads import Thread
from holdfast.storage.failures import is_connection_loss
from holdfast.storage.transaction import StepConnection, replaying

INSIDE: contextvars.ContextVar[StepInfo | None] = contextvars.ContextVar(
    "holdfast_step", default=None
)
"""The step whose own code is running; a step called inside it is a plain call."""


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The step whose code is running: what `current_step()` returns.

    `idempotency_key` is the same for every try of this step, in every attempt of its job: give it
    to services that accept one.
    """

    job_id: int
    key: str
    attempt: int

    @property
    def idempotency_key(self) -> str:
        """`job id/step key`."""
        return f"{self.job_id}/{self.key}"


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How a step is to be run."""

    fn: Callable[..., Any]
    name: str
    key: str | None = None
    retry: Retry | None = None
    timeout_s: float | None = None


_adapters: weakref.WeakKeyDictionary[Any, TypeAdapter[Any] | None] = weakref.WeakKeyDictionary()
"""By function, not by what is called: a bound method would keep its object alive."""


def return_adapter(fn: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Returns the validator of a function's return annotation, or None."""
    function = getattr(fn, "__func__", fn)
    try:
        if function not in _adapters:
            _adapters[function] = _adapter_of(function)
        return _adapters[function]
    except TypeError:
        return _adapter_of(function)  # it cannot be referred to weakly


def _adapter_of(fn: Callable[..., Any]) -> TypeAdapter[Any] | None:
    try:
        hints = inspect.get_annotations(inspect.unwrap(fn), eval_str=True)
    except Exception:  # an annotation that cannot be evaluated says nothing about the value
        return None
    return adapter_for(hints.get("return", inspect.Parameter.empty))


async def run_step(
    attempt: Attempt, plan: StepPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Returns the step's recorded result, or runs it once and records it."""
    if INSIDE.get() is not None:
        return await _call(attempt, plan, args, kwargs)
    attempt.check()
    journal = attempt.journal
    naming = journal.named(plan.name) if plan.key is None else journal.keyed(plan.name, plan.key)
    with naming as key:
        inputs = fingerprint(args, dict(kwargs))
        recorded = journal.recorded.get(key)
        if recorded is not None and _is_usable(attempt, recorded, inputs):
            return await _replay(attempt, plan, recorded)
        return await _Run(attempt, plan, key, inputs, recorded).perform(args, kwargs)


def _is_usable(attempt: Attempt, recorded: RecordedStep, inputs: bytes) -> bool:
    """Whether what is recorded answers this call; raises when that cannot be."""
    if recorded.state == "retrying":
        return False
    if recorded.fingerprint is None or recorded.fingerprint == inputs:
        return True
    same_code = recorded.code_version == attempt.code_version
    drift = attempt.definition.drift
    if not same_code and drift != "stop":
        return drift == "reuse"
    code = "the same code" if same_code else "other code (drift='stop')"
    raise NonDeterminism(
        f"step {recorded.key!r} was recorded with other inputs than it gets now, by {code}",
        "Between steps, use only recorded values: no clock, randomness or outside state. "
        "A changed job function needs another version.",
    )


async def _replay(attempt: Attempt, plan: StepPlan, recorded: RecordedStep) -> Any:
    if recorded.state == "failed":
        raise remembered_error(recorded)
    return decode(*await _stored(attempt, recorded), return_adapter(plan.fn))


async def _stored(attempt: Attempt, recorded: RecordedStep) -> tuple[bytes, int]:
    data = recorded.data
    if data is None:
        data = await attempt.source.load(attempt.job.id, recorded.key)
    if data is None or recorded.codec is None:
        raise Undecodable(
            f"the recorded result of step {recorded.key!r} is gone",
            "Restore the row in the tables step and blob, then retry the job.",
        )
    return data, recorded.codec


class _Run:
    """One step that has to be run now."""

    def __init__(
        self,
        attempt: Attempt,
        plan: StepPlan,
        key: str,
        inputs: bytes,
        recorded: RecordedStep | None,
    ) -> None:
        self._attempt = attempt
        self._plan = plan
        self._key = key
        self._inputs = inputs
        self._recorded = recorded
        self._seq = recorded.seq if recorded else attempt.journal.next_seq()

    async def perform(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Runs the step until it succeeds or its retries are used up; records the result."""
        tries = 0
        if self._recorded is not None and self._recorded.state == "retrying":
            tries = self._recorded.attempts
            await self._attempt.pause(self._recorded.wake_in_s or 0.0, self._recorded.wake_at)
        while True:
            tries += 1
            started = time.monotonic()
            # Until it is recorded: a branch that sleeps must not park the job in between.
            self._attempt.begin_work()
            try:
                value = await self._try(tries, args, kwargs)
            except DurabilityError:
                raise
            except Exception as error:
                delay = self._delay(error, tries)
                if delay is None:
                    self._observe(error, tries, started)
                    raise
                failure = error
            else:
                await self._record(value, tries, started)
                return value
            finally:
                self._attempt.end_work()
            await self._retry_later(failure, tries, started, delay)

    async def _try(self, tries: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        token = INSIDE.set(StepInfo(self._attempt.job.id, self._key, tries))
        try:
            if self._plan.timeout_s is None:
                return await _call(self._attempt, self._plan, args, kwargs)
            timeout = asyncio.timeout(self._plan.timeout_s)
            try:
                async with timeout:
                    return await _call(self._attempt, self._plan, args, kwargs)
            except TimeoutError as error:
                if not timeout.expired():
                    raise
                raise StepTimeout(
                    f"step {self._key!r} took longer than {self._plan.timeout_s:g} s",
                    "Raise its timeout, or give it a Retry.",
                ) from error
        finally:
            INSIDE.reset(token)

    def _delay(self, error: Exception, tries: int) -> float | None:
        """Seconds until the step is tried again, or None when it has failed for good."""
        retry = self._plan.retry
        if retry is None or tries >= retry.attempts or not retry.wants(error):
            return None
        asked = retry_after(error, wall_clock=lambda: datetime.now(UTC))
        return retry.delay_s(tries, random.uniform(-1, 1)) if asked is None else asked

    async def _retry_later(
        self, error: Exception, tries: int, started: float, delay: float
    ) -> None:
        write = self._write("retrying", tries, started, error=error, wake_s=delay)
        wake_at = await self._attempt.recorder.record(write)
        await self._attempt.pause(delay, wake_at)
        self._attempt.check()

    def _observe(self, error: Exception, tries: int, started: float) -> None:
        mark(error, self._key)
        self._attempt.observe(self._write("failed", tries, started, error=error))

    async def _record(self, value: Any, tries: int, started: float) -> None:
        write = self._write("done", tries, started)
        encoded = encode(value, return_adapter(self._plan.fn))
        check_size(encoded, field=f"the result of step {self._key!r}")
        self._attempt.remember_observed()
        spill = len(encoded.data) > SPILL_BYTES
        write = write._replace(result=encoded.data, codec=encoded.codec, spill=spill)
        await self._attempt.recorder.record(write)

    def _write(
        self,
        state: str,
        tries: int,
        started: float,
        *,
        error: Exception | None = None,
        wake_s: float | None = None,
    ) -> StepWrite:
        return StepWrite(
            job_id=self._attempt.job.id,
            epoch=self._attempt.job.epoch,
            key=self._key,
            seq=self._seq,
            kind="step",
            state=state,
            attempts=tries,
            result=None,
            codec=None,
            spill=False,
            elapsed_s=time.monotonic() - started,
            wake_s=wake_s,
            code_version=self._attempt.code_version,
            fingerprint=self._inputs,
            error_type=error_type(error) if error else None,
            error_message=storable(error_text(error)) if error else None,
            error_stack=error_stack(error) if error else None,
        )


async def _call(
    attempt: Attempt, plan: StepPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    if inspect.iscoroutinefunction(inspect.unwrap(plan.fn)):
        return await plan.fn(*args, **kwargs)
    thread = Thread(partial(plan.fn, *args, **kwargs), plan.name)
    attempt.threads.add(thread)
    try:
        value = await thread.run()
    finally:
        attempt.threads.discard(thread)
    return await value if inspect.isawaitable(value) else value


async def sleep(attempt: Attempt, seconds: float, key: str | None) -> None:
    """Waits until a recorded time; the wait survives restarts and a long one parks the job."""
    attempt.check()
    naming = attempt.journal.named("sleep") if key is None else attempt.journal.keyed("sleep", key)
    with naming as full:
        recorded = attempt.journal.recorded.get(full)
        if recorded is not None:
            await attempt.pause(recorded.wake_in_s or 0.0, recorded.wake_at)
        else:
            attempt.remember_observed()
            write = _row(attempt, full, "sleep")._replace(wake_s=seconds)
            await attempt.pause(seconds, await attempt.recorder.record(write))
    attempt.check()


@asynccontextmanager
async def transaction(attempt: Attempt, name: str, schema: str) -> AsyncIterator[StepConnection]:
    """Runs the block in one transaction with its journal row: exactly once."""
    attempt.check()
    if INSIDE.get() is not None:
        raise UsageError(
            f"transaction {name!r} was begun inside a step, whose next try would commit it again",
            "It is a step of its own: begin it in the job function.",
        )
    with attempt.journal.named(name) as key:
        recorded = attempt.journal.recorded.get(key)
        if recorded is not None:
            outcomes: Any = decode(*await _stored(attempt, recorded), None)
            yield replaying(outcomes, schema)
            return
        attempt.begin_work()
        tx: Any = None
        try:
            async with attempt.source.transaction() as tx:
                started = time.monotonic()
                yield tx.connection
                attempt.check()
                encoded = encode(tx.recorded, None)
                check_size(encoded, field=f"the rows of transaction {key!r}")
                # Before the commit: rows written because of an error must not outlive its memory.
                for error in [attempt.recorder.record(w) for w in attempt.acted_upon()]:
                    await error
                await tx.finish(
                    _row(attempt, key, "transaction")._replace(
                        elapsed_s=time.monotonic() - started,
                        result=encoded.data,
                        codec=encoded.codec,
                        spill=len(encoded.data) > SPILL_BYTES,
                    )
                )
        except LeaseLost:
            attempt.interrupt(Stop.LEASE_LOST)
            raise
        except Exception as error:
            if is_connection_loss(error) and (tx is None or tx.is_lost):
                # Nobody's failure, and nobody knows whether the commit arrived: the context goes
                # no further, and a replay finds out.
                attempt.suspended = True
                raise Suspended("the database went away in a transaction step") from error
            raise
        finally:
            attempt.end_work()


def _row(attempt: Attempt, key: str, kind: str) -> StepWrite:
    return StepWrite(
        job_id=attempt.job.id,
        epoch=attempt.job.epoch,
        key=key,
        seq=attempt.journal.next_seq(),
        kind=kind,
        state="done",
        attempts=1,
        result=None,
        codec=None,
        spill=False,
        elapsed_s=0.0,
        wake_s=None,
        code_version=attempt.code_version,
        fingerprint=None,
        error_type=None,
        error_message=None,
        error_stack=None,
    )
