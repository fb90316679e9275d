from __future__ import annotations

import sqlite3

import asyncpg
import pytest
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, StatementError

from bridge.server.store.faults import blames_values, describe, may_pass

NUMBER = "+15550001"


def wrapped(error: Exception, kind: type[DBAPIError] = DBAPIError) -> DBAPIError:
    """As SQLAlchemy hands it on."""
    return kind("INSERT INTO calls", {"caller": NUMBER}, error)


def busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def below(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def test_words_about_server_disk_and_connection_come_through() -> None:
    assert describe(wrapped(busy(), OperationalError)) == "OperationalError: database is locked"
    assert describe(ConnectionRefusedError(111, "Connection refused")) == (
        "ConnectionRefusedError: [Errno 111] Connection refused"
    )
    stopping = asyncpg.AdminShutdownError("terminating connection\nDETAIL: more")
    assert describe(below(Exception("outer"), stopping)) == "AdminShutdownError: terminating connection"
    assert describe(TimeoutError()) == "TimeoutError: no answer in time"
    assert describe(OSError()) == "OSError"


@pytest.mark.parametrize(
    "error",
    [
        wrapped(asyncpg.UniqueViolationError(f"Key (caller)=({NUMBER}) already exists")),
        wrapped(asyncpg.DataError(f"invalid input for query argument $3: {NUMBER}")),
        wrapped(sqlite3.IntegrityError(f"value {NUMBER}"), IntegrityError),
        StatementError("bad", "INSERT", {"caller": NUMBER}, TypeError(f"{NUMBER} is no float")),
        RuntimeError(NUMBER),
    ],
)
def test_words_that_may_quote_a_call_do_not(error: Exception) -> None:
    assert NUMBER not in describe(error)


def test_the_code_stands_in_for_the_words() -> None:
    assert describe(wrapped(asyncpg.UniqueViolationError("x"))) == "UniqueViolationError (SQLSTATE 23505)"


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (wrapped(busy(), OperationalError), True),
        (sqlite3.OperationalError("unable to open database file"), False),
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.CannotConnectNowError("the database system is starting up"), True),
        (asyncpg.TooManyConnectionsError("sorry"), True),
        (asyncpg.InvalidPasswordError("password authentication failed"), False),
        (asyncpg.InvalidCatalogNameError("no such database"), False),
    ],
)
def test_what_time_may_mend(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


@pytest.mark.parametrize(
    ("error", "blames"),
    [
        (wrapped(asyncpg.UniqueViolationError("x")), True),
        (wrapped(asyncpg.NumericValueOutOfRangeError("x")), True),
        (wrapped(asyncpg.DataError("invalid input for query argument")), True),
        (wrapped(sqlite3.IntegrityError("x"), IntegrityError), True),
        (wrapped(sqlite3.DataError("x"), DataError), True),
        (wrapped(sqlite3.InterfaceError("type not supported")), True),
        (StatementError("x", "INSERT", {}, TypeError("x")), True),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed"), True),
        (wrapped(busy(), OperationalError), False),
        (wrapped(sqlite3.OperationalError("database or disk is full"), OperationalError), False),
        (wrapped(asyncpg.DiskFullError("x")), False),
        (wrapped(asyncpg.UndefinedTableError("x")), False),
        (wrapped(asyncpg.ConnectionDoesNotExistError("x")), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
    ],
)
def test_whether_the_values_are_to_blame(error: Exception, blames: bool) -> None:
    assert blames_values(error) is blames
