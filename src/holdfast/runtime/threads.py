"""Plain functions in threads of their own: awaited by the loop, never blocking it.

One thread a call, not a pool: a blocking job whose step needs a thread too can never starve, and a
call that does not end takes nothing from the others. Stopping a thread means raising an exception
inside it, which Python delivers between two bytecodes: a call into C is not interrupted.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from holdfast.errors import Interrupted


class Thread:
    """One call of a plain function in a thread."""

    def __init__(self, call: Callable[[], Any], name: str) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Any] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"holdfast {name}", daemon=True)
        self.calls: set[Future[Any]] = set()
        self._guard = threading.Lock()
        self._ended = False

    async def run(self) -> Any:
        """Returns the function's result; when cancelled, interrupts it and waits for its end."""
        self._thread.start()
        try:
            return await asyncio.shield(self._done)
        except asyncio.CancelledError:
            if self._done.cancelled():
                raise
            await self._stop()
            raise

    def interrupt(self) -> None:
        """Raises `Interrupted` inside the thread, and ends the context call it waits in."""
        ident = self._thread.ident
        if ident is None or not self._thread.is_alive():
            return
        for call in list(self.calls):
            call.cancel()
        target = ctypes.c_ulong(ident)
        with self._guard:
            if not self._ended:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(target, ctypes.py_object(Interrupted))

    async def _stop(self) -> None:
        """Interrupts until the thread is gone: a slot is free only when its code is."""
        while not self._done.done():
            self.interrupt()
            # Cancelled again (a timeout, then a cancel): the code still runs, so this waits on.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._done], timeout=1.0)
        if not self._done.cancelled():
            self._done.exception()

    def abandon(self) -> None:
        """Waits for the thread no longer: its process is about to end."""
        self._finish(None, Interrupted("its code did not stop"))

    def _run(self) -> None:
        outcome: tuple[Any, BaseException | None] | None = None
        while True:
            # An interruption may come when the function has returned and the report has begun.
            try:
                if outcome is None:
                    outcome = self._outcome()
                with self._guard:
                    self._ended = True
                return self._report(*outcome)
            except Interrupted as late:
                outcome = outcome or (None, late)

    def _outcome(self) -> tuple[Any, BaseException | None]:
        try:
            return self._context.run(self._call), None
        except (StopIteration, GeneratorExit) as error:
            # A future cannot carry the one, and the other would close whoever awaits it.
            return None, RuntimeError(f"the function raised {type(error).__name__}: {error}")
        except BaseException as error:
            return None, error

    def _report(self, result: Any, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finish, result, error)
        except RuntimeError:
            # The loop is closed: the process is on its way out, nobody waits for this any more.
            return

    def _finish(self, result: Any, error: BaseException | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(result)
        else:
            self._done.set_exception(error)
