from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.server.store.address import PostgresServer, SqliteFile, parse_address

DATA = Path("data")


def dsn(url: str) -> str:
    address = parse_address(url, DATA)
    assert isinstance(address, PostgresServer)
    return address.dsn


@pytest.mark.parametrize("url", [None, ""])
def test_the_default_is_a_file_in_the_data_folder(url: str | None) -> None:
    assert parse_address(url, DATA) == SqliteFile(Path("data/bridge.sqlite3"))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///calls.db", "calls.db"),
        ("sqlite:///folder/calls.db", "folder/calls.db"),
        ("sqlite:////var/lib/calls.db", "/var/lib/calls.db"),
        ("sqlite+aiosqlite:////var/lib/calls.db", "/var/lib/calls.db"),
        ("SQLite:////var/lib/my%20calls.db", "/var/lib/my calls.db"),
    ],
)
def test_a_file_by_its_path(url: str, path: str) -> None:
    assert parse_address(url, DATA) == SqliteFile(Path(path))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgres://u:p@h:5433/db", "postgresql://u:p@h:5433/db"),
        ("postgresql://u:p@h/db", "postgresql://u:p@h/db"),
        ("postgresql+asyncpg://u:p%40@h/db", "postgresql://u:p%40@h/db"),
        ("POSTGRES://u@h/db", "postgresql://u@h/db"),
        ("postgres://u@h/db?sslmode=require", "postgresql://u@h/db?sslmode=require"),
        ("postgresql+asyncpg://u@h/db?ssl=verify-full", "postgresql://u@h/db?sslmode=verify-full"),
        ("postgres://u@h/db?connect_timeout=10&channel_binding=prefer&keepalives=1", "postgresql://u@h/db"),
        ("postgresql:///db?host=/var/run/postgresql", "postgresql:///db?host=%2Fvar%2Frun%2Fpostgresql"),
        ("postgresql://u@h?dbname=db", "postgresql://u@h?dbname=db"),
    ],
)
def test_a_server_in_the_forms_that_people_write(url: str, wanted: str) -> None:
    assert dsn(url) == wanted


def test_the_operators_application_name_stays() -> None:
    address = parse_address("postgres://u@h/db?application_name=mine", DATA)
    assert isinstance(address, PostgresServer)
    assert address.names_application


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:hunter2@h/db", "this kind of database is not known"),
        ("hunter2", "this kind of database is not known"),
        ("sqlite://", "SQLite needs a file that outlives the process"),
        ("sqlite:///", "SQLite needs a file that outlives the process"),
        ("sqlite:///:memory:", "SQLite needs a file that outlives the process"),
        ("sqlite://folder/file", "SQLite needs a file that outlives the process"),
        ("sqlite:///file?mode=ro", "a SQLite path takes no parameters"),
        ("postgres://u:hunter2@h:port/db", "this is no readable PostgreSQL address"),
        ("postgres://u:hunter2@[h/db", "this is no readable PostgreSQL address"),
        ("postgres://u:hun#ter2@h/db", "this is no readable PostgreSQL address"),
        ("postgres://u@h/db#hunter2", "this is no readable PostgreSQL address"),
        ("postgres://u:hunter2@h/db?broken", "this is no readable PostgreSQL address"),
        ("postgres://u:hunter2@h", "the name of the database is missing"),
        ("postgres://u:hunter2@h/db?channel_binding=require", "the driver cannot do channel_binding=require"),
    ],
)
def test_what_is_no_address_is_refused_without_quoting_it(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(url, DATA)
    assert str(caught.value).startswith("DATABASE_URL: ")
    assert words in str(caught.value)
    assert "hun" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_address_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(parse_address("postgres://u:hunter2@h/db", DATA))
