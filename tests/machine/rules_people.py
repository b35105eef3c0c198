"""Rules of people: cancel, retry, wait for an end; and of time, which only passes here."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from holdfast.storage import jobs
from machine import predict_people
from machine.world import IDS, World, has_jobs

DAY = 86_400.0


class PeopleRules(World):
    """Whoever is not a worker."""

    @precondition(has_jobs)
    @rule(ids=IDS, reason=st.sampled_from([None, "not wanted", "too late"]))
    def cancel(self, ids: list[int], reason: str | None) -> None:
        """Jobs in any state are cancelled."""
        self.agree(jobs.cancel(ids, reason), predict_people.cancel(self.model, ids, reason))

    @precondition(has_jobs)
    @rule(ids=IDS)
    def retry(self, ids: list[int]) -> None:
        """Jobs in any state are to run again."""
        self.agree(jobs.retry(ids), predict_people.retry(self.model, ids))

    @precondition(has_jobs)
    @rule(ids=IDS)
    def await_ends(self, ids: list[int]) -> None:
        """Somebody waits for results."""
        prediction = predict_people.await_ends(self.model, ids)
        self.agree(jobs.await_ends(ids, self.desk.schema), prediction)

    @rule(seconds=st.sampled_from([0.25, 0.5, 10.0, 60.0, 5000.0, 31 * DAY, 91 * DAY]))
    def time_passes(self, seconds: float) -> None:
        """Jobs become due, leases run out, deadlines pass."""
        self.move_to(self.model.after(seconds))
        self.operation = "time"
