"""A worker process: loads the application, says hello to its supervisor, runs jobs.

Standard output's first line is the hello, standard input's first line the answer; when standard
input closes, the supervisor is dead, its lease is not kept any more, and this process ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from typing import Any, NoReturn

from holdfast.app.locate import locate
from holdfast.app.logs import configure
from holdfast.app.running import say_route
from holdfast.errors import (
    DatabaseError,
    HoldfastError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
)
from holdfast.runtime.supervisor import EXIT_LOST
from holdfast.runtime.worker import Worker, WorkerPlan
from holdfast.storage.database import BlockingDatabase

log = logging.getLogger("holdfast.worker")

EXIT_USAGE = 2
EXIT_DATABASE = 3
EXIT_SCHEMA = 4
_LAST_WAIT_S = 1.0


def main() -> None:
    """Runs one worker process: `python -m holdfast.app.child TARGET OPTIONS`."""
    target, options = sys.argv[1], json.loads(sys.argv[2])
    configure(options.get("log_level", "INFO"))
    try:
        app = locate(target)
        app.point_at(dsn=options.get("dsn"), schema=options.get("schema"))
        plan = app.worker_plan(options.get("queues"))
        plan = replace(plan, name=options.get("name", plan.name))
        database = BlockingDatabase(plan.dsn, plan.schema)
        database.open()
        database.close()
        say_route(database.route)
    except HoldfastError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_exit_code(error))
    _say({"hello": _hello(target, plan)})
    answer = sys.stdin.readline()
    if not answer:
        sys.exit(1)
    threading.Thread(target=_die_with_supervisor, daemon=True).start()
    identity = json.loads(answer)
    _run(Worker(plan, identity["worker_id"], identity["name"]))


def _exit_code(error: HoldfastError) -> int:
    if isinstance(error, (SchemaMissing, SchemaTooOld, SchemaTooNew)):
        return EXIT_SCHEMA
    return EXIT_DATABASE if isinstance(error, DatabaseError) else EXIT_USAGE


def _hello(target: str, plan: WorkerPlan) -> dict[str, Any]:
    return {
        "dsn": plan.dsn,
        "schema": plan.schema,
        "app": target,
        "code_version": next(iter(plan.registry.values())).version,
        "queues": dict(plan.queues),
        "job_names": sorted(plan.registry),
        "name": plan.name,
        "closed": plan.closed,
    }


def _run(worker: Worker) -> NoReturn:
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    # What is loaded stays; and a thousand jobs in flight are no garbage to be looked for each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    _run_through(runner.get_loop(), worker)
    # Not closed: that would wait for code of jobs that does not stop, in tasks and in threads, for
    # as long as it likes. Its jobs are handed back, and the supervisor waits.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_LOST if worker.lost else 0)


def _run_through(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Runs the worker to its end, whatever its jobs' own tasks end with.

    A task that ends with `SystemExit` or `KeyboardInterrupt` raises it out of the loop, which would
    end this process and all its jobs with it. The task has its error, nothing is lost: go on.
    """
    serving = loop.create_task(_serve(worker))
    while not serving.done():
        try:
            loop.run_until_complete(serving)
        except (SystemExit, KeyboardInterrupt):
            log.warning(
                "worker.exit_ignored a task of a job tried to end the process", exc_info=True
            )
    serving.result()


async def _serve(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_LAST_WAIT_S)


def _die_with_supervisor() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


def _say(message: dict[str, Any]) -> None:
    # A module that printed without a newline must not spoil our line.
    sys.stdout.write("\n" + json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
