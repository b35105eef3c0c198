"""Operations on queues at run time and on retention, as `Query` values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic_core import to_json

from holdfast.model.queues import QueueInfo, QueueSetting, Served
from holdfast.storage.query import Query, Row, nothing
from holdfast.storage.statements import channel

CHANGED = "queue"
"""The kind of notification that says: what was set for a queue has changed."""


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long finished jobs are kept: of a queue ('': any), in a state ('': any).

    `keep_s` None: for ever.
    """

    queue: str
    state: str
    keep_s: float | None


class Pruned(NamedTuple):
    """What one transaction of pruning removed: a whole partition, or single jobs and keys."""

    partition: str | None
    jobs: int
    keys: int = 0


def settings(worker: str) -> Query[list[QueueSetting]]:
    """Reads what was set for queues that concerns one worker."""
    return Query(
        "queues/settings",
        lambda rows: [QueueSetting(*row) for row in rows],
        {"worker": worker},
        prepare=True,
    )


def pause(queue: str, worker: str, schema: str) -> Query[None]:
    """Pauses a queue for one worker or for all ('')."""
    params = {"queue": queue, "worker": worker, "channel": channel(schema, CHANGED)}
    return Query("queues/pause", nothing, params)


def resume(queue: str, worker: str, schema: str) -> Query[int]:
    """Resumes a queue; returns how many pauses ended."""
    params = {"queue": queue, "worker": worker, "channel": channel(schema, CHANGED)}
    return Query("queues/resume", _number, params)


def scale(queue: str, worker: str, slots: int | None, schema: str) -> Query[None]:
    """Sets the slots of a queue for one worker or for all (''); None: as started with."""
    params = {
        "queue": queue,
        "worker": worker,
        "slots": slots,
        "channel": channel(schema, CHANGED),
    }
    return Query("queues/scale", nothing, params)


def queues() -> Query[list[QueueInfo]]:
    """Reads every queue that anybody knows, for people."""
    return Query("queues/list", lambda rows: [QueueInfo(*row) for row in rows])


def serve(worker_id: int, served: Served) -> Query[None]:
    """Notes which queues a worker serves now."""
    params = {
        "worker_id": worker_id,
        "queues": to_json(dict(served.slots)).decode(),
        "paused": sorted(served.paused),
    }
    return Query("workers/serve", nothing, params)


def retention() -> Query[list[RetentionRule]]:
    """Reads the rules of retention."""
    return Query("retention/list", lambda rows: [RetentionRule(*row) for row in rows])


def keep(queue: str, state: str, seconds: float | None) -> Query[None]:
    """Sets how long finished jobs are kept; None: for ever."""
    return Query("retention/set", nothing, {"queue": queue, "state": state, "seconds": seconds})


def keep_as_others(queue: str, state: str) -> Query[bool]:
    """Removes a rule of retention; returns whether there was one."""
    return Query("retention/unset", lambda rows: bool(rows[0][0]), {"queue": queue, "state": state})


def prune(most: int) -> Query[Pruned | None]:
    """Removes up to `most` finished jobs past their rule, and keys; None: there were none."""
    return Query("retention/prune", _pruned, {"most": most})


def _pruned(rows: Sequence[Row]) -> Pruned | None:
    found = Pruned(None, *rows[0])
    return found if found.jobs or found.keys else None


def drop_partition() -> Query[Pruned | None]:
    """Drops one partition of the archive in which every job is past its rule; None: there is none.

    Or there is one that somebody reads, or somebody else is dropping one.
    """
    return Query("retention/drop", lambda rows: Pruned(*rows[0]) if rows else None)


def _number(rows: Sequence[Row]) -> int:
    return int(rows[0][0])
