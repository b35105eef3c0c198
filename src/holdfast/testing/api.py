"""The provider's HTTP interface: chat completions, models, the ledger, and OpenAI's errors.

A chat request takes one way: read it → write its start line → refuse or admit it → answer it, by
simulation or by the upstream → write its end line. The client's going away and the provider's
stopping both end it in `_run`, nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from holdfast.errors import InvalidOption
from holdfast.testing.chat import ChatRequest, Refusal, Reply, compose, read_chat
from holdfast.testing.exchange import CLIENT_CLOSED_REQUEST, Exchange, client_gone, first_of
from holdfast.testing.latency import Latency
from holdfast.testing.ledger import Ledger
from holdfast.testing.upstream import forward

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
MODELS = ("holdfast-simulated-1", "holdfast-simulated-1-mini")

_JSON = [(b"content-type", b"application/json")]


@dataclass(frozen=True)
class ProviderOptions:
    """How a provider behaves; refused with `InvalidOption` where it is written."""

    speed: float
    api_key: str | None
    max_concurrent: int | None
    max_body_bytes: int
    upstream: str | None

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise InvalidOption(f"speed={self.speed!r} is not above 0", "1.0 is a real API's pace.")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            hint = "Leave it out for no limit."
            raise InvalidOption(f"max_concurrent={self.max_concurrent!r} is less than 1", hint)
        if self.max_body_bytes < 1:
            hint = "Leave it out for the default."
            raise InvalidOption(f"max_body_bytes={self.max_body_bytes!r} is less than 1", hint)
        if self.upstream is not None and not self.upstream.startswith(("http://", "https://")):
            hint = "Give scheme and host, such as https://api.openai.com."
            raise InvalidOption(f"upstream={self.upstream!r} is not an HTTP URL", hint)

    def upstream_url(self, path: str) -> str | None:
        """Return the upstream's URL for `path`; the option may end in /v1, as base URLs do."""
        if self.upstream is None:
            return None
        return self.upstream.rstrip("/").removesuffix("/v1") + path


@dataclass(frozen=True)
class _Arrival:
    """A chat request as it came in: `chat` is a `Refusal` if it cannot be answered here."""

    request: Request
    body: bytes
    chat: ChatRequest | Refusal


class ChatEndpoint:
    """Answers or refuses every chat request, with both ends of it in the ledger."""

    def __init__(self, ledger: Ledger, options: ProviderOptions) -> None:
        self._ledger = ledger
        self._options = options
        self._latency = Latency()
        self._in_flight = 0
        self._stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        request = Request(scope, receive)
        arrival = await self._read(request)
        chat = arrival.chat if isinstance(arrival.chat, ChatRequest) else None
        call = self._ledger.begin(
            key=request.headers.get("idempotency-key"),
            client=request.headers.get("x-client-pid"),
            model=chat.model if chat else None,
            prompt_tokens=chat.prompt_tokens if chat else 0,
        )
        exchange = Exchange(call, send)
        try:
            self._admit(arrival, exchange)
            await self._run(arrival, exchange, receive, call.n)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        finally:
            exchange.abandon(500)  # only an error of ours leaves the call open until here

    def stop(self) -> None:
        """Answer all requests in flight, and all that follow, with 503; from the loop's thread."""
        self._stopping.set()

    async def _read(self, request: Request) -> _Arrival:
        try:
            body = await _read_body(request, self._options.max_body_bytes)
        except Refusal as too_large:
            return _Arrival(request, b"", too_large)
        except ClientDisconnect:
            return _Arrival(request, b"", Refusal(CLIENT_CLOSED_REQUEST, "The client has gone."))
        try:
            return _Arrival(request, body, read_chat(body))
        except Refusal as unreadable:
            return _Arrival(request, body, unreadable)

    def _admit(self, arrival: _Arrival, exchange: Exchange) -> None:
        unreadable = arrival.chat if isinstance(arrival.chat, Refusal) else None
        if unreadable and unreadable.status == CLIENT_CLOSED_REQUEST:
            raise unreadable
        check_key(arrival.request, self._options.api_key)
        limit = self._options.max_concurrent
        if limit is not None and self._in_flight >= limit:
            raise Refusal(429, "Too many requests at once.", code="rate_limit_exceeded")
        # What we cannot read (400) the upstream may; what has not arrived it cannot.
        if unreadable and (self._options.upstream is None or unreadable.status != 400):
            raise unreadable
        self._in_flight += 1
        exchange.on_end = self._give_back

    def _give_back(self) -> None:
        self._in_flight -= 1

    async def _run(self, arrival: _Arrival, exchange: Exchange, receive: Receive, n: int) -> None:
        answering = self._answer(arrival, exchange, n)
        try:
            winner = await first_of(answering, client_gone(receive), self._stopping.wait())
        except asyncio.CancelledError:
            exchange.abandon(503)
            raise
        if winner == 1:
            exchange.abandon(CLIENT_CLOSED_REQUEST)
        elif winner == 2:
            raise Refusal(503, "The provider is stopping.", code="stopping")

    async def _answer(self, arrival: _Arrival, exchange: Exchange, n: int) -> None:
        url = self._options.upstream_url(CHAT_PATH)
        if url is not None:
            answer = await forward(url, arrival.body, arrival.request.headers)
            await exchange.respond(
                answer.status,
                answer.body,
                headers=answer.headers,
                completion_tokens=answer.completion_tokens,
            )
        elif isinstance(arrival.chat, ChatRequest):
            await self._simulate(arrival.chat, arrival.body, exchange, n)

    async def _simulate(self, chat: ChatRequest, body: bytes, exchange: Exchange, n: int) -> None:
        started = asyncio.get_running_loop().time()
        # In a thread, because a large prompt takes long enough to delay the others' answers.
        answer = await asyncio.to_thread(compose, chat)
        tokens = len(answer.pieces)
        digest = hashlib.sha256(body)
        due = self._latency.due_times(digest.digest(), tokens=tokens, speed=self._options.speed)
        reply = Reply(f"chatcmpl-{digest.hexdigest()[:16]}-{n}", int(time.time()), chat)
        if not chat.stream:
            await _sleep_until(started + due[-1])
            whole = reply.whole(answer)
            await exchange.respond(200, whole, headers=_JSON, completion_tokens=tokens)
            return
        for index, piece in enumerate(answer.pieces or ("",)):
            await _sleep_until(started + due[index])
            await exchange.stream(reply.chunk(piece, first=index == 0))
        await exchange.close_stream(reply.closing(answer), completion_tokens=tokens)


def build_app(chat: ChatEndpoint, ledger: Ledger, options: ProviderOptions) -> Starlette:
    """Return the ASGI application; the ledger has chat requests only, so reading it adds none."""

    async def models(request: Request) -> Response:
        try:
            check_key(request, options.api_key)
            if url := options.upstream_url(MODELS_PATH):
                answer = await forward(url, None, request.headers)
                headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
                return Response(answer.body, answer.status, headers)
        except Refusal as refusal:
            return _refused(refusal)
        data = [{"id": m, "object": "model", "created": 0, "owned_by": "holdfast"} for m in MODELS]
        return _json({"object": "list", "data": data})

    async def read_ledger(_: Request) -> Response:
        entries = [json.loads(entry.to_json()) for entry in ledger.entries()]
        return _json({"entries": entries, "calls": [asdict(call) for call in ledger.calls()]})

    routes = [
        Route(CHAT_PATH, chat, methods=["POST"]),
        Route(MODELS_PATH, models, methods=["GET"]),
        Route("/ledger", read_ledger, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _not_served})


def check_key(request: Request, api_key: str | None) -> None:
    """Raise `Refusal` with status 401 unless the request carries the key, if one is configured."""
    if api_key is None:
        return
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {api_key}".encode()):
        raise Refusal(401, "Incorrect API key provided.", code="invalid_api_key")


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    size = 0
    # Read to the end in any case: a client that is still sending would not see the answer.
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
    if size > limit:
        raise Refusal(413, f"The request has {size} bytes; at most {limit} are taken.")
    return bytes(body)


async def _sleep_until(due: float) -> None:
    await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


def _json(content: object) -> Response:
    return Response(json.dumps(content), media_type="application/json")


def _refused(refusal: Refusal) -> Response:
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    return Response(refusal.body(), refusal.status, headers, media_type="application/json")


async def _not_served(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _refused(Refusal(status, f"Invalid URL ({request.method} {request.url.path})"))
