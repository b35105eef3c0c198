"""Rules of removal: jobs deleted by hand, and final ones pruned."""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import precondition, rule

from holdfast.storage import jobs, queues
from machine import predict_removal
from machine.world import IDS, World, has_jobs


class RemovalRules(World):
    """Whoever tidies up."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        rows = self.desk.db.execute("SELECT queue, state, keep FROM holdfast.retention")
        self.retention = {(queue, state): keep for queue, state, keep in rows}

    @precondition(has_jobs)
    @rule(ids=IDS)
    def delete(self, ids: list[int]) -> None:
        """Jobs in any state are to go."""
        self.agree(jobs.delete(ids), predict_removal.delete(self.model, ids))

    @rule()
    def prune(self) -> None:
        """What is final and old goes."""
        prediction = predict_removal.prune(self.model, self.retention)
        self.agree(queues.prune(1000), prediction)
