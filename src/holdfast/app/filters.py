"""Checks of what people ask about and operate on: states, limits, slots, ages."""

from __future__ import annotations

from holdfast.errors import InvalidOption
from holdfast.model.durations import Duration, seconds
from holdfast.model.names import check_name, unknown
from holdfast.model.states import FINAL, SHOWN
from holdfast.model.text import shown

MAX_SLOTS = 10_000


def check_shown(state: str | None) -> None:
    """Raises unless `state` is a state as shown, or None."""
    if state is not None and state not in SHOWN:
        raise unknown("state", state, SHOWN)


def check_limit(limit: object) -> None:
    """Raises unless a list may have so many entries."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 100_000:
        raise InvalidOption(f"limit={shown(limit)} is not 1..100000", "Page with before_id.")


def check_slots(slots: object) -> int | None:
    """Returns a number of slots, 0 to 10,000, or None; else raises."""
    if slots is None:
        return None
    if not isinstance(slots, int) or isinstance(slots, bool) or not 0 <= slots <= MAX_SLOTS:
        raise InvalidOption(
            f"slots={shown(slots)} is not a number from 0 to {MAX_SLOTS}",
            "0: not served; None: as each worker was started.",
        )
    return slots


def check_worker(worker: str | None) -> str:
    """Returns the name of a worker, or '' for all of them; else raises."""
    return "" if worker is None else check_name(worker, field="worker")


def check_keep(
    keep: Duration | None, queue: str | None, state: str | None
) -> tuple[str, str, float | None]:
    """Returns queue, state and seconds of a rule of retention as they are stored; else raises."""
    if state is not None and state not in FINAL:
        raise unknown("final state", state, sorted(FINAL))
    return (
        "" if queue is None else check_name(queue, field="queue"),
        "" if state is None else state,
        None if keep is None else seconds(keep, field="keep"),
    )
