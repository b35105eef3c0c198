"""What the driver and the process of a system say to each other: one JSON document a line.

A system is started as `python -m bench.peers.NAME ROLE OPTIONS`. Roles: `install` makes its tables
and ends; `produce` reads orders from standard input and answers each with the seconds it took;
`work` runs jobs until SIGTERM. This module imports nothing that a peer's environment lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

SAMPLES = "BENCH_SAMPLES"
"""Environment variable: the file to which jobs append what they measured."""


@dataclass(frozen=True)
class Work:
    """What a worker process is asked to run."""

    dsn: str
    queue: str
    concurrency: int


class Producer(Protocol):
    """How a system enqueues; `kind` is the job function: noop, stamp or stepping."""

    async def one(self, kind: str, args: dict[str, Any]) -> None:
        """Enqueues one job, and returns when it is committed."""

    async def bulk(self, kind: str, args: dict[str, Any], count: int) -> None:
        """Enqueues many jobs in the fastest way that the system offers."""


class System(Protocol):
    """What a module of this package gives to `run`."""

    async def install(self, dsn: str) -> None:
        """Makes the tables."""

    def producer(self, dsn: str) -> contextlib.AbstractAsyncContextManager[Producer]:
        """A connected producer."""

    async def work(self, work: Work, stop: asyncio.Event) -> None:
        """Runs jobs until `stop` is set."""


def run(system: System) -> None:
    """Plays the role that the command line names, on uvloop."""
    import uvloop

    role, options = sys.argv[1], json.loads(sys.argv[2])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if role == "install":
            runner.run(system.install(options["dsn"]))
        elif role == "produce":
            runner.run(_produce(system, options["dsn"]))
        else:
            # The same tuning that our own worker does for itself.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)
            runner.run(_work(system, Work(**options)))


def sample(*values: object) -> None:
    """Appends a line to the file of samples; one write, so that processes can share the file."""
    os.write(_samples(), (json.dumps(values) + "\n").encode())


def now() -> float:
    """The monotonic clock, which all processes of a machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


_file: list[int] = []


def _samples() -> int:
    if not _file:
        _file.append(os.open(os.environ[SAMPLES], os.O_APPEND | os.O_WRONLY | os.O_CREAT))
    return _file[0]


async def _work(system: System, work: Work) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await system.work(work, stop)


async def _produce(system: System, dsn: str) -> None:
    out = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    async with system.producer(dsn) as producer:
        os.write(out, b'{"ready": true}\n')
        async for order in _orders():
            started = now()
            answer = await _ORDERS[order.pop("do")](producer, **order)
            os.write(
                out, f"{json.dumps({'seconds': now() - started, **(answer or {})})}\n".encode()
            )


async def _orders() -> AsyncIterator[dict[str, Any]]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


async def _one(producer: Producer, kind: str, args: dict[str, Any], count: int) -> None:
    for _ in range(count):
        await producer.one(kind, args)


async def _bulk(producer: Producer, kind: str, args: dict[str, Any], count: int) -> None:
    await producer.bulk(kind, args, count)


async def _idle(producer: Producer, count: int, pause: float) -> None:
    """One job at a time, each for an idle worker; its argument is the time before the call."""
    for _ in range(count):
        await producer.one("stamp", {"sent": now()})
        await asyncio.sleep(pause)


async def _offer(producer: Producer, rate: float, seconds: float) -> None:
    """Jobs at a steady rate, whether or not the calls before have returned."""
    begun, calls = now(), set()
    for number in range(int(rate * seconds)):
        delay = begun + number / rate - now()
        if delay > 0:
            await asyncio.sleep(delay)
        call = asyncio.ensure_future(producer.one("stamp", {"sent": now()}))
        calls.add(call)
        call.add_done_callback(calls.discard)
    await asyncio.gather(*calls)


_ORDERS: dict[str, Callable[..., Awaitable[Any]]] = {
    "one": _one,
    "bulk": _bulk,
    "idle": _idle,
    "offer": _offer,
}
