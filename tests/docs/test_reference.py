"""The generated reference is what the code says now, and says everything."""

from pathlib import Path

import generate_reference
import pytest
from reference import api, schema

import holdfast

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_the_reference_is_current() -> None:
    assert generate_reference.stale(REFERENCE) == [], "run: python tools/generate_reference.py"


def test_the_check_notices_a_page_that_differs_and_one_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reference"
    assert generate_reference.main(["--folder", str(folder)]) == 0
    assert generate_reference.main(["--folder", str(folder), "--check"]) == 0

    (folder / "cli.md").unlink()
    settings = folder / "settings.md"
    settings.write_text(settings.read_text("utf-8") + "one more line\n", "utf-8")

    assert generate_reference.main(["--folder", str(folder), "--check"]) == 1
    complaints = capsys.readouterr().err
    assert "cli.md is stale" in complaints
    assert "settings.md is stale" in complaints
    assert "api.md" not in complaints


def test_every_public_name_is_documented_with_a_docstring() -> None:
    pages = (REFERENCE / "api.md").read_text("utf-8") + (REFERENCE / "errors.md").read_text("utf-8")
    missing = [name for name in holdfast.__all__ if f"### `{name}`\n" not in pages]
    assert missing == []
    bare = [name for name in holdfast.__all__ if not api.item(name).doc]
    assert bare == []


def test_every_public_method_has_a_docstring() -> None:
    items = [api.item(name) for name in holdfast.__all__]
    bare = [f"{i.name}.{member.name}" for i in items for member in i.members if not member.doc]
    assert bare == []
    assert sum(len(i.members) for i in items) > 50


def test_the_documented_columns_are_those_of_a_migrated_database(db) -> None:
    rows = db.execute(
        "SELECT c.table_name, c.column_name FROM information_schema.columns AS c"
        " JOIN information_schema.tables AS t USING (table_schema, table_name)"
        " WHERE table_schema = %s AND t.table_type = 'BASE TABLE'"
        " ORDER BY c.table_name, c.ordinal_position",
        [db.schema],
    )
    found: dict[str, list[str]] = {}
    for table, column in rows:
        if not table.startswith("job_archive_"):
            found.setdefault(table, []).append(column)
    assert schema.columns() == found


def test_the_documented_functions_are_those_of_a_migrated_database(db) -> None:
    rows = db.execute(
        "SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
        " WHERE n.nspname = %s",
        [db.schema],
    )
    assert set(schema.read().functions) == {row[0] for row in rows}
    assert set(schema.FOR_USERS) <= set(schema.read().functions)
