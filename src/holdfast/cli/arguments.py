"""The part of the command line that describes one job: shared by `enqueue` and `run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click

from holdfast import Handle, Holdfast
from holdfast.app.fit import new_from_text, read_json
from holdfast.cli.failures import warn
from holdfast.cli.options import duration, moment, name
from holdfast.errors import InvalidArguments, InvalidOption

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--args", "args_json", metavar="JSON", help="All arguments as one JSON object."),
    click.option(
        "--in",
        "run_in",
        type=duration("--in"),
        metavar="DURATION",
        help="Not before this long: 30, 5m, 2h.",
    ),
    click.option(
        "--at",
        "run_at",
        type=moment("--at"),
        metavar="TIME",
        help="Not before this time (ISO 8601).",
    ),
    click.option(
        "--queue",
        type=name("--queue"),
        metavar="NAME",
        help="Another queue than the job function's.",
    ),
    click.option("--priority", type=click.IntRange(0, 9), help="0 runs first, 9 last."),
    click.option("--max-attempts", type=click.IntRange(1, 1_000_000), help="1: no retries."),
    click.option(
        "--tag", "tags", multiple=True, type=name("--tag"), metavar="NAME", help="May be repeated."
    ),
    click.option(
        "--unique",
        metavar="KEY",
        help="At most one unfinished job of this function has this key.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One job as the command line describes it."""

    job: str
    pairs: Sequence[str]
    args_json: str | None
    run_in: float | None
    run_at: datetime | None
    queue: str | None
    priority: int | None
    max_attempts: int | None
    tags: Sequence[str]
    unique: str | None

    def enqueue(self, app: Holdfast) -> Handle[Any]:
        """Stores the job; raises when name, arguments or options do not fit its function."""
        options: dict[str, Any] = {
            "run_in": self.run_in,
            "run_at": self.run_at,
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "tags": list(self.tags) or None,
            "unique": self.unique,
        }
        function = app.job_function(self.job).options(**options)
        values, texts = _object(self.args_json), _texts(self.pairs)
        for twice in texts.keys() & values.keys():
            message = f"argument {twice!r} is given twice, in --args and as {twice}=…"
            raise InvalidArguments(message, "Give it once.")
        (handle,) = app.enqueue_many_sync([new_from_text(function, values, texts)])
        if handle.conflict:
            done = "it took over what its rule lists" if handle.replaced else "left as it was"
            warn(f"a unique job was there already: {handle.id}, {done}")
        return handle


def job_options(command: F) -> F:
    """Adds JOB, key=value arguments, and the options of one enqueue."""
    for option in reversed(_OPTIONS):
        command = option(command)
    command = click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)(command)
    return click.argument("job", metavar="JOB")(command)


def _texts(pairs: Sequence[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            hint = 'Write arguments as key=value, such as topic=cats n=3 urls=\'["a", "b"]\'.'
            raise InvalidArguments(f"{pair!r} is not key=value", hint)
        if key in texts:
            raise InvalidArguments(f"argument {key!r} is given twice", "Give it once.")
        texts[key] = text
    return texts


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    value = read_json(text)
    if not isinstance(value, dict):
        raise InvalidOption(
            f"--args={text!r} is not a JSON object", """Write --args '{"topic": "cats"}'."""
        )
    return value
