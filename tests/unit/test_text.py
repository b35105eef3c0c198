"""Texts: always storable; an error can always be described, whatever it does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.model.text import (
    STACK_LIMIT_BYTES,
    error_line,
    error_stack,
    error_text,
    error_type,
    fingerprint,
    shown,
    storable,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)


class RaisingStr(Exception):
    def __str__(self) -> str:
        raise KeyError("no")


class WrongStr(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value] # noqa: PLE0307


class Hostile:
    def __repr__(self) -> str:
        raise ValueError


class OddMeta(type):
    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError(name)


class Nameless(Exception, metaclass=OddMeta):
    pass


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@settings(max_examples=150)
@given(ANY_TEXT, st.integers(-5, 400))
def test_any_text_becomes_storable_within_the_limit_and_stays(text: str, limit: int) -> None:
    stored = storable(text, limit=limit)
    assert "\0" not in stored
    assert len(stored.encode()) <= max(0, limit)
    assert storable(stored, limit=limit) == stored


@settings(max_examples=100)
@given(st.text(max_size=200))
def test_ordinary_text_is_not_changed(text: str) -> None:
    if "\0" not in text:
        assert storable(text) == text


def test_truncation_keeps_both_ends_and_counts_what_is_left_out() -> None:
    text = "HEAD" + "ä" * 10_000 + "TAIL"
    stored = storable(text, limit=100)
    assert stored.startswith("HEAD")
    assert stored.endswith("TAIL")
    kept, left_out = stored.split(" … ")[::2], int(stored.split(" … ")[1].split()[0])
    assert sum(len(part.encode()) for part in kept) + left_out == len(text.encode())


def test_nul_and_surrogates_are_made_visible() -> None:
    assert storable("a\0b") == "a␀b"
    assert storable("\udcff") == "\\udcff"


def test_any_repr_is_shown() -> None:
    assert shown(Hostile()) == "<Hostile>"
    assert shown(10**5000) == "<int>"
    assert len(shown("x" * 10_000)) == 80


def test_a_message_is_found_whatever_str_does() -> None:
    assert error_text(RaisingStr()) == "<RaisingStr: its __str__ raised KeyError>"
    assert error_text(WrongStr()) == "<WrongStr: its __str__ raised TypeError>"
    assert len(error_text(ValueError("x" * 10**6)).encode()) <= 65_536
    assert error_text(ValueError("a\0\ud800")) == "a␀\\ud800"
    assert error_line(ValueError("a\n\n  b")) == "ValueError: a b"


def test_types_are_named_with_their_module_unless_built_in() -> None:
    assert error_type(ValueError()) == "ValueError"
    assert error_type(RaisingStr()) == f"{__name__}.RaisingStr"
    assert error_type(Nameless()) == "Nameless"


def test_a_stack_has_causes_and_no_locals() -> None:
    def fail() -> None:
        secret = "hunter" + "2"
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError(f"outer {len(secret)}") from error

    with pytest.raises(ValueError) as caught:
        fail()
    stack = error_stack(caught.value)
    assert "KeyError: 'inner'" in stack
    assert "direct cause" in stack
    assert stack.rstrip().endswith("ValueError: outer 7")
    assert "hunter2" not in stack


def test_a_stack_is_bounded_for_recursion_and_long_chains() -> None:
    def recurse(n: int) -> None:
        recurse(n + 1) if n % 2 else recurse(n + 1 + 0)

    with pytest.raises(RecursionError) as caught:
        recurse(0)
    chain: BaseException = caught.value
    for number in range(500):
        outer = ValueError(f"{number} " + "x" * 500)
        outer.__cause__ = chain
        chain = outer
    stack = error_stack(chain)
    assert len(stack.encode()) <= STACK_LIMIT_BYTES
    assert "bytes left out" in stack


def test_a_stack_is_made_of_hostile_errors_too() -> None:
    class BadNotes(Exception):
        @property
        def __notes__(self) -> list[str]:
            raise RuntimeError

    for error in (RaisingStr(), WrongStr(), Nameless("x"), BadNotes("x"), KeyError("\0\ud800")):
        stack = error_stack(raised(error))
        assert stack.encode()
        assert "\0" not in stack
    loop = ValueError("loop")
    loop.__cause__ = loop
    assert "loop" in error_stack(loop)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("row 17 is bad", "row 4 is bad"),
        ("took 1.5 s", "took 22.25 s"),
        ("no file '/tmp/a'", "no file '/tmp/b c'"),
        ('no file "/tmp/a"', 'no file "x"'),
        ("object at 0x7f00", "object at 0xFFee12"),
        (
            "job 123e4567-e89b-12d3-a456-426614174000 gone",
            "job 00000000-aaaa-bbbb-cccc-ffffffffffff gone",
        ),
        ("commit deadbeef01 missing", "commit 0badc0de99 missing"),
    ],
)
def test_occurrences_of_one_error_have_one_fingerprint(one: str, other: str) -> None:
    assert fingerprint(ValueError(one)) == fingerprint(ValueError(other))
    assert len(fingerprint(ValueError(one))) == 16


def test_other_types_places_and_messages_have_other_fingerprints() -> None:
    def here() -> BaseException:
        return raised(ValueError("x"))

    prints = {
        fingerprint(ValueError("x")),
        fingerprint(KeyError("x")),
        fingerprint(ValueError("y")),
        fingerprint(raised(ValueError("x"))),
        fingerprint(ValueError("can't open, won't close")),
        fingerprint(ValueError("can't shut, won't close")),
    }
    assert len(prints) == 6
    assert fingerprint(here()) == fingerprint(here())
    assert fingerprint(Nameless())
    assert fingerprint(RaisingStr())
