"""The page of the schema, read from the migration files: no server is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast.storage.statements import migrations
from reference.text import code, table

_TOKEN = re.compile(r"--[^\n]*|\$\$.*?\$\$|'(?:[^']|'')*'|;|[^;'$-]+|.", re.DOTALL)
_TABLE = re.compile(r"CREATE TABLE holdfast\.(\w+) \((.*)", re.DOTALL)
_COLUMN = re.compile(r"(\w+) (.+)", re.DOTALL)
_FUNCTION = re.compile(
    r"CREATE FUNCTION holdfast\.(\w+\(.*?\))\s+RETURNS (.+?)\s+LANGUAGE", re.DOTALL
)
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+) ON holdfast\.(\w+) (.+)", re.DOTALL)
_IGNORED = ("INSERT INTO", "ALTER TABLE")
_HEAD = """# Schema

The objects that the migrations create, with the comments of their source. The schema is called
`holdfast` unless [`HOLDFAST_SCHEMA`](settings.md) says otherwise. What the tables mean, and which
of them to use from SQL, is in [the database](../operate/database.md). The functions `enqueue`,
`cancel` and `retry`, the view `jobs`, and the columns of the tables are stable between minor
versions; the other functions are not for use outside holdfast."""


@dataclass
class Found:
    """What the migrations create."""

    tables: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    functions: list[tuple[str, str]] = field(default_factory=list)
    views: list[tuple[str, str]] = field(default_factory=list)
    indexes: list[tuple[str, str, str, str]] = field(default_factory=list)


def page() -> str:
    """Returns the page; raises on a statement that it would have to leave out."""
    found = read()
    parts = [_HEAD, "## Functions"]
    for signature, comment in found.functions:
        parts += [f"### `{signature.split('(')[0]}`", code(signature, "text"), comment]
    parts.append("## Views")
    for name, comment in found.views:
        parts += [f"### `{name}`", comment]
    parts.append("## Tables")
    for name, (comment, definitions) in found.tables.items():
        parts += [f"### `{name}`", comment, table(("Column", "Type"), _columns(definitions))]
    parts.append("## Indexes")
    rows = [(f"`{n}`", f"`{t}`", f"`{rest}`", comment) for n, t, rest, comment in found.indexes]
    parts.append(table(("Index", "Table", "Columns", "What for"), rows))
    return "\n\n".join(part for part in parts if part)


def columns() -> dict[str, list[str]]:
    """Returns the columns of every documented table."""
    return {
        name: [column.strip("`") for column, _ in _columns(definitions)]
        for name, (_, definitions) in read().tables.items()
    }


def read() -> Found:
    """Returns what all migrations create together."""
    found = Found()
    for _, _, text in migrations():
        for comment, statement in _statements(text):
            _note(found, comment, statement)
    return found


def _note(found: Found, comment: str, statement: str) -> None:
    if match := _TABLE.match(statement):
        found.tables[match[1]] = (comment, _split(match[2]))
    elif match := _FUNCTION.match(statement):
        signature = " ".join(match[1].split())
        found.functions.append((f"{signature} RETURNS {' '.join(match[2].split())}", comment))
    elif match := _INDEX.match(statement):
        found.indexes.append((match[1], match[2], " ".join(match[3].split()), comment))
    elif match := re.match(r"CREATE VIEW holdfast\.(\w+)", statement):
        found.views.append((match[1], comment))
    elif match := re.match(r"CREATE TABLE holdfast\.(\w+) PARTITION OF", statement):
        return  # a partition has its table's columns
    elif not statement.startswith(_IGNORED) or " ADD " in statement:
        raise ValueError(f"the reference does not know this statement: {statement[:80]}")


def _statements(text: str) -> Iterator[tuple[str, str]]:
    """Yields (the comment right above, the statement)."""
    comment: list[str] = []
    current = ""
    for token in _TOKEN.findall(text):
        if token.startswith("--"):
            if not current.strip():
                comment.append(token[2:].strip())
        elif token == ";":
            yield " ".join(comment), current.strip()
            comment, current = [], ""
        elif not current.strip() and "\n\n" in token:
            # An empty line: what was said before it is not about the next statement.
            comment, current = [], token
        else:
            current += token


def _split(body: str) -> list[str]:
    """Splits what follows the opening bracket of a CREATE TABLE at its top-level commas."""
    parts, depth, current = [], 0, ""
    for char in body:
        if char == ")" and depth == 0:
            break
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    return [" ".join(part.split()) for part in [*parts, current]]


def _columns(definitions: list[str]) -> list[tuple[str, str]]:
    rows = []
    for definition in definitions:
        if definition.startswith(("CONSTRAINT", "PRIMARY KEY")):
            continue
        match = _COLUMN.match(definition)
        assert match is not None, definition
        rows.append((f"`{match[1]}`", match[2]))
    return rows
