"""Rules of unique jobs: a key while a job is unfinished, for a period, with things taken over."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from holdfast.model.job import JobTemplate, NewJob
from holdfast.storage import jobs
from machine import predict_unique
from machine.model import Row
from machine.rules_jobs import OPTIONS, JobRules
from machine.world import Session

RULES = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from(["a", "a", "b"]),
        "period": st.sampled_from([0.25, 60.0]),
        "replace": st.lists(st.sampled_from(["args", "run_at", "priority"]), unique=True),
    },
) | st.sampled_from([{}, {"args": ["n"]}, {"args": []}])
SOME = st.lists(st.tuples(OPTIONS, st.none() | RULES), min_size=1, max_size=3)


class UniqueRules(JobRules):
    """Producers that do not want a job twice."""

    @rule(batches=st.lists(SOME, min_size=1, max_size=3))
    def enqueue_unique(self, batches: list[list[tuple[Row, Row | None]]]) -> None:
        """Batches in which some jobs are to be unique, perhaps among themselves."""
        for batch in batches:
            self.put(batch, self.main)
            self.the_database_is_as_the_model_says()

    @rule(batch=SOME)
    def enqueue_unique_and_roll_back(self, batch: list[tuple[Row, Row | None]]) -> None:
        """Neither the jobs nor their keys are left, and what was taken over is as before."""
        saved = self.saved()
        self.beside.conn.execute("BEGIN")
        self.put(batch, self.beside)
        self.beside.conn.execute("ROLLBACK")
        self.model = saved

    def put(self, batch: list[tuple[Row, Row | None]], session: Session) -> None:
        """Enqueues through the statement, on both sides."""
        options = [given | ({} if rule is None else {"unique": rule}) for given, rule in batch]
        # The sequence gives one to each, also to those that are refused.
        ids = list(range(self.newest + 1, self.newest + 1 + len(options)))
        self.newest = ids[-1]
        prediction = predict_unique.enqueue(self.model, ids, options)
        self.agree(jobs.enqueue([_new(each) for each in options]), prediction, session=session)


def _new(given: Row) -> NewJob:
    options: dict[str, Any] = dict(given)
    unique = options.pop("unique", None)
    args_json = json.dumps(options.pop("args", {}))
    template = JobTemplate(
        name="work",
        queue=options.pop("queue", "default"),
        run_in_s=options.pop("run_in", None),
        deadline_in_s=options.pop("deadline_in", None),
        tags=tuple(options.pop("tags", ())),
        unique_json=None if unique is None else json.dumps(unique),
        **options,
    )
    return NewJob(template, args_json)
