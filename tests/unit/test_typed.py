"""Codecs 2 and 3: typed values come back as they were, or are refused at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, Json, SecretStr, computed_field
from pydantic import field_serializer as serializer
from typing_extensions import TypedDict

from holdfast.errors import Unserialisable
from holdfast.model.codec import adapter_for, decode, encode


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Tag(StrEnum):
    A = "a"


class Point(NamedTuple):
    x: int
    when: datetime


class Base(BaseModel):
    a: int = 1


class Derived(Base):
    b: int = 2


class Blob(BaseModel):
    data: bytes
    ratio: float = 1.0
    perhaps: float | None = None


class HalfBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    data: bytes


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    color: Color = Color.RED
    path: Path = Path("/tmp/x")
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    data: bytes = b"\xff"


class Aliased(BaseModel):
    name: str = Field(validation_alias="nameIn", serialization_alias="nameOut")

    @computed_field
    def shout(self) -> str:
        return self.name.upper()


class Cat(BaseModel):
    kind: Literal["cat"] = Field("cat", alias="kindOf")


class Dog(BaseModel):
    kind: Literal["dog"] = Field("dog", alias="kindOf")


class Wire(BaseModel):
    doc: Json[Any]
    extra: Annotated[Any, Field(exclude=True)] = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Rounded(BaseModel):
    x: float

    @serializer("x")
    def round_x(self, x: float) -> float:
        return round(x, 1)


class Tree(BaseModel):
    children: list[Tree] = []


class Vault(BaseModel):
    key: SecretStr


class Typed(TypedDict):
    when: datetime
    base: Base


@dataclass(frozen=True)
class Pair:
    x: int
    tags: tuple[str, ...] = ()
    ratio: float = 0.5
    late: int = field(default=0, compare=False)


NOW = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)
Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Color.RED, Color),
        (Level.LOW, Level),
        (Tag.A, Tag),
        (Point(1, NOW), Point),
        (Base(a=3), Base),
        (Base(a=3), Base | None),
        ([Derived(), Base()], list[Base | Derived]),
        (Blob(data=b"\xff\xfe", ratio=math.inf, perhaps=-math.inf), Blob),
        ([HalfBase64(data=b"\xff\0")], list[HalfBase64]),
        (Strict(), Strict),
        ({"a": Strict(data=b"abc")}, dict[str, Strict]),
        ([Aliased(nameIn="x")], list[Aliased]),
        ([Cat(), Dog()], list[Pet]),
        (Wire(doc='{"a": 1}', extra=object()), Wire),
        (Open(x=1, y=[2]), Open),
        (Pair(1, ("a",)), Pair),
        (Pair(1, ratio=2), Pair),
        ({Pair(1), Pair(2)}, set[Pair]),
        ({"when": NOW, "base": Base()}, Typed),
        ({(1, 2): Color.RED}, dict[tuple[int, int], Color]),
        ({Color.RED: {Tag.A: 1.5}}, dict[Color, dict[Tag, float]]),
        ((Color.RED, b"\xff", timedelta(microseconds=1)), tuple[Color, bytes, timedelta]),
        ([1, Color.RED], list[float | Color]),
        (Path("/tmp/x"), Path),
        ([AnyUrl("https://a.b/c")], list[AnyUrl]),
        (deque([1, 2]), deque[int]),
        (Tree(children=[Tree(), Tree(children=[Tree()])]), Tree),
        ({"price": (Decimal("1.10"), Level.LOW)}, dict[str, tuple[Decimal, Level]]),
    ],
)
def test_a_typed_value_comes_back_equal(value: Any, annotation: Any) -> None:
    adapter = adapter_for(annotation)
    stored = encode(value, adapter)
    assert stored.codec in (2, 3)
    back = decode(stored.data, stored.codec, adapter)
    assert type(back) is type(value)
    if isinstance(value, Wire):
        assert isinstance(back, Wire)
        assert back.doc == value.doc
    else:
        assert back == value


def test_nan_in_a_model_survives() -> None:
    adapter = adapter_for(list[Blob])
    stored = encode([Blob(data=b"", ratio=math.nan, perhaps=math.nan)], adapter)
    back: Any = decode(stored.data, stored.codec, adapter)
    assert math.isnan(back[0].ratio)
    assert math.isnan(back[0].perhaps)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ([Derived()], list[Base], r"\$\[0\]: Derived would come back as Base"),
        ({"m": Base()}, dict[str, Any], r"\$\.m: Base would come back as dict"),
        ({"m": [Tag.A]}, dict[str, Any], r"\$\.m\[0\]: Tag would come back as str"),
        ({Tag.A: 1}, dict[str, int], "other items"),
        ([Base()], list[Derived | Color], r"\$\[0\]: Base would come back as Derived"),
        (Vault(key=SecretStr("x")), Vault, r"\$\.key: SecretStr would be stored as asterisks"),
        (Base.model_construct(a="x"), Base, "Base"),
        (Base(), int, r"\$ \(Base\)"),
        ({"x": {"y": Base()}}, list[int], r"\$\.x\.y \(Base\)"),
        ((Base() for _ in range(2)), Iterable[Base], "generator"),
        (Base, Any, "ModelMetaclass at"),
        (object(), None, r"\$ \(object\)"),
        (object(), object, r"object at \$"),
    ],
)
def test_what_would_change_silently_is_refused(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(Unserialisable, match=message) as caught:
        encode(value, adapter_for(annotation))
    assert "return type" in caught.value.hint
    assert len(str(caught.value)) < 1500


def test_a_models_own_lossy_serialiser_is_respected() -> None:
    adapter = adapter_for(Rounded)
    stored = encode(Rounded(x=1.23), adapter)
    assert decode(stored.data, stored.codec, adapter) == Rounded(x=1.2)


def test_deep_and_cyclic_models_are_refused() -> None:
    deep = Tree()
    for _ in range(300):
        deep = Tree(children=[deep])
    loop = Tree()
    loop.children.append(loop)
    for value in (deep, loop):
        with pytest.raises(Unserialisable):
            encode(value, adapter_for(Tree))


def test_a_change_of_the_annotation_that_fits_is_read() -> None:
    stored = encode([Base(a=5)], adapter_for(list[Base]))
    assert decode(stored.data, stored.codec, adapter_for(list[Derived])) == [Derived(a=5)]
