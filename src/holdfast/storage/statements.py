"""SQL files, loaded once and pointed at the configured schema.

Every statement lives in `sql/<area>/<verb>.sql`, written against the literal qualifier
`holdfast.`; this module rewrites the qualifier and strips comments, and caches the result.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from itertools import count

from holdfast.errors import InvalidSettings

_QUALIFIER = re.compile(r"\bholdfast\.")
_COMMENT = re.compile(r"^\s*--[^\n]*\n?", re.MULTILINE)
_MAX_SCHEMA_BYTES = 50
"""NOTIFY channels are `<schema>:<kind>` and PostgreSQL cuts identifiers at 63 bytes."""


def check_schema(schema: str) -> str:
    """Returns `schema` if PostgreSQL can have a schema of that name, else raises."""
    problem = None
    if not schema or not schema.isprintable():
        problem = "it is empty or contains a character that cannot be printed"
    elif len(schema.encode("utf-8", "surrogatepass")) > _MAX_SCHEMA_BYTES:
        problem = f"it is longer than {_MAX_SCHEMA_BYTES} bytes"
    elif schema.startswith("pg_"):
        problem = "names beginning with pg_ are reserved by PostgreSQL"
    if problem:
        raise InvalidSettings(f"schema {schema!r} is not usable: {problem}", "Choose another name.")
    return schema


def quoted(identifier: str) -> str:
    """Returns an SQL identifier, quoted, whatever it contains."""
    return '"' + identifier.replace('"', '""') + '"'


def channel(schema: str, kind: str) -> str:
    """Returns the name of the NOTIFY channel `kind` of an installation."""
    return f"{schema}:{kind}"


@lru_cache(maxsize=4096)
def statement(name: str, schema: str) -> str:
    """Returns the statement of `sql/<name>.sql`, for psycopg, qualified with `schema`."""
    text = _COMMENT.sub("", source(name)).strip()
    # A percent sign in a schema's name would read as a placeholder.
    return _QUALIFIER.sub((quoted(schema) + ".").replace("%", "%%").replace("\\", r"\\"), text)


def script(text: str, schema: str) -> str:
    """Returns a migration's text qualified with `schema`; comments stay."""
    # Bodies of functions are dollar-quoted, and a schema's name may contain dollars.
    tag = next(tag for n in count() if (tag := f"$body{n or ''}$") not in schema)
    text = text.replace("$$", tag)
    return _QUALIFIER.sub((quoted(schema) + ".").replace("\\", r"\\"), text)


def source(name: str) -> str:
    """Returns the text of a file below `sql/`, as it was written."""
    return (resources.files("holdfast.storage") / "sql" / f"{name}.sql").read_text("utf-8")


def migrations() -> list[tuple[int, str, str]]:
    """Returns (version, name, text) of every migration, in order."""
    folder = resources.files("holdfast.storage") / "sql" / "migrations"
    found = []
    for entry in folder.iterdir():
        number, _, rest = entry.name.partition("_")
        found.append((int(number), rest.removesuffix(".sql"), entry.read_text("utf-8")))
    return sorted(found)
