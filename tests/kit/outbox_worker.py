"""A process that delivers webhook events and does nothing else: for tests that kill it.

``python -m tests.kit.outbox_worker DATABASE_URL WEBHOOK_URL OWNER LEASE_S``; ends on SIGTERM as the bridge does.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bridge.server.egress import EgressOptions, guarded_client
from bridge.server.egress_addresses import parse_networks
from bridge.server.outbox import OutboxOptions, OutboxWorker
from bridge.server.store.database import open_database
from bridge.server.store.outbox import OutboxStore
from tests.kit.webhooks import SECRET

AUDIO = bytes(range(256)) * 4_000
"""A megabyte: its event takes a while, so that kills hit it in the middle."""


async def audio(_location: str) -> AsyncIterator[bytes]:
    """The same for every recording."""
    for start in range(0, len(AUDIO), 64_000):
        yield AUDIO[start : start + 64_000]
        await asyncio.sleep(0.001)


async def run(database_url: str, webhook_url: str, owner: str, lease_s: float) -> None:
    """Deliver until SIGTERM."""
    database = open_database(database_url, Path())
    options = OutboxOptions(
        url=webhook_url, secret=SECRET, lease_s=lease_s, renew_s=lease_s / 4, poll_s=0.1, parallel=8, stop_grace_s=5.0
    )
    egress = EgressOptions(allow=parse_networks(["127.0.0.0/8"]))
    async with guarded_client(egress, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client:
        worker = OutboxWorker(OutboxStore(database), client, options, owner=owner, open_audio=audio)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()
    await database.close()


if __name__ == "__main__":
    _, database_url, webhook_url, owner, lease_s = sys.argv
    asyncio.run(run(database_url, webhook_url, owner, float(lease_s)))
