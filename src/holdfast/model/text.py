"""Texts that can always be stored and shown, above all those of errors.

PostgreSQL's `text` has no NUL and no lone surrogates, and an error's message may be a gigabyte or
raise when it is asked for. Everything here is total: it answers for any `str` and any exception,
because an error that cannot be recorded would stop the jobs around it. Only exceptions that are
not `Exception`s (an interruption of the running thread) pass.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from traceback import TracebackException
from typing import Final

STACK_LIMIT_BYTES: Final = 65_536
_STACK_FRAMES: Final = 100
_FINGERPRINTED_CHARACTERS: Final = 4_096
_NUL_SYMBOL: Final = "\u2400"
# What differs between two occurrences of one error, the longest forms first.
_VARYING: Final = re.compile(
    r"""
      \b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b          # UUID
    | (?<!\w)'[^'\n]*'(?!\w) | (?<!\w)"[^"\n]*"(?!\w) | `[^`\n]*`  # quoted value, not an apostrophe
    | \b0x[0-9a-f]+\b                                          # address
    | \b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b                       # hash or identifier
    | [0-9]+(?:\.[0-9]+)?
    """,
    re.VERBOSE | re.IGNORECASE,
)


def storable(text: str, *, limit: int = 65_536) -> str:
    r"""Return text that PostgreSQL can store, of at most `limit` UTF-8 bytes; never raises.

    NUL becomes the symbol ␀, a lone surrogate its escape. Too long a text keeps head and tail
    around a note of how many bytes were left out. A second call changes nothing.

    >>> storable("a\x00b\ud800")
    'a␀b\\ud800'
    >>> storable("x" * 100, limit=40)
    'xxxxxx … 88 bytes left out … xxxxxx'
    """
    data = str.encode(text, "utf-8", "backslashreplace")
    if b"\0" in data:
        data = data.replace(b"\0", _NUL_SYMBOL.encode())
    if len(data) > limit:
        return _shortened(data, limit)
    return data.decode()


def shown(value: object, *, limit: int = 80) -> str:
    """Return the `repr` of any value, storable and at most `limit` characters long.

    >>> shown("x" * 1000, limit=20)
    "'xxxxxxxx…xxxxxxxxx'"
    """
    try:
        text = repr(value)
    except Exception:
        text = f"<{type_name(value)}>"
    if len(text) > limit:
        head = (limit - 1) // 2
        text = f"{text[:head]}…{text[-(limit - 1 - head) :]}"
    return storable(text)


def type_name(value: object) -> str:
    """Return the qualified name of a value's class, whatever its metaclass makes of it.

    >>> type_name(3), type_name([].append)
    ('int', 'builtin_function_or_method')
    """
    name: str = type.__dict__["__qualname__"].__get__(type(value))
    return storable(name, limit=1_000)


def error_text(error: BaseException) -> str:
    """Return the message of any exception, storable, also when it has none to give.

    >>> error_text(ValueError("no such user"))
    'no such user'
    >>> class Broken(Exception):
    ...     def __str__(self):
    ...         raise KeyError("oops")
    >>> error_text(Broken())
    '<Broken: its __str__ raised KeyError>'
    """
    try:
        return storable(str(error))
    except Exception as fault:
        return f"<{type_name(error)}: its __str__ raised {type_name(fault)}>"


def error_line(error: BaseException) -> str:
    r"""Return type and message on one line of a few hundred characters, for other messages.

    >>> error_line(ValueError("two\nlines"))
    'ValueError: two lines'
    """
    text = " ".join(error_text(error).split())
    return storable(f"{type_name(error)}: {text}", limit=400)


def error_type(error: BaseException) -> str:
    """Return `module.qualname` of an exception's class, without the module for built-ins.

    >>> error_type(ValueError()), error_type(re.error("bad"))
    ('ValueError', 're.error')
    """
    name = type_name(error)
    try:
        module = type(error).__module__
    except Exception:
        return name
    if not isinstance(module, str) or module == "builtins":
        return name
    return storable(f"{module}.{name}", limit=1_000)


def error_stack(error: BaseException) -> str:
    """Return the traceback text with causes and without locals, bounded and storable.

    Each exception of the chain keeps its innermost 100 frames.

    >>> print(error_stack(ValueError("bad")), end="")
    ValueError: bad
    """
    try:
        formatted = TracebackException(
            type(error), error, error.__traceback__, limit=-_STACK_FRAMES, compact=True
        )
        return storable("".join(formatted.format()), limit=STACK_LIMIT_BYTES)
    except Exception as fault:
        note = f"(its traceback could not be formatted: {type_name(fault)})"
        return storable(f"{error_type(error)}: {error_text(error)}\n{note}\n")


def fingerprint(error: BaseException) -> str:
    """Return 16 hex characters that are equal for two occurrences of the same error.

    Made of the type, file name and function of the innermost frame (no line numbers, so that an
    edit elsewhere in the file does not split a group) and the message without its numbers, ids
    and quoted values.

    >>> fingerprint(OSError("user 17 not found")) == fingerprint(OSError("user 4 not found"))
    True
    """
    message = _VARYING.sub("?", error_text(error)[:_FINGERPRINTED_CHARACTERS])
    parts = (error_type(error), *_innermost_frame(error), message)
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _shortened(data: bytes, limit: int) -> str:
    room = limit - len(_marker(len(data)).encode())
    if room < 0:
        return data[: max(0, limit)].decode("utf-8", "ignore")
    # "ignore" drops only the halves of a character that the cut goes through.
    head = data[: (room + 1) // 2].decode("utf-8", "ignore")
    tail = data[len(data) - room // 2 :].decode("utf-8", "ignore")
    left_out = len(data) - len(head.encode()) - len(tail.encode())
    return f"{head}{_marker(left_out)}{tail}"


def _marker(left_out: int) -> str:
    return f" … {left_out} bytes left out … "


def _innermost_frame(error: BaseException) -> tuple[str, str]:
    frame = error.__traceback__
    if frame is None:
        return "", ""
    while frame.tb_next is not None:
        frame = frame.tb_next
    code = frame.tb_frame.f_code
    return storable(re.split(r"[/\\]", code.co_filename)[-1]), storable(code.co_name)
