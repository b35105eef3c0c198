"""Several branches of one job at once: `ctx.map` and `ctx.gather`.

Work in flight is paid for, so an error does not throw it away: what runs is awaited and recorded,
then the first error is raised. Only an interruption of the job stops the others at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

from holdfast.errors import Interruption, InvalidOption
from holdfast.runtime.attempt import BRANCH, Attempt
from holdfast.runtime.carried import Carried, carrying
from holdfast.runtime.journal import SCOPE, scope
from holdfast.runtime.progress import report
from holdfast.runtime.stepping import StepPlan, run_step
from holdfast.runtime.steps import key_text

R = TypeVar("R")

_INTERRUPTIONS = (asyncio.CancelledError, Interruption)

Share = str | tuple[float, float, str]
"""A progress text, or (from, to, text): the part of the bar that is to be filled."""


async def run_all(
    attempt: Attempt,
    plan: StepPlan,
    items: Iterable[Any],
    *,
    key: Callable[[Any], object] | None,
    limit: int | None,
    progress: Share | None,
) -> list[Any]:
    """Runs one keyed step for each item; returns the results in the items' order."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InvalidOption(
            f"map(limit={limit!r}) is not a number ≥ 1", "Leave it out for no limit."
        )
    todo = [(item, key_text(key(item) if key else item)) for item in items]
    slots = asyncio.Semaphore(limit or max(1, len(todo)))
    low, high, text = _share(progress)
    failed = asyncio.Event()
    done = count(1)
    # A second map of the same function gets keys of its own: fetch[a], fetch#2[a].
    with attempt.journal.named(plan.name) as group:
        grouped = replace(plan, name=group[len(SCOPE.get()) :])

        async def one(item: Any, item_key: str) -> Any:
            async with _turn(attempt, slots):
                if failed.is_set():
                    raise _Skipped
                try:
                    value = await run_step(attempt, replace(grouped, key=item_key), (item,), {})
                except BaseException:
                    failed.set()
                    raise
                if progress is not None:
                    report(attempt, next(done), len(todo), text, share=(low, high))
                return value

        return await _all(attempt, [one(item, item_key) for item, item_key in todo])


async def gather(attempt: Attempt, branches: Mapping[str, Coroutine[Any, Any, R]]) -> tuple[R, ...]:
    """Runs the branches at once, each in a scope of its name; returns the results in order."""
    attempt.check()

    async def branch(name: str, work: Coroutine[Any, Any, R]) -> R:
        with scope(name):
            return await work

    return tuple(await _all(attempt, [branch(name, work) for name, work in branches.items()]))


def _share(progress: Share | None) -> tuple[float, float, str]:
    if progress is None or isinstance(progress, str):
        return 0.0, 1.0, progress or ""
    low, high, text = progress
    if not 0 <= low <= high <= 1:
        raise InvalidOption(
            f"map(progress={progress!r}) is no part of a bar", "Write (0.1, 0.9, 'text')."
        )
    return low, high, text


@asynccontextmanager
async def _turn(attempt: Attempt, slots: asyncio.Semaphore) -> AsyncIterator[None]:
    attempt.branch_rests()
    try:
        await slots.acquire()
    finally:
        attempt.branch_goes_on()
    try:
        yield
    finally:
        slots.release()


class _Skipped(Exception):
    """This item was not begun, because another had failed."""


async def _all(attempt: Attempt, work: list[Coroutine[Any, Any, R]]) -> list[R]:
    tasks = [asyncio.create_task(_branch(item)) for item in work]
    if not tasks:
        return []
    attempt.split(len(tasks))
    for task in tasks:
        task.add_done_callback(lambda _: attempt.branch_rests())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        while pending := [task for task in tasks if not task.done()]:
            if any(_interrupted(task) for task in tasks):
                break
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    finally:
        try:
            await _stop([task for task in tasks if not task.done()])
        finally:
            attempt.branch_goes_on()
    errors = [e for task in tasks if (e := _error(task)) is not None]
    if errors:
        raise min(errors, key=_weight)
    return [task.result() for task in tasks]


async def _branch(work: Coroutine[Any, Any, R]) -> R:
    task = asyncio.current_task()
    assert task is not None
    BRANCH.set((*BRANCH.get(), task))
    return await carrying(work)


async def _stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    if task.cancelled():
        return asyncio.CancelledError()
    error = task.exception()
    return error.error if isinstance(error, Carried) else error


def _interrupted(task: asyncio.Task[Any]) -> bool:
    return task.done() and isinstance(_error(task), _INTERRUPTIONS)


def _weight(error: BaseException) -> int:
    """Interruptions first, then real errors, then the items that were never begun."""
    if isinstance(error, _Skipped):
        return 2
    return 0 if isinstance(error, _INTERRUPTIONS) else 1
