"""What the facts of an examination mean: pure functions from facts to findings.

warning = worth knowing, will cost something some day; error = jobs do not run, or cannot be
trusted to, until somebody acts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from holdfast.model.durations import describe
from holdfast.model.health import (
    ArchiveHealth,
    Driver,
    Holder,
    Server,
    Skew,
    Stopped,
    TableHealth,
    Unreachable,
)
from holdfast.storage.pooler import Route

Level = Literal["ok", "warning", "error"]

_FAR_S = 0.05
_SKEW_WARNING_S = 1.0
_SKEW_ERROR_S = 30.0
_OLD_S = 600.0
_OLD_XIDS = 10_000_000
_DEAD_ROWS = 20_000
_BLOATED_INDEX_BYTES = 64 * 1024 * 1024
_BYTES_PER_ENTRY = 1024
_DAYS_AHEAD = 2
_OLDEST_SUPPORTED = 140_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of `doctor`: what was looked at, how it is, and what to do about it.

    `check` names the check, `level` is ok, warning or error, `summary` is one line, `detail` more
    lines or empty, `remedy` says what to do where something is to be done.
    """

    check: str
    level: Level
    summary: str
    detail: str = ""
    remedy: str | None = None


def connection(address: str, trip_s: float) -> Finding:
    """Judges how far away the server is."""
    summary = f"{address}, round trip {_short(trip_s)}"
    if trip_s < _FAR_S:
        return Finding("connection", "ok", summary)
    detail = "Each step, and each claim and finish of a worker, takes one round trip."
    return Finding("connection", "warning", summary, detail, "Run workers near the database.")


def version(found: Server) -> Finding:
    """Judges the server's version."""
    summary = f"PostgreSQL {found.version}, as role {found.user!r}"
    if found.version_number >= _OLDEST_SUPPORTED:
        return Finding("version", "ok", summary)
    return Finding("version", "error", summary, "", "holdfast needs PostgreSQL 14 or newer.")


def driver(found: Driver) -> Finding:
    """Judges the driver of this process."""
    summary = f"psycopg {found.version}, implementation {found.implementation!r}"
    if found.implementation != "python":
        return Finding("driver", "ok", summary)
    detail = "The pure Python implementation takes several times as long for each statement."
    return Finding("driver", "warning", summary, detail, 'pip install "psycopg[binary]"')


def schema(name: str, installed: int) -> Finding:
    """Reports a schema of the right version."""
    return Finding("schema", "ok", f"schema {name!r} has version {installed}, as needed")


def clock(skew: Skew) -> Finding:
    """Judges the difference of the two clocks."""
    off = abs(skew.ahead_s)
    direction = "ahead of" if skew.ahead_s > 0 else "behind"
    summary = f"the database's clock is {_short(off)} {direction} this machine's"
    if off <= _SKEW_WARNING_S + skew.error_s:
        agreed = f"database and this machine agree to within {_short(max(off, skew.error_s))}"
        return Finding("clock", "ok", agreed)
    detail = (
        "Everything durable follows the database's clock; what you pass as run_at, and what your "
        "logs say, follows this machine's."
    )
    level: Level = "error" if off > _SKEW_ERROR_S else "warning"
    return Finding("clock", level, summary, detail, "Synchronise both clocks, for example by NTP.")


def pooler(route: Route) -> Finding:
    """Reports what lies before the server."""
    match route:
        case Route.DIRECT:
            return Finding("pooler", "ok", "none: connected to the server itself")
        case Route.SESSION:
            return Finding("pooler", "ok", "a pooler in session mode: as if there were none")
        case Route.TRANSACTION:
            return Finding(
                "pooler",
                "warning",
                "a pooler in transaction mode: everything works, by polling",
                "Jobs start and results arrive up to half a second late; the jobs of a machine "
                "that died run again after 10 s, when its lease is over.",
                "For workers, use a direct connection, or a pooler in session mode.",
            )
    assert_never(route)


def notifications(took_s: float | None, route: Route) -> Finding:
    """Judges whether a notification arrives."""
    if took_s is not None:
        return Finding("listen", "ok", f"a notification arrived after {_short(took_s)}")
    if route.is_shared:
        summary = "no notification passes a pooler in transaction mode"
        return Finding("listen", "warning", summary, "", "See pooler.")
    return Finding(
        "listen",
        "warning",
        "notifications do not arrive",
        "Workers and whoever waits for results poll instead, every half second.",
        "Look at what lies between here and the server: NOTIFY must pass from session to session.",
    )


def xmin(holders: list[Holder], hidden: int) -> Finding:
    """Judges who keeps vacuum from removing dead rows."""
    note = (
        f"{hidden} sessions of other roles could not be looked at: GRANT pg_read_all_stats shows "
        "them."
        if hidden
        else ""
    )
    old = [h for h in holders if _is_old(h)]
    if not old:
        summary = "nobody holds old rows back"
        if holders:
            summary = f"nobody holds old rows back for long; the oldest is {_named(holders[0])}"
        return Finding("xmin", "ok", summary, note)
    lines = [_described(holder) for holder in old]
    detail = "\n".join([*lines, "Dead rows of every table pile up meanwhile.", note]).strip()
    return Finding(
        "xmin", "warning", f"old rows are held back by {_named(old[0])}", detail, _end(old[0])
    )


def bloat(tables: list[TableHealth]) -> Finding:
    """Judges the dead rows of the hot tables and the size of the claim index."""
    problems, remedies = [], []
    for table in tables:
        if table.dead > _DEAD_ROWS and table.dead > table.live:
            ago = table.vacuumed_s
            last = "never vacuumed" if ago is None else f"vacuumed {describe(ago)} ago"
            problems.append(f"{table.name}: {table.dead} dead rows, {table.live} live, {last}")
            remedies.append(f"VACUUM {table.name}")
        index = table.claim_index_bytes or 0
        if index > _BLOATED_INDEX_BYTES and index > table.live * _BYTES_PER_ENTRY:
            problems.append(f"job_claim: {_size(index)} for {table.live} jobs")
            remedies.append("REINDEX INDEX CONCURRENTLY job_claim")
    if problems:
        what = "; ".join(remedies)
        remedy = f"In the schema: {what}. If it comes back, see xmin, and whether autovacuum runs."
        return Finding("bloat", "warning", problems[0], "\n".join(problems[1:]), remedy)
    sizes = ", ".join(f"{t.name} {_size(t.size_bytes)} ({t.dead} dead rows)" for t in tables)
    return Finding("bloat", "ok", sizes)


def archive(found: ArchiveHealth) -> Finding:
    """Judges whether finished jobs have a partition to go to."""
    problems = []
    if found.in_default:
        many = "1000 or more" if found.in_default >= 1000 else str(found.in_default)
        problems.append(f"the archive's default partition holds {many} rows")
    if found.days <= _DAYS_AHEAD:
        have = "none, not even for today" if found.days == 0 else f"for {found.days} days only"
        problems.append(f"the archive has partitions {have}")
    if not problems:
        return Finding("archive", "ok", f"partitions are there for {found.days} days from today")
    return Finding(
        "archive",
        "warning",
        "; ".join(problems),
        "Nothing is lost: rows without a partition go to the default one. Removing old jobs by "
        "dropping partitions does not see those.",
        "Workers make partitions every hour, `holdfast db migrate` makes them now.",
    )


def unreachable(groups: list[Unreachable]) -> Finding:
    """Judges the jobs that no live worker can run."""
    if not groups:
        return Finding("unreachable", "ok", "every job that is due has a worker that can run it")
    lines = [
        f"{g.count} × {g.name!r} in queue {g.queue!r}, the oldest for {describe(g.oldest_s)}: "
        + ("no live worker knows the name" if g.served else "no live worker serves the queue")
        for g in groups
    ]
    total = sum(g.count for g in groups)
    remedies = []
    if not all(g.served for g in groups):
        remedies.append("Start a worker: holdfast worker your_module:app")
    if any(g.served for g in groups):
        remedies.append("Deploy the code that defines the job, or cancel it.")
    what = "1 job waits" if total == 1 else f"{total} jobs wait"
    return Finding(
        "unreachable", "error", f"{what} that nobody can run", "\n".join(lines), " ".join(remedies)
    )


def attention(groups: list[Stopped]) -> Finding:
    """Reports the jobs that wait for a person."""
    total = sum(group.count for group in groups)
    if not total:
        return Finding("attention", "ok", "no job waits for a person")
    lines = [f"{g.count} × {g.reason}, for example job {g.first_id}" for g in groups]
    what = "1 job waits" if total == 1 else f"{total} jobs wait"
    return Finding(
        "attention",
        "warning",
        f"{what} for a person",
        "\n".join(lines),
        f"holdfast jobs explain {groups[0].first_id} says why; then retry or cancel.",
    )


def _is_old(holder: Holder) -> bool:
    if holder.kind == "replication slot":
        return holder.state == "inactive" or holder.xid_age > _OLD_XIDS
    return holder.age_s is not None and holder.age_s > _OLD_S


def _named(holder: Holder) -> str:
    who = f"{holder.kind} {holder.name!r}" if holder.name else f"a {holder.kind}"
    pid = f", pid {holder.pid}" if holder.pid is not None else ""
    age = "" if holder.age_s is None else f", for {describe(holder.age_s)}"
    return f"{who}{pid}{age}"


def _described(holder: Holder) -> str:
    parts = [_named(holder)]
    if holder.user:
        parts.append(f"user {holder.user!r}")
    if holder.state:
        parts.append(holder.state)
    parts.append(f"{holder.xid_age} transactions old")
    if holder.query and holder.query_age_s is not None:
        query = " ".join(holder.query.split())
        parts.append(f"its statement of {describe(holder.query_age_s)} ago: {query}")
    return ", ".join(parts)


def _end(holder: Holder) -> str:
    if holder.kind == "session":
        return f"End that transaction, or its session: SELECT pg_terminate_backend({holder.pid})"
    if holder.kind == "replication slot":
        return f"If nobody needs it: SELECT pg_drop_replication_slot('{holder.name}')"
    return f"COMMIT PREPARED or ROLLBACK PREPARED '{holder.name}'"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else describe(seconds)


def _size(count: int) -> str:
    return f"{count / 1024 / 1024:.1f} MB" if count >= 1024 * 1024 else f"{count / 1024:.0f} kB"
