"""Operations on jobs, as `Query` values."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby

from pydantic_core import from_json

from holdfast.errors import Undecodable
from holdfast.model.job import (
    Claim,
    ClaimedJob,
    Enqueued,
    Job,
    JobEnding,
    JobTemplate,
    Lane,
    NewJob,
    Owned,
    RecordedStep,
)
from holdfast.model.writes import Completion, ProgressWrite, Settlement
from holdfast.storage.arrays import booleans, columns, numbers
from holdfast.storage.failures import refusal
from holdfast.storage.query import Query, Row, nothing
from holdfast.storage.statements import channel

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""The floor of a lane in which nothing was claimed yet."""


def enqueue(jobs: Sequence[NewJob]) -> Query[list[Enqueued]]:
    """Enqueues all `jobs` in one statement; returns what became of each, in order."""
    return Query("jobs/enqueue", _enqueued, {"jobs": _encode_all(jobs)}, prepare=True)


def try_enqueue(jobs: Sequence[NewJob]) -> Query[list[Enqueued]]:
    """Enqueues in the caller's transaction, which stays usable when the jobs are refused."""
    return Query("jobs/try_enqueue", _tried, {"jobs": _encode_all(jobs)})


def _enqueued(rows: Sequence[Row]) -> list[Enqueued]:
    ids, conflicts, replaced = rows[0]
    if conflicts is None:
        return [Enqueued(id_) for id_ in ids or ()]
    return [Enqueued(*one) for one in zip(ids, conflicts, replaced, strict=True)]


def _tried(rows: Sequence[Row]) -> list[Enqueued]:
    for row in rows:
        if row[3] is not None:
            raise refusal(row[3], row[4], row[5] or "")
    return [Enqueued(*row[:3]) for row in rows]


def _encode_all(jobs: Sequence[NewJob]) -> str:
    """Returns what `enqueue` reads; what follows each other with one template is said once."""
    parts = []
    for template, group in groupby(jobs, _template):
        args = [job.args_json for job in group]
        if len(args) == 1:
            parts.append(f'{template.json},"args":{args[0]}}}')
        else:
            parts.append(f'{template.json},"many":[{",".join(args)}]}}')
    return "[" + ",".join(parts) + "]"


def _template(job: NewJob) -> JobTemplate:
    return job.template


def claim(worker_id: int, demands: dict[str, int], lanes: Sequence[Lane]) -> Query[Claim]:
    """Claims up to `demands[queue]` due jobs of each queue, looking from the lanes' floors on."""
    return Query(
        "jobs/claim",
        _claim,
        {
            "worker_id": worker_id,
            "queues": list(demands),
            "demands": numbers(demands.values()),
            "lane_queues": [lane.queue for lane in lanes],
            "lane_priorities": numbers(lane.priority for lane in lanes),
            "lane_floors_at": [lane.floor_at for lane in lanes],
            "lane_floor_ids": numbers(lane.floor_id for lane in lanes),
            "total_demand": sum(demands.values()),
        },
        prepare=True,
    )


def _claim(rows: Sequence[Row]) -> Claim:
    last = rows[-1]
    jobs = [ClaimedJob._make(row[:19]) for row in rows[:-1]]
    jobs.sort(key=lambda job: (job.priority, job.run_at, job.id))
    return Claim(jobs, last[19], last[1] == 1)


def complete(worker_id: int, schema: str, writes: Sequence[Completion]) -> Query[set[int]]:
    """Archives first-time successes; returns the ids of those that were ours."""
    ids, epochs, results, codecs, spills = columns(writes)
    return Query(
        "jobs/complete",
        _id_set,
        {
            "worker_id": worker_id,
            "ids": numbers(ids),
            "epochs": numbers(epochs),
            "results": results,
            "codecs": numbers(codecs),
            "spills": booleans(spills),
            "done_channel": channel(schema, "done"),
        },
        prepare=True,
    )


def settle(worker_id: int, schema: str, writes: Sequence[Settlement]) -> Query[dict[int, str]]:
    """Ends attempts in any other way; returns the new state of each job that was ours."""
    column = dict(zip(Settlement._fields, columns(writes), strict=True))
    return Query(
        "jobs/settle",
        lambda rows: {row[0]: row[1] for row in rows},
        {
            "worker_id": worker_id,
            "ids": numbers(column["job_id"]),
            "epochs": numbers(column["epoch"]),
            "states": column["state"],
            "delays": numbers(column["delay_s"]),
            "run_ats": [None if at is None else str(at) for at in column["run_at"]],
            "failure_charges": numbers(column["failure_charge"]),
            "crash_charges": numbers(column["crash_charge"]),
            "resume_charges": numbers(column["resume_charge"]),
            "outcomes": column["outcome"],
            "charged": column["charged"],
            "reasons": column["reason"],
            "wait_reasons": column["wait_reason"],
            "wait_details": column["wait_detail"],
            "error_types": column["error_type"],
            "error_messages": column["error_message"],
            "error_stacks": column["error_stack"],
            "error_fingerprints": column["error_fingerprint"],
            "results": column["result"],
            "codecs": numbers(column["codec"]),
            "spills": booleans(column["spill"]),
            "bumps": numbers(column["bump"]),
            "wake_channel": channel(schema, "wake"),
            "done_channel": channel(schema, "done"),
        },
        prepare=True,
    )


def progress(worker_id: int, writes: Sequence[ProgressWrite]) -> Query[set[int]]:
    """Raises progress; returns the ids of the jobs that were ours."""
    ids, epochs, fractions, dones, totals, texts = columns(writes)
    return Query(
        "jobs/progress",
        _id_set,
        {
            "worker_id": worker_id,
            "ids": numbers(ids),
            "epochs": numbers(epochs),
            "fractions": numbers(fractions),
            "dones": numbers(dones),
            "totals": numbers(totals),
            "texts": texts,
        },
        prepare=True,
    )


def owned(worker_id: int, *, everything: bool) -> Query[list[Owned]]:
    """Finds the running jobs that a worker's row owns: all, or those to be cancelled."""
    params = {"worker_id": worker_id, "everything": everything}
    return Query("jobs/owned", lambda rows: [Owned._make(row) for row in rows], params)


def disown(worker_id: int, schema: str, known: Iterable[tuple[int, int]]) -> Query[list[int]]:
    """Hands back jobs that the worker's row owns but its process does not know.

    `known` has (id, epoch) of those it runs or still has to report.
    """
    pairs = sorted(known)
    params = {
        "worker_id": worker_id,
        "known_ids": numbers(pair[0] for pair in pairs),
        "known_epochs": numbers(pair[1] for pair in pairs),
        "wake_channel": channel(schema, "wake"),
    }
    return Query("jobs/disown", _ids, params)


def cancel(ids: Sequence[int], reason: str | None) -> Query[dict[int, str]]:
    """Cancels jobs; returns the state of each job found, after the call."""
    return Query("jobs/cancel", _states, {"ids": numbers(ids), "reason": reason})


def retry(ids: Sequence[int]) -> Query[dict[int, str]]:
    """Runs jobs again at once; returns the state of each job found, after the call."""
    return Query("jobs/retry", _states, {"ids": numbers(ids)})


def delete(ids: Sequence[int]) -> Query[dict[int, str]]:
    """Deletes jobs with all that is known of them; running ones are left alone."""
    return Query("jobs/delete", _states, {"ids": numbers(ids)})


def find_ids(
    *,
    queue: str | None = None,
    name: str | None = None,
    tag: str | None = None,
    shown: str | None = None,
    after_id: int = 0,
    most: int = 10_000,
) -> Query[dict[int, str]]:
    """Finds all jobs that match, the oldest first: id → state as shown."""
    params = {
        "queue": queue,
        "name": name,
        "tag": tag,
        "shown": shown,
        "after_id": after_id,
        "most": most,
    }
    return Query("jobs/ids", _states, params)


def await_ends(ids: Sequence[int], schema: str) -> Query[None]:
    """Marks jobs as awaited, so that their end notifies."""
    params = {"ids": numbers(ids), "wake_channel": channel(schema, "wake")}
    return Query("jobs/await", nothing, params)


def endings(ids: Sequence[int]) -> Query[list[JobEnding]]:
    """Reads how jobs ended; live ones are left out."""
    return Query(
        "jobs/endings", lambda rows: [JobEnding(*row) for row in rows], {"ids": numbers(ids)}
    )


def find(
    *,
    ids: Sequence[int] | None = None,
    queue: str | None = None,
    name: str | None = None,
    tag: str | None = None,
    shown: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> Query[list[Job]]:
    """Lists jobs for people, newest first."""
    params = {
        "ids": None if ids is None else numbers(ids),
        "queue": queue,
        "name": name,
        "tag": tag,
        "shown": shown,
        "before_id": before_id,
        "limit": limit,
    }
    return Query("jobs/list", lambda rows: [Job(*row) for row in rows], params)


def decode_journal(text: str | None) -> dict[str, RecordedStep]:
    """Turns the journal that came along with a claim into recorded steps by key."""
    steps = {}
    for row in from_json(text) if text else []:
        result, print_ = row.pop("result"), row.pop("fingerprint")
        if row["wake_at"] is not None and row["wake_in_s"] is None:
            raise Undecodable(
                f"step {row['key']!r} waits until {row['wake_at']}",
                "Mend wake_at in its row of the table step, then retry the job.",
            )
        steps[row["key"]] = RecordedStep(
            **row,
            fingerprint=bytes.fromhex(print_) if print_ is not None else None,
            data=b64decode(result) if result is not None else None,
        )
    return steps


def _ids(rows: Sequence[Row]) -> list[int]:
    return [row[0] for row in rows]


def _id_set(rows: Sequence[Row]) -> set[int]:
    return {row[0] for row in rows}


def _states(rows: Sequence[Row]) -> dict[int, str]:
    return {row[0]: row[1] for row in rows}
