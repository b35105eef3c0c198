"""Every option does something: what can be given is read somewhere."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from holdfast import Retry, Settings
from holdfast.app.function import EnqueueOptions
from holdfast.app.settings import ENVIRONMENT
from holdfast.model.job import JobTemplate
from holdfast.runtime.definition import Definition
from holdfast.runtime.stepping import StepPlan
from holdfast.runtime.worker import WorkerPlan

SOURCE = Path(__file__).resolve().parents[2] / "src" / "holdfast"

OPTIONS = [
    (kind, field.name)
    for kind in (Settings, Definition, EnqueueOptions, JobTemplate, StepPlan, WorkerPlan, Retry)
    for field in fields(kind)
    if field.name != "_"
]


def attributes_read() -> set[str]:
    """The names of all attributes that any module reads."""
    return {
        node.attr
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def settings_read() -> set[str]:
    """The names that are read from something called `settings`."""
    return {
        node.attr
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and (getattr(node.value, "attr", None) or getattr(node.value, "id", None)) == "settings"
    }


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_setting_is_read(name: str) -> None:
    assert name in settings_read()


@pytest.mark.parametrize(
    ("kind", "name"), OPTIONS, ids=[f"{kind.__name__}.{name}" for kind, name in OPTIONS]
)
def test_every_option_is_read(kind: type, name: str) -> None:
    assert name in attributes_read()


def test_every_setting_can_come_from_the_environment() -> None:
    names = {field.name.removesuffix("_s") for field in fields(Settings)}
    assert set(ENVIRONMENT) == names
    variables = [variable for group in ENVIRONMENT.values() for variable in group]
    assert len(set(variables)) == len(variables)


def test_a_name_that_nobody_reads_would_be_noticed() -> None:
    assert "a_setting_that_does_nothing" not in attributes_read()
    assert {"dsn", "schema"} <= settings_read()
