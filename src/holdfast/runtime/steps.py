"""`@step`: a function whose calls are recorded when a job makes them."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar, overload

from holdfast.errors import InvalidJobFunction, InvalidOption, UsageError
from holdfast.model.backoff import Retry
from holdfast.model.durations import Duration, seconds
from holdfast.model.text import shown
from holdfast.runtime.attempt import CURRENT
from holdfast.runtime.stepping import INSIDE, StepInfo, StepPlan, run_step

P = ParamSpec("P")
R = TypeVar("R")


class StepFunction(Generic[P, R]):
    """A function with step options. Inside a job a call of it is a step; elsewhere a plain call."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        functools.update_wrapper(self, plan.fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function; as a recorded step when a job's own code does."""
        attempt = CURRENT.get(None)
        if attempt is None or INSIDE.get() is not None:
            return self.plan.fn(*args, **kwargs)  # type: ignore[no-any-return]
        if inspect.iscoroutinefunction(inspect.unwrap(self.plan.fn)):
            return run_step(attempt, self.plan, args, kwargs)  # type: ignore[return-value]
        return _call_blocking(self.plan, args, kwargs)  # type: ignore[no-any-return]

    def options(
        self,
        *,
        key: object = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        name: str | None = None,
    ) -> StepFunction[P, R]:
        """Returns the same step with other options; what is not given stays.

        >>> @step(retry=Retry(5))
        ... async def fetch(url: str) -> str: ...
        >>> fetch.options(key="home").plan.key
        'home'
        """
        old = self.plan
        new = plan_of(old.fn, name=name or old.name, key=key, retry=retry, timeout=timeout)
        return StepFunction(
            StepPlan(
                fn=old.fn,
                name=new.name,
                key=old.key if new.key is None else new.key,
                retry=new.retry or old.retry,
                timeout_s=old.timeout_s if new.timeout_s is None else new.timeout_s,
            )
        )


@overload
def step(fn: Callable[P, R], /) -> StepFunction[P, R]: ...
@overload
def step(
    fn: Callable[P, R],
    /,
    *,
    key: object = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    name: str | None = None,
) -> StepFunction[P, R]: ...
@overload
def step(
    *,
    key: object = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    name: str | None = None,
) -> Callable[[Callable[P, R]], StepFunction[P, R]]: ...
def step(
    fn: Callable[P, R] | None = None,
    /,
    *,
    key: object = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    name: str | None = None,
) -> StepFunction[P, R] | Callable[[Callable[P, R]], StepFunction[P, R]]:
    """Makes a function a step: inside a job it runs once, its result is recorded and returned.

    `key` identifies one call among several of the same name (any str or number); without it,
    calls are numbered, and two at once are an error. `retry` tries again inside the attempt; the
    count of tries survives crashes. `timeout` (seconds, "30s", timedelta) ends one try with
    `StepTimeout`. `name` replaces the function's name in the journal.

    >>> @step(retry=Retry(5), timeout="30s")
    ... async def fetch(url: str) -> str: ...
    """
    if fn is None:
        return lambda f: StepFunction(plan_of(f, name=name, key=key, retry=retry, timeout=timeout))
    return StepFunction(plan_of(fn, name=name, key=key, retry=retry, timeout=timeout))


def plan_of(
    fn: Any,
    *,
    name: str | None = None,
    key: object = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
) -> StepPlan:
    """Returns how `fn` is run as a step; keeps the options it was decorated with."""
    if isinstance(fn, StepFunction):
        return fn.plan
    if not callable(fn):
        hint = (
            "Pass the function and its arguments: ctx.step(fetch, url), not ctx.step(fetch(url))."
        )
        if inspect.iscoroutine(fn):
            fn.close()
        raise InvalidJobFunction(f"a step needs a function, got {shown(fn)}", hint)
    if retry is not None and not isinstance(retry, Retry):
        raise InvalidOption(f"retry={shown(retry)} is not a Retry", "Write retry=Retry(5).")
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidOption(f"step name={shown(name)} is not a name", "Write name='fetch page'.")
    return StepPlan(
        fn=fn,
        name=name or name_of(fn),
        key=None if key is None else key_text(key),
        retry=retry,
        timeout_s=None if timeout is None else seconds(timeout, field="timeout"),
    )


def name_of(fn: Any) -> str:
    """Returns the name a function has in the journal."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise InvalidJobFunction(
            f"{shown(fn)} has no name of its own to be found by after a restart",
            "Use a named function, or step(fn, name='...').",
        )
    return name


def key_text(key: object) -> str:
    """Returns a step key as text; only values with one stable spelling are allowed."""
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float)) or type(key).__module__ in ("uuid", "datetime", "decimal"):
        return str(key)
    if isinstance(key, tuple):
        with suppress(RecursionError):  # refused below
            return ",".join(map(key_text, key))
    raise InvalidOption(
        f"step key {shown(key)} is a {type(key).__name__}",
        "A key is a str, a number, a UUID, a date, or a tuple of these; for other items pass "
        "key=lambda item: ….",
    )


def _call_blocking(plan: StepPlan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from holdfast.runtime.context import BLOCKING  # the context is built on steps

    context = BLOCKING.get(None)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if context is not None:
            return context.run_plan(plan, args, kwargs)
    raise UsageError(
        f"step {plan.name!r} is a plain function and was called directly in an async job",
        f"Write `await ctx.step({plan.name}, ...)`.",
    )


def current_step() -> StepInfo:
    """Returns the step whose code is running, with its stable idempotency key.

    Raises `UsageError` outside a step.
    """
    info = INSIDE.get()
    if info is None:
        raise UsageError("no step is running here", "Call this from a step's own function.")
    return info
