"""Arguments: validated where they are written, stored as JSON, back as what they were."""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from pydantic import BaseModel

from fixtures.running import running
from holdfast import (
    BlockingContext,
    Context,
    Holdfast,
    InvalidArguments,
    InvalidJobFunction,
    InvalidOption,
    TooLarge,
    UnknownName,
    Unserialisable,
)


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


class Person(BaseModel):
    name: str
    born: date


_SEEN: dict[str, object] = {}


async def test_arguments_of_every_kind_come_back_as_what_they_were(app: Holdfast) -> None:
    @app.job()
    async def keep(
        point: Point,
        person: Person,
        colour: Colour,
        at: datetime,
        wait: timedelta,
        key: UUID,
        price: Decimal,
        raw: bytes,
        ratio: float,
        names: set[str],
        pair: tuple[int, str] = (0, ""),
    ) -> None:
        _SEEN.update(locals())

    given = {
        "point": Point(1, 2.5),
        "person": Person(name="Ada", born=date(1815, 12, 10)),
        "colour": Colour.RED,
        "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "wait": timedelta(days=2, microseconds=5),
        "key": UUID(int=7),
        "price": Decimal("1.10"),
        "raw": b"\x00\xff",
        "ratio": math.inf,
        "names": {"a", "ä"},
        "pair": (3, "x"),
    }
    async with running(app):
        handle = await keep.enqueue(**given)
        await handle.result(timeout=10)
    assert given == _SEEN


async def test_every_kind_of_parameter_gets_its_arguments(app: Holdfast) -> None:
    @app.job()
    async def spread(a: int, /, b: int, *more: int, c: int = 3, **rest: int) -> list[object]:
        return [a, b, more, c, rest]

    @app.job()
    def plain(ctx: BlockingContext, a: int, b: str = "default") -> str:
        return f"{a} {b} {ctx.job_name}"

    async with running(app):
        spreading = await spread.enqueue(1, 2, 4, 5, c=6, d=7)
        defaulting = await plain.enqueue(1)
        assert await spreading.result(timeout=10) == [1, 2, (4, 5), 6, {"d": 7}]
        assert await defaulting.result(timeout=10) == "1 default plain"


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((), {}, "'count'.*required"),
        (("many",), {}, "'count'.*'many'"),
        ((1, 2, 3), {}, "too many positional"),
        ((1,), {"count": 2}, "multiple values"),
        ((1,), {"colour": "red"}, "'colour'.*not permitted"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_and_nothing_is_stored(
    app: Holdfast, db, args, kwargs, complaint: str
) -> None:
    @app.job()
    async def work(count: int, text: str = "") -> None: ...

    with pytest.raises(InvalidArguments, match=complaint) as caught:
        await work.enqueue(*args, **kwargs)
    assert "work(count: int" in caught.value.hint
    assert db.value("SELECT count(*) FROM holdfast.jobs") == 0


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("a\x00b", Unserialisable),
        ({"deep": ["a\x00b"]}, Unserialisable),
        ("\ud800", (Unserialisable, InvalidArguments)),
        (datetime(2026, 1, 1, tzinfo=UTC), InvalidArguments),
        (object(), InvalidArguments),
        ("x" * (17 * 2**20), TooLarge),
    ],
)
async def test_a_value_that_cannot_be_stored_is_refused(app: Holdfast, value, error) -> None:
    @app.job()
    async def work(anything) -> None: ...

    with pytest.raises(error):
        await work.enqueue(value)


def test_a_text_that_only_looks_like_an_escaped_nul_is_stored(app: Holdfast, db) -> None:
    @app.job()
    async def work(text: str) -> None: ...

    work.enqueue_sync("\\u0000")
    assert db.value("SELECT args ->> 'text' FROM holdfast.jobs") == "\\u0000"


def test_a_function_that_cannot_be_a_job_is_refused_where_it_is_written(app: Holdfast) -> None:
    class Socket: ...

    with pytest.raises(InvalidJobFunction, match="cannot be stored"):

        @app.job()
        async def wrong_type(socket: Socket) -> None: ...

    with pytest.raises(InvalidJobFunction, match="BlockingContext"):

        @app.job()
        async def wrong_context(ctx: BlockingContext) -> None: ...

    with pytest.raises(InvalidJobFunction, match="its first parameter is a Context"):

        @app.job()
        def wrong_twin(ctx: Context) -> None: ...

    with pytest.raises(InvalidJobFunction, match="generator"):

        @app.job()
        async def stream(ctx: Context):
            yield 1


def test_wrong_options_are_refused_where_they_are_written(db) -> None:
    app = Holdfast(db.dsn, schema=db.schema, queues={"agents": 2})
    with pytest.raises(UnknownName) as caught:
        app.job(queue="agnets")
    assert "agents" in caught.value.hint
    with pytest.raises(UnknownName) as caught:
        app.job(max_attempt=3)  # type: ignore[call-arg]
    assert "max_attempts" in caught.value.hint
    with pytest.raises(InvalidOption, match="priority"):
        app.job(queue="agents", priority=10)
    with pytest.raises(InvalidOption, match="timeout"):
        app.job(queue="agents", timeout="soon")
