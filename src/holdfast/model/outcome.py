"""The rule: what happens to a job when an attempt ends. One pure function, every ending.

A failure of the user's code, the death of its process, and a free interruption are three
different things with three counters that are never mixed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from holdfast.model.states import State


class Ending(StrEnum):
    """What happened; also the `outcome` in the history."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"
    SNOOZED = "snoozed"
    PARKED = "parked"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    STOPPED = "stopped"
    UNKNOWN_JOB = "unknown_job"


class Facts(NamedTuple):
    """What the rule needs to know of a job, and of this ending."""

    failures: int = 0
    max_attempts: int = 20
    crashes: int = 0
    max_crashes: int = 3
    delay_s: float = 0.0
    reason: str | None = None


class Verdict(NamedTuple):
    """What to do: the next state, when, and who is charged."""

    state: State
    delay_s: float | None = None
    failure_charge: int = 0
    crash_charge: int = 0
    resume_charge: int = 0
    wait_reason: str | None = None
    wait_detail: str | None = None
    bump: int = 0

    @property
    def charged(self) -> str | None:
        """Who pays: `failure`, `crash`, or nobody."""
        if self.failure_charge:
            return "failure"
        return "crash" if self.crash_charge else None


def decide(ending: Ending, facts: Facts) -> Verdict:
    """Returns the verdict on an attempt that ended so; total over `Ending`.

    >>> decide(Ending.FAILED, Facts(failures=4, max_attempts=5)).state.value
    'discarded'
    """
    match ending:
        case Ending.COMPLETED:
            return Verdict(State.COMPLETED)
        case Ending.FAILED | Ending.TIMED_OUT:
            return _failed(facts)
        case Ending.DEADLINE:
            return Verdict(State.DISCARDED, failure_charge=1, wait_reason="deadline")
        case Ending.CANCELLED:
            return Verdict(State.CANCELLED, wait_reason="cancelled", wait_detail=facts.reason)
        case Ending.DISCARDED:
            return Verdict(State.DISCARDED, wait_reason="discarded", wait_detail=facts.reason)
        case Ending.SNOOZED | Ending.PARKED | Ending.UNKNOWN_JOB:
            return _waits(ending, facts)
        case Ending.SHUTDOWN:
            return Verdict(State.AVAILABLE, delay_s=0.0, resume_charge=1, bump=1)
        case Ending.CRASHED:
            return _crashed(facts)
        case Ending.STOPPED:
            return Verdict(State.ATTENTION, wait_reason="stopped", wait_detail=facts.reason)


def _failed(facts: Facts) -> Verdict:
    if facts.failures + 1 >= facts.max_attempts:
        return Verdict(State.DISCARDED, failure_charge=1, wait_reason="attempts used up")
    return Verdict(State.AVAILABLE, delay_s=facts.delay_s, failure_charge=1, wait_reason="retry")


def _crashed(facts: Facts) -> Verdict:
    if facts.crashes + 1 >= facts.max_crashes:
        return Verdict(State.ATTENTION, crash_charge=1, wait_reason="poison", bump=1)
    return Verdict(State.AVAILABLE, delay_s=0.0, crash_charge=1, bump=1)


def _waits(ending: Ending, facts: Facts) -> Verdict:
    reasons = {
        Ending.SNOOZED: "snooze",
        Ending.PARKED: "sleep",
        Ending.UNKNOWN_JOB: "unknown job",
    }
    return Verdict(
        State.AVAILABLE,
        delay_s=facts.delay_s,
        resume_charge=1,
        wait_reason=reasons[ending],
        wait_detail=facts.reason,
    )
