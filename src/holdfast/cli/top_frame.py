"""One frame of `holdfast top`: as many rows of each table as the terminal has room for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast import QueueInfo, WorkerInfo
from holdfast.cli.queues import note_of
from holdfast.cli.terminal import STATE_STYLES, bar, text
from holdfast.cli.workers import queues_of, renewed
from holdfast.model.durations import describe
from holdfast.model.watching import Overview, RunningJob

_HEAD_LINES = 3
"""Of a table: an empty line, its columns' names, a rule."""
_WIDE = 100
_MIN_ROWS = 3
_MOST_CELLS = 28
_GAP = 2


def frame(
    found: Overview,
    schema: str,
    seconds: float,
    *,
    width: int,
    height: int | None,
    trouble: str = "",
) -> RenderableType:
    """Returns a frame of at most `height` lines; None: with every row."""
    queues = [_queue(queue) for queue in found.queues]
    workers = [_worker(worker) for worker in found.workers]
    running = [_job(job, width) for job in found.running]
    rooms = _rooms([len(queues), len(workers), len(running)], height)
    parts: list[RenderableType] = [_title(found, schema, seconds, trouble)]
    heads = (
        ("queue", "available", "running", "slots", "later", "attention", "waiting", "note"),
        ("worker", "pid", "running", "renewed", "queues"),
        ("job", "name", "queue", "for", "progress", "worker", "doing"),
    )
    nothing = ("no queues", "no workers", "no running jobs")
    for head, rows, room, empty in zip(
        heads, (queues, workers, running), rooms, nothing, strict=True
    ):
        parts += _section(head, rows, empty, room=room, width=width)
    return Group(*parts)


def _rooms(counts: Sequence[int], height: int | None) -> list[int]:
    """Returns how many rows each table may have: few are shown whole, the last takes the rest.

    >>> _rooms([3, 2, 50], 30), _rooms([40, 40, 40], 30), _rooms([1, 1, 1], None)
    ([3, 2, 14], [6, 6, 7], [1, 1, 1])
    """
    if height is None:
        return list(counts)
    left = height - 1 - _HEAD_LINES * len(counts) - 1
    rooms = []
    for number, count in enumerate(counts):
        tables = len(counts) - number
        fair = max(_MIN_ROWS, left // tables)
        room = min(count, fair) if tables > 1 else min(count, max(_MIN_ROWS, left))
        rooms.append(room)
        left -= max(1, room)
    return rooms


def _section(
    head: Sequence[str], rows: Sequence[Sequence[Text]], nothing: str, *, room: int, width: int
) -> list[Text | Table]:
    if not rows:
        return [Text(), text(nothing, "dim")]
    made = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
        padding=(0, 1, 0, 0),
    )
    left_out = len(rows) - room
    shown = rows[: room - 1] if left_out > 0 else rows
    free = width
    for number, name in enumerate(head):
        # The last column gives way: what stands before it is needed whole.
        needed = max([len(name), *(row[number].cell_len for row in shown)])
        is_last = number == len(head) - 1
        cells = min(needed, max(len(name), free) if is_last else _MOST_CELLS)
        made.add_column(name, no_wrap=True, overflow="ellipsis", width=cells)
        free -= cells + _GAP
    for row in shown:
        made.add_row(*row)
    if left_out > 0:
        return [Text(), made, text(f"… {len(rows) - len(shown):,} more", "dim")]
    return [Text(), made]


def _title(found: Overview, schema: str, seconds: float, trouble: str) -> Text:
    now = datetime.now().astimezone()
    title = Text.assemble(("holdfast", "bold"), " ", text(schema), f" {now:%H:%M:%S}")
    if trouble:
        return title.append_text(text(f"  the database is away: {trouble}", "bold red"))
    running = sum(queue.executing for queue in found.queues)
    available = sum(queue.available for queue in found.queues)
    attention = sum(queue.attention for queue in found.queues)
    title.append(f"  {running:,} running, {available:,} available")
    if attention:
        title.append_text(text(f", {attention:,} need attention", "bold magenta"))
    ended = sum(found.finished.values())
    title.append(f"  {ended / seconds:,.1f} ended/s")
    if found.finished:
        title.append(" (")
        for number, (state, count) in enumerate(sorted(found.finished.items())):
            title.append(", " if number else "")
            title.append_text(text(f"{count:,} {state}", STATE_STYLES.get(state, "")))
        title.append(f" in {describe(seconds)})")
    title.no_wrap, title.overflow = True, "ellipsis"
    return title


def _queue(queue: QueueInfo) -> list[Text]:
    return [
        text(queue.name),
        _number(queue.available),
        _number(queue.executing),
        _number(queue.slots),
        _number(queue.later),
        _number(queue.attention, "bold magenta"),
        text("" if queue.waiting_s is None else describe(queue.waiting_s)),
        note_of(queue),
    ]


def _worker(worker: WorkerInfo) -> list[Text]:
    return [
        text(worker.name),
        text(worker.pid),
        _number(worker.running),
        renewed(worker),
        queues_of(worker),
    ]


def _job(job: RunningJob, width: int) -> list[Text]:
    counted = ""
    if job.progress_total:
        counted = f"{job.progress_done or 0:g}/{job.progress_total:g}"
    said = " ".join(f"{counted} {job.progress_text or ''}".split())
    if job.is_cancelled:
        said = f"being cancelled {said}".rstrip()
    shown = text(bar(job.progress, 20 if width >= _WIDE else 8), "cyan")
    return [
        text(job.id),
        text(job.name),
        text(job.queue),
        text(describe(job.running_s)),
        shown,
        text(job.worker),
        text(said),
    ]


def _number(value: int, style: str = "") -> Text:
    return text(f"{value:,}", style if value else "dim")
