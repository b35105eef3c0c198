"""Operations on the journal, as `Query` values."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.model.writes import Forget, StepWrite
from holdfast.storage.arrays import booleans, columns, numbers
from holdfast.storage.query import Query, Row, nothing

Written = dict[tuple[int, int, str], str | None]
"""(job id, epoch, key) of each row written → when a sleep ends, by the database's clock."""


def record(worker_id: int, writes: Sequence[StepWrite]) -> Query[Written]:
    """Writes journal rows, each only if its job is still ours."""
    column = dict(zip(StepWrite._fields, columns(writes), strict=True))
    return Query(
        "steps/record",
        _written,
        {
            "worker_id": worker_id,
            "job_ids": numbers(column["job_id"]),
            "epochs": numbers(column["epoch"]),
            "keys": column["key"],
            "seqs": numbers(column["seq"]),
            "kinds": column["kind"],
            "states": column["state"],
            "attempts": numbers(column["attempts"]),
            "results": column["result"],
            "codecs": numbers(column["codec"]),
            "spills": booleans(column["spill"]),
            "elapsed": numbers(column["elapsed_s"]),
            "wakes": numbers(column["wake_s"]),
            "code_versions": column["code_version"],
            "fingerprints": column["fingerprint"],
            "error_types": column["error_type"],
            "error_messages": column["error_message"],
            "error_stacks": column["error_stack"],
        },
        prepare=True,
    )


def forget(writes: Sequence[Forget]) -> Query[None]:
    """Forgets remembered errors, each only if its job is still ours."""
    job_ids, epochs, keys = columns(writes)
    params = {"job_ids": numbers(job_ids), "epochs": numbers(epochs), "keys": keys}
    return Query("steps/forget", nothing, params)


def load(job_id: int, key: str) -> Query[bytes | None]:
    """Reads one recorded result."""
    return Query(
        "steps/load", lambda rows: rows[0][0] if rows else None, {"job_id": job_id, "key": key}
    )


def _written(rows: Sequence[Row]) -> Written:
    return {row[:3]: None if row[3] is None else row[3].isoformat() for row in rows}
