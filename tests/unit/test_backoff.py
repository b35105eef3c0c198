"""Back-off: the default curve, a step's own rule, and what the server asked for."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import Cancel, InvalidOption, LeaseLost, NonDeterminism, Snooze
from holdfast.model.backoff import ONE_DAY_S, Retry, default_delay, retry_after

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def asked(error: BaseException) -> float | None:
    return retry_after(error, wall_clock=lambda: NOW)


def error_with(**attributes: Any) -> Exception:
    error = Exception("429")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


class Answer:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class HostileError(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError


def test_the_default_curve_is_obans() -> None:
    assert [default_delay(n, 0.0) for n in (0, 1, 2, 10)] == [16, 17, 19, 1039]
    assert default_delay(20, 0.0) == ONE_DAY_S


@settings(max_examples=100)
@given(st.integers(-10, 10**12), st.floats())
def test_a_default_delay_is_always_between_zero_and_a_day(failure: int, jitter: float) -> None:
    assert 14 < default_delay(failure, jitter) <= ONE_DAY_S


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (error_with(retry_after=7), 7),
        (error_with(retry_after="2.5"), 2.5),
        (error_with(retry_after=timedelta(minutes=1)), 60),
        (error_with(retry_after=-3), 0),
        (error_with(retry_after=10**9), ONE_DAY_S),
        (error_with(headers={"Retry-After": "9"}), 9),
        (error_with(headers={b"RETRY-AFTER": b"9"}), 9),
        (error_with(response=Answer({"retry-after": " 9 "})), 9),
        (error_with(response=Answer({"Retry-After": "9", "Retry-After-Ms": "1500"})), 1.5),
        (error_with(retry_after=None, response=Answer({"retry-after": 4})), 4),
        (
            error_with(headers={"retry-after": format_datetime(NOW + timedelta(seconds=90))}),
            90,
        ),
        (error_with(headers={"retry-after": "Fri, 01 May 2026 12:00:30 GMT"}), 30),
        (error_with(headers={"retry-after": "Fri, 01 May 2026 12:00:30 -0000"}), 30),
        (error_with(headers={"retry-after": "Fri, 01 May 2020 12:00:30 GMT"}), 0),
    ],
)
def test_what_the_server_asked_is_found(error: Exception, expected: float) -> None:
    assert asked(error) == expected


@pytest.mark.parametrize(
    "error",
    [
        Exception(),
        HostileError(),
        error_with(response=Hostile(), headers=Hostile(), retry_after=Hostile()),
        error_with(response=MagicMock(), headers=5),
        error_with(retry_after=math.nan, headers={"retry-after": "soon"}),
        error_with(retry_after=math.inf),
        error_with(retry_after=True),
        error_with(headers={1: 2, None: 3, "retry-after": None}),
        error_with(headers={"retry-after": "Fri, 99 May 2026 99:00:30 GMT"}),
        error_with(headers=[("retry-after", "5")]),
    ],
)
def test_nonsense_asks_for_nothing_and_never_raises(error: Exception) -> None:
    assert asked(error) is None


def test_a_mock_that_turns_into_numbers_does_no_harm() -> None:
    assert asked(error_with(retry_after=MagicMock())) in (None, 1.0)


def test_causes_and_groups_are_searched_and_loops_end() -> None:
    inner = error_with(retry_after=5)
    outer = ValueError("outer")
    outer.__cause__ = inner
    inner.__cause__ = outer
    assert asked(outer) == 5
    assert asked(ExceptionGroup("two", [ValueError(), inner])) == 5
    lonely = ValueError()
    lonely.__cause__ = lonely
    assert asked(lonely) is None


def test_a_clock_that_fails_asks_for_nothing() -> None:
    def broken() -> datetime:
        raise RuntimeError

    error = error_with(headers={"retry-after": format_datetime(NOW)})
    assert retry_after(error, wall_clock=broken) is None


def test_a_retry_grows_to_its_cap_with_jitter() -> None:
    retry = Retry(5, delay="2s", factor=3, max_delay=timedelta(seconds=15))
    assert [retry.delay_s(n, 0.0) for n in (1, 2, 3, 10**9)] == [2, 6, 15, 15]
    assert retry.delay_s(1, 1.0) == pytest.approx(2.2)
    assert retry.delay_s(1, -1.0) == pytest.approx(1.8)
    assert retry.delay_s(9, 1.0) == 15


def test_a_retry_wants_its_errors_and_never_instructions() -> None:
    assert Retry().wants(ValueError())
    assert not Retry(on=(OSError,)).wants(ValueError())
    everything = Retry(on=(BaseException,))
    for error in (Cancel(), Snooze(3), NonDeterminism("x"), LeaseLost(), KeyboardInterrupt()):
        assert not everything.wants(error)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": "3"}, "attempts"),
        ({"delay": -1}, "delay"),
        ({"delay": "1 fortnight"}, "delay"),
        ({"max_delay": math.inf}, "max_delay"),
        ({"factor": 0.5}, "factor"),
        ({"factor": math.nan}, "factor"),
        ({"factor": "2"}, "factor"),
        ({"on": ()}, "on"),
        ({"on": [ValueError]}, "on"),
        ({"on": (ValueError, "x")}, "on"),
    ],
)
def test_a_wrong_retry_is_refused_where_it_is_written(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidOption, match=rf"Retry\.{field}") as caught:
        Retry(**options)
    assert caught.value.hint
