"""Markdown from what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table; cells are kept on one line."""
    lines = [list(head), ["---"] * len(head), *([_cell(c) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str, language: str) -> str:
    """Returns a fenced block."""
    return f"```{language}\n{text}\n```"


def prose(doc: str) -> str:
    """Returns a docstring as Markdown: its examples become fenced blocks."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", doc.strip()):
        if paragraph.lstrip().startswith(">>>"):
            parts.append(code(paragraph, "pycon"))
        elif paragraph.startswith("    "):
            lines = [line.removeprefix("    ") for line in paragraph.splitlines()]
            parts.append(code("\n".join(lines), "text"))
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)
