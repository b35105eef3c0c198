"""The page of errors: code, class, when it is raised, and what to do."""

from __future__ import annotations

import inspect

from holdfast import errors
from reference.text import code, prose, table


def page() -> str:
    """Returns the page, in the order of the codes."""
    classes = sorted(_classes(), key=lambda kind: kind.code)
    rows = [(kind.code, f"[`{kind.__name__}`](#{kind.__name__.lower()})") for kind in classes]
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("\n\n")[1]
    parts = [
        "# Errors",
        "Every error has a stable `code`, a `message` and a `hint` that says what to do next. "
        "`str(error)` has all three. All can be pickled.",
        code(tree, "text"),
        table(("Code", "Class"), rows),
    ]
    for kind in classes:
        parts += [f"### `{kind.__name__}`", f"{kind.code}. {prose(inspect.getdoc(kind) or '')}"]
        parts.append(f"*What to do:* {kind.default_hint or _SAID_THERE}")
    return "\n\n".join(parts)


_SAID_THERE = "the hint of the error says it; it depends on what was wrong."


def _classes() -> list[type[errors.HoldfastError]]:
    found = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [kind for kind in found if issubclass(kind, errors.HoldfastError)]
