"""Rules of transactions that overlap: one is in flight while another statement runs.

The second connection begins and does not end yet; what it holds must be skipped, never waited
for, and what it has inserted must not be seen. Then it commits or rolls back.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from fixtures.desk import completion, lanes_of, settled, step_write
from holdfast.model.outcome import Ending
from holdfast.model.writes import ProgressWrite
from holdfast.runtime.executor import Ended
from holdfast.storage import jobs, steps
from holdfast.storage.query import Query
from machine import predict_jobs, predict_journal
from machine.model import Prediction, Row
from machine.rules_jobs import DEMANDS, OPTIONS, JobRules
from machine.rules_workers import WorkerRules
from machine.world import A_WORKER, HELD, Lease, has_workers, holds_something

WRITES = ["complete", "settle", "progress", "record"]


class OverlapRules(JobRules, WorkerRules):
    """Two connections whose transactions overlap."""

    def end(self, *, commits: bool) -> None:
        """Ends the transaction in flight."""
        self.beside.conn.execute("COMMIT" if commits else "ROLLBACK")

    def begin(self) -> None:
        """Begins it."""
        self.beside.conn.execute("BEGIN")

    @precondition(has_workers)
    @rule(
        options=st.lists(OPTIONS, min_size=1, max_size=2),
        worker_id=A_WORKER,
        demands=DEMANDS,
        commits=st.booleans(),
    )
    def enqueue_in_flight(
        self, options: list[Row], worker_id: int, demands: dict[str, int], commits: bool
    ) -> None:
        """A claim does not see jobs that are not committed; rolled back, they never existed."""
        self.begin()
        ids = self.insert(options, self.beside)
        self.take(worker_id, self.claim_by(worker_id, demands, lanes_of(demands)))
        self.end(commits=commits)
        if commits:
            predict_jobs.enqueue(self.model, ids, options)

    @precondition(has_workers)
    @rule(first=A_WORKER, second=A_WORKER, wanted=DEMANDS, demands=DEMANDS, commits=st.booleans())
    def claim_beside_a_claim(
        self,
        first: int,
        second: int,
        wanted: dict[str, int],
        demands: dict[str, int],
        commits: bool,
    ) -> None:
        """Two claims at the same moment share the jobs, and neither waits."""
        saved = self.saved()
        self.begin()
        taken = self.claim_by(first, wanted, lanes_of(wanted), self.beside)
        self.take(second, self.claim_by(second, demands, lanes_of(demands)))
        self.end(commits=commits)
        if commits:
            self.take(first, taken)
        else:
            self.model.put_back(saved, [job.id for job in taken.jobs])

    @precondition(has_workers)
    @rule(worker_id=A_WORKER, demands=DEMANDS, commits=st.booleans())
    def release_beside_a_claim(
        self, worker_id: int, demands: dict[str, int], commits: bool
    ) -> None:
        """A rescue leaves a worker alone whose claim is in flight: it could not see its jobs."""
        saved = self.saved()
        claiming = not self.model.workers[worker_id].declared_dead
        self.begin()
        taken = self.claim_by(worker_id, demands, lanes_of(demands), self.beside)
        busy = {worker_id} if claiming else set()
        self.release_of(worker_id, certain=True, charge=True, busy_workers=busy)
        self.end(commits=commits)
        if commits:
            self.take(worker_id, taken)
        else:
            self.model.put_back(saved, [job.id for job in taken.jobs])

    @precondition(holds_something)
    @rule(lease=HELD, what=st.sampled_from(WRITES), commits=st.booleans(), charge=st.booleans())
    def release_beside_a_write(self, lease: Lease, what: str, commits: bool, charge: bool) -> None:
        """A rescue leaves the job alone that its owner is just writing about."""
        saved = self.saved()
        self.begin()
        query, prediction = self.write_of(lease, what)
        self.agree(query, prediction, session=self.beside)
        written, self.model = self.model, saved
        self.release_of(lease.worker_id, certain=True, charge=charge, busy_jobs={lease.job.id})
        self.end(commits=commits)
        if commits:
            self.model.put_back(written, [lease.job.id])

    def write_of(self, lease: Lease, what: str) -> tuple[Query[Any], Prediction]:
        """One write of an owner, and what it does."""
        worker_id, job, model = lease.worker_id, lease.job, self.model
        if what == "complete":
            done = [completion(job)]
            query: Query[Any] = jobs.complete(worker_id, self.desk.schema, done)
            return query, predict_jobs.complete(model, worker_id, done)
        if what == "settle":
            ends = [settled(job, Ended(Ending.FAILED, delay_s=20.0))]
            query = jobs.settle(worker_id, self.desk.schema, ends)
            return query, predict_jobs.settle(model, worker_id, ends)
        if what == "progress":
            reports = [ProgressWrite(job.id, job.epoch, 0.5, 4.0, 8.0, "half")]
            return jobs.progress(worker_id, reports), predict_jobs.progress(
                model, worker_id, reports
            )
        rows = [step_write(job, "fetch", result=b"in flight")]
        return steps.record(worker_id, rows), predict_journal.record(model, worker_id, rows)
