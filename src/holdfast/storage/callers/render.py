"""Statements and parameters as another driver wants them.

Ours are written once, for psycopg: `%(name)s` is a parameter, `%%` a percent sign. The styles are
those of PEP 249, and asyncpg's `$1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

from holdfast.errors import InvalidOption

Style = Literal["pyformat", "format", "qmark", "named", "numeric", "numeric_dollar"]
Values = Mapping[str, object] | tuple[object, ...]

_STYLES: Final = frozenset(get_args(Style))
_PLACE: Final = re.compile(r"%\((\w+)\)s|%%")


def render(text: str, params: Mapping[str, object], style: str) -> tuple[str, Values]:
    """Returns the statement and its parameters in a style; raises `InvalidOption` for no style.

    A parameter that is used twice is sent once where the style allows it.

    >>> render("SELECT %(a)s, %(b)s, %(a)s, '%%'", {"a": 1, "b": 2}, "numeric_dollar")
    ("SELECT $1, $2, $1, '%'", (1, 2))
    >>> render("SELECT %(a)s, %(b)s, %(a)s, '%%'", {"a": 1, "b": 2}, "qmark")
    ("SELECT ?, ?, ?, '%'", (1, 2, 1))
    """
    if style not in _STYLES:
        raise InvalidOption(f"conn: its driver has an unknown paramstyle {style!r}", "Use psycopg.")
    if style == "pyformat":
        return text, params
    names: list[str] = []

    def place(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "%%" if style == "format" else "%"
        if style == "named":
            return f":{name}"
        if style in ("format", "qmark"):
            names.append(name)
            return "%s" if style == "format" else "?"
        if name not in names:
            names.append(name)
        return f"{'$' if style == 'numeric_dollar' else ':'}{names.index(name) + 1}"

    rendered = _PLACE.sub(place, text)
    return rendered, params if style == "named" else tuple(params[name] for name in names)
