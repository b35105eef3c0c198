"""OpenAI's chat completions on the wire: requests read, refusals and answers written.

Nothing here waits or touches a socket: bytes come in, bytes go out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from holdfast.testing.extract import count_tokens, summarise, token_pieces

MAX_SENTENCES = 99
TOKENS_PER_MESSAGE = 3  # what the role and the separators cost

_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SENTENCES_WANTED = re.compile(rf"\bin (\d{{1,6}}|{'|'.join(_NUMBER_WORDS)}) sentences?\b", re.I)


class Refusal(Exception):
    """The request is answered with an error: `status`, and a body in OpenAI's shape."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        self.status = status
        self.message = message
        self.code = code
        super().__init__(status, message)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that belong to the status, beside the content's type."""
        return [(b"retry-after", b"1")] if self.status in (429, 503) else []

    def body(self) -> bytes:
        """Return the JSON object `{"error": {...}}`."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "")
        error = {
            "message": self.message,
            "type": kind or "invalid_request_error",
            "param": None,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()


@dataclass(frozen=True)
class ChatRequest:
    """A request that can be answered: `prompt` is the text of the last user message."""

    model: str
    prompt: str
    sentences: int
    max_tokens: int | None
    stream: bool
    include_usage: bool
    prompt_tokens: int


@dataclass(frozen=True)
class Answer:
    """What the model says, token by token; `finish_reason` is "length" if `max_tokens` cut it."""

    pieces: tuple[str, ...]
    finish_reason: str


@dataclass(frozen=True)
class Reply:
    """One answer's identity on the wire, shared by all its chunks."""

    id: str
    created: int
    chat: ChatRequest

    def whole(self, answer: Answer) -> bytes:
        """Return the body of an answer that is not streamed."""
        message = {"role": "assistant", "content": "".join(answer.pieces)}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        usage = self._usage(answer)
        return json.dumps(self._head("chat.completion") | {"choices": [choice]} | usage).encode()

    def chunk(self, content: str, *, first: bool) -> bytes:
        """Return the server-sent event of one token; the first one names the role."""
        delta = {"role": "assistant", "content": content} if first else {"content": content}
        return self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def closing(self, answer: Answer) -> bytes:
        """Return the events after the last token: the reason, the usage if asked for, [DONE]."""
        choice = {"index": 0, "delta": {}, "finish_reason": answer.finish_reason}
        events = self._event({"choices": [choice]})
        if self.chat.include_usage:
            events += self._event({"choices": []} | self._usage(answer))
        return events + b"data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.chat.model}

    def _usage(self, answer: Answer) -> dict[str, object]:
        prompt, completion = self.chat.prompt_tokens, len(answer.pieces)
        counts = {"prompt_tokens": prompt, "completion_tokens": completion}
        return {"usage": counts | {"total_tokens": prompt + completion}}

    def _event(self, fields: dict[str, object]) -> bytes:
        data = json.dumps(self._head("chat.completion.chunk") | fields)
        return f"data: {data}\n\n".encode()


def read_chat(body: bytes) -> ChatRequest:
    """Return the request in `body`; raise `Refusal` with status 400 if it cannot be answered.

    Parts of a message that are not text are passed over; `temperature` and unknown fields too.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "The body of the request is not valid JSON.") from error
    if not isinstance(fields, dict):
        raise Refusal(400, "The body of the request is not a JSON object.")
    texts = _messages(fields.get("messages"))
    limit = fields.get("max_completion_tokens", fields.get("max_tokens"))
    options = fields.get("stream_options")
    return ChatRequest(
        model=_model(fields.get("model")),
        prompt=next((text for role, text in reversed(texts) if role == "user"), ""),
        sentences=_sentences_wanted(texts),
        max_tokens=_max_tokens(limit),
        stream=fields.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        prompt_tokens=sum(count_tokens(text) + TOKENS_PER_MESSAGE for _, text in texts),
    )


def compose(chat: ChatRequest) -> Answer:
    """Return the summary of the prompt; the same request, the same answer."""
    pieces = token_pieces(summarise(chat.prompt, sentences=chat.sentences))
    if chat.max_tokens is not None and len(pieces) > chat.max_tokens:
        return Answer(tuple(pieces[: chat.max_tokens]), "length")
    return Answer(tuple(pieces), "stop")


def _model(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Refusal(400, "You must provide a model parameter.")
    return value


def _max_tokens(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refusal(400, "'max_tokens' is not a whole number of at least 1.")
    return value


def _messages(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise Refusal(400, "'messages' is missing, empty or not a list.")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(value)]


def _message(value: object, place: str) -> tuple[str, str]:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise Refusal(400, f"'{place}' is not an object with a role.")
    content = value.get("content")
    if isinstance(content, list):
        return value["role"], "\n".join(_part(part, place) for part in content)
    if content is None:  # an assistant's tool call has none
        return value["role"], ""
    if not isinstance(content, str):
        raise Refusal(400, f"'{place}.content' is neither a string nor a list of parts.")
    return value["role"], content


def _part(value: object, place: str) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str):
        raise Refusal(400, f"'{place}.content' has a part without a type.")
    text = value.get("text") if kind == "text" else ""
    if not isinstance(text, str):
        raise Refusal(400, f"'{place}.content' has a text part without text.")
    return text


def _sentences_wanted(texts: list[tuple[str, str]]) -> int:
    instructions = "\n".join(text for role, text in texts if role in ("system", "developer"))
    wanted = _SENTENCES_WANTED.search(instructions)
    if wanted is None:
        return 3
    word = wanted[1].lower()
    number = _NUMBER_WORDS.index(word) if word in _NUMBER_WORDS else int(word)
    return min(max(number, 1), MAX_SENTENCES)
