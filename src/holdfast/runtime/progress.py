"""Progress of a job: durable, monotonic, coalesced."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from holdfast.errors import InvalidOption
from holdfast.model.text import shown, storable
from holdfast.model.writes import ProgressWrite

if TYPE_CHECKING:
    from holdfast.runtime.attempt import Attempt

_MAX_TEXT = 500


def report(
    attempt: Attempt,
    done: float,
    total: float | str | None,
    text: str | None,
    *,
    share: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Raises the job's progress to `done` (a fraction) or `done / total`; never lowers it.

    `share` is the part of the bar that this counts for.
    """
    if isinstance(total, str):
        total, text = None, total
    low, high = share
    fraction = low + (high - low) * _fraction(done, total)
    if fraction < attempt.progress_floor:
        return
    attempt.progress_floor = fraction
    attempt.recorder.progress(
        ProgressWrite(
            job_id=attempt.job.id,
            epoch=attempt.job.epoch,
            fraction=fraction,
            done=None if total is None else float(done),
            total=None if total is None else float(total),
            text=None if text is None else storable(str(text), limit=_MAX_TEXT),
        )
    )


def _fraction(done: object, total: object) -> float:
    for value in (done,) if total is None else (done, total):
        if not _is_number(value):
            raise InvalidOption(
                f"progress {shown(value)} is not a number ≥ 0",
                "Write ctx.progress(0.5, 'text') or ctx.progress(done, total, 'text').",
            )
    assert isinstance(done, (int, float))
    if total is None:
        if done > 1:
            raise InvalidOption(
                f"progress {done!r} is more than 1", "A fraction is 0..1; or give a total too."
            )
        return float(done)
    assert isinstance(total, (int, float))
    return 1.0 if total == 0 else min(1.0, float(done) / float(total))


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value) and value >= 0
    except OverflowError:  # a whole number larger than any float
        return False
