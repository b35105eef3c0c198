"""From a job's thread to the loop and back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from holdfast.errors import Interrupted
from holdfast.runtime.carried import Carried, carrying
from holdfast.runtime.threads import Thread
from holdfast.storage.transaction import Params, Rows, Statement, StepConnection

R = TypeVar("R")


class Bridge:
    """Runs coroutines on the worker's loop for one job thread, which waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.thread: Thread | None = None

    def call(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Returns the coroutine's result; raises `Interrupted` when the job must stop."""
        future = asyncio.run_coroutine_threadsafe(carrying(coroutine), self._loop)
        if self.thread is not None:
            self.thread.calls.add(future)
        try:
            return future.result()
        except (CancelledError, asyncio.CancelledError) as error:
            # Or what it called was cancelled by the job's own code: then the cause is all there is.
            raise Interrupted("the job is being stopped") from error
        except Carried as carried:
            raise carried.error from None
        finally:
            if self.thread is not None:
                self.thread.calls.discard(future)


class BlockingRows:
    """The result of one statement of a transaction step, for a plain function."""

    def __init__(self, bridge: Bridge, rows: Rows) -> None:
        self._bridge = bridge
        self._rows = rows
        self.rowcount = rows.rowcount

    def fetchone(self) -> tuple[Any, ...] | None:
        """Returns the next row, or None when there is none left."""
        return self._bridge.call(self._rows.fetchone())

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """Returns up to `size` further rows."""
        return self._bridge.call(self._rows.fetchmany(size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Returns all further rows."""
        return self._bridge.call(self._rows.fetchall())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())


class BlockingStepConnection:
    """The connection of a transaction step, for a plain function."""

    def __init__(self, bridge: Bridge, conn: StepConnection) -> None:
        self._bridge = bridge
        self._conn = conn

    @property
    def replayed(self) -> bool:
        """True when this transaction was committed in an earlier run."""
        return self._conn.replayed

    def execute(self, query: Statement, params: Params = None) -> BlockingRows:
        """Runs one statement and returns its rows; recorded ones come from the journal."""
        return BlockingRows(self._bridge, self._bridge.call(self._conn.execute(query, params)))

    def executemany(self, query: Statement, params_seq: Sequence[Any]) -> None:
        """Runs one statement once for each set of parameters."""
        self._bridge.call(self._conn.executemany(query, params_seq))

    def run_query(self, query: Any) -> Any:
        """Runs one operation of holdfast as part of this transaction."""
        return self._bridge.call(self._conn.run_query(query))


@contextmanager
def open_blocking(
    bridge: Bridge, opening: AbstractAsyncContextManager[StepConnection]
) -> Iterator[BlockingStepConnection]:
    """Opens a transaction step for a plain function."""
    conn = bridge.call(_enter(opening))
    try:
        yield BlockingStepConnection(bridge, conn)
    except BaseException as error:
        bridge.call(_exit(opening, error))
        raise
    else:
        bridge.call(_exit(opening, None))


async def _enter(opening: AbstractAsyncContextManager[StepConnection]) -> StepConnection:
    return await opening.__aenter__()


async def _exit(
    opening: AbstractAsyncContextManager[StepConnection], error: BaseException | None
) -> None:
    if error is None:
        await opening.__aexit__(None, None, None)
        return
    try:
        await opening.__aexit__(type(error), error, error.__traceback__)
    except BaseException as raised:
        if raised is not error:
            raise
