"""Command groups that import a sub-command's module only when it is used.

`holdfast --help` lists commands from a table, so that asking for help, or mistyping a name, loads
no command's module. An unknown command or option says what was probably meant.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from holdfast.cli.failures import exit_code_of, report
from holdfast.errors import UsageError
from holdfast.model.names import nearest

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Entry(NamedTuple):
    """Where a command is, as `module:attribute`, and what it does, in one line."""

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group whose commands are named by a table and imported on first use."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **options: Any) -> None:
        super().__init__(*args, **options)
        self.entries = dict(entries)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the table's order, which is that of first use."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns a command; None when the table has no such name."""
        entry = self.entries.get(cmd_name)
        return None if entry is None else load(entry.target)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command; an unknown one is an error with the nearest name as its hint."""
        name = args[0]
        if name in self.entries or name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise UsageError(f"{ctx.command_path} has no command {name!r}", _meant(name, self.entries))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table, without importing what it names."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.entries.items()])


class RootGroup(LazyGroup):
    """The whole command line: turns every error into words and an exit code."""

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Runs a command line and exits with its code; errors never show a traceback of ours."""
        try:
            code = super().main(args, **{**options, "standalone_mode": False})
        except Exception as error:
            code = exit_code_of(error)
            if code is None:
                raise
            report(error)
        sys.exit(code if isinstance(code, int) else 0)


def load(target: str) -> click.Command:
    """Imports `module:attribute`; a module that is not installed is an error in words."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        name = attribute.removesuffix("_command")
        raise UsageError(f"{name!r} is not part of this installation", "Reinstall it.") from None
    command = getattr(module, attribute)
    assert isinstance(command, click.Command)
    return command


def _meant(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = nearest(name, names)
    return f"Did you mean {near!r}?" if near else f"Commands: {', '.join(names)}."
