"""What must hold whatever the model says: laws over the rows before and after one operation.

The model could repeat a mistake of the statements. These laws are so plain that they cannot; a
feature adds its own to `LAWS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from machine.model import Row, Tables

FINAL = {"completed", "discarded", "cancelled"}
LIVE = {"available", "executing", "attention"}
REMOVALS = {"delete", "prune"}


def violations(before: Tables, after: Tables, operation: str) -> list[str]:
    """Every law that does not hold between two looks at the database, in words."""
    return [text for law in LAWS for text in law(before, after, operation)]


def jobs_of(tables: Tables) -> dict[int, Row]:
    """Every job by id, wherever it is."""
    return tables["job_archive"] | tables["job"]


def every_job_is_in_one_place(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """Nothing is lost, nothing is there twice."""
    for job_id in after["job"].keys() & after["job_archive"].keys():
        yield f"job {job_id} is both live and archived"
    lost = jobs_of(before).keys() - jobs_of(after).keys()
    for job_id in lost if operation not in REMOVALS else ():
        yield f"job {job_id} is gone"
    for job_id in lost & (before["job"].keys() if operation == "prune" else set()):
        yield f"job {job_id} was pruned and not final"
    for table in ("step", "execution", "blob"):
        for key in after[table]:
            if key[0] not in jobs_of(after):
                yield f"{table} {key} has no job"


def places_and_states_agree(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """The live table has live jobs; who executes has a worker that exists."""
    for job in after["job"].values():
        if job["state"] not in LIVE:
            yield f"job {job['id']} is live and {job['state']}"
        if (job["state"] == "executing") != (job["worker_id"] is not None):
            yield f"job {job['id']} is {job['state']} with worker {job['worker_id']}"
        if job["worker_id"] is not None and job["worker_id"] not in after["worker"]:
            yield f"job {job['id']} stayed behind with worker {job['worker_id']}, which is gone"
    for job in after["job_archive"].values():
        if job["state"] not in FINAL:
            yield f"job {job['id']} is archived and {job['state']}"


def leases_are_never_given_twice(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """An epoch never decreases, and a job that begins to run has one nobody had."""
    for job_id, old, new in _both(before, after):
        if new["epoch"] < old["epoch"]:
            yield f"job {job_id}: epoch {old['epoch']} became {new['epoch']}"
        began = new["state"] == "executing" and old["state"] != "executing"
        if began and new["epoch"] <= old["epoch"]:
            yield f"job {job_id} runs again in epoch {new['epoch']}"
        gone = old["state"] == "executing" and new["state"] == "executing"
        if gone and (old["epoch"], old["worker_id"]) != (new["epoch"], new["worker_id"]):
            yield f"job {job_id}: a lease changed hands without an end"


def final_jobs_stay_as_they_are(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """Only a retry brings a job back."""
    if operation == "retry":
        return
    for job_id, old in before["job_archive"].items():
        kept = operation not in REMOVALS or job_id in jobs_of(after)
        if kept and after["job_archive"].get(job_id) != old:
            yield f"job {job_id} was final and changed"


def counters_only_grow(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """One ending costs at most one; only a retry forgets crashes; the limits hold."""
    for job_id, old, new in _both(before, after):
        names = ["failures", "resumes"] + ["crashes"] * (operation != "retry")
        steps = {name: new[name] - old[name] for name in names}
        if min(steps.values()) < 0 or sum(steps.values()) > 1:
            yield f"job {job_id}: counters moved by {steps}"
    for job in after["job"].values():
        if job["failures"] >= job["max_attempts"]:
            yield f"job {job['id']} lives with no attempt left"
        if job["crashes"] >= job["max_crashes"] and job["state"] != "attention":
            yield f"job {job['id']} lives after {job['crashes']} crashes"


def progress_never_goes_back(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """Whoever runs a job again, the bar stays."""
    for job_id, old, new in _both(before, after):
        if (new["progress"] or 0) < (old["progress"] or 0):
            yield f"job {job_id}: progress {old['progress']} became {new['progress']}"


def steps_stay(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """A finished step is never lost; others go by `forget` and `retry` only."""
    left = jobs_of(after)
    for key in before["step"].keys() - after["step"].keys():
        may_go = before["step"][key]["state"] != "done" and operation in ("forget", "retry")
        if key[0] in left and not may_go:
            yield f"step {key} is gone"
    for key, row in after["step"].items():
        if row["spilled"] and key not in after["blob"]:
            yield f"step {key} has lost its large result"


def history_is_only_added_to(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """What is written down stays so."""
    for key, row in before["execution"].items():
        if key[0] in jobs_of(after) and after["execution"].get(key) != row:
            yield f"history of {key} changed"


def a_requested_cancel_wins(before: Tables, after: Tables, operation: str) -> Iterator[str]:
    """Whoever ends a job that was asked to stop, it ends cancelled, or goes on being asked."""
    for job_id, old, new in _both(before, after):
        if old["state"] in FINAL or old["cancel_requested_at"] is None or operation == "retry":
            continue
        if new["state"] in FINAL and new["state"] != "cancelled":
            yield f"job {job_id} was asked to stop and is {new['state']}"
        if new["cancel_requested_at"] is None:
            yield f"job {job_id}: the request to stop is forgotten"
        if old["wait_detail"] not in (None, new["wait_detail"]) and operation != "cancel":
            yield f"job {job_id}: it is forgotten why it was to stop"


def a_unique_key_has_one_unfinished_job(
    before: Tables, after: Tables, operation: str
) -> Iterator[str]:
    """Whatever is enqueued, retried or rolled back."""
    keys = Counter(job["unique_key"] for job in after["job"].values() if job["unique_key"])
    for key, count in keys.items():
        if count > 1:
            yield f"{count} unfinished jobs have the unique key {key!r}"


def _both(before: Tables, after: Tables) -> Iterator[tuple[int, Row, Row]]:
    new = jobs_of(after)
    for job_id, old in jobs_of(before).items():
        if job_id in new:
            yield job_id, old, new[job_id]


Law = Callable[[Tables, Tables, str], Iterator[str]]

LAWS: list[Law] = [
    every_job_is_in_one_place,
    places_and_states_agree,
    leases_are_never_given_twice,
    final_jobs_stay_as_they_are,
    counters_only_grow,
    progress_never_goes_back,
    steps_stay,
    history_is_only_added_to,
    a_requested_cancel_wins,
    a_unique_key_has_one_unfinished_job,
]
