"""The fixtures of the driver tests: every connection, one after the other."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest

from fixtures.callers import CALLERS, Caller
from holdfast import Holdfast


@pytest.fixture(params=CALLERS)
def opener(request: pytest.FixtureRequest, db: Any) -> Callable[..., Any]:
    """Opens one more connection of this kind."""
    open_caller = CALLERS[request.param]
    return lambda autocommit=False: open_caller(db.dsn, autocommit=autocommit)


@pytest.fixture
async def caller(opener: Callable[..., Any]) -> AsyncIterator[Caller]:
    """A connection in the middle of a transaction of the application's."""
    async with opener() as caller:
        await caller.execute("CREATE TEMPORARY TABLE own (n integer)")
        await caller.commit()
        yield caller


@pytest.fixture
def work(app: Holdfast) -> Any:
    """A job function."""

    @app.job(name="work")
    async def work(n: int) -> int:
        return n

    return work


@pytest.fixture
def listener(db: Any) -> Iterator[psycopg.Connection]:
    """A connection that hears what wakes workers."""
    with psycopg.connect(db.dsn, autocommit=True) as conn:
        conn.execute(f'LISTEN "{db.schema}:wake"')
        yield conn
