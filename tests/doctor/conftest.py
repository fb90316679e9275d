"""Fixtures of the doctor's tests."""

from __future__ import annotations

from tests.kit.database import postgres_url, shared_postgres
from tests.kit.redis import _shared_redis, own_redis, shared_redis

__all__ = ["_shared_redis", "own_redis", "postgres_url", "shared_postgres", "shared_redis"]
