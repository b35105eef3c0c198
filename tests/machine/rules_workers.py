"""Rules of workers: registered, renewed, frozen, cut off, declared dead, and robbed of jobs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from holdfast.storage import workers
from holdfast.storage.workers import Beat, Registration
from machine import predict_workers
from machine.world import A_WORKER, GRACE_S, LEASE_S, World, has_workers

SUPERVISORS = [1, 2]
LOCKING = {2}
"""The supervisors with a session lock beside their leases."""
MAX_WORKERS = 3


class WorkerRules(World):
    """Two supervisors, and up to three workers below them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.last_worker = 100

    @precondition(lambda self: len(self.model.workers) < MAX_WORKERS)
    @rule(supervisor_id=st.sampled_from(SUPERVISORS))
    def register(self, supervisor_id: int) -> None:
        """A new process takes part."""
        locked = supervisor_id in LOCKING
        if locked:
            self.take_lock(supervisor_id)
        self.last_worker += 1
        new = Registration(
            worker_id=self.last_worker,
            supervisor_id=supervisor_id,
            pid=1,
            host="test",
            app="test",
            code_version=None,
            queues={"default": 10},
            job_names=["work"],
            lease_s=LEASE_S,
        )
        lock_key = workers.lock_key(self.desk.schema, supervisor_id) if locked else None
        prediction = predict_workers.register(
            self.model, self.last_worker, supervisor_id, lock_key, LEASE_S
        )
        self.agree(workers.register(new, self.desk.schema, locked=locked), prediction)

    def take_lock(self, supervisor_id: int) -> None:
        """The supervisor's session holds its lock."""
        if supervisor_id not in self.model.locked:
            self.desk.run(workers.take_lock(self.desk.schema, supervisor_id), self.main.conn)
            self.model.locked.add(supervisor_id)

    @rule(supervisor_id=st.sampled_from(sorted(LOCKING)))
    def session_comes_and_goes(self, supervisor_id: int) -> None:
        """The supervisor loses its connection, or has a new one."""
        if supervisor_id not in self.model.locked:
            self.take_lock(supervisor_id)
            return
        key = workers.lock_key(self.desk.schema, supervisor_id)
        self.main.conn.execute("SELECT pg_advisory_unlock(%s)", [key])
        self.model.locked.discard(supervisor_id)

    @rule(supervisor_id=st.sampled_from(SUPERVISORS))
    def beat(self, supervisor_id: int) -> None:
        """One heartbeat, without what it might lead to."""
        self.beat_of(supervisor_id)

    @rule(supervisor_id=st.sampled_from(SUPERVISORS))
    def beat_and_rescue(self, supervisor_id: int) -> None:
        """A supervisor finds others' dead workers, and goes on until their rows are gone."""
        for worker_id in sorted(self.beat_of(supervisor_id).dead):
            for _ in range(3):
                self.the_database_is_as_the_model_says()
                self.release_of(worker_id, certain=False, charge=True)
                exists = self.desk.run(workers.worker_exists(worker_id), self.main.conn)
                if not exists:
                    break
            else:
                raise AssertionError(f"worker {worker_id} is still there after three rescues")

    def beat_of(self, supervisor_id: int) -> Beat:
        """Renews and reports, on both sides."""
        timing = {"lease_s": LEASE_S, "grace_s": GRACE_S}
        prediction = predict_workers.beat(self.model, supervisor_id, **timing)
        return self.agree(
            workers.beat(supervisor_id, **timing),
            prediction,
            of_answer=lambda beat: (beat.renewed, beat.suspects, beat.dead),
        )

    @precondition(has_workers)
    @rule(
        worker_id=A_WORKER,
        data=st.data(),
        certain=st.sampled_from([False, False, True]),
        charge=st.booleans(),
    )
    def release(self, worker_id: int, data: st.DataObject, certain: bool, charge: bool) -> None:
        """One call of a rescue: of a child seen dying, or of a stranger who may be alive."""
        running = [job.id for job in self.model.running(worker_id)]
        some = st.sets(st.sampled_from(running)) if running else st.just(set())
        culprits = data.draw(st.none() | some)
        self.release_of(worker_id, certain=certain, charge=charge, culprits=culprits)

    def release_of(
        self,
        worker_id: int,
        *,
        certain: bool,
        charge: bool,
        culprits: set[int] | None = None,
        **busy: Any,
    ) -> None:
        """Takes a worker's jobs away, as far as its row proves it, on both sides."""
        how: dict[str, Any] = {
            "outcome": "crashed" if charge else "shutdown",
            "reason": "killed by signal 9",
            "certain": certain,
            "charge": charge,
            "culprits": None if culprits is None else sorted(culprits),
            "grace_s": GRACE_S,
        }
        prediction = predict_workers.release(self.model, [worker_id], **how, **busy)
        self.agree(workers.release([worker_id], self.desk.schema, **how), prediction)
