"""The page of commands, from click's own tree."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import click

from reference.text import code, prose, table


def root() -> click.Group:
    """Returns the group behind the `holdfast` command."""
    module = importlib.import_module("holdfast.cli.main")
    groups = [value for value in vars(module).values() if isinstance(value, click.Group)]
    nested = {id(c) for g in groups for c in g.commands.values()}
    return next(group for group in groups if id(group) not in nested)


def page() -> str:
    """Returns the page: every command with its arguments and options."""
    parts = ["# Commands", "`holdfast COMMAND --help` prints the same."]
    for path, command in commands(root(), "holdfast"):
        parts += [f"## `{path}`", prose(_help(command))]
        if not isinstance(command, click.Group):
            parts.append(code(_usage(path, command), "text"))
        rows = [row for parameter in command.params if (row := _row(parameter))]
        if rows:
            parts.append(table(("Option", "Default", "Meaning"), rows))
        if command.epilog:
            parts.append(code(_unwrapped(command.epilog), "text"))
    return "\n\n".join(part for part in parts if part)


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yields every command below `command` with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from commands(child, f"{path} {name}")


def _help(command: click.Command) -> str:
    return _unwrapped(inspect.cleandoc(command.help or command.short_help or ""))


def _unwrapped(text: str) -> str:
    """Returns text of click's without its formatting marks."""
    return text.replace("\b\n", "").replace("\f", "").strip()


def _usage(path: str, command: click.Command) -> str:
    words = [path]
    if any(isinstance(p, click.Option) and not p.hidden for p in command.params):
        words.append("[OPTIONS]")
    words += [_argument(p) for p in command.params if isinstance(p, click.Argument)]
    return " ".join(words)


def _argument(parameter: click.Argument) -> str:
    name = (parameter.metavar or parameter.name or "").upper().strip("[].")
    name += "..." if parameter.nargs != 1 else ""
    return name if parameter.required else f"[{name}]"


def _row(parameter: click.Parameter) -> tuple[str, str, str] | None:
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return None
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    kind = "" if parameter.is_flag else f" {_kind(parameter)}"
    default = parameter.default
    shown = default is not None and not parameter.is_flag and not callable(default)
    if type(default).__name__ == "Sentinel" or default == ():
        shown = False
    return f"`{names}{kind}`", f"`{default}`" if shown else "", parameter.help or ""


def _kind(parameter: click.Option) -> str:
    if parameter.metavar is not None:
        return parameter.metavar
    if isinstance(parameter.type, click.Choice):
        return "|".join(map(str, parameter.type.choices))
    return parameter.type.name.upper().replace(" RANGE", "")
