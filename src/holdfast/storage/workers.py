"""Operations on workers, their leases and duties, as `Query` values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_core import from_json, to_json

from holdfast.model.job import WorkerInfo
from holdfast.storage.arrays import numbers
from holdfast.storage.query import Query, Row, nothing
from holdfast.storage.statements import channel


@dataclass(frozen=True, slots=True)
class Registration:
    """What a worker's row says of it."""

    worker_id: int
    supervisor_id: int
    pid: int
    host: str
    app: str
    code_version: str | None
    queues: dict[str, int]
    job_names: Sequence[str]
    lease_s: float
    name: str = ""
    closed: bool = False


@dataclass(slots=True)
class Beat:
    """The answer to one heartbeat."""

    renewed: set[int] = field(default_factory=set)
    suspects: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    duty_due: bool = False


def lock_key(schema: str, supervisor_id: int) -> int:
    """Returns the key of a supervisor's session lock; it contains the schema."""
    digest = hashlib.blake2b(f"{schema}/supervisor/{supervisor_id}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1


def register(new: Registration, schema: str, *, locked: bool) -> Query[None]:
    """Adds a worker's row: from now on it may claim."""
    params = {
        "id": new.worker_id,
        "supervisor_id": new.supervisor_id,
        "lock_key": lock_key(schema, new.supervisor_id) if locked else None,
        "pid": new.pid,
        "host": new.host,
        "app": new.app,
        "code_version": new.code_version,
        "lease_s": new.lease_s,
        "name": new.name,
        "closed": new.closed,
        "queues": to_json(new.queues).decode(),
        "job_names": list(new.job_names),
    }
    return Query("workers/register", nothing, params)


def take_lock(schema: str, supervisor_id: int) -> Query[bool]:
    """Takes the supervisor's session lock without waiting."""
    params = {"lock_key": lock_key(schema, supervisor_id)}
    return Query("workers/lock", lambda rows: bool(rows[0][0]), params)


def beat(supervisor_id: int, *, lease_s: float, grace_s: float) -> Query[Beat]:
    """Renews a supervisor's leases and reports on everybody else's."""
    params = {"supervisor_id": supervisor_id, "lease_s": lease_s, "grace_s": grace_s}
    return Query("workers/beat", _beat, params, prepare=True)


def _beat(rows: Sequence[Row]) -> Beat:
    answer = Beat()
    groups = {"renewed": answer.renewed, "suspect": answer.suspects, "dead": answer.dead}
    for kind, worker_id in rows:
        if kind == "duty":
            answer.duty_due = True
        else:
            groups[kind].add(worker_id)
    return answer


def release(
    worker_ids: Sequence[int],
    schema: str,
    *,
    outcome: str,
    reason: str,
    certain: bool,
    charge: bool,
    culprits: Sequence[int] | None = None,
    grace_s: float = 1.0,
) -> Query[dict[int, str]]:
    """Takes the jobs of dead workers away from them; returns the state of every job moved."""
    params = {
        "worker_ids": numbers(worker_ids),
        "certain": certain,
        "grace_s": grace_s,
        "charge": "crash" if charge else None,
        "culprits": None if culprits is None else numbers(culprits),
        "outcome": outcome,
        "reason": reason,
        "wake_channel": channel(schema, "wake"),
        "done_channel": channel(schema, "done"),
    }
    return Query("workers/release", lambda rows: {row[0]: row[1] for row in rows}, params)


def claim_duty() -> Query[str | None]:
    """Takes one duty that is due; returns its name."""
    return Query("duties/claim", lambda rows: rows[0][0] if rows else None)


def make_partitions(days_ahead: int) -> Query[int]:
    """Makes the archive's partitions of the coming days; returns how many."""
    params = {"days_ahead": days_ahead}
    return Query("duties/partitions", lambda rows: int(rows[0][0]), params)


def live_workers() -> Query[list[WorkerInfo]]:
    """Reads the live workers, for people."""
    return Query("inspect/workers", _workers)


def _workers(rows: Sequence[Row]) -> list[WorkerInfo]:
    return [WorkerInfo(*(*row[:9], from_json(row[9]), *row[10:])) for row in rows]


def worker_exists(worker_id: int) -> Query[bool]:
    """Tells whether a worker still has a row."""
    return Query("workers/exists", lambda rows: bool(rows[0][0]), {"worker_id": worker_id})
