"""The pieces of the command line that need no database."""

import doctest
import importlib
import json

import pytest

from holdfast.cli import machine
from holdfast.cli.terminal import STATE_STYLES, harmless
from holdfast.model.states import State


@pytest.mark.parametrize(
    "module",
    [
        "cli.machine",
        "cli.run",
        "cli.terminal",
        "cli.timeline",
        "cli.top_frame",
        "cli.workers",
        "app.fit",
        "app.readable",
    ],
)
def test_the_examples_in_docstrings_are_true(module) -> None:
    result = doctest.testmod(importlib.import_module(f"holdfast.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_state_has_a_colour() -> None:
    assert {state.value for state in State} <= STATE_STYLES.keys()


def test_newlines_tabs_and_letters_of_every_script_stay_as_they_are() -> None:
    text = "tab\tline\nümläut 漢字 שלום 🙂"
    assert harmless(text) == text


@pytest.mark.parametrize("code", [0, 7, 8, 13, 27, 0x7F, 0x9B, 0x202E, 0x2066, 0x2028, 0xD800])
def test_each_harmful_character_becomes_a_visible_escape(code) -> None:
    shown = harmless(f"a{chr(code)}b")
    assert shown.isprintable() and f"{code:x}" in shown


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", "\x1b[2J", {"a": [1e400]}])
def test_json_is_strict_and_ascii_whatever_is_in_it(value) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    written = machine.dump({"value": value})
    assert written.isascii() and written.isprintable()
    json.loads(written, parse_constant=refuse)
