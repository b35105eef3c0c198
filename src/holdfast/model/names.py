"""Names of queues, jobs, tags and options: what is allowed, and what was probably meant."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from holdfast.errors import InvalidOption, UnknownName
from holdfast.model.text import shown

MAX_CHARACTERS: Final = 128
_LISTED: Final = 10
_COMPARED: Final = 1_000
# Controls (NUL among them), lone surrogates, line and paragraph separators: each would break
# a log line or the database's text type.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_HINT: Final = (
    "A name has 1 to 128 characters, no control characters, and no space at either end; "
    "dots, slashes, quotes and inner spaces are fine."
)


def check_name(value: object, *, field: str) -> str:
    """Return the name as an exact `str`, fit for storage and for one line of a log.

    Raises `InvalidOption` naming `field` and the value. Members of a `StrEnum` are names.

    >>> check_name("mail/outgoing", field="queue")
    'mail/outgoing'
    >>> check_name(" mail", field="queue")
    Traceback (most recent call last):
        ...
    holdfast.errors.InvalidOption: [HF-101] queue=' mail': a space at its start or end
      hint: A name has 1 to 128 characters...
    """
    fault = _fault(value)
    if fault is not None or not isinstance(value, str):
        raise InvalidOption(f"{field}={shown(value)}: {fault}", _HINT)
    return str.__str__(value)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, or None when none is close.

    >>> nearest("emial", ["email", "sms"])
    'email'
    """
    candidates = list(known)[:_COMPARED]
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    if name.casefold() in folded:
        return folded[name.casefold()]
    found = difflib.get_close_matches(name[:MAX_CHARACTERS], candidates, n=1)
    return found[0] if found else None


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """Return the error for a name that does not exist, with the nearest one as its hint.

    >>> print(unknown("queue", "emial", ["email", "sms"]))
    [HF-102] unknown queue 'emial'
      hint: Did you mean 'email'?
    """
    return _unknown(f"unknown {kind} {shown(name)}", kind, name, known)


def check_options(given: Mapping[str, object], known: Collection[str], *, where: str) -> None:
    """Guarantee that every option given is known; `UnknownName` names the first that is not.

    >>> check_options({"retrys": 3}, ["retries", "timeout"], where="@app.job")
    Traceback (most recent call last):
        ...
    holdfast.errors.UnknownName: [HF-102] @app.job: unknown option 'retrys'
      hint: Did you mean 'retries'?
    """
    for name in given:
        if name not in known:
            message = f"{where}: unknown option {shown(name)}"
            raise _unknown(message, "option", str(name), known)


def _fault(value: object) -> str | None:
    """Return what is wrong with a name, or None."""
    if not isinstance(value, str):
        return f"a name is a string, not {type(value).__name__}"
    if not value:
        return "empty"
    if len(value) > MAX_CHARACTERS:
        return f"{len(value)} characters; the most is {MAX_CHARACTERS}"
    for character in value:
        if unicodedata.category(character) in _REFUSED_CATEGORIES:
            return f"a character that cannot be in a name: U+{ord(character):04X}"
    return "a space at its start or end" if value != value.strip() else None


def _unknown(message: str, kind: str, name: str, known: Iterable[str]) -> UnknownName:
    names = sorted(set(known))
    meant = nearest(name, names)
    if meant is not None:
        return UnknownName(message, f"Did you mean {meant!r}?")
    if not names:
        return UnknownName(message, f"No {kind} is known here.")
    listed = ", ".join(repr(known_name) for known_name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return UnknownName(message, f"Known: {listed}{more}.")
