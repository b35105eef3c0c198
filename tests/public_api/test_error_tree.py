"""Every error has a code of its own, says what to do, and survives a pickle."""

import ast
import inspect
import pickle
import re
from pathlib import Path

import pytest

from holdfast import errors

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, BaseException)
]
OURS = [kind for kind in CLASSES if issubclass(kind, errors.HoldfastError)]
EXTRA = {
    "sqlstate": "57P01",
    "job_id": 7,
    "original_type": "TimeoutError",
    "seconds": 3.5,
    "reason": "why",
}


def an_instance(kind: type[BaseException]) -> BaseException:
    """An error of this class with every parameter set."""
    given = {**EXTRA, "message": "it went wrong", "hint": "do this"}
    if "__init__" not in vars(kind) and not issubclass(
        kind, (errors.HoldfastError, errors.Cancel, errors.Discard, errors.Snooze)
    ):
        return kind("it went wrong")
    names = list(inspect.signature(kind).parameters)
    return kind(**{name: given[name] for name in names})


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_survives_a_pickle_with_all_it_says(kind: type[BaseException]) -> None:
    error = an_instance(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert copy.args == error.args


def test_codes_are_unique_and_each_class_has_its_own() -> None:
    codes = [vars(kind).get("code") for kind in OURS]
    assert None not in codes
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"HF-\d{3}", code) for code in codes)


def test_the_tree_at_the_top_of_the_module_is_the_tree_of_the_classes() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+) +(HF-\d{3})", errors.__doc__))
    # Of this module: remembered errors make subclasses while other tests run.
    parents = {parent for kind in OURS for parent in kind.__bases__}
    leaves = [k for k in OURS if k not in parents or k is errors.DatabaseError]
    assert drawn == {kind.__name__: kind.code for kind in leaves}


def test_the_text_of_an_error_has_its_code_and_its_hint() -> None:
    assert str(errors.InvalidOption("priority=12 is not 0..9", "0 runs first.")) == (
        "[HF-101] priority=12 is not 0..9\n  hint: 0 runs first."
    )


def test_every_place_that_raises_gives_a_hint_unless_the_class_has_one() -> None:
    by_name = {kind.__name__: kind for kind in OURS}
    bare = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                call = node.exc
                kind = by_name.get(getattr(call.func, "id", ""))
                hinted = len(call.args) > 1 or any(k.arg == "hint" for k in call.keywords)
                if kind is not None and not hinted and not kind.default_hint:
                    bare.append(f"{path.relative_to(ROOT)}:{node.lineno} {kind.__name__}")
    assert bare == []
