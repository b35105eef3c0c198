"""One statement in the style of every driver."""

import doctest
import re
from typing import Any

import pytest

from holdfast import InvalidOption
from holdfast.storage.callers import render as module
from holdfast.storage.callers.render import render
from holdfast.storage.statements import statement

TEXT = "SELECT '%%', %(b)s::text, %(a)s::text, %(b)s::text"
PARAMS = {"a": "A", "b": "B"}


@pytest.mark.parametrize(
    ("style", "text", "values"),
    [
        ("pyformat", TEXT, PARAMS),
        ("format", "SELECT '%%', %s::text, %s::text, %s::text", ("B", "A", "B")),
        ("qmark", "SELECT '%', ?::text, ?::text, ?::text", ("B", "A", "B")),
        ("named", "SELECT '%', :b::text, :a::text, :b::text", PARAMS),
        ("numeric", "SELECT '%', :1::text, :2::text, :1::text", ("B", "A")),
        ("numeric_dollar", "SELECT '%', $1::text, $2::text, $1::text", ("B", "A")),
    ],
)
def test_a_statement_is_written_in_each_style(style: str, text: str, values: Any) -> None:
    assert render(TEXT, PARAMS, style) == (text, values)


@pytest.mark.parametrize("style", ["format", "qmark", "numeric", "numeric_dollar"])
def test_parameters_are_sent_in_the_order_of_their_places(style: str) -> None:
    names = [f"p{n}" for n in range(12)]
    text = ", ".join(f"%({name})s" for name in reversed(names))
    rendered, values = render(text, {name: name for name in names}, style)
    assert values == tuple(reversed(names))
    numbers = [int(n) for n in re.findall(r"[$:](\d+)", rendered)]
    assert numbers in ([], list(range(1, 13)))


@pytest.mark.parametrize("style", ["qmark", "named", "numeric", "numeric_dollar"])
def test_a_percent_sign_in_a_schema_is_doubled_only_where_percent_signs_are_read(
    style: str,
) -> None:
    text = statement("jobs/retry", "50%(ids)s")
    assert '"50%%(ids)s".' in text
    assert '"50%(ids)s".' in render(text, {"ids": "{}"}, style)[0]
    assert '"50%%(ids)s".' in render(text, {"ids": "{}"}, "format")[0]


def test_a_statement_without_parameters_has_no_values() -> None:
    assert render("SELECT 1", {}, "qmark") == ("SELECT 1", ())


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(InvalidOption, match="paramstyle 'curly'"):
        render(TEXT, PARAMS, "curly")


def test_the_examples_are_true() -> None:
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 2)
