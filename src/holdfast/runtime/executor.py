"""One attempt, as a pipeline: resolve → run → decide → report.

Every ending (success, error, timeout, cancel, parking, shutdown, an unknown name) goes through
`model.outcome.decide`, and from there as one write to the committer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from holdfast.errors import (
    Cancel,
    Discard,
    DurabilityError,
    Interruption,
    JobTimeout,
    LeaseLost,
    Snooze,
    TooLarge,
    Unserialisable,
)
from holdfast.model.backoff import default_delay, retry_after
from holdfast.model.codec import SPILL_BYTES, Encoded, check_size, encode
from holdfast.model.durations import seconds
from holdfast.model.outcome import Ending, Facts, Verdict, decide
from holdfast.model.text import error_text, storable
from holdfast.model.writes import Completion, Forget, Settlement
from holdfast.runtime.attempt import CURRENT, Attempt, Stop
from holdfast.runtime.blocking import Bridge
from holdfast.runtime.context import BLOCKING, BlockingContext, Context
from holdfast.runtime.evidence import describable, evidence_of, reason_of
from holdfast.runtime.remembered import origins
from holdfast.runtime.threads import Thread

log = logging.getLogger("holdfast.job")

_LATE_S = 0.5

_SEARCHED_CAUSES = 50


class Ended(NamedTuple):
    """How an attempt ended, with its evidence."""

    ending: Ending
    result: Encoded | None = None
    error: BaseException | None = None
    delay_s: float = 0.0
    run_at: str | None = None
    reason: str | None = None


async def execute(attempt: Attempt) -> Ended | None:
    """Runs one attempt to its end; None when its lease is lost and nothing may be written."""
    CURRENT.set(attempt)
    timers = _start_timers(attempt)
    try:
        value = await _run(attempt)
    except BaseException as error:
        ended = _after_error(attempt, error)
    else:
        ended = _after_return(attempt, value)
    finally:
        for timer in timers:
            timer.cancel()
    return None if attempt.stop is Stop.LEASE_LOST else ended


def ended_by(attempt: Attempt, task: asyncio.Task[Ended | None]) -> Ended | None:
    """Returns how an attempt ended, also when its task never began or was torn down."""
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        return task.result()
    ended = _after_error(attempt, error)
    return None if attempt.stop is Stop.LEASE_LOST else ended


def _start_timers(attempt: Attempt) -> Sequence[asyncio.TimerHandle]:
    if attempt.definition.timeout_s is None and attempt.job.deadline_in_s is None:
        return ()
    limits = [
        (attempt.definition.timeout_s, Stop.TIMEOUT),
        (attempt.job.deadline_in_s, Stop.DEADLINE),
    ]
    timers: list[asyncio.TimerHandle] = []
    for limit, why in limits:
        if limit is not None:
            _arm(attempt, max(0.0, limit), why, timers)
    return timers


def _arm(attempt: Attempt, wait_s: float, why: Stop, timers: list[asyncio.TimerHandle]) -> None:
    """Stops the attempt after a while; time in which others blocked the loop does not count."""
    loop = asyncio.get_running_loop()
    due = loop.time() + wait_s

    def fire() -> None:
        late = loop.time() - due
        if late > _LATE_S:
            _arm(attempt, min(late, wait_s), why, timers)
        else:
            attempt.interrupt(why)

    timers.append(loop.call_later(wait_s, fire))


async def _run(attempt: Attempt) -> Any:
    if attempt.job.cancel_requested:
        attempt.stop = Stop.CANCEL
    elif attempt.job.deadline_in_s is not None and attempt.job.deadline_in_s <= 0:
        attempt.stop = Stop.DEADLINE
    attempt.check_stop()
    definition = attempt.definition
    args, kwargs = definition.decode(attempt.job.args)
    if definition.is_async:
        if definition.takes_context:
            args.insert(0, Context(attempt, attempt.schema))
        return await definition.fn(*args, **kwargs)
    return await _run_in_thread(attempt, args, kwargs)


async def _run_in_thread(attempt: Attempt, args: list[Any], kwargs: dict[str, Any]) -> Any:
    bridge = Bridge(asyncio.get_running_loop())
    context = BlockingContext(attempt, attempt.schema, bridge)
    BLOCKING.set(context)
    if attempt.definition.takes_context:
        args.insert(0, context)
    thread = bridge.thread = Thread(
        partial(attempt.definition.fn, *args, **kwargs), f"job {attempt.job.id}"
    )
    attempt.threads.add(thread)
    try:
        return await thread.run()
    finally:
        attempt.threads.discard(thread)
        bridge.thread = None  # whose context knows the bridge: see `Worker._ended`


def _after_return(attempt: Attempt, value: Any) -> Ended:
    if attempt.suspended:
        # The code swallowed the suspension; what it returned is not the job's result.
        log.warning("job.suspension_swallowed", extra={"job_id": attempt.job.id})
        return Ended(Ending.PARKED, run_at=attempt.suspended_until, reason="suspension swallowed")
    reason = _orphans(attempt)
    if value is None:
        return Ended(Ending.COMPLETED, reason=reason)
    try:
        encoded = encode(value, attempt.definition.result_adapter)
        check_size(encoded, field=f"the result of job {attempt.job.name!r}")
    except (Unserialisable, TooLarge) as error:
        return _stopped(error)
    return Ended(Ending.COMPLETED, encoded, reason=reason)


def _orphans(attempt: Attempt) -> str | None:
    """Says which recorded steps the code did not ask for any more; the history keeps it."""
    orphans = attempt.orphans
    if not orphans:
        return None
    shown = ", ".join(orphans[:5]) + (", …" if len(orphans) > 5 else "")
    log.warning("job.orphaned_steps %s", shown, extra={"job_id": attempt.job.id})
    return storable(f"{len(orphans)} recorded steps were not reached: {shown}")


def _after_error(attempt: Attempt, error: BaseException) -> Ended:
    if attempt.suspended:
        return Ended(Ending.PARKED, run_at=attempt.suspended_until, reason="sleep")
    if isinstance(error, LeaseLost):
        attempt.stop = Stop.LEASE_LOST
    if attempt.stop is not None and _is_stop(error):
        return _after_stop(attempt, attempt.stop)
    match error:
        case Snooze():
            return _snoozed(attempt, error)
        case Cancel():
            return Ended(Ending.CANCELLED, reason=reason_of(error) or "by the job itself")
        case Discard():
            return Ended(Ending.DISCARDED, error=error, reason=reason_of(error))
        case DurabilityError() | Unserialisable() | TooLarge():
            return _stopped(error)
    error = describable(error)
    keys = origins(error)
    for key in keys & attempt.failed_keys:
        attempt.recorder.forget(Forget(attempt.job.id, attempt.job.epoch, key))
    attempt.start_over(keys)
    return _failed(attempt, Ending.FAILED, error)


def _snoozed(attempt: Attempt, asked: Snooze) -> Ended:
    try:
        # NaN is handed on to be refused: compared, it would become no wait at all.
        delay = seconds(0.0 if asked.seconds < 0 else asked.seconds, field="Snooze.seconds")
    except Exception as error:  # a subclass may have set anything, or nothing
        return _failed(attempt, Ending.FAILED, error)
    return Ended(Ending.SNOOZED, delay_s=delay, reason=reason_of(asked) or None)


def _is_stop(error: BaseException) -> bool:
    """Whether an error is our interruption, or was raised by code that was handling it."""
    if isinstance(error, BaseExceptionGroup) and all(map(_is_stop, error.exceptions)):
        return True
    behind: BaseException | None = error
    for _ in range(_SEARCHED_CAUSES):
        if behind is None or isinstance(behind, (asyncio.CancelledError, Interruption)):
            break
        behind = behind.__cause__ or behind.__context__
    return isinstance(behind, (asyncio.CancelledError, Interruption))


def _after_stop(attempt: Attempt, stop: Stop) -> Ended:
    match stop:
        case Stop.CANCEL:
            return Ended(Ending.CANCELLED, reason="cancelled while it ran")
        case Stop.SHUTDOWN:
            return Ended(Ending.SHUTDOWN, reason="its worker was shut down")
        case Stop.TIMEOUT:
            limit = attempt.definition.timeout_s
            error = JobTimeout(f"the attempt took longer than {limit:g} s", "Raise timeout=…")
            return _failed(attempt, Ending.TIMED_OUT, error)
        case Stop.DEADLINE:
            error = JobTimeout("the job was not done at its deadline", "Raise deadline=…")
            return Ended(Ending.DEADLINE, error=error)
        case Stop.LEASE_LOST:
            return Ended(Ending.CRASHED)


def _stopped(error: DurabilityError | Unserialisable | TooLarge) -> Ended:
    return Ended(Ending.STOPPED, error=error, reason=storable(str(error)))


def _failed(attempt: Attempt, ending: Ending, error: BaseException) -> Ended:
    failure = attempt.job.failures + 1
    delay = None
    with suppress(BaseException):  # an attribute of the user's error must not lose the user's job
        delay = retry_after(error, wall_clock=lambda: datetime.now(UTC))
    if delay is None:
        delay = _backoff(attempt, failure, error)
    return Ended(ending, error=error, delay_s=delay)


def _backoff(attempt: Attempt, failure: int, error: BaseException) -> float:
    rule = attempt.definition.backoff
    if rule is not None:
        try:
            return seconds(rule(failure, error), field="backoff")
        except BaseException as broken:  # the user's rule must not lose the user's job
            log.error(
                "job.backoff_broken using the default: %s",
                error_text(broken),
                extra={"job_id": attempt.job.id},
            )
    return default_delay(failure, random.uniform(-1, 1))


def report(
    attempt: Attempt,
    ended: Ended,
    *,
    complete: Callable[[Completion], None],
    settle: Callable[[Settlement], None],
) -> None:
    """Decides on an ended attempt and hands the write to the committer."""
    job = attempt.job
    if ended.ending is Ending.COMPLETED and job.epoch == 1:
        # The one verdict that needs no facts; its statement says it by itself.
        complete(Completion(job.id, job.epoch, *_stored(ended.result)))
        return
    facts = Facts(
        failures=job.failures,
        max_attempts=job.max_attempts,
        crashes=job.crashes,
        max_crashes=job.max_crashes,
        delay_s=ended.delay_s,
        reason=ended.reason,
    )
    settle(settlement(job.id, job.epoch, ended, decide(ended.ending, facts)))


def settlement(job_id: int, epoch: int, ended: Ended, verdict: Verdict) -> Settlement:
    """Returns the write for any ending but a plain first-time success."""
    error = evidence_of(ended.error)
    data, codec, spill = _stored(ended.result)
    return Settlement(
        job_id=job_id,
        epoch=epoch,
        state=verdict.state.value,
        delay_s=None if ended.run_at is not None else verdict.delay_s,
        run_at=ended.run_at,
        failure_charge=verdict.failure_charge,
        crash_charge=verdict.crash_charge,
        resume_charge=verdict.resume_charge,
        outcome=ended.ending.value,
        charged=verdict.charged,
        reason=ended.reason,
        wait_reason=verdict.wait_reason,
        wait_detail=verdict.wait_detail,
        error_type=error.type,
        error_message=error.message,
        error_stack=error.stack,
        error_fingerprint=error.fingerprint,
        result=data,
        codec=codec,
        spill=spill,
        bump=verdict.bump,
    )


def _stored(result: Encoded | None) -> tuple[bytes | None, int | None, bool]:
    if result is None:
        return None, None, False
    return result.data, result.codec, len(result.data) > SPILL_BYTES
