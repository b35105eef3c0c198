"""The examination behind `holdfast doctor`: one check after the other, none of which ends it."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.app import diagnoses
from holdfast.app.diagnoses import Finding
from holdfast.errors import HoldfastError
from holdfast.storage import health
from holdfast.storage.health import Examination
from holdfast.storage.migrate import DAYS_AHEAD, expect_version, installed_version

Check = Callable[[Examination, str], Finding]

_LATE_S = 60.0


def examine(dsn: str, schema: str) -> list[Finding]:
    """Examines one installation; takes a few seconds at most for each check, changes nothing."""
    try:
        examination = Examination(dsn, schema)
    except HoldfastError as error:
        return [_failed("connection", error)]
    with examination:
        findings = [_checked(name, check, examination, schema) for name, check in _OF_THE_SERVER]
        found = _checked("schema", _schema, examination, schema)
        findings.append(found)
        if found.level != "error":
            findings += [_checked(name, check, examination, schema) for name, check in _OF_THE_JOBS]
    return findings


def _checked(name: str, check: Check, examination: Examination, schema: str) -> Finding:
    try:
        return check(examination, schema)
    except HoldfastError as error:
        return _failed(name, error)


def _failed(name: str, error: HoldfastError) -> Finding:
    return Finding(name, "error", error.message, "", error.hint or None)


def _connection(examination: Examination, schema: str) -> Finding:
    return diagnoses.connection(examination.address, examination.round_trip_s())


def _version(examination: Examination, schema: str) -> Finding:
    return diagnoses.version(examination.ask(health.server()))


def _driver(examination: Examination, schema: str) -> Finding:
    return diagnoses.driver(health.driver())


def _pooler(examination: Examination, schema: str) -> Finding:
    return diagnoses.pooler(examination.route())


def _listen(examination: Examination, schema: str) -> Finding:
    # Not tried where the LISTEN would stay behind in a session of the pooler's: known to be lost.
    route = examination.route()
    took_s = None if route.is_shared else examination.notification_s()
    return diagnoses.notifications(took_s, route)


def _schema(examination: Examination, schema: str) -> Finding:
    installed = examination.ask(installed_version()).version
    expect_version(installed, schema)
    return diagnoses.schema(schema, installed)


def _clock(examination: Examination, schema: str) -> Finding:
    return diagnoses.clock(examination.skew())


def _xmin(examination: Examination, schema: str) -> Finding:
    holders = examination.ask(health.xmin_holders())
    return diagnoses.xmin(holders, examination.ask(health.hidden_sessions()))


def _bloat(examination: Examination, schema: str) -> Finding:
    return diagnoses.bloat(examination.ask(health.table_health(schema)))


def _archive(examination: Examination, schema: str) -> Finding:
    return diagnoses.archive(examination.ask(health.archive_health(schema, DAYS_AHEAD)))


def _unreachable(examination: Examination, schema: str) -> Finding:
    return diagnoses.unreachable(examination.ask(health.unreachable_jobs(_LATE_S)))


def _attention(examination: Examination, schema: str) -> Finding:
    return diagnoses.attention(examination.ask(health.stopped_jobs()))


_OF_THE_SERVER: tuple[tuple[str, Check], ...] = (
    ("connection", _connection),
    ("version", _version),
    ("driver", _driver),
    ("pooler", _pooler),
    ("listen", _listen),
)
_OF_THE_JOBS: tuple[tuple[str, Check], ...] = (
    ("clock", _clock),
    ("xmin", _xmin),
    ("bloat", _bloat),
    ("archive", _archive),
    ("unreachable", _unreachable),
    ("attention", _attention),
)
