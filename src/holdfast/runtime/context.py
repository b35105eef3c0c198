"""What a job function gets in its hands: `Context`, and `BlockingContext` for plain functions."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ParamSpec, TypeVar, overload

from pydantic_core import from_json

from holdfast.errors import Undecodable, UsageError
from holdfast.model.durations import Duration, seconds
from holdfast.runtime import progress
from holdfast.runtime.attempt import CURRENT, Attempt
from holdfast.runtime.blocking import BlockingStepConnection, Bridge, open_blocking
from holdfast.runtime.parallel import Share, gather, run_all
from holdfast.runtime.stepping import StepPlan, run_step, sleep, transaction
from holdfast.runtime.steps import plan_of
from holdfast.storage.transaction import StepConnection

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

BLOCKING: contextvars.ContextVar[BlockingContext] = contextvars.ContextVar("holdfast_blocking")


class _Facts:
    """What both contexts tell about the job."""

    _attempt: Attempt

    @property
    def job_id(self) -> int:
        """The job's id."""
        return self._attempt.job.id

    @property
    def job_name(self) -> str:
        """The job function's registered name."""
        return self._attempt.job.name

    @property
    def queue(self) -> str:
        """The queue the job came from."""
        return self._attempt.job.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1 for the first. Crashes and waits do not count."""
        return self._attempt.job.failures + 1

    @property
    def max_attempts(self) -> int:
        """How many attempts the job has."""
        return self._attempt.job.max_attempts

    @property
    def tags(self) -> tuple[str, ...]:
        """The job's tags."""
        return tuple(self._attempt.job.tags)

    @property
    def meta(self) -> dict[str, Any]:
        """The job's free-form data, a fresh copy."""
        try:
            data: dict[str, Any] = from_json(self._attempt.job.meta)
        except ValueError as error:
            raise Undecodable(
                f"the job's meta cannot be read: {error}",
                "It was not stored by this library: mend the column meta, then retry the job.",
            ) from None
        return data

    @property
    def shutting_down(self) -> bool:
        """True once the worker wants to stop: finish soon, or be handed back."""
        return self._attempt.shutting_down


class Context(_Facts):
    """The handle of an async job function on its own durability.

    Every method raises `Interruption` (a `BaseException`) when the job must stop; let it pass.
    """

    def __init__(self, attempt: Attempt, schema: str) -> None:
        self._attempt = attempt
        self._schema = schema

    @overload
    async def step(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def step(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs `fn` once and returns its result; a recorded result returns at once, for ever.

        One round trip. A plain function runs in a thread. Options (key, retry, timeout) come from
        `@step` or `step(fn, key=…)`. Raises what `fn` raises; `AmbiguousStep` when an un-keyed
        step of that name is in flight; `NonDeterminism` when a replay passes other arguments.
        """
        return await run_step(self._attempt, plan_of(fn), args, kwargs)

    @overload
    async def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        /,
        *,
        key: Callable[[T], object] | None = None,
        limit: int | None = None,
        progress: Share | None = None,
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        /,
        *,
        key: Callable[[T], object] | None = None,
        limit: int | None = None,
        progress: Share | None = None,
    ) -> list[R]: ...
    async def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        /,
        *,
        key: Callable[[Any], object] | None = None,
        limit: int | None = None,
        progress: Share | None = None,
    ) -> list[Any]:
        """Runs one step for each item, at most `limit` at once; returns the results in order.

        Each step's key is `key(item)`; without `key` the item itself, which must then be a str, a
        number, a UUID, a date or a tuple of these. When one fails for good no further ones begin,
        those in flight finish and are recorded, and its error is raised. `progress`: a text;
        the job's bar then shows how many items are done; `(0.1, 0.9, text)` fills that part of it.
        """
        return await run_all(
            self._attempt, plan_of(fn), items, key=key, limit=limit, progress=progress
        )

    async def gather(self, **branches: Coroutine[Any, Any, R]) -> tuple[R, ...]:
        """Runs branches at once, each in a scope of its name; returns their results in order.

        `a, b = await ctx.gather(pro=argue(...), con=argue(...))`: steps of the same name in
        different branches have different keys. The first error is raised when all have ended.
        """
        return await gather(self._attempt, branches)

    async def sleep(self, duration: Duration, *, key: str | None = None) -> None:
        """Waits; restarts do not restart the wait. Longer than 5 s it parks the job, slot freed."""
        await sleep(self._attempt, seconds(duration, field="duration"), key)

    def transaction(self, name: str = "transaction") -> AbstractAsyncContextManager[StepConnection]:
        """Commits the block's statements together with the journal: exactly once.

        The connection has `execute(sql, params)` as in psycopg, and can be given to
        `options(conn=…)`. When the job is replayed after the commit, the block runs again but its
        statements do not: they return what they returned then. An error rolls everything back.
        """
        return transaction(self._attempt, name, self._schema)

    async def progress(
        self, done: float, total: float | str | None = None, text: str | None = None
    ) -> None:
        """Raises the job's progress: `progress(0.5, "text")` or `progress(3, 10, "text")`.

        Never lowers it, so a replay leaves the bar where it was. Durable within about 250 ms, at
        the latest with the end of the attempt; many calls become one write.
        """
        self._attempt.check()
        progress.report(self._attempt, done, total, text)

    def track(
        self, items: Iterable[T], total: float | None = None, text: str | None = None
    ) -> Iterator[T]:
        """Yields the items and reports progress after each; `total` is len(items) by default."""
        return _track(self._attempt, items, total, text)


class BlockingContext(_Facts):
    """The handle of a plain job function on its own durability: the same, blocking."""

    def __init__(self, attempt: Attempt, schema: str, bridge: Bridge) -> None:
        self._attempt = attempt
        self._schema = schema
        self._bridge = bridge
        self._async = Context(attempt, schema)

    @overload
    def step(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def step(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def step(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs `fn` once and returns its result; see `Context.step`."""
        return self.run_plan(plan_of(fn), args, kwargs)

    def run_plan(self, plan: StepPlan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a step that is already planned."""
        return self._bridge.call(run_step(self._attempt, plan, args, kwargs))

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        /,
        *,
        key: Callable[[T], object] | None = None,
        limit: int | None = None,
        progress: Share | None = None,
    ) -> list[R]: ...
    @overload
    def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        /,
        *,
        key: Callable[[T], object] | None = None,
        limit: int | None = None,
        progress: Share | None = None,
    ) -> list[R]: ...
    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        /,
        *,
        key: Callable[[Any], object] | None = None,
        limit: int | None = None,
        progress: Share | None = None,
    ) -> list[Any]:
        """Runs one step for each item, in threads, at most `limit` at once; see `Context.map`."""
        return self._bridge.call(
            run_all(self._attempt, plan_of(fn), items, key=key, limit=limit, progress=progress)
        )

    def sleep(self, duration: Duration, *, key: str | None = None) -> None:
        """Waits; restarts do not restart the wait; see `Context.sleep`."""
        self._bridge.call(sleep(self._attempt, seconds(duration, field="duration"), key))

    def transaction(
        self, name: str = "transaction"
    ) -> AbstractContextManager[BlockingStepConnection]:
        """Commits the block's statements together with the journal; see `Context.transaction`."""
        return open_blocking(self._bridge, transaction(self._attempt, name, self._schema))

    def progress(
        self, done: float, total: float | str | None = None, text: str | None = None
    ) -> None:
        """Raises the job's progress; see `Context.progress`."""
        self._bridge.call(self._async.progress(done, total, text))

    def track(
        self, items: Iterable[T], total: float | None = None, text: str | None = None
    ) -> Iterator[T]:
        """Yields the items and reports progress after each; see `Context.track`."""
        size = _size(items, total)
        for done, item in enumerate(items, 1):
            yield item
            self.progress(done, size, text)


def _track(
    attempt: Attempt, items: Iterable[T], total: float | None, text: str | None
) -> Iterator[T]:
    size = _size(items, total)
    for done, item in enumerate(items, 1):
        attempt.check()
        yield item
        progress.report(attempt, done, size, text)


def _size(items: Iterable[Any], total: float | None) -> float:
    if total is not None:
        return total
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(
            f"track() cannot know how many items a {type(items).__name__} has",
            "Pass total=…, or a list.",
        ) from None


def current_context() -> Context | BlockingContext:
    """Returns the context of the job whose code is running; for code far from its signature.

    Raises `UsageError` outside a job.
    """
    attempt = CURRENT.get(None)
    if attempt is None:
        raise UsageError("no job is running here", "Call this from a job function's own code.")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        blocking = BLOCKING.get(None)
        if blocking is not None:
            return blocking
    return Context(attempt, attempt.schema)
