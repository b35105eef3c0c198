"""What waits to be written, gathered; and the statements that write it.

One batch becomes at most one statement of each kind, in an order that keeps a job's own writes in
sequence: journal, progress, forgotten errors, ends, and at last the claim for the freed slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import LeaseLost
from holdfast.model.writes import Completion, Forget, ProgressWrite, Settlement, StepWrite
from holdfast.storage import jobs, steps
from holdfast.storage.query import Query

StepDone = asyncio.Future[str | None]
"""Resolves with the time a sleep ends when the row is written."""

StepSlot = tuple[int, int, str]
"""(job id, epoch, key)"""

Write = Completion | Forget | ProgressWrite | Settlement | StepWrite


@dataclass(slots=True)
class Batch:
    """Writes of one exchange. Later progress of a job replaces earlier."""

    steps: dict[StepSlot, tuple[StepWrite, list[StepDone]]] = field(default_factory=dict)
    progress: dict[tuple[int, int], ProgressWrite] = field(default_factory=dict)
    forgets: list[Forget] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)

    def __len__(self) -> int:
        return (
            len(self.steps)
            + len(self.progress)
            + len(self.forgets)
            + len(self.completions)
            + len(self.settlements)
        )

    def add_step(self, write: StepWrite, done: StepDone | None) -> None:
        """Adds a journal row; one that was written over before it was sent is sent once."""
        slot = (write.job_id, write.epoch, write.key)
        waiting = self.steps[slot][1] if slot in self.steps else []
        if done is not None:
            waiting.append(done)
        self.steps[slot] = (write, waiting)

    def split(self) -> list[Batch]:
        """Returns one batch for each write, in order: to find the one the database refuses."""
        singles: list[Batch] = []
        for slot, entry in self.steps.items():
            singles.append(Batch(steps={slot: entry}))
        for lease, write in self.progress.items():
            singles.append(Batch(progress={lease: write}))
        singles += [Batch(forgets=[w]) for w in self.forgets]
        singles += [Batch(completions=[w]) for w in self.completions]
        singles += [Batch(settlements=[w]) for w in self.settlements]
        return singles

    def halves(self) -> list[Batch]:
        """Returns two batches of half the writes each, in order: to look for a bad one."""
        singles = self.split()
        middle = (len(singles) + 1) // 2
        both = [Batch(), Batch()]
        for place, single in enumerate(singles):
            both[place >= middle].absorb(single)
        return both

    def chunks(self, limit_bytes: int) -> list[Batch]:
        """Returns this batch, or if its results are too large for one message, parts of it."""
        if self.size_bytes <= limit_bytes:
            return [self]
        parts = [Batch()]
        size = 0
        for single in self.split():
            if len(parts[-1]) and size + single.size_bytes > limit_bytes:
                parts.append(Batch())
                size = 0
            size += single.size_bytes
            parts[-1].absorb(single)
        return parts

    @property
    def size_bytes(self) -> int:
        """The bytes of all results in this batch."""
        results = [entry[0].result for entry in self.steps.values()]
        results += [w.result for w in self.completions]
        results += [w.result for w in self.settlements]
        return sum(len(result) for result in results if result is not None)

    def absorb(self, other: Batch) -> None:
        """Adds the writes of another batch behind those of this one."""
        for slot, (write, waiting) in other.steps.items():
            earlier = self.steps[slot][1] if slot in self.steps else []
            self.steps[slot] = (write, [*earlier, *waiting])
        self.progress.update(other.progress)
        self.forgets += other.forgets
        self.completions += other.completions
        self.settlements += other.settlements

    def writes(self) -> list[Write]:
        """Returns every write."""
        return [
            *(entry[0] for entry in self.steps.values()),
            *self.progress.values(),
            *self.forgets,
            *self.completions,
            *self.settlements,
        ]


Applied = Callable[[Any], None]
Question = tuple[Query[Any], Applied]
"""A statement that reads or claims, and who takes the answer."""
Refused = Callable[[int, int], None]
"""(job id, epoch) of a write that was not ours to make any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements of one exchange, and what to do with each answer."""

    queries: list[Query[Any]]
    handlers: list[Applied]


def plan(
    batch: Batch,
    questions: list[Question],
    *,
    worker_id: int,
    schema: str,
    refused: Refused,
) -> Plan:
    """Returns the statements that write `batch`, then those that ask, in order."""
    queries: list[Query[Any]] = []
    handlers: list[Applied] = []

    def add(query: Query[Any], handler: Applied) -> None:
        queries.append(query)
        handlers.append(handler)

    if batch.steps:
        rows = [entry[0] for entry in batch.steps.values()]
        add(steps.record(worker_id, rows), lambda done: _recorded(batch, done, refused))
    if batch.progress:
        query = jobs.progress(worker_id, list(batch.progress.values()))
        add(query, lambda ids: _written(batch.progress.values(), ids, refused))
    if batch.forgets:
        add(steps.forget(batch.forgets), lambda _: None)
    if batch.completions:
        query = jobs.complete(worker_id, schema, batch.completions)
        add(query, lambda ids: _written(batch.completions, ids, refused))
    if batch.settlements:
        add(
            jobs.settle(worker_id, schema, batch.settlements),
            lambda states: _written(batch.settlements, states, refused),
        )
    for query, handler in questions:
        add(query, handler)
    return Plan(queries, handlers)


def _recorded(batch: Batch, done: steps.Written, refused: Refused) -> None:
    for slot, (write, waiting) in batch.steps.items():
        if slot not in done:
            refused(write.job_id, write.epoch)
            for future in waiting:
                if not future.done():
                    gone = f"job {write.job_id} does not belong to this process any more"
                    future.set_exception(LeaseLost(gone))
            continue
        for future in waiting:
            if not future.done():
                future.set_result(done[slot])


def _written(writes: Any, ids: Any, refused: Refused) -> None:
    for write in writes:
        if write.job_id not in ids:
            refused(write.job_id, write.epoch)
