"""The simulated provider's life: a socket, a thread with uvicorn in it, and a bounded end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import uvicorn

from holdfast.errors import HoldfastError, UsageError
from holdfast.testing.api import ChatEndpoint, ProviderOptions, build_app
from holdfast.testing.ledger import Ledger

HOST = "127.0.0.1"
MAX_BODY_BYTES = 4 * 1024 * 1024
ABORT_AFTER_S = 1.0  # for clients that do not read their 503, or never end their request
GRACE_S = 3  # uvicorn's own limit; it logs an error for what it has to cancel then
STOP_TIMEOUT_S = 15.0


class SimulatedProvider:
    """An LLM provider on this machine: OpenAI's chat API over real HTTP, answers by extraction.

    The answer is a summary of the last user message, in three sentences or as many as the system
    message says ("in 5 sentences"). Answers and their latency depend on the request alone.

    `port` 0 takes a free one. `ledger_path` None keeps the ledger in memory. `speed` divides the
    latency: 1.0 is about a hosted model's, 1000 none to speak of. With `api_key`, requests without
    it get 401; with `max_concurrent`, those beyond it get 429; bodies above `max_body_bytes` 413.
    With `upstream`, requests are passed on to that provider and only the ledger is ours.

    Start and stop may be called twice; a stopped provider may be started again, and then continues
    the ledger file.

    >>> with SimulatedProvider(speed=1000) as provider:
    ...     provider.base_url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        *,
        port: int = 0,
        ledger_path: str | Path | None = None,
        speed: float = 1.0,
        api_key: str | None = None,
        max_concurrent: int | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        upstream: str | None = None,
    ) -> None:
        self._port = port
        self._ledger_path = ledger_path
        self._options = ProviderOptions(
            speed=speed,
            api_key=api_key,
            max_concurrent=max_concurrent,
            max_body_bytes=max_body_bytes,
            upstream=upstream,
        )
        self._ledger: Ledger | None = None
        self._base_url: str | None = None
        self._serving: _Serving | None = None

    @property
    def base_url(self) -> str:
        """The URL to give to a client, such as "http://127.0.0.1:41234/v1"; set once started."""
        if self._base_url is None:
            raise UsageError("The provider has no URL before it is started.", "Use `with`.")
        return self._base_url

    @property
    def ledger(self) -> Ledger:
        """The ledger, which stays readable after the stop; set once started."""
        if self._ledger is None:
            raise UsageError("The provider has no ledger before it is started.", "Use `with`.")
        return self._ledger

    def start(self) -> None:
        """Return when requests are answered; raises OSError if the port or the ledger is not to be
        had, and then leaves nothing behind."""
        if self._serving is not None:
            return
        listener = _listen(self._port)
        try:
            ledger = Ledger(self._ledger_path)
        except BaseException:
            listener.close()
            raise
        chat = ChatEndpoint(ledger, self._options)
        config = uvicorn.Config(
            build_app(chat, ledger, self._options),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,  # the process's logging is its own
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        port = listener.getsockname()[1]
        self._serving = _Serving(_Server(config, chat.stop), listener)
        self._ledger = ledger
        self._base_url = f"http://{HOST}:{port}/v1"
        try:
            self._serving.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Return when the server has ended: requests in flight get 503, open streams are ended."""
        serving, self._serving = self._serving, None
        if serving is not None and self._ledger is not None:
            serving.stop()
            self._ledger.close()

    def __enter__(self) -> SimulatedProvider:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(uvicorn.Server):
    """Says when it listens, and waits for no client when it ends."""

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self.listening = threading.Event()
        self._on_shutdown = on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown()
        aborting = asyncio.get_running_loop().call_later(ABORT_AFTER_S, self._abort_connections)
        try:
            await super().shutdown(sockets)
        finally:
            aborting.cancel()

    def _abort_connections(self) -> None:
        # A mere close would wait until the client has read what is buffered.
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _Serving:
    """One run of a server in a daemon thread."""

    def __init__(self, server: _Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="holdfast-provider", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._server.listening.wait()
        if self._failure is not None:
            raise HoldfastError(
                "The simulated provider did not start.", "Its cause says why."
            ) from self._failure

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            message = f"The simulated provider did not end within {STOP_TIMEOUT_S} s."
            raise HoldfastError(message, "A request handler hangs: report it with its request.")

    def _run(self) -> None:
        try:
            # Outside the main thread uvicorn installs no signal handlers.
            asyncio.run(self._server.serve(sockets=[self._listener]))
        except BaseException as failure:  # raised again in start()
            self._failure = failure
        finally:
            self._listener.close()
            self._server.listening.set()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()  # from here on clients wait instead of being refused
    except BaseException:
        listener.close()
        raise
    return listener
