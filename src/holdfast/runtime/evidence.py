"""What is kept of an error, whatever its class does to those who look at it.

All of this runs on the worker's loop: what is raised here would end every job of the process.
"""

from __future__ import annotations

from typing import NamedTuple

from holdfast.errors import Cancel, Discard, Snooze
from holdfast.model.text import error_stack, error_text, error_type, fingerprint, shown, storable


class Evidence(NamedTuple):
    """What the history keeps of an error."""

    type: str | None = None
    message: str | None = None
    stack: str | None = None
    fingerprint: str | None = None


def evidence_of(error: BaseException | None) -> Evidence:
    """Returns what the history keeps of an error; never raises.

    >>> evidence_of(ValueError("no such user"))[:2]
    ('ValueError', 'no such user')
    """
    if error is None:
        return Evidence()
    kind = error_type(error)
    try:
        message = storable(error_text(error))
        return Evidence(kind, message, error_stack(error), fingerprint(error))
    except BaseException as fault:  # it, or one in its chain, ends whoever looks at it
        return Evidence(kind, f"{kind}, to look at which raised {error_type(fault)}")


def describable(error: BaseException) -> BaseException:
    """Returns the error, or another in its place if asking for its text would end the process."""
    try:
        error_text(error)
    except BaseException as fault:
        return RuntimeError(f"{error_type(error)}, whose text raised {error_type(fault)}")
    return error


def reason_of(error: Cancel | Discard | Snooze) -> str:
    """Returns the reason given, storable, whatever was given as such.

    >>> reason_of(Cancel("not needed")), reason_of(Discard({"code": 4}))
    ('not needed', "{'code': 4}")
    """
    try:
        given: object = error.reason
    except Exception:
        return ""
    if given is None:
        return ""
    return storable(given) if isinstance(given, str) else shown(given, limit=1_000)
