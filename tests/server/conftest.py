"""Fixtures of the server's tests."""

from __future__ import annotations

from tests.kit.redis import _shared_redis, own_redis, shared_redis

__all__ = ["_shared_redis", "own_redis", "shared_redis"]
