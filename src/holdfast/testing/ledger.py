"""The ledger: every chat request that reached the provider, twice: when it began, when it ended.

The file is the evidence of a demo or a test (was a call made twice? did one overlap a crash?), so
it is append-only and outlives the process: one JSON object a line, one `os.write` a line, on a
descriptor opened with O_APPEND. One provider writes one file; any process may read it meanwhile.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger; `completion_tokens` and `status` are set at the end only.

    >>> LedgerEntry("start", 1, 0.0, "job-7", None, "m", 12).to_json()
    '{"event":"start","n":1,"at":0.0,"key":"job-7","client":null,"model":"m","prompt_tokens":12}'
    """

    event: Literal["start", "end"]
    n: int
    at: float
    key: str | None
    client: str | None
    model: str | None
    prompt_tokens: int
    completion_tokens: int | None = None
    status: int | None = None

    def to_json(self) -> str:
        """Return the entry as the ledger file has it: one line, without the line feed."""
        fields = asdict(self)
        if self.event == "start":
            del fields["completion_tokens"], fields["status"]
        return json.dumps(fields, separators=(",", ":"))


@dataclass(frozen=True)
class LedgerCall:
    """One request as a whole; `ended_at` and `status` are None while it is under way.

    A call that stays open for ever means that the provider's process was killed.
    """

    n: int
    key: str | None
    client: str | None
    started_at: float
    ended_at: float | None
    status: int | None

    @staticmethod
    def pair(entries: Sequence[LedgerEntry]) -> list[LedgerCall]:
        """Return one call for each start line, in the order of the starts.

        >>> LedgerCall.pair([LedgerEntry("start", 1, 5.0, "job-7", "42", "m", 12)])[0].ended_at
        """
        calls: dict[int, LedgerCall] = {}
        for entry in entries:
            if entry.event == "start":
                call = LedgerCall(entry.n, entry.key, entry.client, entry.at, None, None)
                calls[entry.n] = call
            elif entry.n in calls:
                ended = replace(calls[entry.n], ended_at=entry.at, status=entry.status)
                calls[entry.n] = ended
        return list(calls.values())


class OpenCall:
    """A request that has its start line; `end` writes its end line exactly once."""

    def __init__(self, ledger: Ledger, start: LedgerEntry) -> None:
        self._ledger = ledger
        self._start = start
        self._ended = False

    @property
    def n(self) -> int:
        """The request's number, counted from 1 over the life of the ledger file."""
        return self._start.n

    def end(self, *, status: int, completion_tokens: int | None = 0) -> None:
        """Write the end line; does nothing when the call has ended already."""
        if self._ended:
            return
        self._ended = True
        self._ledger.append(
            replace(
                self._start,
                event="end",
                at=time.time(),
                status=status,
                completion_tokens=completion_tokens,
            )
        )


class Ledger:
    """Every entry is in the file before the request goes on; without a path, in memory only.

    An existing file is continued: its entries are kept and the numbers go on from its last one.
    Threads may share a ledger; processes may not write the same file.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        known = Ledger.read(path) if path is not None and Path(path).exists() else []
        self._entries: list[LedgerEntry] = known
        self._last_n = max((entry.n for entry in known), default=0)
        self._changed = threading.Condition()
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @staticmethod
    def read(path: str | Path) -> list[LedgerEntry]:
        """Return the entries of a ledger file, in the order they were written.

        A last line that is still being written is left out; any other line that is not an entry
        raises ValueError with its number.
        """
        complete = Path(path).read_bytes().split(b"\n")[:-1]
        return [_parse(line, number) for number, line in enumerate(complete, start=1)]

    def begin(
        self, *, key: str | None, client: str | None, model: str | None, prompt_tokens: int
    ) -> OpenCall:
        """Write a start line and return the call, which must be ended."""
        with self._changed:
            self._last_n += 1
            entry = LedgerEntry(
                "start", self._last_n, time.time(), key, client, model, prompt_tokens
            )
            self.append(entry)
        return OpenCall(self, entry)

    def append(self, entry: LedgerEntry) -> None:
        """Write one line, in one system call, and wake `wait_for`."""
        line = entry.to_json().encode() + b"\n"
        with self._changed:
            if self._file is not None and os.write(self._file, line) != len(line):
                raise OSError(f"the ledger took only a part of the line {line!r}")
            self._entries.append(entry)
            self._changed.notify_all()

    def entries(self) -> list[LedgerEntry]:
        """Return all entries so far, those of a continued file included."""
        with self._changed:
            return list(self._entries)

    def calls(self) -> list[LedgerCall]:
        """Return all calls so far, see `LedgerCall.pair`."""
        return LedgerCall.pair(self.entries())

    def wait_for(
        self, predicate: Callable[[list[LedgerCall]], bool], *, timeout_s: float = 10.0
    ) -> list[LedgerCall]:
        """Return the calls as soon as `predicate(calls)` holds; TimeoutError after `timeout_s`.

        The way to act while a request is in flight, without sleeping:
        `provider.ledger.wait_for(lambda calls: len(calls) == 3)`.
        """
        with self._changed:
            if self._changed.wait_for(lambda: predicate(self.calls()), timeout_s):
                return self.calls()
        raise TimeoutError(f"not so within {timeout_s} s; the calls are {self.calls()!r}")

    def close(self) -> None:
        """Close the file; the entries stay readable. Closing twice does nothing."""
        with self._changed:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _parse(line: bytes, number: int) -> LedgerEntry:
    try:
        return LedgerEntry(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise ValueError(f"line {number} of the ledger is not an entry: {line!r}") from error
