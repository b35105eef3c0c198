"""Errors of steps that a job had acted upon: raised again on replay, as the same kind.

The code that caught `TimeoutError` then must catch it now. Nothing is unpickled or imported for it:
the type is looked up among the exception classes that are loaded in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from holdfast.errors import StepFailed
from holdfast.model.job import RecordedStep

_MARK = "__holdfast_step__"


def mark(error: BaseException, key: str) -> None:
    """Notes on an error which step it came from."""
    # Past the class's own __setattr__ and __getattr__, which may do anything. Every exception has a
    # __dict__, also one with __slots__.
    _notes(error)[_MARK] = key


def origins(error: BaseException) -> set[str]:
    """Returns the keys of the steps whose errors are, or caused, this one."""
    return {key for e in _related(error) if isinstance(key := _notes(e).get(_MARK), str)}


def _notes(error: BaseException) -> dict[str, object]:
    notes: dict[str, object] = BaseException.__dict__["__dict__"].__get__(error)
    return notes


def remembered_error(recorded: RecordedStep) -> StepFailed:
    """Returns the recorded error: a `StepFailed` that is also of the original type."""
    original = recorded.error_type or "Exception"
    message = (
        f"step {recorded.key!r} failed in an earlier run: {original}: {recorded.error_message}"
    )
    hint = "The job acted upon this error then, so it is raised again instead of running the step."
    error = _mixed(original)(message, hint, original)
    mark(error, recorded.key)
    return error


@lru_cache(maxsize=256)
def _mixed(name: str) -> type[StepFailed]:
    for candidate in _subclasses(Exception):
        if _name(candidate) == name and not issubclass(StepFailed, candidate):
            try:
                mixed = type("StepFailed", (StepFailed, candidate), {"__init__": _initialise})
                mixed("", "", name)
            except Exception:  # a class that cannot be combined is left out, whatever it raises
                return StepFailed
            return mixed
    return StepFailed


def _initialise(self: StepFailed, message: str, hint: str, original_type: str) -> None:
    # Not through super(): the original class may want arguments of its own, as those of SDKs do.
    self.message, self.hint, self.original_type = message, hint, original_type
    self.args = (message, hint, original_type)


def _name(kind: type[BaseException]) -> str:
    try:
        module, name = kind.__module__, kind.__qualname__
    except Exception:  # somebody's metaclass may raise; every loaded class passes by here
        return ""
    return name if module == "builtins" else f"{module}.{name}"


def _subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in type.__subclasses__(kind):
        yield child
        yield from _subclasses(child)


def _related(error: BaseException) -> Iterator[BaseException]:
    queue, seen = [error], {id(error)}
    for current in queue:
        yield current
        members = current.exceptions if isinstance(current, BaseExceptionGroup) else ()
        for other in (*members, current.__cause__):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                queue.append(other)
