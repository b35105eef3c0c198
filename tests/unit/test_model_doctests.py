"""Every example in the docstrings of the pure modules is true."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "backoff",
    "codec",
    "durations",
    "fingerprint",
    "ids",
    "jsonb",
    "names",
    "queues",
    "tagged",
    "text",
    "typed",
    "unique",
    "watching",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    module = importlib.import_module(f"holdfast.model.{name}")
    result = doctest.testmod(
        module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, report=True
    )
    assert result.failed == 0
    assert result.attempted > 0
