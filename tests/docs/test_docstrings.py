"""The examples in the docstrings of the public modules are true."""

import doctest
import importlib
import inspect

import pytest

import holdfast
import holdfast.testing


def modules() -> list[str]:
    """The modules that define a public name and have an example."""
    found = set()
    for package in (holdfast, holdfast.testing):
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found.add(value.__module__)
    has_example = {m for m in found if ">>>" in inspect.getsource(importlib.import_module(m))}
    return sorted(has_example)


def test_the_main_entry_points_have_examples() -> None:
    assert {"holdfast.app.holdfast", "holdfast.runtime.steps"} <= set(modules())


@pytest.mark.parametrize("name", modules())
def test_examples_are_true(name: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.attempted > 0
    assert result.failed == 0
