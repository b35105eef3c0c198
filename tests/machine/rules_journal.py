"""Rules of the journal: steps recorded, tried again, slept, remembered, forgotten, read back."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from fixtures.desk import step_write
from holdfast.model.writes import Forget
from holdfast.storage import steps
from machine import predict_journal
from machine.world import IDS, LEASE, Lease, World, has_jobs, has_leases

KEYS = ["fetch", "think", "nap"]

FINISHED = st.fixed_dictionaries(
    {"state": st.just("done"), "result": st.sampled_from([b"", b"r", b"other"])},
    optional={"spill": st.just(True), "attempts": st.just(3), "code_version": st.just("v2")},
)
FAILED = st.fixed_dictionaries(
    {
        "state": st.just("failed"),
        "result": st.none(),
        "codec": st.none(),
        "error_type": st.just("ValueError"),
        "error_message": st.just("boom"),
    },
)
RETRYING = st.fixed_dictionaries(
    {
        "state": st.just("retrying"),
        "result": st.none(),
        "codec": st.none(),
        "attempts": st.integers(1, 3),
        "wake_s": st.sampled_from([0.0, 20.0]),
    },
)
SLEEP = st.fixed_dictionaries(
    {
        "kind": st.just("sleep"),
        "state": st.just("done"),
        "result": st.none(),
        "codec": st.none(),
        "fingerprint": st.none(),
        "wake_s": st.sampled_from([0.25, 20.0, 4000.0]),
    },
)


class JournalRules(World):
    """Running jobs and what they write down."""

    @precondition(has_leases)
    @rule(
        lease=LEASE,
        rows=st.dictionaries(
            st.sampled_from(KEYS), FINISHED | FAILED | RETRYING | SLEEP, min_size=1, max_size=2
        ),
        also=st.none() | LEASE,
    )
    def record(self, lease: Lease, rows: dict[str, Any], also: Lease | None) -> None:
        """Rows of one worker's jobs, in one statement; the same key may be written again."""
        writes = [step_write(lease.job, key, **row) for key, row in rows.items()]
        if also and also.worker_id == lease.worker_id and also != lease:
            writes += [write._replace(job_id=also.job.id, epoch=also.job.epoch) for write in writes]
        writes = [write._replace(seq=n) for n, write in enumerate(writes, start=1)]
        prediction = predict_journal.record(self.model, lease.worker_id, writes)
        self.agree(steps.record(lease.worker_id, writes), prediction)

    @precondition(has_leases)
    @rule(lease=LEASE, key=st.sampled_from(KEYS))
    def forget(self, lease: Lease, key: str) -> None:
        """An error turned out to end the attempt after all."""
        writes = [Forget(lease.job.id, lease.job.epoch, key)]
        self.agree(steps.forget(writes), predict_journal.forget(self.model, writes))

    @precondition(has_jobs)
    @rule(ids=IDS, key=st.sampled_from(KEYS))
    def load(self, ids: list[int], key: str) -> None:
        """A result is read back byte for byte."""
        prediction = predict_journal.load(self.model, ids[0], key)
        self.agree(steps.load(ids[0], key), prediction)
