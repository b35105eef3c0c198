"""The page of settings: where each comes from, its default, its meaning."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, fields
from typing import Any

from holdfast import Settings
from holdfast.app.settings import ENVIRONMENT
from reference.text import table

_HEAD = """# Settings

A setting comes from the arguments of `Holdfast(...)`, else from the environment, else from the file
`holdfast.toml` in the current folder. All problems are reported together, in one
[`InvalidSettings`](errors.md#invalidsettings); an unknown key in the file is one of them.
"""
_TAIL = """In `holdfast.toml` the keys have the names of the first column:

```toml
dsn = "postgresql://app@db.internal/app"
schema = "holdfast"
grace = "45s"

[queues]
agents = 20
default = 10
```"""


def page() -> str:
    """Returns the page."""
    meanings = _meanings()
    rows = []
    for key, variables in ENVIRONMENT.items():
        found = next(f for f in fields(Settings) if f.name in (key, f"{key}_s"))
        names = ", ".join(f"`{name}`" for name in variables)
        rows.append((f"`{key}`", names, _default(found), meanings[found.name]))
    head = ("Setting", "Environment", "Default", "Meaning")
    return "\n".join([_HEAD, table(head, rows), "", _TAIL])


def _default(of: Field[Any]) -> str:
    value = of.default if of.default is not MISSING else None
    return "none" if value is None else f"`{value}`"


def _meanings() -> dict[str, str]:
    """Returns what the class's docstring says of each field."""
    text = " ".join((inspect.getdoc(Settings) or "").split())
    found = re.findall(r"`(\w+)`: (.*?)(?= `\w+`: |$)", text)
    return {name: meaning.rstrip(". ") + "." for name, meaning in found}
