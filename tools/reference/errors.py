"""The catalogue of errors: code, class, every cause that a place in the package names, remedy."""

from __future__ import annotations

import inspect

from holdfast import errors
from reference.raised import sayings
from reference.text import code, prose, table


def page() -> str:
    """Returns the page, in the order of the codes."""
    classes = sorted(_classes(), key=lambda kind: kind.code)
    found = sayings(frozenset(kind.__name__ for kind in classes))
    rows = [(kind.code, f"[`{kind.__name__}`](#{kind.__name__.lower()})") for kind in classes]
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("\n\n")[1]
    parts = [
        "# Errors",
        "Every error has a stable `code`, a `message` and a `hint` that says what to do next. "
        "`str(error)` has all three. All can be pickled. Below each class is what the places that "
        "raise it say; ‹words› stand for values.",
        code(tree, "text"),
        table(("Code", "Class"), rows),
    ]
    for kind in classes:
        parts += [f"### `{kind.__name__}`", f"{kind.code}. {prose(inspect.getdoc(kind) or '')}"]
        said = [s for s in found[kind.__name__] if s.cause]
        if kind.default_hint or not said:
            parts.append(f"*What to do:* {kind.default_hint or _SAID_THERE}")
        if said:
            lines = [(_plain(s.cause), _plain(s.remedy or kind.default_hint)) for s in said]
            parts.append(table(("It says", "What to do"), lines))
    return "\n\n".join(parts)


def _plain(text: str) -> str:
    """Returns a text that Markdown shows as it is."""
    return text.replace("<", "&lt;").replace("*", "\\*")


_SAID_THERE = "the hint of the error says it; it depends on what was wrong."


def _classes() -> list[type[errors.HoldfastError]]:
    found = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [kind for kind in found if issubclass(kind, errors.HoldfastError)]
