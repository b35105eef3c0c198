"""What `import holdfast` offers is what is written down, and nothing slips in."""

import inspect
from pathlib import Path

import holdfast
import holdfast.testing

ROOT = Path(__file__).resolve().parents[2]


def documented(page: str) -> set[str]:
    """The names that have a section of their own on a page of the reference."""
    text = (ROOT / "docs" / "reference" / page).read_text("utf-8").split("## `holdfast.testing`")[0]
    lines = [line for line in text.splitlines() if line.startswith("### `")]
    return {line.removeprefix("### `").rstrip("`") for line in lines}


def test_the_public_names_are_the_documented_names() -> None:
    assert set(holdfast.__all__) == documented("api.md") | documented("errors.md")


def test_the_public_names_are_sorted_and_exist_and_are_listed_once() -> None:
    assert list(holdfast.__all__) == sorted(set(holdfast.__all__))
    assert [name for name in holdfast.__all__ if not hasattr(holdfast, name)] == []


def test_nothing_public_is_left_out_of_all() -> None:
    visible = {
        name
        for name, value in vars(holdfast).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert visible == set(holdfast.__all__)


def test_a_job_function_has_a_name_a_docstring_and_the_function_itself() -> None:
    app = holdfast.Holdfast("postgresql:///example")

    @app.job()
    async def research(topic: str) -> str:
        """Finds out about a topic."""
        return topic

    assert (research.name, research.__doc__) == ("research", "Finds out about a topic.")
    assert inspect.iscoroutinefunction(research.fn)
    assert dict(app.job_functions) == {"research": research}
