"""Codec 1: plain trees come back equal and of the same types, or are refused."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from holdfast.errors import TooLarge, Unserialisable
from holdfast.model import tagged
from holdfast.model.tagged import MAX_DEPTH, NotPlain, dump, load, where

OFFSETS = st.integers(-86_399, 86_399).map(lambda s: timezone(timedelta(seconds=s)))
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    ANY_TEXT,
    st.just("$hf"),
    st.binary(max_size=8),
    st.datetimes(timezones=st.none() | OFFSETS).map(lambda moment: moment.replace(fold=0)),
    st.dates(),
    st.times(timezones=st.none() | OFFSETS).map(lambda moment: moment.replace(fold=0)),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
KEYS = st.recursive(
    HASHABLE, lambda k: st.tuples(k, k) | st.frozensets(k, max_size=2), max_leaves=3
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(ANY_TEXT | st.just("$hf") | st.just("v"), inner, max_size=3),
        st.sets(KEYS, max_size=3),
        st.frozensets(KEYS, max_size=3),
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equality with types, signs of zero, NaN and offsets."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, (datetime, time)):
        return one == other and one.utcoffset() == other.utcoffset()
    return bool(one == other)


@settings(max_examples=200)
@given(VALUES)
@example({"$hf": "tuple", "v": [1]})
@example("\ud83d\ude00")
@example({"\ud83d\ude00": "\ud800"})
@example([10**4299, -(10**4300), 10**10_000, "9" * 5000])
@example([True, 1, 1.0, -0.0, 0, "1", "\0", math.nan, -math.inf])
def test_any_plain_tree_comes_back_the_same(value: object) -> None:
    data = dump(value)
    from_json(data)
    back = load(data)
    assert same(back, value)


def test_ordinary_json_is_stored_as_it_is() -> None:
    assert dump({"a": [1, 2.0, None, True, "ä"]}) == '{"a":[1,2.0,null,true,"ä"]}'.encode()


def test_what_is_changed_is_what_the_docstring_says() -> None:
    assert load(dump(bytearray(b"x"))) == b"x"
    local = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    back = load(dump([local]))[0]
    assert back == local
    assert back.utcoffset() == timedelta(hours=2)
    assert load(dump(Decimal("-0.0"))).is_signed()
    assert load(dump(Decimal("sNaN"))).is_snan()
    assert load(dump(datetime.max.replace(tzinfo=UTC))) == datetime.max.replace(tzinfo=UTC)
    assert load(dump((date.min, time(1), UUID(int=1)))) == (date.min, time(1), UUID(int=1))


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Level.LOW, "$"),
        (Point(1), "$"),
        (Text("x"), "$"),
        (OrderedDict(), "$"),
        ([object()], "$[0]"),
        ({"items": [1, 2, 3, {"when": 1j}]}, "$.items[3].when"),
        ({"two words": {1: (Text(),)}}, "$['two words'][1][0]"),
        ({Level.LOW: 1}, "$[<Level.LOW: 1>]"),
        ((1, {2: range(3)}), "$[1][2]"),
    ],
)
def test_what_is_not_plain_is_named_with_its_place(value: object, place: str) -> None:
    with pytest.raises(NotPlain) as caught:
        dump(value)
    assert where(caught.value.path) == place


def nested(levels: int, wrap: Any) -> object:
    value: object = 1
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    ("wrap", "levels"),
    [
        (lambda v: [v], MAX_DEPTH),
        (lambda v: {"a": v}, MAX_DEPTH),
        (lambda v: (v,), MAX_DEPTH // 2),
        (lambda v: {1: v}, MAX_DEPTH // 3),
        (lambda v: [(v,)], MAX_DEPTH // 3),
    ],
)
def test_the_deepest_tree_comes_back_and_deeper_ones_are_refused(wrap: Any, levels: int) -> None:
    value = nested(levels, wrap)
    assert repr(load(dump(value))) == repr(value)
    # Leaves that need tags lie a little deeper still.
    tagged_leaf = nested(levels, lambda v: wrap(timedelta(1) if v == 1 else v))
    assert repr(load(dump(tagged_leaf))) == repr(tagged_leaf)
    for deeper in (levels + 2, 10_000):
        with pytest.raises(Unserialisable, match="deeper than 199"):
            dump(nested(deeper, wrap))


def test_cycles_are_refused() -> None:
    loop: list[object] = []
    loop += [loop, loop]
    knot: dict[str, object] = {}
    knot["a"] = (knot, {1: knot})
    for value in (loop, knot, [{"x": loop}]):
        with pytest.raises(Unserialisable, match="contains itself"):
            dump(value)


def test_sharing_that_doubles_is_refused_before_memory_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tagged, "MAX_VALUES", 10_000)
    for leaf in (1, timedelta(1), "\ud800"):
        value: object = leaf
        for _ in range(60):
            value = [value, value]
        with pytest.raises(TooLarge, match="shared"):
            dump(value)


def test_shared_parts_are_fine() -> None:
    part = {"a": (1,)}
    assert load(dump([part, part])) == [part, part]


@pytest.mark.parametrize(
    "data",
    [
        b'{"$hf":"pickle","v":"x"}',
        b'{"$hf":"tuple"}',
        b'{"$hf":"tuple","v":[],"x":1}',
        b'{"$hf":["tuple"],"v":[]}',
        b'{"$hf":"tuple","v":3}',
        b'{"$hf":"dict","v":[[1]]}',
        b'{"$hf":"dict","v":[[[],1]]}',
        b'{"$hf":"set","v":[[]]}',
        b'{"$hf":"bytes","v":"*"}',
        b'{"$hf":"decimal","v":"x"}',
        b'{"$hf":"uuid","v":"x"}',
        b'{"$hf":"datetime","v":"yesterday"}',
        b'{"$hf":"timedelta","v":1e300}',
        b"",
        b"{",
        b"[" * 100_000,
    ],
)
def test_broken_data_raises_an_ordinary_exception(data: bytes) -> None:
    with pytest.raises(Exception) as caught:
        load(data)
    assert not isinstance(caught.value, RecursionError)
