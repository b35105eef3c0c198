"""Durations: what is read, what is refused, how they are shown."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidOption
from holdfast.model.durations import MAX_SECONDS, describe, seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (30, 30.0),
        (0, 0.0),
        (0.5, 0.5),
        (timedelta(minutes=2), 120.0),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1d", 86_400.0),
        ("1w", 604_800.0),
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        (" 1 h 30 min ", 5400.0),
        ("30", 30.0),
        ("10s500ms", 10.5),
    ],
)
def test_every_accepted_form_is_seconds(value: object, expected: float) -> None:
    result = seconds(value, field="timeout")  # type: ignore[arg-type]
    assert result == expected
    assert type(result) is float


@pytest.mark.parametrize(
    "value",
    [
        *(-1, -0.1, math.nan, math.inf, -math.inf, True, False, 10**400, None, [], b"5s"),
        *(
            "",
            "  ",
            "abc",
            "5",
            "5x5s",
            "5 parsecs",
            "-5s",
            "1e3s",
            "5S",
            "1h1h",
            "5m1h",
            "s",
            "5s!",
        )[:3],
        *("5x5s", "5 parsecs", "-5s", "1e3s", "5S", "1h1h", "5m1h", "s", "5s!", "١s", "9" * 5000),
        *(timedelta(days=-1), timedelta.max, "11000d", MAX_SECONDS + 1),
    ],
)
def test_anything_else_is_refused_naming_field_and_value(value: object) -> None:
    with pytest.raises(InvalidOption) as caught:
        seconds(value, field="timeout")  # type: ignore[arg-type]
    assert caught.value.message.startswith("timeout=")
    assert "1h30m" in caught.value.hint
    assert len(str(caught.value)) < 500


def test_ten_years_are_allowed() -> None:
    assert seconds(MAX_SECONDS, field="x") == MAX_SECONDS


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 s"),
        (0.0001, "1 ms"),
        (0.45, "450 ms"),
        (0.9999, "1 s"),
        (1.5, "1.5 s"),
        (9.99, "10 s"),
        (12, "12 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (180, "3 min"),
        (3599.7, "1 h"),
        (7500, "2 h 5 min"),
        (86_399, "1 d"),
        (86_400, "1 d"),
        (273_600, "3 d 4 h"),
        (-200, "-3 min 20 s"),
        (math.nan, "unknown"),
        (math.inf, "unknown"),
    ],
)
def test_descriptions_have_at_most_two_units(amount: float, text: str) -> None:
    assert describe(amount) == text


@settings(max_examples=100)
@given(st.floats(min_value=0.001, max_value=MAX_SECONDS))
def test_a_description_reads_back_as_about_the_same_duration(amount: float) -> None:
    assert seconds(describe(amount), field="x") == pytest.approx(amount, rel=0.1)


@settings(max_examples=100)
@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert 0 <= seconds(text, field="x") <= MAX_SECONDS
    except InvalidOption as error:
        assert error.hint
