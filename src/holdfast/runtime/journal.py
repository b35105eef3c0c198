"""The journal of one running job: what is recorded, and which key the next step gets.

Identity is a key, never a position: `scope/name[key]#n`. Two un-keyed steps of one name in flight
at once would have to be told apart by their order, which a replay may change; so that is refused on
the first run, in the developer's terminal.
"""

from __future__ import annotations

import contextvars
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.errors import AmbiguousStep, DuplicateStepKey
from holdfast.model.job import RecordedStep

SCOPE: contextvars.ContextVar[str] = contextvars.ContextVar("holdfast_scope", default="")
"""The path of scopes the current code runs in, with a trailing slash; inherited by tasks."""

_MAX_KEY = 160
_MAX_PATH = 500


class Journal:
    """The recorded steps of a job, and the bookkeeping of keys in this run."""

    def __init__(self, recorded: dict[str, RecordedStep]) -> None:
        self.recorded = recorded
        self._counts: dict[str, int] = {}
        self._in_flight: set[str] = set()
        self._used: set[str] = set()
        self._seq = max((step.seq for step in recorded.values()), default=0)

    def __bool__(self) -> bool:
        return bool(self.recorded)

    def next_seq(self) -> int:
        """Returns the place of a new step in the order of starting."""
        self._seq += 1
        return self._seq

    def failed_keys(self) -> set[str]:
        """Returns the keys of the remembered errors."""
        return {key for key, step in self.recorded.items() if step.state == "failed"}

    def unreached(self) -> list[str]:
        """Returns the keys that are recorded and were not asked for in this run."""
        return sorted(set(self.recorded) - self._used)

    @contextmanager
    def named(self, name: str) -> Iterator[str]:
        """Gives an un-keyed step its key: its name, numbered when it is repeated in sequence."""
        base = SCOPE.get() + _shortened(name, _MAX_KEY)
        if base in self._in_flight:
            raise AmbiguousStep(
                f"two steps named {base!r} are in flight at once, and neither has a key",
                f"Give each a key: ctx.step(step({name}, key=...), ...), or use ctx.map(...).",
            )
        self._in_flight.add(base)
        try:
            number = self._counts[base] = self._counts.get(base, 0) + 1
            key = base if number == 1 else f"{base}#{number}"
            self._use(key)
            yield key
        finally:
            self._in_flight.discard(base)

    @contextmanager
    def keyed(self, name: str, key: str) -> Iterator[str]:
        """Gives a keyed step its key, which must be new in this run."""
        full = f"{SCOPE.get()}{_shortened(name, _MAX_KEY)}[{_shortened(key, _MAX_KEY)}]"
        self._use(full)
        yield full

    def _use(self, key: str) -> None:
        if len(key) > _MAX_PATH:
            raise DuplicateStepKey(
                f"step key {key[:80]!r}… has {len(key)} characters, the cap is {_MAX_PATH}",
                "Use shorter scope names.",
            )
        if key in self._used:
            raise DuplicateStepKey(
                f"step key {key!r} is used twice in one run of this job",
                "Keys name one piece of work each; give the second one another key.",
            )
        self._used.add(key)


def _shortened(text: str, limit: int) -> str:
    """Returns `text`, storable; a long one keeps its head and gets a digest of the whole."""
    clean = text.replace("\x00", "␀").encode("utf-8", "backslashreplace").decode()
    if len(clean) <= limit:
        return clean
    digest = hashlib.blake2b(clean.encode(), digest_size=8).hexdigest()
    return f"{clean[: limit - 17]}~{digest}"


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Puts the steps begun inside under a path of their own."""
    token = SCOPE.set(f"{SCOPE.get()}{_shortened(name, _MAX_KEY)}/")
    try:
        yield
    finally:
        SCOPE.reset(token)
