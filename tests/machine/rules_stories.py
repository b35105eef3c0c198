"""Rules that are short stories: sequences that matter, and that single rules seldom make.

Each calls rules and operations of the other files one after the other, and compares in between.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from fixtures.desk import lanes_of
from holdfast.model.outcome import Ending
from holdfast.storage import jobs
from machine import predict_jobs
from machine.model import Row
from machine.rules_jobs import DEMANDS, QUEUES
from machine.rules_journal import KEYS, JournalRules
from machine.rules_overlap import WRITES, OverlapRules
from machine.rules_people import DAY, PeopleRules
from machine.rules_removal import RemovalRules
from machine.rules_unique import SOME, UniqueRules
from machine.rules_workers import LOCKING, SUPERVISORS
from machine.world import A_WORKER, HELD, Lease, has_workers, holds_something, some_ids

DONE = {"state": "done", "result": b"r"}
CAUGHT = {"state": "failed", "result": None, "codec": None, "error_type": "E"}


class StoryRules(OverlapRules, UniqueRules, JournalRules, PeopleRules, RemovalRules):
    """What needs more than one step."""

    @initialize(batch=SOME, demands=DEMANDS)
    def something_runs(self, batch: list[tuple[Row, Row | None]], demands: dict[str, int]) -> None:
        """Begins with a worker under each supervisor, and jobs of which some run."""
        for supervisor_id in SUPERVISORS:
            self.register(supervisor_id=supervisor_id)
        self.put(batch, self.main)
        first = min(self.model.workers)
        self.take(first, self.claim_by(first, demands, lanes_of(demands)))

    @rule(batch=SOME, supervisor_id=st.sampled_from(SUPERVISORS))
    def jobs_come_and_start(self, batch: list[tuple[Row, Row | None]], supervisor_id: int) -> None:
        """A worker with many free slots is at hand when jobs come; a new one, if all are dead."""
        able = [worker.id for worker in self.model.workers.values() if not worker.declared_dead]
        if not able:
            self.register(supervisor_id=supervisor_id)
            self.the_database_is_as_the_model_says()
        self.put(batch, self.main)
        self.the_database_is_as_the_model_says()
        demands = dict.fromkeys(QUEUES, 3)
        worker_id = (able or [self.last_worker])[-1]
        self.take(worker_id, self.claim_by(worker_id, demands, lanes_of(demands)))

    @precondition(has_workers)
    @rule(worker_id=A_WORKER, floors=st.booleans(), loses_the_answer=st.booleans())
    def disown_and_claim_again(self, worker_id: int, floors: bool, loses_the_answer: bool) -> None:
        """A worker gets back at once what it has lost, and knows it by old epochs, too."""
        self.hand_back(worker_id, set())
        demands = dict.fromkeys(QUEUES, 2)
        lanes = self.lanes(worker_id, demands, floors=floors)
        claim = self.claim_by(worker_id, demands, lanes)
        self.the_database_is_as_the_model_says()
        if loses_the_answer:
            believed = [lease.job for lease in self.leases if lease.worker_id == worker_id]
            self.hand_back(worker_id, {(job.id, job.epoch) for job in believed})
        else:
            self.take(worker_id, claim)

    def hand_back(self, worker_id: int, known: set[tuple[int, int]]) -> None:
        """Hands back what the worker does not know."""
        prediction = predict_jobs.disown(self.model, worker_id, known)
        query = jobs.disown(worker_id, self.desk.schema, known)
        self.agree(query, prediction, of_answer=sorted)
        self.the_database_is_as_the_model_says()

    @precondition(holds_something)
    @rule(
        lease=HELD,
        what=st.sampled_from(["complete", "settle", "release"]),
        reason=st.sampled_from([None, "not wanted"]),
    )
    def cancel_before_an_end(self, lease: Lease, what: str, reason: str | None) -> None:
        """A cancel comes just before an end: whichever end it is, the job is cancelled."""
        self.cancel(ids=[lease.job.id], reason=reason)
        self.the_database_is_as_the_model_says()
        if what == "release":
            self.release_of(lease.worker_id, certain=True, charge=True)
        else:
            self.agree(*self.write_of(lease, what))

    @precondition(holds_something)
    @rule(lease=HELD)
    def write_with_almost_a_lease(self, lease: Lease) -> None:
        """Another worker, or the same one with an epoch before or after: nothing may change."""
        self.record(lease=lease, rows={"think": CAUGHT}, also=None)
        self.the_database_is_as_the_model_says()
        for wrong in self.almost(lease):
            for what in WRITES:
                query, prediction = self.write_of(wrong, what)
                if prediction.answer:
                    raise AssertionError(f"the model lets {wrong} write")
                self.agree(query, prediction)
            if wrong.job.epoch != lease.job.epoch:
                self.forget(lease=wrong, key="think")
                self.the_database_is_as_the_model_says()

    @precondition(holds_something)
    @rule(
        lease=HELD,
        ending=st.just(Ending.FAILED) | st.sampled_from(Ending),
        forgets=st.booleans(),
    )
    def end_and_retry(self, lease: Lease, ending: Ending, forgets: bool) -> None:
        """A job with a journal ends somehow and is to run again: finished steps are kept."""
        self.record(lease=lease, rows={"fetch": DONE, "think": CAUGHT}, also=None)
        self.the_database_is_as_the_model_says()
        for key in KEYS if forgets else ():
            self.forget(lease=lease, key=key)
            self.the_database_is_as_the_model_says()
        how = {"delay_s": 20.0, "reason": None, "failed": True, "result": None, "spill": False}
        self.settle(lease=lease, ending=ending, **how)
        self.the_database_is_as_the_model_says()
        self.retry(ids=[lease.job.id])

    @precondition(holds_something)
    @rule(
        lease=HELD,
        ending=st.sampled_from([Ending.COMPLETED, Ending.DISCARDED, Ending.CANCELLED]),
        days=st.sampled_from([31, 91]),
    )
    def end_and_prune(self, lease: Lease, ending: Ending, days: int) -> None:
        """A job ends, and after a while it goes, if the rule for its state says so."""
        how = {"delay_s": 0.0, "reason": None, "failed": False, "result": b"r", "spill": True}
        self.settle(lease=lease, ending=ending, **how)
        self.the_database_is_as_the_model_says()
        self.time_passes(seconds=days * DAY)
        self.prune()

    @rule(
        batch=SOME,
        period=st.sampled_from([0.25, 60.0]),
        seconds=st.sampled_from([0.0, 0.25]),
    )
    def a_key_outlives_its_job(
        self, batch: list[tuple[Row, Row | None]], period: float, seconds: float
    ) -> None:
        """A job is cancelled, and its key stays taken until the period is over."""
        same: list[tuple[Row, Row | None]] = [({}, {"key": "a", "period": period})]
        self.enqueue_unique(batches=[same])
        self.cancel(ids=some_ids(self), reason=None)
        self.the_database_is_as_the_model_says()
        self.time_passes(seconds=seconds)
        self.enqueue_unique(batches=[batch + same])

    @precondition(holds_something)
    @rule(lease=HELD, guilty=st.booleans())
    def a_process_dies(self, lease: Lease, guilty: bool) -> None:
        """Its supervisor knows whose fault it was: one job's, or none of its jobs'."""
        culprits = {lease.job.id} if guilty else set()
        self.release_of(lease.worker_id, certain=True, charge=True, culprits=culprits)

    @rule(
        supervisor_id=st.sampled_from(sorted(LOCKING)),
        observer=st.sampled_from(SUPERVISORS),
        seconds=st.sampled_from([0.125, 0.25]),
    )
    def a_lock_stays_away(self, supervisor_id: int, observer: int, seconds: float) -> None:
        """Two heartbeats see that a session lock is gone: the first one counts."""
        if supervisor_id in self.model.locked:
            self.session_comes_and_goes(supervisor_id=supervisor_id)
        self.beat(supervisor_id=observer)
        self.the_database_is_as_the_model_says()
        self.time_passes(seconds=seconds)
        self.beat(supervisor_id=observer)
