"""The machine's ground: a real database beside the model, and the comparison after each rule.

Rules live in `rules_*.py`, one class an area, all based on `World`. A rule asks the model what
must happen, lets the real statement do it, and compares the answers; the invariant then compares
every row. Time stands still but for the rule `time_passes`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from psycopg.rows import dict_row

from fixtures.desk import Desk
from holdfast.model.job import ClaimedJob
from holdfast.storage.query import Query
from machine.invariants import violations
from machine.model import Model, Prediction, Row, Tables

LEASE_S = 0.5
"""Shorter than the test server has been up: younger ones grant an amnesty."""
GRACE_S = 0.25

KEYS = {
    "job": ("id",),
    "job_archive": ("id",),
    "execution": ("job_id", "epoch"),
    "step": ("job_id", "key"),
    "blob": ("job_id", "key"),
    "worker": ("id",),
    "unique_key": ("key",),
}
NOT_MODELLED = {
    "worker": {
        "pid",
        "host",
        "app",
        "code_version",
        "queues",
        "job_names",
        "name",
        "paused",
        "closed",
    },
}
"""Columns that no operation here decides about."""


class Lease(NamedTuple):
    """What a worker believes to hold; it may be wrong by now."""

    worker_id: int
    job: ClaimedJob

    def __repr__(self) -> str:
        return f"<worker {self.worker_id}: job {self.job.id} in epoch {self.job.epoch}>"


@dataclass
class Session:
    """One connection with the clock set, which remembers what it was told by itself."""

    conn: psycopg.Connection
    told: set[tuple[str, str]]

    def set_time(self, now: datetime) -> None:
        """Moves this session's clock."""
        self.conn.execute("SELECT set_config('machine.now', %s, false)", [now.isoformat()])


class World(RuleBasedStateMachine):
    """Both sides, and how they are compared."""

    def __init__(self, desk: Desk, main: Session, beside: Session) -> None:
        super().__init__()
        self.desk, self.main, self.beside = desk, main, beside
        self.model = Model()
        self.leases: list[Lease] = []
        self.operation = "nothing"
        self.before: Tables = {table: {} for table in KEYS}
        self.desk.db.empty()
        self.move_to(self.model.now)

    def teardown(self) -> None:
        """Gives the session locks back, and ends what a failed rule left in flight."""
        self.beside.conn.rollback()
        self.main.conn.execute("SELECT pg_advisory_unlock_all()")

    def move_to(self, now: datetime) -> None:
        """Sets the time, on both sides."""
        self.model.now = now
        for session in (self.main, self.beside):
            session.set_time(now)

    # --- Operations -----------------------------------------------------------------------------

    def agree(
        self,
        query: Query[Any],
        prediction: Prediction,
        *,
        session: Session | None = None,
        of_answer: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """Runs a statement; its answer and its notifications must be the predicted ones."""
        session = session or self.main
        session.told.clear()
        answer = self.desk.run(query, session.conn)
        self.operation = query.name.partition("/")[2]
        expect(self.operation, of_answer(answer), prediction.answer)
        if session is self.main:
            expect(f"notifications of {self.operation}", session.told, set(prediction.told))
        return answer

    def saved(self) -> Model:
        """The model as it is now, for a transaction that may roll back."""
        return deepcopy(self.model)

    # --- What there is to choose from -----------------------------------------------------------

    def held(self) -> list[Lease]:
        """The leases that still count."""
        return [
            lease
            for lease in self.leases
            if self.model.owned(lease.worker_id, lease.job.id, lease.job.epoch)
        ]

    def some_leases(self) -> list[Lease]:
        """What workers believe to hold: two of three draws are such as still count."""
        held, known = self.held(), self.leases[-12:]
        return held * (2 * len(known) // max(1, len(held))) + known

    def almost(self, lease: Lease) -> list[Lease]:
        """Leases that would count, were they not another worker's or of another epoch."""
        worker_id, job = lease
        others = [Lease(i, job) for i in sorted(self.model.workers) if i != worker_id]
        epochs = [job._replace(epoch=job.epoch + by) for by in (-1, 1)]
        return others[:1] + [Lease(worker_id, other) for other in epochs]

    # --- Comparison -----------------------------------------------------------------------------

    @invariant()
    def the_database_is_as_the_model_says(self) -> None:
        """Compares every row of every table, and holds the laws against what changed."""
        after = read(self.main.conn, self.desk.name)
        broken = violations(self.before, after, self.operation)
        if broken:
            raise AssertionError(f"after {self.operation}: " + "; ".join(broken))
        expect(f"rows after {self.operation}", after, self.model.tables())
        self.before = after


def read(conn: psycopg.Connection, schema: str) -> Tables:
    """Every row of every table the machine knows, by key; two rows of one key are an error."""
    with conn.pipeline():
        cursors = {
            table: conn.cursor(row_factory=dict_row).execute(f"SELECT * FROM {schema}.{table}")
            for table in KEYS
        }
    tables: Tables = {}
    for table, key in KEYS.items():
        skipped = NOT_MODELLED.get(table, set())
        rows: dict[Any, Row] = {}
        for row in cursors[table]:
            place = tuple(row[column] for column in key)
            place = place[0] if len(place) == 1 else place
            if place in rows:
                raise AssertionError(f"{table} has two rows {place}")
            rows[place] = {k: v for k, v in row.items() if k not in skipped}
        tables[table] = rows
    return tables


def expect(what: str, real: object, predicted: object) -> None:
    """Raises with the places at which both sides differ."""
    if real != predicted:
        lines = "\n  ".join(_differences("", real, predicted))
        raise AssertionError(f"{what} (database ≠ model):\n  {lines}")


def _differences(path: str, real: Any, predicted: Any) -> list[str]:
    if isinstance(real, dict) and isinstance(predicted, dict):
        missing = object()
        return [
            line
            for key in sorted(real.keys() | predicted.keys(), key=str)
            if (mine := real.get(key, missing)) != (other := predicted.get(key, missing))
            for line in (
                _differences(f"{path}/{key}", mine, other)
                if missing not in (mine, other)
                else [f"{path}/{key} is only in the {'model' if mine is missing else 'database'}"]
            )
        ]
    return [f"{path}: {real!r} ≠ {predicted!r}"]


def chosen(choices: Callable[[Any], list[Any]]) -> st.SearchStrategy[Any]:
    """Draws from what the machine has at that moment; the rule's precondition says it has some."""
    return st.runner().flatmap(lambda machine: st.sampled_from(choices(machine)))


def some_ids(machine: World) -> list[int]:
    """The ids of all jobs."""
    return sorted(machine.model.jobs)


def has_jobs(machine: World) -> bool:
    """Precondition: there is a job."""
    return bool(machine.model.jobs)


def has_leases(machine: World) -> bool:
    """Precondition: a worker believes to hold something."""
    return bool(machine.leases)


def holds_something(machine: World) -> bool:
    """Precondition: a lease counts."""
    return bool(machine.held())


def has_workers(machine: World) -> bool:
    """Precondition: a worker has a row."""
    return bool(machine.model.workers)


IDS = st.runner().flatmap(
    lambda machine: st.lists(
        st.sampled_from(some_ids(machine)), min_size=1, max_size=3, unique=True
    )
)
LEASE = chosen(World.some_leases)
HELD = chosen(World.held)
A_WORKER = chosen(lambda machine: sorted(machine.model.workers))
