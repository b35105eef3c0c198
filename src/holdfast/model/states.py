"""The states of a job and the legal moves between them: one table, which tests hold SQL to."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is. The first three are live, the last three final."""

    AVAILABLE = "available"
    EXECUTING = "executing"
    ATTENTION = "attention"
    COMPLETED = "completed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True for a job that has nothing to do any more."""
        return self in FINAL


FINAL = frozenset({State.COMPLETED, State.DISCARDED, State.CANCELLED})
LIVE = frozenset(State) - FINAL

SHOWN = (*(state.value for state in State), "scheduled", "retryable", "waiting")
"""What people are shown: the states, and three ways of being available later."""

TRANSITIONS: dict[str, dict[State, State]] = {
    "claim": {State.AVAILABLE: State.EXECUTING},
    "complete": {State.EXECUTING: State.COMPLETED},
    "retry later": {State.EXECUTING: State.AVAILABLE},
    "discard": {State.EXECUTING: State.DISCARDED},
    "stop": {State.EXECUTING: State.CANCELLED},
    "need attention": {State.EXECUTING: State.ATTENTION},
    "release": {State.EXECUTING: State.AVAILABLE},
    "cancel": {
        State.AVAILABLE: State.CANCELLED,
        State.ATTENTION: State.CANCELLED,
        State.EXECUTING: State.EXECUTING,  # the request is in the row; the worker stops the code
    },
    "retry": {
        State.AVAILABLE: State.AVAILABLE,
        State.ATTENTION: State.AVAILABLE,
        State.COMPLETED: State.AVAILABLE,
        State.DISCARDED: State.AVAILABLE,
        State.CANCELLED: State.AVAILABLE,
    },
}
"""operation → state before → state after. A pair that is missing here is refused, and leaves the
row as it was."""
