"""One answer on its way to the client, with its end in the ledger.

The end line is written, and the place in the queue given back, before the last byte is sent: a
client that has its answer finds the call ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import Receive, Send

from holdfast.testing.chat import Refusal
from holdfast.testing.ledger import OpenCall

CLIENT_CLOSED_REQUEST = 499

Headers = list[tuple[bytes, bytes]]


class Exchange:
    """Ends its call exactly once, however the request ends; `on_end` is called with it."""

    def __init__(self, call: OpenCall, send: Send) -> None:
        self.on_end: Callable[[], None] = _nothing
        self._call = call
        self._send = send
        self._streaming = False
        self._ended = False
        self._tokens_sent = 0

    async def respond(
        self, status: int, body: bytes, *, headers: Headers, completion_tokens: int | None = 0
    ) -> None:
        """Send a whole answer."""
        self._end(status, completion_tokens)
        await self._start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self._body(body, more=False)

    async def refuse(self, refusal: Refusal) -> None:
        """Send an error in OpenAI's shape; in the middle of a stream, as its last event."""
        if self._streaming:
            self._end(refusal.status, self._tokens_sent)
            await self._body(b"data: " + refusal.body() + b"\n\n", more=False)
        elif not self._ended:
            headers = [(b"content-type", b"application/json"), *refusal.headers]
            await self.respond(refusal.status, refusal.body(), headers=headers)

    async def stream(self, event: bytes) -> None:
        """Send the event of one token, and the headers before the first one."""
        if not self._streaming:
            self._streaming = True
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            await self._start(200, headers)
        self._tokens_sent += 1
        await self._body(event, more=True)

    async def close_stream(self, events: bytes, *, completion_tokens: int) -> None:
        """Send the last events of a stream that went well."""
        self._end(200, completion_tokens)
        await self._body(events, more=False)

    def abandon(self, status: int) -> None:
        """End the call without an answer; does nothing if it has ended."""
        self._end(status, self._tokens_sent)

    def _end(self, status: int, completion_tokens: int | None) -> None:
        if not self._ended:
            self._ended = True
            self._call.end(status=status, completion_tokens=completion_tokens)
            self.on_end()

    async def _start(self, status: int, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def client_gone(receive: Receive) -> None:
    """Return when the client has disconnected; only after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def first_of(*contenders: Coroutine[Any, Any, object]) -> int:
    """Return which contender ended first, and raise its error; the others are cancelled by then.

    Of several that ended at once, the one named first counts.
    """
    tasks = [asyncio.create_task(contender) for contender in contenders]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(index for index, task in enumerate(tasks) if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    tasks[winner].result()
    return winner


def _nothing() -> None:
    pass
