"""Files and functions stay small enough to be read: 500 lines a file, 60 a function."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "tools", "examples", "bench")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
MAX_FILE = 500
MAX_FUNCTION = 60


def test_there_is_something_to_measure() -> None:
    assert len([path for path in FILES if "src" in path.parts]) > 40


def too_long(text: str, name: str) -> list[str]:
    """What is too long in a module's text."""
    size = len(text.splitlines())
    found = [f"{name} has {size} lines"] if size > MAX_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION:
                found.append(f"{name}:{node.lineno} {node.name} has {lines} lines")
    return found


def test_no_file_and_no_function_is_too_long() -> None:
    found = {}
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if complaints := too_long(path.read_text("utf-8"), name):
            found[name] = complaints
    assert found == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n" * 501, "m.py has 501 lines"),
        ("def f():\n" + "    x = 1\n" * 60, "m.py:1 f has 61 lines"),
    ],
)
def test_the_measure_notices_what_is_too_long(text: str, complaint: str) -> None:
    assert too_long(text, "m.py") == [complaint]
