"""Runs the Python blocks of one page: one namespace, one event loop, a worker where it is asked."""

import ast
import asyncio
import contextlib
import inspect
import io
import linecache
import sys
import threading
import types
from collections.abc import Iterator

from pages import Block, name_of

from holdfast import Holdfast


class PageRun:
    """The state a page's blocks share, as if they were typed one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # A module of its own, so that annotations and dataclasses find what the page defines.
        self.module = types.ModuleType("page")
        self.namespace = vars(self.module)

    def run(self, block: Block) -> str:
        """Runs one block as its mark says; returns what it printed."""
        if block.mark.startswith("raises="):
            return self._raising(block, block.mark.removeprefix("raises="))
        if block.mark == "with-worker":
            with working(self._app()):
                return self._execute(block)
        assert block.mark == "", f"unknown mark {block.mark!r}"
        return self._execute(block)

    def close(self) -> None:
        """Closes the connections of the page's applications."""
        for app in {id(v): v for v in self.namespace.values() if isinstance(v, Holdfast)}.values():
            self._loop.run_until_complete(app.close())

    def _app(self) -> Holdfast:
        apps = [value for value in self.namespace.values() if isinstance(value, Holdfast)]
        assert apps, "a block with-worker needs a Holdfast of an earlier block"
        return apps[-1]

    def _raising(self, block: Block, name: str) -> str:
        try:
            self._execute(block)
        except BaseException as error:
            assert type(error).__name__ == name, f"raised {error!r}"
            return f"{error}\n"
        raise AssertionError(f"the block did not raise {name}")

    def _execute(self, block: Block) -> str:
        filename = f"{name_of(block.page)}:{block.line}"
        lines = block.text.splitlines(keepends=True)
        linecache.cache[filename] = (len(block.text), None, lines, filename)
        code = compile(block.text, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        sys.modules["page"] = self.module
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if code.co_flags & inspect.CO_COROUTINE:
                    self._loop.run_until_complete(eval(code, self.namespace))
                else:
                    exec(code, self.namespace)
        finally:
            del sys.modules["page"]
        return printed.getvalue()


@contextlib.contextmanager
def working(app: Holdfast) -> Iterator[None]:
    """Runs a worker in a thread, so that blocking code of a page does not stop it."""
    started, failure = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def work() -> None:
        try:
            async with app.running():
                started.set()
                await stop.wait()
        except BaseException as error:
            failure.append(error)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    try:
        assert started.wait(20), "the worker did not start"
        assert not failure, failure
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()
    assert not failure, failure
