"""Every example runs as its reader would run it, and prints what it says it prints."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TITLE = "Expected output:\n"


def expected_output(path: Path) -> str:
    """The indented block at the end of the example's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert doc is not None and TITLE in doc, f"{path.name} does not say what it prints"
    return textwrap.dedent(doc.split(TITLE)[1]).strip() + "\n"


def test_there_are_examples() -> None:
    names = {path.stem for path in EXAMPLES}
    assert {"hello", "agent_with_steps", "transactional_enqueue", "plain_functions"} <= names


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path: Path, db, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "HOLDFAST_DSN": db.dsn, "HOLDFAST_SCHEMA": db.schema},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected_output(path)


def test_the_examples_pass_the_type_checker() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent"]
    files = [str(path) for path in EXAMPLES]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
