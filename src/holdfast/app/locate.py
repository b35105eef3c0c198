"""Finding the application that `module:app` names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from holdfast.app.holdfast import Holdfast
from holdfast.errors import HoldfastError, UnknownName, UsageError
from holdfast.model.names import nearest
from holdfast.model.text import error_line, error_stack


def locate(target: str) -> Holdfast:
    """Returns the `Holdfast` of `package.module:attribute` or `path/to/file.py:attribute`.

    Without `:attribute` the module's only `Holdfast` is meant. The current folder is importable.
    """
    module_name, _, attribute = target.partition(":")
    if module_name.endswith(".py"):
        path = Path(module_name)
        sys.path.insert(0, str(path.resolve().parent))
        module_name = path.stem
    elif str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _import(module_name)
    found = {name: value for name, value in vars(module).items() if isinstance(value, Holdfast)}
    if attribute:
        if attribute not in found:
            near = nearest(attribute, found)
            hint = f"did you mean {module_name}:{near}?" if near else _listing(module_name, found)
            raise UnknownName(f"{module_name} has no Holdfast named {attribute!r}", hint)
        return found[attribute]
    if len(found) != 1:
        hint = _listing(module_name, found)
        raise UnknownName(f"{module_name} has {len(found)} Holdfast objects", hint)
    return next(iter(found.values()))


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(missing + "."):
            raise UsageError(
                f"there is no module {name!r}", "Run this in the folder it is in; app.tasks:app."
            ) from None
        raise UsageError(
            f"module {name!r} needs {missing!r}, which is not installed", "Install it."
        ) from error
    except HoldfastError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{name} cannot be imported: {error_line(error)}\n{error_stack(error).rstrip()}",
            "Mend the module: `python -c 'import …'` shows the same.",
        ) from error


def _listing(module: str, found: dict[str, Holdfast]) -> str:
    if not found:
        return "Create one: app = Holdfast()"
    return "Name one: " + ", ".join(f"{module}:{name}" for name in sorted(found))
