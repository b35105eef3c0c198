"""The real command, on one test's schema."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.command import TASKS, Ran, environment, run_command


@pytest.fixture
def holdfast(db) -> Callable[..., Ran]:
    """Runs `holdfast ARGS` on this test's schema."""

    def run(*args: object, **env: str) -> Ran:
        known = {"HOLDFAST_DSN": db.dsn, "HOLDFAST_SCHEMA": db.schema}
        return run_command(*args, env=environment(**{**known, **env}))

    return run


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A module with job functions."""
    path = tmp_path / "cli_tasks.py"
    path.write_text(TASKS)
    return path
