"""Pass-through: the request goes to a real provider, its answer comes back unchanged.

A call runs in a daemon thread of its own, not in the loop's executor: asyncio joins the executor's
threads when it ends, so that a silent upstream could hold up the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import IO

from holdfast.testing.chat import Refusal

TIMEOUT_S = 120.0

_FORWARDED = ("authorization", "content-type", "idempotency-key")
_RETURNED = ("content-type", "retry-after", "x-request-id")


@dataclass(frozen=True)
class UpstreamAnswer:
    """What the upstream answered; `completion_tokens` is None if the body does not tell."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    completion_tokens: int | None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to the client: following one would send the key to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


async def forward(url: str, body: bytes | None, headers: Mapping[str, str]) -> UpstreamAnswer:
    """Return the upstream's answer, be it a success or an error; POST if there is a body.

    Raises `Refusal` with status 502 if no answer came within 120 s. When the waiting is cancelled,
    the thread ends by itself: what was sent to the upstream cannot be called back.
    """
    kept = {name: headers[name] for name in _FORWARDED if name in headers}
    request = urllib.request.Request(url, data=body, headers=kept)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[UpstreamAnswer | Refusal] = loop.create_future()

    def settle(result: UpstreamAnswer | Refusal) -> None:
        if not answer.done():
            answer.set_result(result)

    def run() -> None:
        result = _exchange(request)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, name="holdfast-upstream", daemon=True).start()
    result = await answer
    if isinstance(result, Refusal):
        raise result
    return result


def _exchange(request: urllib.request.Request) -> UpstreamAnswer | Refusal:
    try:
        try:
            with _opener.open(request, timeout=TIMEOUT_S) as response:
                return _read(response.status, response.headers, response)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error.code, error.headers, error)
    except (OSError, HTTPException, ValueError) as error:
        return Refusal(502, f"The upstream did not answer: {error}", code="upstream_unreachable")


def _read(status: int, headers: Message, content: IO[bytes]) -> UpstreamAnswer:
    body = content.read()
    kept = [(n.encode(), headers[n].encode("latin-1")) for n in _RETURNED if n in headers]
    return UpstreamAnswer(status, kept, body, _completion_tokens(body))


def _completion_tokens(body: bytes) -> int | None:
    try:
        tokens = json.loads(body)["usage"]["completion_tokens"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return tokens if isinstance(tokens, int) else None
