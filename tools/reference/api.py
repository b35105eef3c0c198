"""The page of the public API: every name of `holdfast.__all__` but the errors, and the test kit."""

from __future__ import annotations

from collections.abc import Iterator

import holdfast
import holdfast.testing
from reference.source import Item, item
from reference.text import code, prose

GROUPS: dict[str, list[str]] = {
    "The application": ["Holdfast", "Settings", "JobFunction", "Request", "Handle", "Unique"],
    "Inside a job": [
        "Context", "BlockingContext", "current_context", "step", "StepFunction", "current_step",
        "StepInfo", "Retry", "Backoff", "Duration",
    ],
    "Ending an attempt on purpose": ["Cancel", "Discard", "Snooze"],
    "Being interrupted": ["Interruption", "Interrupted", "LeaseLost", "Suspended"],
    "What is known of a job": [
        "Job", "Execution", "Step", "History", "Explanation",
    ],
    "Operating": [
        "QueueInfo", "WorkerInfo", "RetentionRule", "Pruned", "Finding",
    ],
    "The embedded server": ["EmbeddedPostgres"],
}  # fmt: skip

NOT_CONSTRUCTED = {
    "JobFunction", "Request", "Handle", "Context", "BlockingContext", "StepFunction",
}  # fmt: skip
"""Classes whose objects holdfast hands out; users never create one."""


def page() -> str:
    """Returns the page; raises when a public name has no place in it."""
    _check_complete()
    parts = [
        "# Public API",
        "Everything here is imported from `holdfast`. Names that are not on this page, in "
        "[errors](errors.md), or in `holdfast.testing` below are not public and may change.",
    ]
    for title, names in GROUPS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _section(item(name, constructed=name not in NOT_CONSTRUCTED))
    parts.append("## `holdfast.testing`")
    for name in holdfast.testing.__all__:
        parts += _section(item(name, holdfast.testing))
    return "\n\n".join(parts)


def error_names() -> list[str]:
    """Returns the public names that are on the page of errors."""
    placed = {name for names in GROUPS.values() for name in names}
    return [name for name in holdfast.__all__ if name not in placed]


def _check_complete() -> None:
    for name in error_names():
        if not issubclass(getattr(holdfast, name), holdfast.HoldfastError):
            raise LookupError(f"{name} is public: give it a place in tools/reference/api.py")


def _section(of: Item) -> Iterator[str]:
    yield f"### `{of.name}`"
    yield code("\n".join(of.signatures), "text")
    yield prose(of.doc)
    if of.fields:
        yield "Fields:"
        yield code("\n".join(of.fields), "text")
    for member in of.members:
        yield f"#### `{of.name}.{member.name}`"
        yield code("\n".join(member.signatures), "text")
        yield prose(member.doc)
