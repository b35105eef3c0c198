"""The supervisor: a small process with no user code, and N worker processes, spawned.

It keeps their leases, sees at once when one dies, says why, gives its jobs back within
milliseconds and starts another. A worker whose supervisor dies ends itself.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import DatabaseError
from holdfast.runtime.lease import LEASE_S, LeaseKeeper, new_identity, worker_name
from holdfast.storage.workers import Registration

log = logging.getLogger("holdfast.supervisor")

EXIT_LOST = 75
"""Exit code of a worker that lost its lease: it is started again."""
_MAX_RESTART_DELAY_S = 15.0
_HEALTHY_S = 5.0
_RELEASE_S = 3.0

Event = tuple[str, Any]


@dataclass(slots=True)
class Child:
    """One worker process."""

    slot: int
    process: subprocess.Popen[bytes]
    worker_id: int
    started: float
    registered: bool = False
    killed_for: str | None = None


@dataclass(slots=True)
class _State:
    children: dict[int, Child] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=dict)
    releasing: int = 0
    stops: int = 0
    exit_code: int = 0

    @property
    def is_busy(self) -> bool:
        """Whether there is still something to wait for; a third signal waits for children only."""
        waiting = bool(self.children) or (self.releasing > 0 and self.stops <= 2)
        return waiting or not self.stops


class Supervisor:
    """Runs `processes` copies of a worker command until told to stop.

    The command speaks the protocol of `holdfast.app.child`: it writes one JSON line `hello` to its
    standard output, is answered one line on its standard input, and ends when that is closed.
    """

    def __init__(self, command: Sequence[str], processes: int) -> None:
        self._command = list(command)
        self._processes = processes
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._state = _State()
        self._keeper: LeaseKeeper | None = None

    def run(self) -> int:
        """Runs until stopped by SIGTERM or SIGINT; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: self._events.put(("signal", n)))
        try:
            for slot in range(self._processes):
                self._spawn(slot)
            while self._state.is_busy:
                # With no children left only jobs are being given back: not for ever, when the
                # database is away. Our heartbeats end with us, and others will find them.
                patience = _RELEASE_S if self._state.stops and not self._state.children else None
                try:
                    self._handle(*self._events.get(timeout=patience))
                except queue.Empty:
                    break
        finally:
            for child in self._state.children.values():
                child.process.kill()
            if self._keeper is not None:
                self._keeper.stop()
        return self._state.exit_code

    # --- Events ---------------------------------------------------------------------------------

    def _handle(self, kind: str, value: Any) -> None:
        match kind:
            case "signal":
                self._on_stop()
            case "hello":
                self._on_hello(*value)
            case "exited":
                self._on_exit(value)
            case "restart":
                if not self._state.stops:
                    self._spawn(value)
            case "released":
                self._state.releasing -= 1
            case "lost":
                self._on_lost(value)

    def _on_stop(self) -> None:
        """First: let the jobs finish. Second: hand them back now. Third: kill."""
        self._state.stops += 1
        for child in self._state.children.values():
            if self._state.stops <= 2:
                child.process.send_signal(signal.SIGTERM)
            else:
                child.process.kill()

    def _on_hello(self, child: Child, hello: dict[str, Any]) -> None:
        """A worker has loaded its code: give it a lease, then let it claim."""
        try:
            keeper = self._keeper_for(hello)
            name = worker_name(hello["name"], keeper.supervisor_id)
            keeper.register(
                Registration(
                    worker_id=child.worker_id,
                    supervisor_id=keeper.supervisor_id,
                    pid=child.process.pid,
                    host=socket.gethostname(),
                    app=hello["app"],
                    code_version=hello["code_version"],
                    queues=hello["queues"],
                    job_names=hello["job_names"],
                    lease_s=LEASE_S,
                    name=name,
                    closed=hello["closed"],
                )
            )
        except DatabaseError as error:
            log.error("worker.not_registered %s", error)
            child.process.kill()
            return
        child.registered = True
        self._answer(child, {"worker_id": child.worker_id, "name": name})

    def _keeper_for(self, hello: dict[str, Any]) -> LeaseKeeper:
        if self._keeper is None:
            keeper = LeaseKeeper(
                hello["dsn"], hello["schema"], lost=lambda ids: self._events.put(("lost", ids))
            )
            keeper.start()
            self._keeper = keeper
        return self._keeper

    def _on_exit(self, child: Child) -> None:
        del self._state.children[child.slot]
        code = child.process.returncode
        # Nobody but us ends a worker well: a job that calls os._exit(0) has killed it.
        clean = self._state.stops > 0 and code in (0, -signal.SIGTERM)
        if child.registered and self._keeper is not None:
            self._give_back(child, code, clean=clean)
        if self._state.stops:
            return
        if self._keeper is None and code not in (0, EXIT_LOST) and code > 0:
            # None has ever started (bad import, wrong settings): starting again will not help.
            log.error("worker.cannot_start exit code %d", code)
            self._state.exit_code = code
            self._on_stop()
            return
        self._restart(child)

    def _give_back(self, child: Child, code: int, *, clean: bool) -> None:
        """Takes the jobs of a dead worker away from it, beside the loop of events.

        While the database is away that takes its time, and signals must be heard meanwhile.
        """
        keeper = self._keeper
        assert keeper is not None
        why = child.killed_for or describe_exit(code)
        innocent = clean or code == EXIT_LOST

        def release() -> None:
            moved = keeper.release(
                child.worker_id,
                outcome="shutdown" if innocent else "crashed",
                reason=f"its worker process {why}",
                charge=not innocent,
                within_s=_RELEASE_S if self._state.stops else None,
            )
            if not clean:
                log.warning(
                    "worker.died pid %d %s; %d jobs given back", child.process.pid, why, len(moved)
                )
            self._events.put(("released", child))

        self._state.releasing += 1
        threading.Thread(target=release, daemon=True).start()

    def _restart(self, child: Child) -> None:
        if time.monotonic() - child.started > _HEALTHY_S:
            self._state.failures[child.slot] = 0
        failures = self._state.failures.get(child.slot, 0)
        self._state.failures[child.slot] = failures + 1
        delay = 0.0 if failures == 0 else min(_MAX_RESTART_DELAY_S, 0.25 * 2.0**failures)
        timer = threading.Timer(delay, self._events.put, [("restart", child.slot)])
        timer.daemon = True
        timer.start()

    def _on_lost(self, worker_ids: set[int]) -> None:
        """Leases are over: nothing these processes do counts any more."""
        for child in self._state.children.values():
            if child.worker_id in worker_ids:
                child.killed_for = "lost its lease and was killed"
                child.process.kill()

    # --- Processes ------------------------------------------------------------------------------

    def _spawn(self, slot: int) -> None:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Its own process group: a Ctrl-C in the terminal reaches us, and we tell it.
            process_group=0,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        child = Child(slot, process, new_identity(), time.monotonic())
        self._state.children[slot] = child
        threading.Thread(target=self._read, args=[child], daemon=True).start()
        threading.Thread(target=self._wait, args=[child], daemon=True).start()

    def _read(self, child: Child) -> None:
        """Passes on the first line as the worker's hello, the rest as its output."""
        assert child.process.stdout is not None
        for line in child.process.stdout:
            if not child.registered and line.startswith(b'{"hello"'):
                self._events.put(("hello", (child, json.loads(line)["hello"])))
            else:
                _pass_on(line)

    def _wait(self, child: Child) -> None:
        child.process.wait()
        self._events.put(("exited", child))

    @staticmethod
    def _answer(child: Child, answer: dict[str, Any]) -> None:
        assert child.process.stdin is not None
        try:
            child.process.stdin.write(json.dumps(answer).encode() + b"\n")
            child.process.stdin.flush()
        except BrokenPipeError:
            # It died meanwhile; its exit is in the queue.
            return


def _pass_on(line: bytes) -> None:
    """Prints what a worker printed; where nobody reads it any more, it must still not block."""
    try:
        os.write(1, line)
    except OSError:
        return


def describe_exit(code: int) -> str:
    """Returns in words how a process ended.

    >>> describe_exit(-9), describe_exit(3)
    ('was killed by SIGKILL', 'exited with code 3')
    """
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
