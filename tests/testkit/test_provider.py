"""The simulated provider over real HTTP: OpenAI's shapes, a complete ledger, a bounded end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from holdfast.errors import InvalidOption, UsageError
from holdfast.testing import Ledger, LedgerCall, SimulatedProvider, summarise
from holdfast.testing.latency import Latency

TEXT = (
    "A worker takes a job under a lease. The lease is renewed by a heartbeat. "
    "When the worker dies, another worker resumes the job. It rains in the hills. "
    "Finished steps of the job are never run again by a worker."
)
LONG_TEXT = " ".join(
    f"Sentence number {n} speaks about topic {n * 7} at length." for n in range(99)
)
FAST = 1000.0
SLOW = 0.001  # minutes: a request stays in flight until the test ends it


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: str
    json: Any = field(default=None)


def call(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, got, text = response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, got, text = error.code, error.headers, error.read().decode()
    is_json = got["Content-Type"] == "application/json"
    lowered = {name.lower(): value for name, value in got.items()}
    return Reply(status, lowered, text, json.loads(text) if is_json else None)


def payload(content: object = TEXT, system: str = "", **fields: object) -> bytes:
    messages: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": content})
    return json.dumps({"model": "m-1", "messages": messages} | fields).encode()


def chat(
    provider: SimulatedProvider, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Reply:
    return call(f"{provider.base_url}/chat/completions", body or payload(), headers)


def in_flight(provider: SimulatedProvider, body: bytes | None = None) -> HTTPConnection:
    """Send a request, wait until it is in the ledger, and return its connection unread."""
    before = len(provider.ledger.calls())
    address = urlsplit(provider.base_url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", body or payload())
    provider.ledger.wait_for(lambda calls: len(calls) > before)
    return connection


@pytest.fixture(scope="module")
def fast() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(speed=FAST) as provider:
        yield provider


def test_the_answer_is_the_summary_of_the_last_user_message(fast: SimulatedProvider) -> None:
    reply = chat(fast, payload(system="Summarise in 2 sentences."))
    assert reply.status == 200
    assert reply.json["object"] == "chat.completion"
    assert reply.json["model"] == "m-1"
    assert reply.json["id"].startswith("chatcmpl-")
    assert abs(reply.json["created"] - time.time()) < 60
    [choice] = reply.json["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {"role": "assistant", "content": summarise(TEXT, sentences=2)}
    usage = reply.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage.values()) > 0


def test_the_same_request_gets_the_same_answer_under_another_id(fast: SimulatedProvider) -> None:
    one, two = chat(fast).json, chat(fast).json
    assert one["choices"] == two["choices"]
    assert one["id"] != two["id"]


def test_the_number_of_sentences_may_be_a_word(fast: SimulatedProvider) -> None:
    reply = chat(fast, payload(system="Answer in one sentence, please."))
    assert reply.json["choices"][0]["message"]["content"] == summarise(TEXT, sentences=1)


def test_text_parts_are_read_and_other_parts_passed_over(fast: SimulatedProvider) -> None:
    parts = [{"type": "text", "text": TEXT}, {"type": "image_url", "image_url": {"url": "x:"}}]
    reply = chat(fast, payload(parts))
    assert reply.json["choices"][0]["message"]["content"] == summarise(TEXT)


def test_max_tokens_cuts_the_answer(fast: SimulatedProvider) -> None:
    reply = chat(fast, payload(max_tokens=4, temperature=0.7))
    [choice] = reply.json["choices"]
    assert choice["finish_reason"] == "length"
    assert reply.json["usage"]["completion_tokens"] == 4
    assert summarise(TEXT).startswith(choice["message"]["content"])


def test_an_empty_message_gets_an_empty_answer(fast: SimulatedProvider) -> None:
    assert chat(fast, payload("")).json["choices"][0]["message"]["content"] == ""
    assert "data: [DONE]" in chat(fast, payload("", stream=True)).text
    assert [entry.completion_tokens for entry in fast.ledger.entries()[-3::2]] == [0, 0]


def test_a_large_text_and_odd_characters_are_answered(fast: SimulatedProvider) -> None:
    large = "Ünïcode — \ud83d and 漢字 belong to the text. " * 20_000
    assert chat(fast, payload(large)).status == 200


def test_a_stream_has_a_chunk_for_each_token_and_ends_with_done(fast: SimulatedProvider) -> None:
    reply = chat(fast, payload(stream=True, stream_options={"include_usage": True}))
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = reply.text.removesuffix("\n\n").split("\n\n")
    assert events.pop() == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    usage, closing = chunks.pop(), chunks.pop()
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(chunks)
    assert closing["choices"][0]["finish_reason"] == "stop"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta["content"] for delta in deltas) == summarise(TEXT)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_the_models_are_listed(fast: SimulatedProvider) -> None:
    reply = call(f"{fast.base_url}/models")
    assert reply.json["object"] == "list"
    assert {"id", "object", "created", "owned_by"} <= set(reply.json["data"][0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{not json", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"model": "m"}', "'messages' is missing"),
        (b'{"model": "m", "messages": []}', "'messages' is missing"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "m", "messages": ["x"]}', "messages[0]"),
        (b'{"model": "m", "messages": [{"role": "user", "content": 1}]}', "messages[0].content"),
        (b'{"model": "m", "messages": [{"role": "user", "content": [{}]}]}', "without a type"),
        (payload([{"type": "text"}]), "without text"),
        (payload(max_tokens=0), "max_tokens"),
    ],
)
def test_a_request_that_cannot_be_answered_gets_400(
    fast: SimulatedProvider, body: bytes, message: str
) -> None:
    reply = chat(fast, body)
    assert reply.status == 400
    assert message in reply.json["error"]["message"]
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    assert fast.ledger.calls()[-1].status == 400


def test_unknown_paths_and_methods_are_refused_in_the_same_shape(fast: SimulatedProvider) -> None:
    unknown = call(f"{fast.base_url}/embeddings", b"{}")
    assert (unknown.status, unknown.json["error"]["type"]) == (404, "invalid_request_error")
    wrong = call(f"{fast.base_url}/chat/completions")
    assert (wrong.status, wrong.json["error"]["type"]) == (405, "invalid_request_error")


def test_a_missing_or_wrong_key_gets_401() -> None:
    with SimulatedProvider(speed=FAST, api_key="sk-right") as provider:
        assert chat(provider).status == 401
        wrong = chat(provider, headers={"Authorization": "Bearer sk-wrong"})
        assert (wrong.status, wrong.json["error"]["code"]) == (401, "invalid_api_key")
        assert chat(provider, headers={"Authorization": "Bearer sk-right"}).status == 200
        assert call(f"{provider.base_url}/models").status == 401
        assert [made.status for made in provider.ledger.calls()] == [401, 401, 200]


def test_a_body_above_the_limit_gets_413() -> None:
    with SimulatedProvider(speed=FAST, max_body_bytes=1000) as provider:
        reply = chat(provider, payload("x" * 3_000_000))
        assert reply.status == 413
        assert "1000" in reply.json["error"]["message"]
        assert chat(provider).status == 200


def test_requests_beyond_max_concurrent_get_429_and_places_are_given_back() -> None:
    with SimulatedProvider(speed=SLOW, max_concurrent=1) as provider:
        first = in_flight(provider)
        refused = chat(provider)
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json["error"]["type"] == "rate_limit_error"
        first.close()
        provider.ledger.wait_for(lambda calls: calls[0].status == 499)
        second = in_flight(provider)
        assert provider.ledger.calls()[-1].status is None
        second.close()


def test_one_client_after_the_other_is_never_refused() -> None:
    with SimulatedProvider(speed=FAST, max_concurrent=1) as provider:
        assert {chat(provider).status for _ in range(50)} == {200}


def test_every_request_has_two_lines_in_the_ledger_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with SimulatedProvider(speed=FAST, ledger_path=path) as provider:
        chat(provider, headers={"Idempotency-Key": "job-7/step-1", "X-Client-Pid": "4242"})
        # Read while the provider runs: an answered call is in the file.
        start, end = (json.loads(line) for line in path.read_text().splitlines())
        chat(provider, b"{")
        served = call(provider.base_url.removesuffix("/v1") + "/ledger").json
    assert list(start) == ["event", "n", "at", "key", "client", "model", "prompt_tokens"]
    assert list(end) == [*start, "completion_tokens", "status"]
    assert (start["event"], end["event"], start["n"], end["n"]) == ("start", "end", 1, 1)
    assert (start["key"], start["client"], start["model"]) == ("job-7/step-1", "4242", "m-1")
    assert start["at"] <= end["at"]
    assert end["completion_tokens"] > 0
    entries = Ledger.read(path)
    assert [(entry.event, entry.n, entry.status) for entry in entries] == [
        ("start", 1, None),
        ("end", 1, 200),
        ("start", 2, None),
        ("end", 2, 400),
    ]
    assert served["entries"] == [json.loads(line) for line in path.read_text().splitlines()]
    assert served["calls"][1]["status"] == 400


def test_calls_made_at_once_are_all_in_the_ledger_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with SimulatedProvider(speed=FAST, ledger_path=path) as provider:
        threads = [
            threading.Thread(
                target=chat, args=(provider,), kwargs={"headers": {"Idempotency-Key": k}}
            )
            for k in map(str, range(20))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    calls = LedgerCall.pair(Ledger.read(path))
    assert {made.key for made in calls} == set(map(str, range(20)))
    assert [made.n for made in calls] == list(range(1, 21))
    assert all(made.status == 200 and made.ended_at is not None for made in calls)


def test_a_client_that_goes_away_while_waiting_is_recorded_as_499(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with SimulatedProvider(speed=SLOW, ledger_path=path) as provider:
        in_flight(provider).close()
        [made] = provider.ledger.wait_for(lambda calls: calls[0].ended_at is not None)
    assert made.status == 499
    assert Ledger.read(path)[-1].status == 499
    assert Ledger.read(path)[-1].completion_tokens == 0


def test_a_client_that_goes_away_in_mid_stream_is_recorded_with_what_it_got() -> None:
    with SimulatedProvider(speed=2) as provider:  # 1000 tokens take seconds
        connection = in_flight(provider, payload(LONG_TEXT, system="In 99 sentences.", stream=True))
        response = connection.getresponse()
        assert response.readline().startswith(b"data: {")
        response.close()
        connection.close()
        [made] = provider.ledger.wait_for(lambda calls: calls[0].ended_at is not None)
        assert made.status == 499
        assert 0 < (provider.ledger.entries()[-1].completion_tokens or 0) < 500


def test_a_client_that_goes_away_while_sending_is_recorded_as_499() -> None:
    with SimulatedProvider(speed=FAST, api_key="sk-x") as provider:
        address = urlsplit(provider.base_url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
            )
            # Two requests one after the other on the loop: the first one is being read by now.
            call(f"{provider.base_url}/models")
        [made] = provider.ledger.wait_for(lambda calls: bool(calls and calls[0].ended_at))
        assert (made.status, provider.ledger.entries()[0].model) == (499, None)


def test_latency_grows_with_the_output_and_depends_on_the_request_alone() -> None:
    with SimulatedProvider(speed=10) as provider:
        chat(provider, payload(LONG_TEXT, max_tokens=1))
        chat(provider, payload(LONG_TEXT, system="In 40 sentences.", max_tokens=200))
        short, long = (made.ended_at - made.started_at for made in provider.ledger.calls())  # type: ignore[operator]
    assert 0.02 < short < long
    assert long - short > 0.15
    plan = Latency().due_times(b"request", tokens=50, speed=1.0)
    assert plan == Latency().due_times(b"request", tokens=50, speed=1.0)
    assert plan != Latency().due_times(b"another", tokens=50, speed=1.0)
    assert plan == sorted(plan)
    assert len(plan) == 50


def test_requests_pass_through_to_the_upstream_and_both_ledgers_have_them() -> None:
    with (
        SimulatedProvider(speed=FAST, api_key="sk-up") as upstream,
        SimulatedProvider(upstream=upstream.base_url) as provider,
    ):
        headers = {"Authorization": "Bearer sk-up", "Idempotency-Key": "job-7"}
        reply = chat(provider, payload(system="In 2 sentences."), headers)
        assert reply.json["choices"][0]["message"]["content"] == summarise(TEXT, sentences=2)
        streamed = chat(provider, payload(stream=True), headers)
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert chat(provider).json["error"]["code"] == "invalid_api_key"
        assert chat(provider, b'{"unreadable', headers).status == 400
        assert call(f"{provider.base_url}/models", headers=headers).json["object"] == "list"
        assert [made.status for made in provider.ledger.calls()] == [200, 200, 401, 400]
        assert [made.status for made in upstream.ledger.calls()] == [200, 200, 401, 400]
        assert upstream.ledger.calls()[0].key == provider.ledger.calls()[0].key == "job-7"
        ours, theirs = provider.ledger.entries()[1], upstream.ledger.entries()[1]
        assert ours.completion_tokens == theirs.completion_tokens
        assert ours.prompt_tokens == theirs.prompt_tokens


def test_the_upstreams_refusal_comes_back_with_its_retry_after() -> None:
    with (
        SimulatedProvider(speed=SLOW, max_concurrent=1) as upstream,
        SimulatedProvider(upstream=upstream.base_url) as provider,
    ):
        busy = in_flight(upstream)
        reply = chat(provider)
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        busy.close()


def test_an_upstream_that_does_not_answer_gives_502() -> None:
    with SimulatedProvider(speed=FAST) as gone:
        url = gone.base_url
    with SimulatedProvider(upstream=url) as provider:
        reply = chat(provider)
        assert (reply.status, reply.json["error"]["type"]) == (502, "server_error")
        assert provider.ledger.calls()[0].status == 502


def test_a_slow_upstream_does_not_hold_up_the_stop() -> None:
    with SimulatedProvider(speed=SLOW) as upstream:
        with SimulatedProvider(upstream=upstream.base_url) as provider:
            waiting = in_flight(provider)
            upstream.ledger.wait_for(lambda calls: len(calls) == 1)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        assert waiting.getresponse().status == 503
        waiting.close()


def test_stop_answers_requests_in_flight_and_ends_open_streams() -> None:
    provider = SimulatedProvider(speed=SLOW)
    provider.start()
    waiting = in_flight(provider)
    idle = HTTPConnection("127.0.0.1", urlsplit(provider.base_url).port)
    idle.connect()
    began = time.monotonic()
    provider.stop()
    assert time.monotonic() - began < 5
    assert waiting.getresponse().status == 503
    assert [made.status for made in provider.ledger.calls()] == [503]
    for connection in (waiting, idle):
        connection.close()


def test_stop_does_not_wait_for_a_request_that_is_never_finished() -> None:
    with SimulatedProvider(speed=FAST) as provider:
        address = urlsplit(provider.base_url)
        client = socket.create_connection((address.hostname, address.port))
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
        )
        call(f"{provider.base_url}/models")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert [made.status for made in provider.ledger.calls()] == [499]
    client.close()


def test_stop_ends_an_open_stream_without_done() -> None:
    with SimulatedProvider(speed=2) as provider:
        connection = in_flight(provider, payload(LONG_TEXT, system="In 99 sentences.", stream=True))
        response = connection.getresponse()
        assert response.readline().startswith(b"data: {")
    rest = response.read()
    assert b"The provider is stopping" in rest
    assert b"[DONE]" not in rest
    assert [made.status for made in provider.ledger.calls()] == [503]
    connection.close()


def test_start_and_stop_may_be_repeated_and_the_file_is_continued(tmp_path: Path) -> None:
    threads = threading.active_count()
    provider = SimulatedProvider(speed=FAST, ledger_path=tmp_path / "ledger.jsonl")
    provider.stop()
    for _ in range(2):
        provider.start()
        provider.start()
        assert chat(provider).status == 200
        provider.stop()
        provider.stop()
    assert [made.n for made in provider.ledger.calls()] == [1, 2]
    assert provider.ledger.calls() == LedgerCall.pair(Ledger.read(tmp_path / "ledger.jsonl"))
    assert threading.active_count() == threads


def test_a_port_that_is_taken_is_an_error_that_leaves_nothing_behind(
    fast: SimulatedProvider, tmp_path: Path
) -> None:
    port = urlsplit(fast.base_url).port or 0
    second = SimulatedProvider(port=port, ledger_path=tmp_path / "ledger.jsonl")
    with pytest.raises(OSError, match="in use"):
        second.start()
    assert not (tmp_path / "ledger.jsonl").exists()


def test_wrong_use_is_refused_where_it_is_written() -> None:
    for options in ({"speed": 0}, {"max_concurrent": 0}, {"max_body_bytes": 0}, {"upstream": "x"}):
        with pytest.raises(InvalidOption):
            SimulatedProvider(**options)
    with pytest.raises(UsageError, match="before it is started"):
        _ = SimulatedProvider().base_url


def test_a_line_still_being_written_is_left_out_and_a_foreign_one_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    opened = ledger.begin(key=None, client=None, model="m", prompt_tokens=1)
    ledger.close()
    assert opened.n == 1
    with path.open("a") as file:
        file.write('{"event":"end","n"')
    assert [made.status for made in LedgerCall.pair(Ledger.read(path))] == [None]
    with path.open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match="line 2"):
        Ledger.read(path)


def test_the_module_serves_in_the_foreground_until_it_is_told_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-m", "holdfast.testing.provider"]
    options = ["--port", "0", "--ledger", str(path), "--speed", "1000"]
    with subprocess.Popen(
        command + options,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/v1")
        assert call(f"{url}/chat/completions", payload()).status == 200
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "", "")
    assert [entry.event for entry in Ledger.read(path)] == ["start", "end"]
