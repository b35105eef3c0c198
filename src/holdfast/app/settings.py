"""Settings: arguments > environment > `holdfast.toml`, merged first, validated once.

All problems are reported together; an unknown key is refused with a suggestion.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError, InvalidSettings
from holdfast.model.durations import seconds
from holdfast.model.names import check_name, check_options, nearest
from holdfast.storage.statements import check_schema

ENVIRONMENT = {
    "dsn": ("HOLDFAST_DSN", "DATABASE_URL"),
    "schema": ("HOLDFAST_SCHEMA",),
    "queues": ("HOLDFAST_QUEUES",),
    "version": ("HOLDFAST_VERSION",),
    "grace": ("HOLDFAST_GRACE",),
    "worker_name": ("HOLDFAST_WORKER_NAME",),
}
"""Setting → the environment variables that can give it, the first one that is set wins."""

DEFAULT_CONCURRENCY = 10
"""Slots of a queue, in each worker process, when nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an installation and its workers need to know.

    `dsn`: a PostgreSQL URL or connection string. `schema`: where the tables are. `queues`: queue →
    jobs at once in each worker process; empty means every queue that a job function names, ten
    each. `version`: of the code, for drift detection; default: a digest of each job function.
    `grace_s`: how long jobs may go on after SIGTERM before they are handed back. `worker_name`:
    what `pause` and `scale` call this worker, all its processes; default: a random one.
    """

    dsn: str | None = None
    schema: str = "holdfast"
    queues: Mapping[str, int] = field(default_factory=dict)
    version: str | None = None
    grace_s: float = 30.0
    worker_name: str | None = None


def load_settings(given: Mapping[str, Any], folder: Path | None = None) -> Settings:
    """Returns the settings from all sources; raises `InvalidSettings` with every problem."""
    merged = {**_from_file(folder or Path.cwd()), **_from_environment()}
    merged |= {key: value for key, value in given.items() if value is not None}
    problems: list[str] = []
    hints: list[str] = []
    values: dict[str, Any] = {}
    for key, value in merged.items():
        if key not in _READERS:
            problems.append(f"unknown setting {key!r}")
            near = nearest(key, _READERS)
            hints.append(f"did you mean {near!r}?" if near else f"known: {', '.join(_READERS)}")
            continue
        target, reader = _READERS[key]
        try:
            values[target] = reader(value)
        except HoldfastError as error:
            problems.append(error.message)
            hints.append(error.hint)
    if problems:
        raise InvalidSettings("; ".join(problems), " ".join(hints))
    return Settings(**values)


def changed_settings(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns the settings with some fields changed; unknown or wrong ones are refused."""
    known = {f.name for f in fields(Settings)}
    check_options(changes, known, where="Settings")
    checked = dict(changes)
    for key, reader in _READERS.values():
        if key in checked and checked[key] is not None:
            checked[key] = reader(checked[key])
    return replace(settings, **checked)


def _from_file(folder: Path) -> dict[str, Any]:
    path = folder / "holdfast.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path.name} cannot be read: {error}", "Mend the file.") from error


def _from_environment() -> dict[str, str]:
    found = {}
    for key, names in ENVIRONMENT.items():
        value = next((os.environ[n] for n in names if os.environ.get(n)), None)
        if value is not None:
            found[key] = value
    return found


def _text(name: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not value or "\x00" in value:
            raise InvalidSettings(f"{name}={value!r} is not a text", f"Give {name} as a string.")
        return value

    return read


def _schema(value: object) -> str:
    return check_schema(_text("schema")(value))


def read_queues(value: object) -> dict[str, int]:
    """Returns queue → concurrency from a mapping, or from text like `agents:10,default:5`."""
    if isinstance(value, str):
        pairs: dict[Any, Any] = {}
        for part in filter(None, (p.strip() for p in value.split(","))):
            name, colon, count = part.rpartition(":")
            pairs[name if colon else part] = count if colon else DEFAULT_CONCURRENCY
    elif isinstance(value, Mapping):
        pairs = dict(value)
    else:
        raise InvalidSettings(f"queues={value!r} is not a mapping", "Write {'agents': 10}.")
    return {check_name(name, field="queue"): _concurrency(name, n) for name, n in pairs.items()}


def _concurrency(queue: str, value: object) -> int:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise InvalidSettings(
            f"queue {queue!r} has concurrency {value!r}", "It is a number from 1 to 10000."
        )
    return value


def _grace(value: object) -> float:
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        value = float(value)
    return seconds(value, field="grace")  # type: ignore[arg-type]


_READERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "dsn": ("dsn", _text("dsn")),
    "schema": ("schema", _schema),
    "queues": ("queues", read_queues),
    "version": ("version", _text("version")),
    "grace": ("grace_s", _grace),
    "worker_name": ("worker_name", lambda value: check_name(value, field="worker_name")),
}
