"""Keeping a lease, and taking over from those who lost theirs.

A native thread with a connection of its own: user code that blocks the loop, runs for hours or
starves it never costs a lease. The connection holds a session lock that dies with this process;
each heartbeat renews the lease rows, notices dead workers and does housekeeping that is due.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from secrets import randbits

from holdfast.errors import HoldfastError
from holdfast.storage.duties import do_duties
from holdfast.storage.failures import CONNECTION_ERRORS, is_refusal
from holdfast.storage.lease import LeaseConnection
from holdfast.storage.migrate import DAYS_AHEAD
from holdfast.storage.workers import Beat, Registration

log = logging.getLogger("holdfast.lease")

LEASE_S = 10.0
"""A lease that was not renewed for so long is over, by the database's clock."""
GIVE_UP_S = 7.0
"""A supervisor that could not renew for so long stops its jobs, before anybody may take them."""
GRACE_S = 1.0
"""A session lock must be gone for so long before its worker counts as dead."""
_STOP_S = 5.0
_BEAT_S = 1.5
_FAILURES: tuple[type[Exception], ...] = (HoldfastError, *CONNECTION_ERRORS)


def worker_name(given: str | None, supervisor_id: int) -> str:
    """Returns the name of a supervisor's workers: the one given, else one of its own."""
    return given or f"w-{supervisor_id & 0xFFFFFFFF:08x}"


def new_identity() -> int:
    """Returns a random identity for a worker or supervisor; never a host name."""
    return randbits(62) + 1


class LeaseKeeper:
    """Keeps the leases of one supervisor's workers, until stopped.

    `lost(worker_ids)` is called from the keeper's thread when leases are over or about to be.
    """

    def __init__(self, dsn: str, schema: str, *, lost: Callable[[set[int]], None]) -> None:
        self.supervisor_id = new_identity()
        self._dsn = dsn
        self._schema = schema
        self._connection = LeaseConnection(dsn, schema, self.supervisor_id)
        self._lost = lost
        self._workers: set[int] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._duties: threading.Thread | None = None
        self._renewed_at = 0.0

    def start(self) -> None:
        """Connects and takes the lock; raises when the database cannot be used."""
        self._connection.open()
        self._renewed_at = _clock()
        self._thread = threading.Thread(target=self._run, name="holdfast lease", daemon=True)
        self._thread.start()

    def register(self, new: Registration) -> None:
        """Adds a worker; its lease is kept from now on."""
        self._connection.register(new)
        with self._guard:
            self._workers.add(new.worker_id)

    def release(
        self,
        worker_id: int,
        *,
        outcome: str,
        reason: str,
        charge: bool,
        culprits: list[int] | None = None,
        within_s: float | None = None,
    ) -> dict[int, str]:
        """Takes the jobs of a worker of ours that is gone; returns what became of each.

        Repeated until it works or the keeper stops: our own heartbeats keep its lease alive. Who
        is about to end gives up after `within_s`: then nobody renews it, and it runs out.
        """
        moved: dict[int, str] = {}
        end = math.inf if within_s is None else _clock() + within_s
        with self._guard:
            self._workers.discard(worker_id)
        while not self._stop.is_set() and _clock() < end:
            try:
                moved |= self._connection.release(
                    [worker_id],
                    outcome=outcome,
                    reason=reason,
                    certain=True,
                    charge=charge,
                    culprits=culprits,
                )
                if not self._connection.exists(worker_id):
                    break
            except _FAILURES as error:
                log.warning("lease.release_delayed %s", error)
            self._stop.wait(0.05)
        return moved

    def stop(self) -> None:
        """Ends the thread and gives the lock back. Stopping twice is allowed."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            # Bounded: it may be connecting to a server that does not answer.
            self._thread.join(_STOP_S)
        if self._duties is not None:
            self._duties.join(_STOP_S)
        self._connection.close()

    # --- The thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            sent = _clock()
            with self._guard:
                kept = set(self._workers)
            try:
                answer = self._connection.beat(lease_s=LEASE_S, grace_s=GRACE_S)
                self._renewed_at = sent
                pause = self._after_beat(answer, kept)
            except _FAILURES as error:
                pause = self._after_failure(error)

    def _after_beat(self, answer: Beat, kept: set[int]) -> float:
        with self._guard:
            # Only those that were ours when the beat was sent and still are: one that was
            # registered or released meanwhile is not missing.
            gone = (kept - answer.renewed) & self._workers
            self._workers -= gone
        if gone:
            log.error("lease.gone somebody declared us dead")
            self._lost(gone)
        if answer.dead:
            self._rescue(answer.dead)
        if answer.duty_due:
            self._begin_duties()
        # A lock that has just gone is looked at again as soon as the grace allows a verdict.
        return GRACE_S + 0.02 if answer.suspects else _BEAT_S * random.uniform(0.9, 1.0)

    def _begin_duties(self) -> None:
        """Does the housekeeping in a thread of its own, which may take longer than a lease."""
        if self._duties is None or not self._duties.is_alive():
            self._duties = threading.Thread(
                target=self._do_duties, name="holdfast duties", daemon=True
            )
            self._duties.start()

    def _do_duties(self) -> None:
        try:
            do_duties(self._dsn, self._schema, days_ahead=DAYS_AHEAD, stopping=self._stop.is_set)
        except _FAILURES as error:
            log.warning("duties.failed they are due again later: %s", error)

    def _rescue(self, dead: set[int]) -> None:
        moved = self._connection.release(
            sorted(dead),
            outcome="crashed",
            reason="its worker stopped renewing its lease",
            certain=False,
            charge=True,
        )
        # Called until the rows are gone: the call that only removes them moves nothing.
        if moved:
            log.warning("lease.rescued %d jobs of %d dead workers", len(moved), len(dead))

    def _after_failure(self, error: Exception) -> float:
        if self._connection.is_direct and is_refusal(error):
            # No server runs there, so nobody can take our jobs: the clock of the lease stands
            # still, and after a restart the amnesty covers us. What a pooler refuses, however,
            # says nothing about the server: others may reach it.
            self._renewed_at = _clock()
        elif _clock() - self._renewed_at > GIVE_UP_S:
            with self._guard:
                gone, self._workers = self._workers, set()
            if gone:
                log.error("lease.unrenewable stopping the jobs before others take them: %s", error)
                self._lost(gone)
        with suppress(*_FAILURES):
            self._connection.close()
        return random.uniform(0.2, 0.5)


def _clock() -> float:
    """Seconds that go on while the machine sleeps, where the platform has such a clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
