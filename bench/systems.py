"""The systems under test, and how the driver starts and stops their processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.protocol import SAMPLES

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".bench" / "peers"
_STOP_S = 20
_ANSWER_S = 300


class DoesNotRun(Exception):
    """A system that cannot be measured, and why; the table shows it."""


@dataclass(frozen=True)
class Facts:
    """How one system is run and looked at; nothing about what is measured.

    `left` counts its jobs that are not finished yet. `drain`: how many no-op jobs one drain has,
    so that it lasts seconds. `slots`: how many jobs a worker process runs at once there.
    """

    name: str
    left: str
    drain: int
    bulk: int
    slots: int = 1000
    peer: bool = True
    steps: int = 0
    steps_left: str = ""
    archive: str = ""
    settings: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return str(PEERS / self.name / "bin" / "python") if self.peer else sys.executable

    def command(self, role: str, **options: Any) -> list[str]:
        """The command line of one of its processes."""
        module = f"bench.peers.{self.name}"
        return [self.python, "-m", module, role, json.dumps(options)]

    def worker(self, dsn: str, queue: str, slots: int) -> list[str]:
        """The command line of a worker process."""
        if self.name != "holdfast":
            return self.command("work", dsn=dsn, queue=queue, concurrency=slots)
        target = ["bench.peers.holdfast:app", "--queues", f"{queue}:{slots}"]
        options = ["--dsn", dsn, "--log-level", "WARNING"]
        return [self.python, "-m", "holdfast", "worker", *target, *options]


def install(facts: Facts, dsn: str) -> None:
    """Makes the tables of a system; raises `DoesNotRun` with the reason when that fails."""
    if not Path(facts.python).exists():
        log = PEERS / f"{facts.name}.log"
        reason = log.read_text().strip().splitlines()[-1:] if log.exists() else []
        raise DoesNotRun(*(reason or [f"{facts.name} is not installed: make bench installs it"]))
    done = subprocess.run(
        facts.command("install", dsn=dsn), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DoesNotRun(f"install: {_last_line(done.stderr)}")


class Orders:
    """A running producer: takes orders, returns the seconds that each took."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def give(self, do: str, **options: Any) -> float:
        """Has an order carried out."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()
        return float(self.answer()["seconds"])

    def answer(self) -> dict[str, Any]:
        """Returns the next answer; raises `DoesNotRun` when the process has ended instead."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return dict(json.loads(line))
        raise DoesNotRun("the producer ended; its last words are above")


@contextmanager
def producer(facts: Facts, dsn: str) -> Iterator[Orders]:
    """A connected producer process."""
    process = subprocess.Popen(
        facts.command("produce", dsn=dsn), cwd=ROOT, text=True, env=_environment(facts),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    orders = Orders(process)
    try:
        orders.answer()
        yield orders
    finally:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        _end(process)


@contextmanager
def workers(
    facts: Facts, dsn: str, queue: str, *, count: int = 1, samples: Path | None = None,
    slots: int | None = None,
) -> Iterator[list[int]]:  # fmt: skip
    """So many worker processes; yields their ids. Told to stop at the end, and waited for."""
    environment = _environment(facts, samples)
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        processes = []
        for command in _commands(facts, dsn, queue, count, slots or facts.slots):
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            stack.callback(_end, process)
            processes.append(process)
        yield [process.pid for process in processes]
        if any(process.poll() is not None for process in processes):
            log.seek(0)
            raise DoesNotRun(f"a worker ended: {_last_line(log.read())}")
        for process in processes:
            process.send_signal(signal.SIGTERM)


def _commands(facts: Facts, dsn: str, queue: str, count: int, slots: int) -> list[list[str]]:
    command = facts.worker(dsn, queue, slots)
    if facts.name == "holdfast":  # one supervisor for all
        return [[*command, "--processes", str(count)]]
    return [command] * count


def _environment(facts: Facts, samples: Path | None = None) -> dict[str, str]:
    named = {SAMPLES: str(samples)} if samples else {}
    return {**os.environ, **facts.environment, **named}


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
