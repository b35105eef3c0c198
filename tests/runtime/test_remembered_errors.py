"""Errors of steps: remembered if the job acted upon them, forgotten if they ended the attempt."""

import asyncio
from collections import Counter

import pytest

from fixtures.looking import counters, instantly, outcomes, step_states
from fixtures.running import running
from holdfast import BlockingContext, Context, Holdfast, JobFailed, Retry, StepFailed, step


class Stumble(Exception):
    """Ends the first attempt, so that the second one replays."""


class Refused(Exception):
    """An error of the application's own."""


class Bank:
    """Refuses the first charge, would accept a second one."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def primary(self) -> str:
        self.calls["primary"] += 1
        if self.calls["primary"] == 1:
            raise Refused("card declined")
        return "by card"

    async def fallback(self) -> str:
        self.calls["fallback"] += 1
        return "by invoice"


async def test_a_job_stays_on_the_branch_it_took_because_of_an_error(app: Holdfast, db) -> None:
    bank = Bank()
    caught: list[BaseException] = []

    @app.job(backoff=instantly)
    async def pay(ctx: Context) -> str:
        try:
            way = await ctx.step(bank.primary)
        except Refused as error:
            caught.append(error)
            way = await ctx.step(bank.fallback)
        if ctx.attempt == 1:
            raise Stumble
        return way

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "by invoice"
    assert bank.calls == {"primary": 1, "fallback": 1}
    first, replayed = caught
    assert not isinstance(first, StepFailed)
    assert isinstance(replayed, StepFailed)
    assert isinstance(replayed, Refused)
    assert replayed.original_type.endswith("Refused")
    assert "card declined" in str(replayed)
    assert step_states(db, handle.id)["primary"] == ("failed", 1)


class StatusError(Exception):
    """Wants arguments of its own, as the errors of many SDKs do."""

    def __init__(self, message: str, *, response: object) -> None:
        super().__init__(message)
        self.response = response


class SlottedError(Exception):
    """Cannot carry a note of the step it came from."""

    __slots__ = ()


ERRORS = {
    "value": ValueError("broken"),
    "timeout": TimeoutError("broken"),
    "file": FileNotFoundError(2, "broken", "path"),
    "key": KeyError("broken"),
    "decode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "broken"),
    "own arguments": StatusError("broken", response=None),
    "slots": SlottedError("broken"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_a_remembered_error_is_of_the_original_type(app: Holdfast, name: str) -> None:
    caught: list[str] = []
    kind = type(ERRORS[name])

    async def fail() -> None:
        raise ERRORS[name]

    async def note() -> None: ...

    @app.job(backoff=instantly)
    async def careful(ctx: Context) -> None:
        try:
            await ctx.step(fail)
        except kind as error:
            caught.append(type(error).__name__)
        await ctx.step(note)
        if ctx.attempt == 1:
            raise Stumble

    async with running(app):
        await (await careful.enqueue()).result(timeout=10)
    assert caught == [kind.__name__, "StepFailed"]


async def test_an_error_that_ends_the_attempt_is_not_remembered(app: Holdfast, db) -> None:
    bank = Bank()

    @app.job(backoff=instantly)
    async def pay(ctx: Context) -> str:
        return await ctx.step(bank.primary)

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "by card"
    assert bank.calls == {"primary": 2}
    assert outcomes(db, handle.id) == [("failed", "failure"), ("completed", None)]


async def test_an_error_wrapped_in_another_that_ends_the_attempt_is_not_remembered(
    app: Holdfast,
) -> None:
    bank = Bank()

    @app.job(backoff=instantly)
    async def pay(ctx: Context) -> str:
        try:
            return await ctx.step(bank.primary)
        except Refused as error:
            await ctx.step(bank.fallback)
            raise RuntimeError("gave up") from error

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "by card"
    assert bank.calls == {"primary": 2, "fallback": 1}


async def test_a_remembered_error_that_then_ends_an_attempt_is_forgotten(app: Holdfast, db) -> None:
    bank = Bank()

    @app.job(backoff=instantly)
    async def pay(ctx: Context) -> str:
        try:
            return await ctx.step(bank.primary)
        except Refused:
            if ctx.attempt == 2:
                raise
            await ctx.step(bank.fallback)
            raise Stumble from None

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "by card"
    assert counters(db, handle.id) == ("completed", 2, 0, 0)
    assert step_states(db, handle.id)["primary"] == ("done", 1)


@pytest.mark.parametrize("shape", ["async", "plain"])
async def test_the_write_of_a_sibling_does_not_remember_the_error_of_another_branch(
    app: Holdfast, shape: str
) -> None:
    calls: Counter[str] = Counter()
    failed = asyncio.Event()

    async def fetch(name: str) -> str:
        calls[name] += 1
        if name == "bad" and calls[name] == 1:
            failed.set()
            raise Refused("try again later")
        await failed.wait()
        return name

    if shape == "async":

        @app.job(backoff=instantly, max_attempts=2)
        async def collect(ctx: Context) -> list[str]:
            return await ctx.map(fetch, ["good", "bad"])

    else:

        @app.job(backoff=instantly, max_attempts=2)
        def collect(ctx: BlockingContext) -> list[str]:
            return ctx.map(fetch, ["good", "bad"])

    async with running(app):
        handle = await collect.enqueue()
        assert await handle.result(timeout=10) == ["good", "bad"]
    assert calls == {"good": 1, "bad": 2}


async def test_an_error_caught_from_a_map_inside_a_branch_is_remembered(app: Holdfast) -> None:
    bank = Bank()

    async def charge(_: str) -> str:
        return await bank.primary()

    async def branch(ctx: Context) -> str:
        try:
            return (await ctx.map(charge, ["card"]))[0]
        except Refused:
            return await ctx.step(bank.fallback)

    @app.job(backoff=instantly)
    async def pay(ctx: Context) -> str:
        (way,) = await ctx.gather(only=branch(ctx))
        if ctx.attempt == 1:
            raise Stumble
        return way

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "by invoice"
    assert bank.calls == {"primary": 1, "fallback": 1}


async def test_an_error_acted_upon_by_a_transaction_is_remembered_before_its_commit(
    app: Holdfast, db
) -> None:
    bank = Bank()
    db.execute("CREATE TABLE IF NOT EXISTS holdfast.invoice (amount integer)")

    @app.job(backoff=instantly)
    async def pay(ctx: Context) -> str:
        try:
            await ctx.step(bank.primary)
        except Refused:
            async with ctx.transaction() as conn:
                await conn.execute(f'INSERT INTO "{db.schema}".invoice VALUES (5)')
            if ctx.attempt == 1:
                raise Stumble from None
            return "by invoice"
        return "by card"

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "by invoice"
    assert bank.calls == {"primary": 1}
    assert db.value("SELECT count(*) FROM holdfast.invoice") == 1
    db.execute("DROP TABLE holdfast.invoice")


async def test_an_error_acted_upon_by_a_sleep_is_remembered(app: Holdfast) -> None:
    bank = Bank()

    @app.job(backoff=instantly)
    async def pay(ctx: Context) -> str:
        try:
            return await ctx.step(bank.primary)
        except Refused:
            await ctx.sleep(0)
        if ctx.attempt == 1:
            raise Stumble
        return "waited"

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "waited"
    assert bank.calls == {"primary": 1}


async def test_a_plain_job_stays_on_its_branch_too(app: Holdfast) -> None:
    bank = Bank()

    @app.job(backoff=instantly)
    def pay(ctx: BlockingContext) -> str:
        try:
            way = ctx.step(bank.primary)
        except Refused:
            way = ctx.step(bank.fallback)
        if ctx.attempt == 1:
            raise Stumble
        return way

    async with running(app):
        handle = await pay.enqueue()
        assert await handle.result(timeout=10) == "by invoice"
    assert bank.calls == {"primary": 1, "fallback": 1}


async def test_a_persons_retry_forgets_remembered_errors(app: Holdfast) -> None:
    bank = Bank()

    @app.job(max_attempts=1)
    async def pay(ctx: Context) -> str:
        try:
            return await ctx.step(bank.primary)
        except Refused:
            await ctx.step(bank.fallback)
            raise Stumble from None

    async with running(app):
        handle = await pay.enqueue()
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        await app.retry(handle.id)
        assert await handle.result(timeout=10) == "by card"
    assert bank.calls == {"primary": 2, "fallback": 1}


async def test_tries_are_all_available_again_after_the_attempt_they_ended(app: Holdfast) -> None:
    calls: Counter[str] = Counter()

    async def fetch() -> None:
        calls["fetch"] += 1
        raise Refused

    @app.job(backoff=instantly, max_attempts=2)
    async def read(ctx: Context) -> None:
        await ctx.step(step(fetch, retry=Retry(3, delay=0)))

    async with running(app):
        handle = await read.enqueue()
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    assert calls == {"fetch": 6}


def test_a_hostile_exception_class_elsewhere_does_not_disturb_the_search() -> None:
    class Hostile(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise RuntimeError("__module__")

    class Nasty(Exception, metaclass=Hostile): ...

    from holdfast.runtime.remembered import _mixed

    _mixed.cache_clear()
    assert issubclass(_mixed("ValueError"), ValueError)
    assert Nasty is not None
