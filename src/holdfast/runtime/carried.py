"""Errors that would end the event loop, carried past it.

A task that ends with `SystemExit` or `KeyboardInterrupt` stops its loop, and with it every other
job of the process. So the tasks we start hand these on as an ordinary error, to be unwrapped where
the job's own code waits.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class Carried(Exception):
    """`error` is what the task was really ended by."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


async def carrying(work: Coroutine[Any, Any, R]) -> R:
    """Returns what `work` returns; raises `Carried` for what a task must not raise."""
    try:
        return await work
    except (KeyboardInterrupt, SystemExit) as error:
        raise Carried(error) from None
