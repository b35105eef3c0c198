"""Any text and any JSON in any field: an error of ours and nothing stored, or it comes back equal.

Each example also has a healthy job enqueued beside it, which completes. One worker runs for all
examples of a property.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.hostile import last_error
from fixtures.running import running
from holdfast import (
    Cancel,
    Context,
    Discard,
    Holdfast,
    HoldfastError,
    InvalidOption,
    JobCancelled,
    JobFailed,
    UsageError,
    step,
)

# The worker that runs meanwhile jitters its polls, which hypothesis takes for a strategy's doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

FAST = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(exclude_categories=()), max_size=60) | st.sampled_from(
    ["", "\x00", "\ud800\udc00", "\ufeff", "\u202e", "\\u0000", "$hf", "a" * 5000, "\x1b]0;\x07"]
)
NUMBERS = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    # Beyond 1e15 an un-annotated float without a fraction may come back from jsonb as an int.
    | st.floats(-1e15, 1e15)
    | st.sampled_from([float("nan"), float("inf"), 10**4200, 2**63, -0.0, 5e-324])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=20,
)
PLAIN = st.recursive(
    JSON | st.binary(max_size=40) | st.datetimes() | st.decimals() | st.timedeltas() | st.uuids(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.tuples(children, children)
        | st.dictionaries(NUMBERS | TEXT, children, max_size=3)
        | st.sets(NUMBERS | TEXT, max_size=3)
    ),
    max_leaves=12,
)


class Bench:
    """A running worker and its loop, driven by synchronous examples."""

    def __init__(self, app: Holdfast, db: Any) -> None:
        self.app, self.db = app, db
        self.given: Any = None
        self.seen: list[Any] = []
        self._runner = asyncio.Runner()

        @app.job()
        async def healthy() -> str:
            return "ran"

        self.healthy = healthy

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Runs a worker on the loop while the block drives it."""
        worker = running(self.app)
        with self._runner:
            self.run(worker.__aenter__())
            try:
                yield
            finally:
                self.run(worker.__aexit__(None, None, None))

    def jobs(self) -> int:
        return self.db.value("SELECT count(*) FROM holdfast.jobs")

    def examine(self, example: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Runs one example, then a healthy job; an error must be ours and store nothing."""

        async def both() -> None:
            before = self.jobs()
            try:
                await example()
            except UsageError as error:
                assert error.hint
                assert len(str(error)) < 3000
                str(error).encode()
                assert self.jobs() == before
            assert await (await self.healthy.enqueue()).result(timeout=20) == "ran"

        self.run(both())


@pytest.fixture
def bench(app: Holdfast, db) -> Bench:
    return Bench(app, db)


def same(a: Any, b: Any) -> bool:
    """Equal and of one type; NaN is equal to itself, order counts in lists only."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        pairs = zip(sorted(a.items(), key=repr), sorted(b.items(), key=repr), strict=False)
        return len(a) == len(b) and all(same(x, y) for x, y in pairs)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set):
        return sorted(map(repr, a)) == sorted(map(repr, b))
    return repr(a) == repr(b) or a == b


def test_any_json_as_an_argument(bench: Bench) -> None:
    @bench.app.job()
    async def echo(value, *, loose: dict[str, Any] | None = None, text: str = "") -> None:
        bench.seen.append((value, loose, text))

    @FAST
    @given(JSON, st.dictionaries(TEXT, JSON, max_size=3), TEXT)
    def examples(value: Any, loose: dict[str, Any], text: str) -> None:
        async def example() -> None:
            handle = await echo.enqueue(value, loose=loose, text=text)
            await handle.result(timeout=20)
            # jsonb has no negative zero: compared as numbers, not as spelled.
            assert bench.seen.pop() == (value, loose, text)

        bench.examine(example)

    with bench.working():
        examples()


def test_any_json_as_an_argument_of_many_jobs_at_once_from_a_thread(bench: Bench) -> None:
    @bench.app.job()
    def echo(value) -> object:
        return value

    @FAST
    @given(st.lists(JSON, min_size=1, max_size=5))
    def examples(values: list[Any]) -> None:
        async def example() -> None:
            requests = [echo.new(value) for value in values]
            handles = await asyncio.to_thread(bench.app.enqueue_many_sync, requests)
            assert [await handle.result(timeout=20) for handle in handles] == values

        bench.examine(example)

    with bench.working():
        examples()


def test_any_plain_value_as_the_result_of_a_job_and_of_a_step(bench: Bench) -> None:
    async def make() -> Any:
        return bench.given

    @bench.app.job(backoff=lambda failure, error: 0)
    async def work(ctx: Context) -> Any:
        bench.seen.append(await ctx.step(make))
        if ctx.attempt == 1:
            raise ValueError("once more, from the journal")
        return bench.given

    @FAST
    @given(PLAIN)
    def examples(value: Any) -> None:
        async def example() -> None:
            bench.given = value
            result = await (await work.enqueue()).result(timeout=20)
            assert same(result, value)
            assert same(bench.seen.pop(), value)
            assert same(bench.seen.pop(), value)

        bench.examine(example)

    with bench.working():
        examples()


def test_any_text_as_error_progress_step_key_and_reason(bench: Bench) -> None:
    async def page() -> None: ...

    @bench.app.job(max_attempts=1)
    async def work(ctx: Context) -> None:
        key, name, progress, error, _ = bench.given
        await ctx.step(step(page, key=key))
        await ctx.step(step(page, name="n" + name))
        await ctx.progress(0.5, progress)
        raise error

    errors = TEXT.map(ValueError) | TEXT.map(Cancel) | TEXT.map(Discard)

    @FAST
    @given(st.tuples(TEXT, TEXT, TEXT, errors, TEXT))
    def examples(texts: tuple[str, str, str, Exception, str]) -> None:
        async def example() -> None:
            bench.given = texts
            handle = await work.enqueue()
            with pytest.raises((JobFailed, JobCancelled)) as caught:
                await handle.result(timeout=20)
            str(caught.value).encode()
            if isinstance(texts[3], ValueError):
                kind, message, _ = last_error(bench.db, handle.id)
                assert (kind, len(message) >= len(str(texts[3]))) == ("ValueError", True)
            history = await bench.app.history(handle.id)
            assert len(history.steps) == 2
            late = await bench.healthy.options(run_in="1h").enqueue()
            await bench.app.cancel(late.id, reason=texts[4])
            assert (await late.job()).state == "cancelled"

        bench.examine(example)

    with bench.working():
        examples()


def test_any_text_and_json_as_an_option(bench: Bench) -> None:
    values = JSON | st.dictionaries(TEXT, JSON, max_size=3) | st.lists(TEXT, max_size=3)

    @FAST
    @given(st.sampled_from(["meta", "tags", "queue", "priority", "run_in", "deadline"]), values)
    def examples(field: str, value: Any) -> None:
        async def example() -> None:
            if value is None:
                return  # not given
            function = bench.healthy.options(**{field: value})
            handle = await function.enqueue()
            job = await handle.job()
            if field == "meta":
                (stored,) = bench.db.execute(
                    "SELECT meta FROM holdfast.jobs WHERE id = %s", [handle.id]
                )
                assert stored[0] == value
            elif field in ("queue", "priority"):
                assert getattr(job, field) == value
            elif field == "tags":
                assert job.tags == list(dict.fromkeys(value))

        bench.examine(example)

    with bench.working():
        examples()


def test_any_text_as_a_filter_finds_nothing_or_is_refused(bench: Bench) -> None:
    @FAST
    @given(st.sampled_from(["queue", "name", "tag", "state"]), TEXT)
    def examples(field: str, text: str) -> None:
        async def example() -> None:
            try:
                assert await bench.app.jobs(**{field: text}) == []
            except HoldfastError as error:
                assert error.code in ("HF-101", "HF-102")

        bench.examine(example)

    with bench.working():
        examples()


def test_any_value_as_an_id_is_an_id_or_refused(bench: Bench) -> None:
    @FAST
    @given(JSON | PLAIN)
    def examples(value: Any) -> None:
        async def example() -> None:
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63:
                return
            for ask in (bench.app.cancel, bench.app.retry, bench.app.explain):
                with pytest.raises(InvalidOption):
                    await ask(value)

        bench.examine(example)

    with bench.working():
        examples()
