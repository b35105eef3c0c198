"""Unique jobs: which jobs count as the same, for how long, and what a second one may change.

The database derives the key (`unique_key_of`) and its index enforces it; this is only the rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from pydantic_core import to_json

from holdfast.errors import InvalidOption
from holdfast.model.durations import Duration, seconds
from holdfast.model.names import nearest
from holdfast.model.text import shown

Replaceable = Literal["args", "run_at", "priority"]
REPLACEABLE: Final = get_args(Replaceable)
MAX_KEY_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one unfinished job of a job function has the same key.

    `key`: the key itself; without one, the arguments named in `args` (default: all) are it, and an
    argument left to its default is the same as one that gives that value. `period`: the key also
    stays taken for at least so long after the enqueue, whatever became of the job. `replace`: what
    a job that has not started yet takes over from a second one, which is otherwise dropped: `args`,
    `run_at` (with the deadline, which counts from it), `priority`. An index enforces it, in bulk
    and between transactions: a second one waits for the first one's transaction, and is enqueued
    if that rolls back. Raises `InvalidOption`.

    >>> Unique(args=["topic"], period="1h", replace=["args", "run_at"])
    Unique(key=None, args=('topic',), period='1h', replace=('args', 'run_at'))
    """

    key: str | None = None
    args: Collection[str] | None = field(default=None, kw_only=True)
    period: Duration | None = field(default=None, kw_only=True)
    replace: Collection[Replaceable] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if self.key is not None:
            object.__setattr__(self, "key", _key(self.key))
        if self.args is not None:
            if self.key is not None:
                raise InvalidOption("unique has a key and args", "Give one of them.")
            object.__setattr__(self, "args", _names(self.args, "args"))
        object.__setattr__(self, "replace", _names(self.replace, "replace"))
        for name in self.replace:
            if name not in REPLACEABLE:
                raise InvalidOption(
                    f"unique: {shown(name)} cannot be replaced", f"One of: {_listed(REPLACEABLE)}."
                )
        if self.period is not None and seconds(self.period, field="unique.period") <= 0:
            raise InvalidOption("unique.period is 0", "Leave it out: while the job is unfinished.")

    def check_parameters(self, parameters: Collection[str], *, job: str) -> None:
        """Raises unless every name in `args` is a parameter of the job function."""
        for name in self.args or ():
            if name not in parameters:
                near = nearest(name, parameters)
                hint = f"Did you mean {near!r}?" if near else f"It has: {_listed(parameters)}."
                raise InvalidOption(f"unique: job {job!r} has no argument {shown(name)}", hint)

    def to_json(self) -> str:
        """Returns the rule as `enqueue` reads it."""
        rule: dict[str, object] = {}
        if self.key is not None:
            rule["key"] = self.key
        if self.args is not None:
            rule["args"] = list(self.args)
        if self.period is not None:
            rule["period"] = seconds(self.period, field="unique.period")
        if self.replace:
            rule["replace"] = list(self.replace)
        return to_json(rule).decode()


def read_unique(value: object) -> Unique | None:
    """Returns the rule for what the option `unique` allows: a rule, a key, True, or False."""
    if isinstance(value, Unique):
        return value
    if isinstance(value, bool):
        return Unique() if value else None
    if isinstance(value, str):
        return Unique(value)
    raise InvalidOption(
        f"unique={shown(value)} is not a rule", "A key, True (all arguments), or Unique(...)."
    )


def _key(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidOption(f"unique key {shown(value)} is not a text", "Give a text.")
    if len(value) > MAX_KEY_CHARACTERS:
        raise InvalidOption(
            f"the unique key has {len(value)} characters, the most is {MAX_KEY_CHARACTERS}",
            "Use a digest of it.",
        )
    if any(character == "\x00" or "\ud800" <= character <= "\udfff" for character in value):
        raise InvalidOption(
            f"unique key {shown(value)} has a character that cannot be stored",
            "Neither NUL nor half of a surrogate pair.",
        )
    return str.__str__(value)


def _names(value: object, field_name: str) -> tuple[str, ...]:
    given = () if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) else value
    names = tuple(given)
    if not all(isinstance(name, str) for name in names) or isinstance(value, (str, bytes)):
        raise InvalidOption(
            f"unique: {field_name}={shown(value)} is not a list", "A list of names."
        )
    return names


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
