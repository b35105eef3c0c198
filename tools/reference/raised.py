"""What the errors say, read from the places that raise them: cause and remedy of each code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import holdfast

_PACKAGE = Path(holdfast.__file__).parent


DEPENDS = "Its hint says it: it depends on the value."


class Saying(NamedTuple):
    """What one place says: the class, what happened, and what to do; '' is the class's own."""

    kind: str
    cause: str
    remedy: str


def sayings(kinds: frozenset[str]) -> dict[str, list[Saying]]:
    """Returns what each class of errors says anywhere in the package, each text once, sorted."""
    found: dict[str, set[Saying]] = {kind: set() for kind in kinds}
    for path in sorted(_PACKAGE.rglob("*.py")):
        for saying in _in_module(path.read_text("utf-8"), kinds):
            found[saying.kind].add(saying)
    return {kind: sorted(said) for kind, said in found.items()}


def _in_module(text: str, kinds: frozenset[str]) -> Iterator[Saying]:
    module = ast.parse(text)
    constants = dict(_constants(module))
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            cause = _text(node.args[0], constants) if node.func.id in kinds else None
            if cause is not None:
                hint = node.args[1] if len(node.args) > 1 else None
                remedy = "" if hint is None else _text(hint, constants) or DEPENDS
                yield Saying(node.func.id, cause, remedy)


def _constants(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yields the texts that the module gives names to: some hints are said in several places."""
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str | None:
    """Returns a text as it is written, with names in place of values; None for anything else."""
    match node:
        case ast.Name(id=name) if name in constants:
            return _text(constants[name], {})
        case ast.IfExp(body=one, orelse=other):
            texts = [_text(one, constants), _text(other, constants)]
            return " / ".join(filter(None, texts)) or None
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_part(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _text(left, constants), _text(right, constants)
            return None if first is None or second is None else first + second
    return None


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.FormattedValue):
        return f"‹{_name(node.value)}›"
    return _text(node, {}) or ""


def _name(node: ast.expr) -> str:
    """Returns the word that best says which value stands there."""
    match node:
        case ast.Name(id=name):
            return name.strip("_")
        case ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Call(args=[first, *_]):
            return _name(first)
        case ast.Call(func=function):
            return _name(function)
        case ast.BinOp(left=left):
            return _name(left)
        case ast.Subscript(value=value):
            return _name(value)
    return "value"
