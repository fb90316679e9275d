"""What went wrong with the database, in words for the log, and whether trying again can help.

Database errors quote what they choked on: parameters, rows, statements. ``describe`` lets no such text through; only
the kinds of error that speak of the server, the disk or the connection keep their words.
"""

from __future__ import annotations

import sqlite3
from typing import cast

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

MAX_WORDS = 200
"""Characters of a message that reach the log."""

_SERVER_CLASSES = frozenset({"08", "25", "28", "3D", "53", "55", "57", "58"})
"""Classes of SQLSTATE that speak of the server itself (PostgreSQL manual, appendix A): connection, transaction state,
authorisation, missing database, resources, locks, operator, system. Their messages hold no rows."""

_PASSING_CLASSES = frozenset({"08", "53", "57"})
"""Classes of SQLSTATE that time may mend: connection, resources, operator (a server that starts or stops)."""

_VALUE_CLASSES = frozenset({"22", "23"})
"""Classes of SQLSTATE that blame the values: data exception, integrity constraint."""


def describe(error: BaseException) -> str:
    """The error's kind, and its words where these cannot hold data of a call."""
    cause = _cause(error)
    name = type(cause).__name__
    state = _sqlstate(cause)
    if isinstance(cause, sqlite3.OperationalError | OSError) or state[:2] in _SERVER_CLASSES:
        words = str(cause).strip().partition("\n")[0][:MAX_WORDS]
        if isinstance(cause, TimeoutError):
            words = words or "no answer in time"
        return f"{name}: {words}" if words else name
    return f"{name} (SQLSTATE {state})" if state else name


def may_pass(error: BaseException) -> bool:
    """Whether a database that cannot be reached now may be reached soon, with nothing done about it.

    An ``OSError`` is taken for one of the network.
    """
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(cause, OSError) or _sqlstate(cause)[:2] in _PASSING_CLASSES


def blames_values(error: BaseException) -> bool:
    """Whether the database refused what it was given, so that the same again would be refused again."""
    if isinstance(error, DataError | IntegrityError):
        return True
    if isinstance(error, DBAPIError):
        state = _sqlstate(_cause(error))
        return state[:2] in _VALUE_CLASSES or _is_refused_argument(error)
    # Not the database's error but of the values on their way there (a wrong type, a text that is no Unicode).
    return isinstance(error, StatementError | UnicodeError | OverflowError | TypeError)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error below SQLAlchemy's wrappers."""
    while True:
        below = error.orig if isinstance(error, StatementError) else error.__cause__
        if not isinstance(below, Exception):  # nothing more, or the cancellation behind a time-out
            return error
        error = below


def _sqlstate(error: BaseException) -> str:
    return cast("str | None", getattr(error, "sqlstate", None)) or ""


def _is_refused_argument(error: DBAPIError) -> bool:
    """asyncpg refuses an argument before it is sent (``asyncpg.DataError``: a ``ValueError``) without a SQLSTATE."""
    cause = _cause(error)
    return isinstance(cause, ValueError | sqlite3.InterfaceError | sqlite3.ProgrammingError)
