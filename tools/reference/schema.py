"""The page of the schema, read from the migration files: no server is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from holdfast.storage.statements import migrations
from reference.text import code, table

_TOKEN = re.compile(r"--[^\n]*|\$\$.*?\$\$|'(?:[^']|'')*'|;|[^;'$-]+|.", re.DOTALL)
_TABLE = re.compile(r"CREATE TABLE holdfast\.(\w+) \((.*)", re.DOTALL)
_ALTER = re.compile(r"ALTER TABLE holdfast\.(\w+)\s+(.+)", re.DOTALL)
_COLUMN = re.compile(r"(\w+) (.+)", re.DOTALL)
_FUNCTION = re.compile(
    r"CREATE (?:OR REPLACE )?FUNCTION holdfast\.((\w+)\(.*?\))\s+RETURNS (.+?)\s+LANGUAGE",
    re.DOTALL,
)
_DROPPED = re.compile(r"DROP FUNCTION holdfast\.(\w+)")
_VIEW = re.compile(r"CREATE (?:OR REPLACE )?VIEW holdfast\.(\w+)")
_TYPE = re.compile(r"CREATE TYPE holdfast\.(\w+)")
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+) ON holdfast\.(\w+) (.+)", re.DOTALL)
_IGNORED = re.compile(
    r"INSERT INTO |ALTER TABLE holdfast\.\w+\s+(?:ALTER COLUMN|ADD CONSTRAINT|VALIDATE CONSTRAINT) "
    r"|CREATE TABLE holdfast\.\w+ PARTITION OF "  # a partition has its table's columns
)
FOR_USERS = ("enqueue", "cancel", "retry", "delete")
"""The functions that anybody may call."""
_HEAD = """# Schema

The objects that the migrations create, with the comments of their source. The schema is called
`holdfast` unless [`HOLDFAST_SCHEMA`](settings.md) says otherwise. What the tables mean, and which
of them to use from SQL, is in [the database](../operate/database.md).

Call from any language: the functions `enqueue`, `cancel`, `retry` and `delete`. They, the view
`jobs`, and the columns of the tables are stable between minor versions. The other functions and the
types are holdfast's own; they may change with any version."""


@dataclass
class Found:
    """What the migrations create, by name."""

    tables: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    functions: dict[str, tuple[str, str]] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    indexes: list[tuple[str, str, str, str]] = field(default_factory=list)


def page() -> str:
    """Returns the page; raises on a statement that it would have to leave out."""
    found = read()
    parts = [_HEAD, "## Functions for users"]
    parts += _functions({name: found.functions[name] for name in FOR_USERS})
    parts.append("## Views")
    for name, comment in found.views.items():
        parts += [f"### `{name}`", comment]
    parts.append("## Tables")
    for name, (comment, definitions) in found.tables.items():
        parts += [f"### `{name}`", comment, table(("Column", "Type"), _columns(definitions))]
    parts.append("## Indexes")
    rows = [(f"`{n}`", f"`{t}`", f"`{rest}`", comment) for n, t, rest, comment in found.indexes]
    parts.append(table(("Index", "Table", "Columns", "What for"), rows))
    own = {name: entry for name, entry in found.functions.items() if name not in FOR_USERS}
    parts += ["## Functions of holdfast's own", *_functions(own), "## Types"]
    parts.append(table(("Type", "What for"), [(f"`{n}`", c) for n, c in found.types.items()]))
    return "\n\n".join(part for part in parts if part)


def _functions(entries: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for name, (signature, comment) in entries.items():
        yield from (f"### `{name}`", code(signature, "text"), comment)


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
    if _IGNORED.match(statement):
        return
    if match := _TABLE.match(statement):
        found.tables[match[1]] = (comment, _split(match[2]))
    elif match := _ALTER.match(statement):
        _alter(found, match[1], match[2], comment)
    elif match := _FUNCTION.match(statement):
        signature = f"{match[1]} RETURNS {match[3]}"
        found.functions[match[2]] = (" ".join(signature.split()), comment)
    elif match := _DROPPED.match(statement):
        del found.functions[match[1]]
    elif match := _INDEX.match(statement):
        found.indexes.append((match[1], match[2], " ".join(match[3].split()), comment))
    elif match := _VIEW.match(statement):
        # A view that is only given another column keeps what was said of it.
        found.views[match[1]] = comment or found.views[match[1]]
    elif match := _TYPE.match(statement):
        found.types[match[1]] = comment
    else:
        raise _Unknown(statement)


def _alter(found: Found, name: str, actions: str, comment: str) -> None:
    """Adds columns to a table, and what was said of them to what was said of it."""
    said, definitions = found.tables[name]
    added = []
    for action in _split(actions):
        if not action.startswith("ADD COLUMN "):
            raise _Unknown(f"ALTER TABLE {name} {action}")
        added.append(action.removeprefix("ADD COLUMN "))
    found.tables[name] = (" ".join(filter(None, (said, comment))), definitions + added)


class _Unknown(ValueError):
    """A statement that the page would have to leave out."""

    def __init__(self, statement: str) -> None:
        super().__init__(f"the reference does not know this statement: {statement[:80]}")


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
    """Splits at top-level commas, up to the bracket that closes what came before."""
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
