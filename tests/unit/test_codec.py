"""The stored form: compression, caps, and failures that are always of our own tree."""

from __future__ import annotations

import inspect
import json
import random
import sys
import zlib
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from holdfast.errors import TooLarge, Undecodable, Unserialisable
from holdfast.model import codec as codec_module
from holdfast.model.codec import (
    MAX_RESULT_BYTES,
    SPILL_BYTES,
    Encoded,
    adapter_for,
    check_size,
    decode,
    encode,
)


class Model(BaseModel):
    text: str


class Foreign:
    pass


def roundtrip(value: object, annotation: object = inspect.Parameter.empty) -> tuple[object, int]:
    adapter = adapter_for(annotation)
    stored = encode(value, adapter)
    return decode(stored.data, stored.codec, adapter), stored.codec


def test_plain_values_need_no_annotation_and_ignore_one() -> None:
    for annotation in (inspect.Parameter.empty, Any, object, Model, int):
        assert roundtrip({"a": (1, 2)}, annotation) == ({"a": (1, 2)}, 1)
    assert roundtrip(None, None) == (None, 1)


def test_large_data_is_compressed_when_that_pays() -> None:
    text = "the quick brown fox " * 1000
    assert roundtrip(text) == (text, 17)
    assert len(encode(text, None).data) < 1000
    noise = random.Random(1).randbytes(30_000).decode("latin-1")
    assert roundtrip("x" * 4094)[1] == 1
    assert roundtrip("x" * 4095)[1] == 17
    raw = "".join(chr(0x4E00 + ord(c) * 53 % 20_000) for c in noise)
    assert roundtrip(raw)[0] == raw
    model = Model(text=text)
    assert roundtrip(model, Model) == (model, 18)


def test_data_that_compresses_badly_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        codec_module.zlib, "compress", lambda data, _: data[: len(data) * 95 // 100]
    )
    assert encode("x" * 10_000, None).codec == 1


def test_the_caps_are_checked_and_named() -> None:
    check_size(Encoded(bytes(MAX_RESULT_BYTES), 1), field="result")
    with pytest.raises(TooLarge, match=r"^\[HF-106\] result is 64\.1 MiB; the most is 64 MiB"):
        check_size(Encoded(bytes(MAX_RESULT_BYTES + 1), 1), field="result")
    assert SPILL_BYTES < MAX_RESULT_BYTES


def test_what_would_unpack_too_large_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "_MAX_PLAIN_BYTES", 10_000)
    assert encode("x" * 20_000, None).codec == 1
    with pytest.raises(Undecodable, match="too long"):
        decode(zlib.compress(b'"' + b"x" * 20_000 + b'"'), 17, None)


def test_encoded_is_a_value() -> None:
    assert Encoded(b"1", 1) == Encoded(b"1", 1)
    with pytest.raises(FrozenInstanceError):
        Encoded(b"1", 1).codec = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "codec", "annotation"),
    [
        (b"", 1, None),
        (b"{", 1, None),
        (b'{"$hf":"os.system","v":"ls"}', 1, None),
        (b"[" * 10_000, 1, None),
        (b"1", 17, None),
        (zlib.compress(b"1" * 5000)[:-3], 17, None),
        (zlib.compress(b"1") + b"tail", 17, None),
        (b"1", 0, None),
        (b"1", 16, None),
        (b"1", 4, None),
        (b"1", 33, None),
        (b"1", -1, None),
        (b"1", 2, inspect.Parameter.empty),
        (b'{"text":1}', 2, Model),
        (b'{"text":1}', 3, Model),
        (b"\x80\x04.", 2, Model),
    ],
)
def test_whatever_cannot_be_read_is_undecodable(data: bytes, codec: int, annotation: Any) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(data, codec, adapter_for(annotation))
    assert caught.value.hint
    assert f"codec {codec}" in caught.value.message
    assert len(str(caught.value)) < 1000


@settings(max_examples=100)
@given(st.binary(max_size=40), st.integers(-1, 40))
def test_any_bytes_decode_or_are_undecodable(data: bytes, codec: int) -> None:
    try:
        decode(data, codec, adapter_for(Model))
    except Undecodable as error:
        assert error.code == "HF-404"


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(["$hf", "v", "x"]), st.sampled_from(["tuple", "int", "", 1]))
)
def test_any_tagged_looking_json_decodes_or_is_undecodable(tree: Any) -> None:
    for data in (json.dumps(tree), json.dumps([tree]), json.dumps({"$hf": "set", "v": [tree]})):
        try:
            decode(data.encode(), 1, None)
        except Undecodable:
            continue


def test_annotations_that_say_nothing_have_no_adapter() -> None:
    for annotation in (inspect.Parameter.empty, Any, object, Foreign, 7):
        assert adapter_for(annotation) is None
    assert adapter_for(None) is not None


def test_an_annotation_that_cannot_be_resolved_is_named_when_it_is_needed() -> None:
    for annotation in ("NoSuchName", list["NoSuchName"]):  # type: ignore[name-defined] # noqa: F821
        assert roundtrip([1], annotation) == ([1], 1)
        with pytest.raises(Unserialisable, match="not fully defined"):
            encode(Model(text="x"), adapter_for(annotation))


def test_a_hostile_value_is_unserialisable() -> None:
    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment]

    class Odd(metaclass=Unhashable):
        pass

    for value in (Odd(), [Odd()], {"a": Odd()}):
        for annotation in (inspect.Parameter.empty, list[int]):
            with pytest.raises(Unserialisable, match=r"Odd|list|dict"):
                encode(value, adapter_for(annotation))


def test_a_nearly_full_stack_is_an_error_of_ours() -> None:
    value: object = 1
    for _ in range(60):
        value = (value,)

    def at_the_bottom(frames: int) -> None:
        if frames:
            at_the_bottom(frames - 1)
        else:
            encode(value, None)

    with pytest.raises(Unserialisable, match="RecursionError"):
        at_the_bottom(sys.getrecursionlimit() - len(inspect.stack()) - 60)
