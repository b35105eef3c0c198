"""Database errors as errors of ours: mapped by SQLSTATE in one place, the cause kept."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from holdfast.errors import (
    DatabaseError,
    DatabaseUnavailable,
    HoldfastError,
    InvalidArguments,
    SchemaMissing,
    UnknownName,
)

CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg_pool.PoolTimeout,
    psycopg_pool.PoolClosed,
    OSError,
    DatabaseUnavailable,
)

_CONNECTION_CLASSES = ("08", "57P", "53")
_MISSING = {"42P01", "42883", "3F000", "42P02"}
_VALUE_CLASSES = ("22", "23")
_AGAIN = "Roll the transaction back and run all of it again."
_HINTS = {
    "40001": _AGAIN,
    "40P01": _AGAIN,
    "55P03": f"Another transaction holds the row. {_AGAIN}",
    "57014": f"It was cancelled, or took longer than statement_timeout. {_AGAIN}",
    "25P02": "An earlier statement of this transaction failed: roll it back.",
    "25006": "The transaction, or the server, is read-only.",
    "42501": "GRANT what is missing to the role of this connection.",
}


def is_connection_loss(error: BaseException) -> bool:
    """True when the statement may or may not have been carried out and can be sent again."""
    if isinstance(error, DatabaseUnavailable):
        return True
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate.startswith(_CONNECTION_CLASSES)
    return isinstance(error, CONNECTION_ERRORS)


def is_transient(error: BaseException) -> bool:
    """True for a deadlock, a serialisation failure or a timeout: the same again may succeed."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state in {"40001", "40P01", "55P03", "57014"}


def is_locked(error: BaseException) -> bool:
    """True when somebody's open transaction holds a row longer than we wait for it."""
    return isinstance(error, psycopg.errors.LockNotAvailable)


def is_refusal(error: BaseException) -> bool:
    """True when the server's machine answered that no server runs, or that it is starting.

    A refusal is an answer: nobody else can use that server either, so no rescue can happen there.
    Silence is not.
    """
    text = str(error)
    return any(
        sign in text
        for sign in (
            "Connection refused",
            "No such file or directory",
            "the database system is starting up",
            "the database system is shutting down",
            "the database system is in recovery mode",
        )
    )


def translate(error: Exception, schema: str) -> HoldfastError:
    """Returns the error of ours for an error of a driver: psycopg, or a caller's."""
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, UnicodeError):
        return translate_value(error)
    state, message, hint = _said(error)
    if state in _MISSING:
        return SchemaMissing(
            f"schema {schema!r} is not installed in this database ({message})",
            f"Run `holdfast db migrate --schema {shlex.quote(schema)}` (or set HOLDFAST_SCHEMA).",
        )
    if _is_lost(error, state):
        return DatabaseUnavailable(f"the database cannot be used: {message}", None, state)
    return refusal(state, message, hint)


def _said(error: BaseException) -> tuple[str | None, str, str]:
    """Returns SQLSTATE, message and hint, wherever a driver keeps them.

    psycopg and asyncpg have `sqlstate`, psycopg2 has `pgcode`; the first two keep the server's
    message apart, asyncpg has it in the error itself. SQLAlchemy wraps all of them in `orig`.
    """
    orig = getattr(error, "orig", None)
    for one in (getattr(orig, "__cause__", None), orig, error):
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if state:
            diagnosis = getattr(one, "diag", None)
            said = getattr(diagnosis, "message_primary", None) or getattr(one, "message", None)
            hint = getattr(diagnosis, "message_hint", None) or getattr(one, "hint", None)
            return state, said or str(one).strip(), hint or ""
    return None, str(orig or error).strip() or type(error).__name__, ""


def _is_lost(error: BaseException, state: str | None) -> bool:
    if state is not None:
        return state.startswith(_CONNECTION_CLASSES)
    names = {base.__name__ for base in type(error).__mro__}
    return "OperationalError" in names or is_connection_loss(error)


def refusal(state: str | None, message: str, hint: str) -> HoldfastError:
    """Returns the error of ours for what the server said about the values of a statement."""
    if state == "HF102":
        return UnknownName(message, hint)
    if state is not None and state.startswith(_VALUE_CLASSES):
        return InvalidArguments(
            f"the database refused a value: {message}", hint or "Nothing was stored."
        )
    return DatabaseError(message, hint or _HINTS.get(state or "", ""), state)


def translate_value(error: Exception) -> InvalidArguments:
    """Returns the error of ours for a value that the driver could not write down."""
    return InvalidArguments(
        f"a value cannot be sent to the database: {error}", "Nothing was stored."
    )


@contextmanager
def translated(schema: str) -> Iterator[None]:
    """Turns the driver's errors into errors of ours; the original is the cause."""
    try:
        yield
    except (psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed, OSError) as error:
        raise translate(error, schema) from error


@contextmanager
def translated_all(schema: str) -> Iterator[None]:
    """Turns whatever an unknown driver raises into errors of ours; the original is the cause."""
    try:
        yield
    except HoldfastError:
        raise
    except Exception as error:
        raise translate(error, schema) from error
