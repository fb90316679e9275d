"""Random calls while instances are killed and started again, and webhooks meet a receiver that often fails.

The same for longer, with its figures: ``python -m tests.kit.chaos --seconds 60``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.chaos import wreak_havoc
from tests.kit.cluster import running_cluster
from tests.kit.database import PostgresServer, shared_postgres
from tests.kit.phones import phones

pytestmark = pytest.mark.e2e

__all__ = ["shared_postgres"]

LASTS_S = 9.0


async def test_books_balance_whoever_dies(tmp_path: Path, shared_postgres: PostgresServer) -> None:
    async with running_cluster(tmp_path, shared_postgres) as cluster, phones(cluster) as everybody:
        await wreak_havoc(cluster, everybody, LASTS_S, seed=5)
