"""What mypy and pyright say of user code: an error exactly where a line is marked `# E`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))
MARK = re.compile(r"#\s*E\s*$")

Errors = dict[str, dict[int, str]]
"""File name → line → the first message."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The cases, and the example that newcomers read first."""
    [first, *_] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    readme = tmp_path_factory.mktemp("readme") / "readme_example.py"
    readme.write_text(first, "utf-8")
    return [*map(str, CASES), str(readme)]


@pytest.fixture(scope="module")
def mypy(files: list[str]) -> Errors:
    command = [sys.executable, "-m", "mypy", "--strict", "--output", "json", "--follow-imports"]
    done = _run([*command, "silent", *files], accepted=(0, 1))
    found: Errors = {}
    for line in done.splitlines():
        error = json.loads(line)
        if error["severity"] == "error":
            name = Path(error["file"]).name
            found.setdefault(name, {}).setdefault(error["line"], error["message"])
    return found


@pytest.fixture(scope="module")
def pyright(files: list[str]) -> Errors:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = _run([*command, *files], accepted=(0, 1))
    found: Errors = {}
    for error in json.loads(done)["generalDiagnostics"]:
        name, line = Path(error["file"]).name, error["range"]["start"]["line"] + 1
        found.setdefault(name, {}).setdefault(line, error["message"])
    return found


def _run(command: list[str], *, accepted: tuple[int, ...]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode in accepted, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_checker_finds_the_marked_errors_and_no_others(
    checker: str, case: Path, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(checker).get(case.name, {})
    lines = case.read_text("utf-8").splitlines()
    marked = {number for number, text in enumerate(lines, 1) if MARK.search(text)}

    unexpected = {n: found[n] for n in sorted(found.keys() - marked)}
    missed = {n: lines[n - 1].strip() for n in sorted(marked - found.keys())}
    assert (unexpected, missed) == ({}, {})


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_example_of_the_readme_has_no_errors(
    checker: str, request: pytest.FixtureRequest
) -> None:
    assert request.getfixturevalue(checker).get("readme_example.py", {}) == {}


def test_every_case_marks_errors_and_asserts_types() -> None:
    assert [path.stem for path in CASES] == ["enqueue_arguments", "options", "steps"]
    for path in CASES:
        text = path.read_text("utf-8")
        assert "# E\n" in text, path
        assert "assert_type(" in text, path
