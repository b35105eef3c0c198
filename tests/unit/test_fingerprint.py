"""Fingerprints of inputs: stable, order-insensitive, and harmless whatever the objects do."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from holdfast.model.fingerprint import fingerprint


class Color(Enum):
    RED = 1
    BLUE = 2


class Level(IntEnum):
    LOW = 1


class Bits(IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: int


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1

    @functools.cached_property
    def slow(self) -> int:
        return 7


class Other(BaseModel):
    a: int = 1


@dataclass
class Data:
    a: object = 1
    seen: object = field(default=None, compare=False)


class Plain:
    pass


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError


class OddClass(metaclass=Unhashable):
    pass


class RaisingZone(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        raise RuntimeError


@dataclass
class RaisingField:
    a: int

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def of(*args: object, **kwargs: object) -> bytes:
    return fingerprint(args, kwargs)


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - naive times are inputs too
DISTINCT: list[object] = [
    *(None, 0, 1, 1.0, True, False, "1", b"1", -0.0, 0.0, float("nan"), float("inf"), 1j, 10**5000),
    *([], (), {}, set(), [1], (1,), {1}, {1: 1}, {"1": 1}, [[1]], [1, 1], "", b"", "[]", [[], []]),
    *(Color.RED, Color.BLUE, Level.LOW, Bits.A, Bits.A | Bits.B, Point(1, 2), (1, 2)),
    *(Model(), Model(a=2), Model(b=1), Other(), Data(), Data(2), Plain(), Hostile(), Plain, len),
    *(date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), NAIVE, timedelta(1)),
    *(Decimal(1), Fraction(1), UUID(int=1), Path("1"), range(1), test := "\ud800", test + "x"),
    *([["a"], "b"], ["a", ["b"]], ["ab"], ["a", "b"], {"a": "b"}, {"a": {"b": None}}),
]


def test_different_inputs_differ() -> None:
    prints = [of(value) for value in DISTINCT]
    assert len(set(prints)) == len(DISTINCT)
    assert {len(one) for one in prints} == {16}
    assert of(1) != of(x=1)
    assert of(1, 2) != of(2, 1)


def test_order_does_not_count_where_equality_ignores_it() -> None:
    assert of({"a": 1, "b": 2}) == of({"b": 2, "a": 1})
    assert of(a=1, b=2) == of(b=2, a=1)
    assert of({"x", "y", "z"}) == of({"z", "y", "x"})
    assert of([1, 2]) != of([2, 1])


def test_new_objects_of_the_same_inputs_are_the_same() -> None:
    assert of(Model(a=3)) == of(Model(a=3))
    assert of(Data([1], seen=1)) == of(Data([1], seen=2))
    assert of(Plain()) == of(Plain())
    asked = Model()
    assert asked.slow == 7
    assert of(asked) == of(Model())
    shared = [1]
    assert of([shared, shared]) == of([[1], [1]])


HARD: list[object] = [
    Hostile(),
    [Hostile()],
    {"a": Hostile()},
    OddClass(),
    OddClass,
    RaisingField(1),
    datetime(2026, 1, 1, tzinfo=RaisingZone()),
    Fraction(10**5000, 3),
    range(10**5000),
    Model.model_construct(),
    functools.partial(len),
    lambda: 1,
    Plain().__init__,  # type: ignore[misc]
    sys,
    iter([]),
]


def test_nothing_raises_and_all_is_stable() -> None:
    for value in HARD:
        assert of(value) == of(value)


def test_deep_cyclic_and_shared_structures_end() -> None:
    loop: list[object] = []
    loop += [loop, loop]
    shared: list[object] = []
    for _ in range(60):
        shared = [shared, shared]
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    model = Model(a=1)
    model.me = model  # type: ignore[attr-defined]
    for value in (loop, shared, deep, model):
        assert len(of(value)) == 16


def test_another_process_agrees() -> None:
    code = (
        "from holdfast.model.fingerprint import fingerprint as f;"
        "print(f(({'a','b','c'}, {'k': [1, 2.5, None]}, object(), print), {'z': b'x'}).hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = fingerprint(({"c", "b", "a"}, {"k": [1, 2.5, None]}, object(), print), {"z": b"x"})
    assert seen == {here.hex() + "\n"}


def test_the_form_does_not_change_between_versions() -> None:
    # Journals are compared with it: whoever changes it stops running jobs.
    assert of("cats", 3, key=[1.5, None]).hex() == "5732babb1a100bbcc96cab5460a102d1"


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100)
@given(JSON_LIKE, JSON_LIKE)
def test_equal_reprs_and_only_those_are_equal(one: object, other: object) -> None:
    def canonical(value: object) -> str:
        if isinstance(value, dict):
            return f"{{{sorted((key, canonical(item)) for key, item in value.items())}}}"
        return f"[{[canonical(v) for v in value]}]" if isinstance(value, list) else repr(value)

    assert (of(one) == of(other)) == (canonical(one) == canonical(other))
