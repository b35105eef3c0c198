"""Public names as their source text has them: signature, docstring, members."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import holdfast

_WIDTH = 88
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Item:
    """One name with what is said of it."""

    name: str
    kind: str
    signatures: list[str]
    doc: str
    fields: list[str] = field(default_factory=list)
    members: list[Item] = field(default_factory=list)


def item(name: str, package: Any = holdfast, *, constructed: bool = True) -> Item:
    """Returns the description of a public name of `package`.

    `constructed`: whether users create objects of it, so that its parameters matter.
    """
    value = getattr(package, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        module, own_name = value.__module__, value.__name__
    else:
        module, own_name = _defined_in(name), name
    body = _body(module)
    found = [node for node in body if getattr(node, "name", None) == own_name]
    if not found:
        return _alias(name, body)
    if isinstance(found[-1], ast.ClassDef):
        return _class(name, found[-1], body, constructed=constructed)
    return _function(name, [node for node in found if isinstance(node, Function)])


@cache
def _body(module: str) -> list[ast.stmt]:
    path = importlib.import_module(module).__file__
    assert path is not None
    return ast.parse(Path(path).read_text("utf-8")).body


def _defined_in(name: str) -> str:
    """Returns the module a type alias is imported from by the package's own source."""
    for node in _body("holdfast"):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for imported in node.names:
                if imported.name == name:
                    return node.module
    raise LookupError(f"holdfast does not import {name}")


def _alias(name: str, body: list[ast.stmt]) -> Item:
    for node, following in zip(body, [*body[1:], None], strict=True):
        target = getattr(node, "target", None)
        if isinstance(node, ast.AnnAssign) and isinstance(target, ast.Name) and target.id == name:
            assert node.value is not None
            return Item(name, "type", [f"{name} = {ast.unparse(node.value)}"], _text(following))
    raise LookupError(f"{name} is neither a class, a function nor an annotated assignment")


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return inspect.cleandoc(str(node.value.value))
    return ""


def _class(name: str, node: ast.ClassDef, body: list[ast.stmt], *, constructed: bool) -> Item:
    bases = [ast.unparse(base) for base in node.bases]
    shown = [base for base in bases if not base.startswith(("_", "Generic"))]
    head = f"class {name}" + (f"({', '.join(shown)})" if shown else "")
    start = [f for f in _functions(node) if f[0].name == "__init__"]
    signatures = [head]
    if start and constructed:
        signatures = [_signature(name, start[0][-1], head="class ")]
    own = [_member(group) for group in _functions(node) if not group[0].name.startswith("_")]
    return Item(
        name,
        "class",
        signatures,
        ast.get_docstring(node) or "",
        _fields(node),
        [*_inherited(bases, body), *own],
    )


def _inherited(bases: list[str], body: list[ast.stmt]) -> list[Item]:
    """Members of private bases, which a reader does not know."""
    members = []
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name in bases and node.name.startswith("_"):
            groups = [g for g in _functions(node) if not g[0].name.startswith("_")]
            members += [_member(group) for group in groups]
    return members


def _functions(node: ast.ClassDef) -> list[list[Function]]:
    """Returns the functions of a class; overloads and their implementation are one group."""
    groups: dict[str, list[Function]] = {}
    for child in node.body:
        if isinstance(child, Function):
            groups.setdefault(child.name, []).append(child)
    return list(groups.values())


def _fields(node: ast.ClassDef) -> list[str]:
    if not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        return []
    found = [child for child in node.body if isinstance(child, ast.AnnAssign)]
    return [ast.unparse(child) for child in found if ast.unparse(child.target) != "_"]


def _member(group: list[Function]) -> Item:
    decorators = [ast.unparse(d) for d in group[-1].decorator_list]
    if "property" in decorators:
        returns = group[-1].returns
        kind = ast.unparse(returns) if returns is not None else "object"
        signature = [f"{group[-1].name}: {kind}"]
        return Item(group[-1].name, "property", signature, ast.get_docstring(group[-1]) or "")
    return _function(group[-1].name, group)


def _function(name: str, group: list[Function]) -> Item:
    overloads = group[:-1] or group
    signatures = [_signature(name, node) for node in overloads]
    return Item(name, "function", signatures, ast.get_docstring(group[-1]) or "")


def _signature(name: str, node: Function, head: str | None = None) -> str:
    parameters = _parameters(node.args)
    if head is None:
        head = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
    returns = node.returns
    arrow = "" if returns is None or node.name == "__init__" else f" -> {ast.unparse(returns)}"
    line = f"{head}{name}({', '.join(parameters)}){arrow}"
    if len(line) <= _WIDTH:
        return line
    inside = "\n".join(f"    {parameter}," for parameter in parameters)
    return f"{head}{name}(\n{inside}\n){arrow}"


def _parameters(args: ast.arguments) -> list[str]:
    """Returns the parameters but `self`, written as in the source."""
    positional = [*args.posonlyargs, *args.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    shown = [_parameter(a, d) for a, d in zip(positional, missing + args.defaults, strict=True)]
    if args.posonlyargs:
        shown.insert(len(args.posonlyargs), "/")
    if args.vararg is not None:
        shown.append(f"*{_parameter(args.vararg, None)}")
    elif args.kwonlyargs:
        shown.append("*")
    shown += [_parameter(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg is not None:
        shown.append(f"**{_parameter(args.kwarg, None)}")
    return shown[1:] if shown[:1] == ["self"] else shown


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    annotation = "" if argument.annotation is None else f": {ast.unparse(argument.annotation)}"
    if default is None:
        return f"{argument.arg}{annotation}"
    equals = " = " if annotation else "="
    return f"{argument.arg}{annotation}{equals}{ast.unparse(default)}"
