"""Markdown pages as tests see them: fenced blocks with their marks, links, commands.

The word after the language marks a block (documented in docs/index.md):

    ```python                 runs, in one namespace with the other blocks of the page
    ```python with-worker     the same, while a worker runs the page's `app`
    ```python raises=Name     must raise that error, whose text may be shown in the next block
    ```python no-run          a fragment; listed in tests/docs/test_pages.py with a reason
    ```text output            what the block before it prints, exactly
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.M | re.S
)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.M)
_HOLDFAST = re.compile(r"^(?:\$ )?(holdfast(?: .*)?)$")
_INLINE = re.compile(r"`(holdfast [a-z][^`]*)`")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its mark, its text, and the line it begins on."""

    page: Path
    line: int
    language: str
    mark: str
    text: str


def pages() -> list[Path]:
    """Every page that people read, in a stable order."""
    top = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    others = [ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
    return [*top, *others, *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """The page's path inside the repository."""
    return page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name


@cache
def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, _, mark = match["info"].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(page, line, language, mark.strip(), match["body"]))
    return found


def prose(page: Path) -> str:
    """The page's text without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def links(page: Path) -> list[str]:
    """The targets of all links of a page."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that headings give, as hosting sites make them."""
    found = set()
    for title in _HEADING.findall(prose(page)):
        plain = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


def shell_commands(page: Path) -> list[str]:
    """Every `holdfast …` command line in the shell blocks of a page, continued lines joined."""
    found = []
    for block in blocks(page):
        if block.language in ("console", "sh", "bash"):
            for line in block.text.replace("\\\n", " ").splitlines():
                match = _HOLDFAST.match(line.strip())
                if match is not None:
                    command = re.split(r" [#>|] ?", match[1])[0]
                    found.append(" ".join(command.split()))
    return found


def mentioned_commands(page: Path) -> list[str]:
    """Every `holdfast …` command in the running text of a page."""
    return _INLINE.findall(prose(page))
