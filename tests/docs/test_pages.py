"""The pages keep what they say: their code runs, their commands and links exist."""

import asyncio
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pages
import pytest
from reference.cli import root
from running_pages import PageRun

from holdfast import UsageError

NOT_RUN: dict[tuple[str, str], str] = {}
"""(page, first line of the block) → why it cannot run. Keep this short."""

PAGES = pages.pages()
WITH_CODE = [
    page for page in PAGES if any(b.language in ("python", "sql") for b in pages.blocks(page))
]
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.fixture
def page_run(
    db, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[PageRun]:  # a schema, a folder and a loop of the page's own
    monkeypatch.setenv("HOLDFAST_DSN", db.dsn)
    monkeypatch.setenv("DATABASE_URL", db.dsn)
    monkeypatch.setenv("HOLDFAST_SCHEMA", db.schema)
    monkeypatch.chdir(tmp_path)
    loop = asyncio.new_event_loop()
    run = PageRun(loop)
    yield run
    run.close()
    loop.close()


@pytest.mark.parametrize("page", WITH_CODE, ids=pages.name_of)
def test_the_code_of_a_page_runs_and_prints_what_the_page_shows(
    page: Path, page_run: PageRun, db
) -> None:
    follow(pages.blocks(page), page_run, db)


def follow(blocks: list[pages.Block], run: PageRun, db) -> None:
    """Does what a reader would do who follows the page from its first block to its last."""
    printed = None
    for block in blocks:
        if block.mark == "no-run":
            continue
        if block.language == "python":
            printed = run.run(block)
        elif block.language == "sql":
            db.execute(block.text)
        elif block.language == "text" and block.mark == "output":
            assert printed is not None, f"line {block.line}: no block before this one ran"
            assert _trimmed(printed) == _trimmed(block.text), f"line {block.line}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nprint(1 + 1)\n```\n\n```text output\n3\n```\n", "line 6"),
        ("```text output\n3\n```\n", "no block before"),
        ("```python raises=ValueError\nprint(1)\n```\n", "did not raise ValueError"),
        ("```python raises=ValueError\nprint(1 / 0)\n```\n", "ZeroDivisionError"),
        ("```python no_run\nprint(1)\n```\n", "unknown mark"),
        ("```python with-worker\nprint(1)\n```\n", "needs a Holdfast"),
    ],
)
def test_a_page_that_does_not_keep_what_it_says_is_noticed(
    text: str, complaint: str, page_run: PageRun, db, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=complaint):
        follow(pages.blocks(page), page_run, db)


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_blocks_that_do_not_run_are_the_listed_ones() -> None:
    marked = {
        (pages.name_of(page), block.text.splitlines()[0])
        for page in PAGES
        for block in pages.blocks(page)
        if block.mark == "no-run"
    }
    assert marked == set(NOT_RUN)
    assert all(NOT_RUN.values())


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_every_command_in_a_page_is_a_command_with_these_options(page: Path) -> None:
    for line in pages.shell_commands(page):
        _accepts(shlex.split(line))


def _accepts(words: list[str]) -> None:
    command, context = root(), None
    rest = words[1:]
    try:
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, f"there is no command {' '.join(words)!r}"
            command, rest = found, rest[1:]
        context = command.make_context(words[0], list(rest))
    except click.exceptions.Exit:
        return  # --help and --version
    except click.ClickException as error:
        pytest.fail(f"{shlex.join(words)}: {error.format_message()}")
    assert context is not None


@pytest.mark.parametrize(
    "line",
    [
        "holdfast jobs lst",
        "holdfast jobs show",
        "holdfast jobs show seven",
        "holdfast worker app:app --procesess 2",
        "holdfast enqueue app:app research --in soon",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, UsageError)):
        _accepts(shlex.split(line))


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_every_command_that_a_page_mentions_exists(page: Path) -> None:
    for line in pages.mentioned_commands(page):
        command: click.Command = root()
        for word in line.split()[1:]:
            if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z-]+", word):
                break
            found = command.get_command(click.Context(command), word)
            assert found is not None, f"{pages.name_of(page)}: there is no command {line!r}"
            command = found


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    broken = []
    for target in pages.links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in pages.anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    missing = []
    for file, name in TEST_NAME.findall(page.read_text("utf-8")):
        path = pages.ROOT / file
        source = path.read_text("utf-8") if path.is_file() else ""
        if not source or (name and f"def {name}(" not in source):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_the_index_names_every_page_of_the_docs() -> None:
    docs = pages.ROOT / "docs"
    linked = {(docs / t.partition("#")[0]).resolve() for t in pages.links(docs / "index.md")}
    expected = {p.resolve() for p in docs.rglob("*.md") if p.parent.name != "decisions"}
    expected -= {(docs / "index.md").resolve()}
    expected.add((docs / "decisions" / "README.md").resolve())
    assert expected - linked == set()


def test_the_index_of_decisions_names_every_record_in_order() -> None:
    folder = pages.ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert records
    assert [t for t in pages.links(folder / "README.md") if t[0].isdigit()] == records
    assert [name[:4] for name in records] == [f"{n:04}" for n in range(1, len(records) + 1)]


@pytest.mark.parametrize(("name", "limit"), [("README.md", 250), ("ARCHITECTURE.md", 300)])
def test_a_page_for_newcomers_stays_short(name: str, limit: int) -> None:
    assert len((pages.ROOT / name).read_text("utf-8").splitlines()) <= limit
