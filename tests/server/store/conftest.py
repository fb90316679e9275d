"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit import logs
from tests.kit.database import (
    _migrated_postgres_url,
    database,
    database_kind,
    database_url,
    empty_database_url,
    fresh_database,
    own_postgres,
    postgres_url,
    shared_postgres,
    sqlite_database,
    sqlite_url,
)

__all__ = [
    "_migrated_postgres_url",
    "database",
    "database_kind",
    "database_url",
    "empty_database_url",
    "fresh_database",
    "own_postgres",
    "postgres_url",
    "shared_postgres",
    "sqlite_database",
    "sqlite_url",
]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Log lines of the test."""
    with logs.captured() as captured:
        yield captured
