"""What a step returns comes back from the journal as it was, whatever its type and size."""

import math
import os
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from pydantic import BaseModel

from fixtures.looking import counters, ended, instantly, outcomes
from fixtures.running import running
from holdfast import Context, Holdfast, JobNeedsAttention
from holdfast.model import codec


class Stumble(Exception):
    """Ends the first attempt, so that the second one replays."""


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    when: datetime


class Page(BaseModel):
    url: str
    sizes: dict[str, Decimal]


MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

PLAIN = {
    "nothing": None,
    "text": "a\x00b \ud800 ☃ \U0001f600",
    "number": 2**200,
    "tuple": (1, ("a", None), [2.5]),
    "set": {1, 2, 3},
    "bytes": bytes(range(256)),
    "moment": MOMENT,
    "day": date(2026, 5, 6),
    "span": timedelta(days=3, microseconds=7),
    "uuid": UUID(int=7),
    "decimal": Decimal("1.230"),
    "infinity": -math.inf,
    "keys": {1: "one", (2, 3): "pair"},
}
TYPED = {
    "dataclass": (Point, Point(3, MOMENT)),
    "model": (Page, Page(url="/", sizes={"a": Decimal("0.10")})),
    "enum": (Colour, Colour.RED),
    "list of models": (list[Page], [Page(url="/x", sizes={})]),
    "union": (int | Point | None, Point(4, MOMENT)),
}


async def replayed(app: Holdfast, value: object, annotation: object = None) -> list[object]:
    """Returns the step's result in the first attempt and in the second."""
    seen: list[object] = []
    calls: Counter[str] = Counter()

    async def make():
        calls["make"] += 1
        return value

    if annotation is not None:
        make.__annotations__["return"] = annotation

    @app.job(backoff=instantly, max_attempts=2)
    async def twice(ctx: Context) -> None:
        seen.append(await ctx.step(make))
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        handle = await twice.enqueue()
        await handle.result(timeout=20)
    assert calls == {"make": 1}
    return seen


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_values_need_no_annotation(app: Holdfast, name: str) -> None:
    first, second = await replayed(app, PLAIN[name])
    assert first == second == PLAIN[name]
    assert type(second) is type(PLAIN[name])


@pytest.mark.parametrize("name", TYPED)
async def test_other_types_come_back_by_the_return_annotation(app: Holdfast, name: str) -> None:
    annotation, value = TYPED[name]
    first, second = await replayed(app, value, annotation)
    assert first == second == value
    assert type(second) is type(value)


async def test_not_a_number_comes_back_as_such(app: Holdfast) -> None:
    first, second = await replayed(app, [math.nan, 1.0])
    assert math.isnan(first[0])
    assert math.isnan(second[0])
    assert second[1] == 1.0


async def test_a_large_result_goes_to_the_blob_table_and_comes_back(app: Holdfast, db) -> None:
    value = os.urandom(5 * 2**20)
    first, second = await replayed(app, value)
    assert first == second == value
    rows = db.execute("SELECT spilled, result IS NULL FROM holdfast.step")
    assert rows == [(True, True)]
    assert db.value("SELECT count(*) FROM holdfast.blob WHERE key = 'make'") == 1


async def test_large_text_is_compressed(app: Holdfast, db) -> None:
    value = "all work and no play " * 50_000
    _, second = await replayed(app, value)
    assert second == value
    assert db.value("SELECT octet_length(result) FROM holdfast.step") < 20_000


async def test_a_journal_of_many_large_results_is_read_back(app: Holdfast) -> None:
    values = [os.urandom(200_000) for _ in range(40)]  # more than one claim brings along
    calls: Counter[int] = Counter()

    async def fetch(number: int) -> bytes:
        calls[number] += 1
        return values[number]

    @app.job(backoff=instantly)
    async def collect(ctx: Context) -> bool:
        found = await ctx.map(fetch, range(len(values)))
        if ctx.attempt == 1:
            raise Stumble
        return found == values

    async with running(app):
        handle = await collect.enqueue()
        assert await handle.result(timeout=30) is True
    assert set(calls.values()) == {1}


@pytest.mark.parametrize("kind", ["unserialisable", "too large"])
async def test_a_result_that_cannot_be_stored_stops_the_job_without_another_effect(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(codec, "MAX_RESULT_BYTES", 1000)
    calls: Counter[str] = Counter()

    async def effect():
        calls["effect"] += 1
        return object() if kind == "unserialisable" else os.urandom(2000)

    @app.job(backoff=instantly)
    async def shop(ctx: Context) -> None:
        await ctx.step(effect)

    async with running(app):
        handle = await shop.enqueue()
        with pytest.raises(JobNeedsAttention, match="object" if "un" in kind else "effect"):
            await handle.result(timeout=10)
        job = await ended(app, handle.id, "attention")
    assert calls == {"effect": 1}
    assert job.wait_reason == "stopped"
    assert job.wait_detail is not None
    assert counters(db, handle.id) == ("attention", 0, 0, 0)
    assert outcomes(db, handle.id) == [("stopped", None)]


async def test_a_recorded_result_that_no_longer_fits_the_annotation_stops_the_job(
    app: Holdfast, db
) -> None:
    calls: Counter[str] = Counter()

    def make(annotation: type):
        async def point():
            calls["point"] += 1
            return Point(1, MOMENT)

        point.__annotations__["return"] = annotation
        return point

    @app.job(backoff=instantly)
    async def draw(ctx: Context) -> None:
        await ctx.step(make(Point if ctx.attempt == 1 else Page))
        raise Stumble

    async with running(app):
        handle = await draw.enqueue()
        job = await ended(app, handle.id, "attention")
        assert "cannot be read" in job.wait_detail
    assert calls == {"point": 1}
    assert outcomes(db, handle.id) == [("failed", "failure"), ("stopped", None)]


async def test_a_job_whose_own_result_is_too_large_stops_for_a_person(
    app: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_RESULT_BYTES", 1000)

    @app.job()
    async def heavy() -> bytes:
        return os.urandom(2000)

    async with running(app):
        handle = await heavy.enqueue()
        with pytest.raises(JobNeedsAttention, match="the result of job 'heavy'"):
            await handle.result(timeout=10)
    assert counters(db, handle.id) == ("attention", 0, 0, 0)
