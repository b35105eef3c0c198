"""Rules of a job's way: enqueued, claimed, ended, and every write that comes too late."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from psycopg.types.json import Jsonb

from fixtures.desk import completion, lanes_of, settled
from holdfast.model.job import Claim, Lane
from holdfast.model.outcome import Ending
from holdfast.model.writes import ProgressWrite
from holdfast.runtime.executor import Ended
from holdfast.storage import jobs
from machine import predict_jobs
from machine.model import Row
from machine.world import (
    LEASE,
    Lease,
    Session,
    World,
    expect,
    has_leases,
    has_workers,
    some_ids,
)

QUEUES = ["default", "other"]
# Binary fractions, so that sums of seconds are exact on both sides.
DELAYS = [0.0, 0.0, 0.25, 20.0, 4000.0]

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "queue": st.sampled_from(QUEUES),
        "priority": st.sampled_from([0, 1, 9]),
        "run_in": st.sampled_from([-60.0, 0.0, 0.25, 30.0]),
        "deadline_in": st.sampled_from([0.0, 0.25, 60.0]),
        "max_attempts": st.sampled_from([1, 1, 2]),
        "max_crashes": st.sampled_from([1, 2]),
        "args": st.sampled_from([{}, {"n": 1}]),
        "tags": st.sampled_from([[], ["red", "blue"]]),
    },
)
DEMANDS = st.dictionaries(st.sampled_from(QUEUES), st.integers(1, 3), min_size=1)
RESULTS = st.sampled_from([None, b"\x00", b"result"])


class JobRules(World):
    """Producers, and workers with the leases they believe in."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.newest = 0
        self.floors: dict[int, dict[tuple[str, int], tuple[datetime, int]]] = {}

    # --- Enqueue --------------------------------------------------------------------------------

    @rule(options=st.lists(OPTIONS, min_size=1, max_size=3))
    def enqueue(self, options: list[Row]) -> None:
        """One statement, several jobs."""
        self.main.told.clear()
        ids = self.insert(options, self.main)
        prediction = predict_jobs.enqueue(self.model, ids, options)
        self.operation = "enqueue"
        expect("notifications of enqueue", self.main.told, set(prediction.told))

    def insert(self, options: list[Row], session: Session) -> list[int]:
        """Enqueues as any producer does; the ids are new and in order."""
        sql = f"SELECT id FROM {self.desk.name}.enqueue(%s)"
        batch = Jsonb([{"name": "work", **each} for each in options])
        ids = [row[0] for row in session.conn.execute(sql, [batch])]
        if ids != sorted(set(ids)) or len(ids) != len(options) or ids[0] <= self.newest:
            raise AssertionError(f"ids {ids} after {self.newest} for {len(options)} jobs")
        self.newest = ids[-1]
        return ids

    # --- Claim ----------------------------------------------------------------------------------

    @precondition(has_workers)
    @rule(data=st.data(), demands=DEMANDS, floors=st.booleans())
    def claim(self, data: st.DataObject, demands: dict[str, int], floors: bool) -> None:
        """A worker takes what is due; one that is dead and does not know gets nothing."""
        worker_id = data.draw(st.sampled_from(self.claimers()))
        lanes = self.lanes(worker_id, demands, floors=floors)
        self.take(worker_id, self.claim_by(worker_id, demands, lanes))

    @precondition(has_workers)
    @rule(data=st.data(), demands=DEMANDS)
    def claim_and_lose_the_answer(self, data: st.DataObject, demands: dict[str, int]) -> None:
        """The connection broke: the rows say the worker runs jobs it has never heard of."""
        worker_id = data.draw(st.sampled_from(self.claimers()))
        self.claim_by(worker_id, demands, lanes_of(demands))

    def claimers(self) -> list[int]:
        """Workers with a row, rather than those that lost it."""
        gone = sorted({lease.worker_id for lease in self.leases} - self.model.workers.keys())
        return sorted(self.model.workers) * 2 + gone

    def lanes(self, worker_id: int, demands: dict[str, int], *, floors: bool) -> list[Lane]:
        """Where a claim begins to look: the first row the worker's last claim returned there."""
        known = self.floors.get(worker_id, {}) if floors else {}
        return [
            Lane(lane.queue, lane.priority, *known[lane.queue, lane.priority])
            if (lane.queue, lane.priority) in known
            else lane
            for lane in lanes_of(demands)
        ]

    def claim_by(
        self,
        worker_id: int,
        demands: dict[str, int],
        lanes: list[Lane],
        session: Session | None = None,
    ) -> Claim:
        """Claims, and compares everything that comes along."""
        prediction = predict_jobs.claim(self.model, worker_id, demands, lanes)
        query = jobs.claim(worker_id, demands, lanes)
        return self.agree(query, prediction, session=session, of_answer=decoded)

    def take(self, worker_id: int, claim: Claim) -> None:
        """The worker believes in what it was given."""
        floors = self.floors.setdefault(worker_id, {})
        for job in reversed(claim.jobs):
            floors[job.queue, job.priority] = (job.run_at, job.id)
        self.leases += [Lease(worker_id, job) for job in claim.jobs]

    # --- Ends -----------------------------------------------------------------------------------

    @precondition(has_leases)
    @rule(leases=st.lists(LEASE, min_size=1, max_size=3, unique_by=repr), result=RESULTS)
    def complete(self, leases: list[Lease], result: bytes | None) -> None:
        """A batch of successes of one worker, among them such as come too late."""
        worker_id = leases[0].worker_id
        codec, spill = (None, False) if result is None else (1, result == b"result")
        writes = [
            completion(lease.job, result=result, codec=codec, spill=spill)
            for lease in leases
            if lease.worker_id == worker_id
        ]
        prediction = predict_jobs.complete(self.model, worker_id, writes)
        self.agree(jobs.complete(worker_id, self.desk.schema, writes), prediction)

    @precondition(has_leases)
    @rule(
        lease=LEASE,
        ending=st.sampled_from(Ending),
        delay_s=st.sampled_from(DELAYS),
        reason=st.sampled_from([None, "because"]),
        failed=st.booleans(),
        result=RESULTS,
        spill=st.booleans(),
    )
    def settle(
        self,
        lease: Lease,
        ending: Ending,
        delay_s: float,
        reason: str | None,
        failed: bool,
        result: bytes | None,
        spill: bool,
    ) -> None:
        """Any other end, as the rule decides it from what the claim brought."""
        error = ValueError("boom") if failed else None
        write = settled(lease.job, Ended(ending, error=error, delay_s=delay_s, reason=reason))
        if ending is Ending.COMPLETED and result is not None:
            write = write._replace(result=result, codec=1, spill=spill)
        prediction = predict_jobs.settle(self.model, lease.worker_id, [write])
        self.agree(jobs.settle(lease.worker_id, self.desk.schema, [write]), prediction)

    @precondition(has_leases)
    @rule(
        lease=LEASE,
        fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        text=st.sampled_from([None, "reading"]),
    )
    def progress(self, lease: Lease, fraction: float, text: str | None) -> None:
        """A report of progress, now and then of an earlier point."""
        writes = [ProgressWrite(lease.job.id, lease.job.epoch, fraction, fraction * 8, 8.0, text)]
        prediction = predict_jobs.progress(self.model, lease.worker_id, writes)
        self.agree(jobs.progress(lease.worker_id, writes), prediction)

    # --- What a worker asks of its jobs ---------------------------------------------------------

    @precondition(has_workers)
    @rule(data=st.data())
    def disown(self, data: st.DataObject) -> None:
        """A worker hands back what it does not know; it may know a job by an older epoch."""
        worker_id = data.draw(st.sampled_from(self.claimers()))
        believed = [(x.job.id, x.job.epoch) for x in self.leases if x.worker_id == worker_id]
        forgotten = data.draw(st.sets(st.sampled_from(believed), max_size=1)) if believed else ()
        known = set(believed) - set(forgotten)
        prediction = predict_jobs.disown(self.model, worker_id, known)
        self.agree(jobs.disown(worker_id, self.desk.schema, known), prediction, of_answer=sorted)

    @rule(everything=st.booleans())
    def look(self, everything: bool) -> None:
        """What the committer and those who wait for results read."""
        for worker_id in self.model.workers:
            prediction = predict_jobs.owned(self.model, worker_id, everything=everything)
            query = jobs.owned(worker_id, everything=everything)
            self.agree(query, prediction, of_answer=sorted)
        ids = [*some_ids(self), 987654]
        prediction = predict_jobs.endings(self.model, ids)
        self.agree(
            jobs.endings(ids),
            prediction,
            of_answer=lambda rows: sorted(rows, key=lambda row: row.id),
        )


def decoded(claim: Claim) -> Claim:
    """A claim with its journals as mappings, to compare."""
    return claim._replace(jobs=[job._replace(journal=_journal(job.journal)) for job in claim.jobs])


def _journal(text: str | None) -> Any:
    return {
        key: {name: _comparable(name, getattr(step, name)) for name in step.__slots__}
        for key, step in jobs.decode_journal(text).items()
    }


def _comparable(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name == "wake_at" and value else value
