"""Names: which are allowed, and what is suggested for one that does not exist."""

from __future__ import annotations

from enum import Enum, StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidOption, UnknownName
from holdfast.model.names import check_name, check_options, nearest, unknown


class Queue(StrEnum):
    MAIL = "mail"


class OldQueue(str, Enum):  # noqa: UP042 - the older spelling is meant
    MAIL = "mail"


@pytest.mark.parametrize("name", ["a", "a b", "it's", 'x"y', "a.b/c:d", "größe", "🚀", "x" * 128])
def test_ordinary_names_are_allowed(name: str) -> None:
    assert check_name(name, field="queue") == name


@pytest.mark.parametrize("member", [Queue.MAIL, OldQueue.MAIL])
def test_enum_members_are_names_as_exact_strings(member: str) -> None:
    name = check_name(member, field="queue")
    assert name == "mail"
    assert type(name) is str


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", " a", "a ", "a\n", "a\0b", "\x7f", "\ud800", "a\u2028b", "x" * 129, "\u00a0a"),
        *(None, 1, b"a", ["a"], "x" * 10**6),
    ],
)
def test_others_are_refused_naming_field_and_value(name: object) -> None:
    with pytest.raises(InvalidOption) as caught:
        check_name(name, field="queue")
    assert caught.value.message.startswith("queue=")
    assert len(str(caught.value)) < 400
    assert str(caught.value).encode()


@settings(max_examples=100)
@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_an_allowed_name_is_one_storable_line(name: str) -> None:
    try:
        check_name(name, field="x")
    except InvalidOption:
        return
    assert name.encode()
    assert name.splitlines() == [name]
    assert "\0" not in name


def test_the_nearest_name_is_found() -> None:
    assert nearest("emial", ["sms", "email"]) == "email"
    assert nearest("EMAIL", ["sms", "email"]) == "email"
    assert nearest("zzz", ["sms", "email"]) is None
    assert nearest("x", []) is None
    assert nearest("x" * 10**6, ["x"]) is None


def test_an_unknown_name_brings_a_suggestion_or_a_list() -> None:
    assert unknown("queue", "emial", ["email"]).hint == "Did you mean 'email'?"
    listed = unknown("queue", "zzz", (f"q{i:02}" for i in range(13)))
    assert listed.hint.startswith("Known: 'q00', 'q01'")
    assert listed.hint.endswith("'q09' and 3 more.")
    assert unknown("queue", "zzz", []).hint == "No queue is known here."


def test_the_first_unknown_option_is_refused() -> None:
    check_options({"a": 1}, {"a", "b"}, where="job")
    with pytest.raises(UnknownName) as caught:
        check_options({"a": 1, "timout": 2, "zzz": 3}, ["a", "timeout"], where="@app.job")
    assert caught.value.message == "@app.job: unknown option 'timout'"
    assert caught.value.hint == "Did you mean 'timeout'?"
