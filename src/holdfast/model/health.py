"""What an examination of the database finds out, as it is; what that means is judged elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Server:
    """The server and as whom we are in it."""

    version_number: int
    version: str
    user: str


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver in this process; `implementation` is binary, c or python."""

    version: str
    implementation: str


@dataclass(frozen=True, slots=True)
class Skew:
    """How far the database's clock is before this machine's, and how wrong that may be."""

    ahead_s: float
    error_s: float


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who keeps vacuum from removing dead rows; None is what cannot be known."""

    kind: str
    pid: int | None
    name: str | None
    user: str | None
    state: str | None
    age_s: float | None
    xid_age: int
    query_age_s: float | None
    query: str | None


@dataclass(frozen=True, slots=True)
class TableHealth:
    """What the statistics say of one hot table."""

    name: str
    live: int
    dead: int
    vacuumed_s: float | None
    size_bytes: int
    claim_index_bytes: int | None


@dataclass(frozen=True, slots=True)
class ArchiveHealth:
    """For how many days from today the archive has partitions, and what lies beside them."""

    days: int
    in_default: int


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Jobs of one queue and name that no live worker can run."""

    queue: str
    name: str
    served: bool
    count: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """Jobs that stopped for a person, for one reason."""

    reason: str
    count: int
    first_id: int
