"""What is written for people: harmless, as wide as the terminal, coloured only where that is seen.

Names, errors and arguments come from jobs, so they are data: control characters are shown as
escapes, and Rich's markup is never interpreted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 240
# Controls but newline and tab, lone surrogates, and what reorders or hides text on a terminal.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
STATE_STYLES = {
    "available": "cyan",
    "scheduled": "blue",
    "retryable": "yellow",
    "waiting": "blue",
    "executing": "bold cyan",
    "attention": "bold magenta",
    "completed": "green",
    "discarded": "red",
    "cancelled": "bright_black",
}
"""State as shown → its colour; the keys are all states there are."""


def harmless(text: str) -> str:
    r"""Returns text that a terminal can only show, never obey.

    >>> harmless("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _HARMFUL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def console(*, stderr: bool = False) -> Console:
    """Returns a console for one stream; NO_COLOR and COLUMNS count.

    Into a pipe or a file, lines are not cut to 80 columns.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return Console(
        file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def text(value: object, style: str = "") -> Text:
    """Returns data as text that is shown as it is."""
    return Text(harmless(str(value)), style)


def state_text(state: str) -> Text:
    """Returns a state in its colour."""
    return text(state, STATE_STYLES.get(state, ""))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Text]], whole: Collection[str] = ()
) -> Table:
    """Returns a table whose columns fold when the terminal is narrow, those in `whole` last."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, overflow="fold", no_wrap=name in whole)
    for row in rows:
        made.add_row(*row)
    return made


def bar(fraction: float | None, width: int = 20) -> str:
    """Returns a progress bar in characters, or nothing when there is no progress.

    >>> bar(0.25, 8)
    '██░░░░░░  25 %'
    """
    if fraction is None:
        return ""
    full = int(fraction * width + 1e-9)
    return f"{'█' * full}{'░' * (width - full)} {int(fraction * 100 + 1e-9):3d} %"
