"""Samples for ``/metrics`` of the parts that count for themselves. Taken when somebody asks; nothing here waits.

Labels come from closed lists; agents, numbers and calls are never labels.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from bridge.server.certificates import CertificateOptions, Certificates
from bridge.server.metric_catalogue import gauge, one
from bridge.server.store.faults import describe
from bridge.server.store.outbox import OutboxCounts

if TYPE_CHECKING:
    from bridge.config import Settings
    from bridge.server.service import Bridge
    from bridge.server.storage import Storage

BACKLOG_EVERY_S = 10.0
"""How often the outbox is counted: a question to the database that a scrape must not wait for."""

STORES = ("memory", "redis", "redis_down")


class Samples:
    """The source for one bridge; register with ``Metrics.sources``."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._backlog: OutboxCounts | None = None

    def __call__(self) -> Iterator[Metric]:
        """All samples as they stand now."""
        yield from self._limits()
        storage = self._bridge.parts.storage
        if storage is not None:
            yield from self._records(storage)
            yield from self._webhooks(storage)
        yield from self._recordings()

    async def watch(self, storage: Storage) -> None:
        """Count the outbox from time to time, until cancelled."""
        while True:
            try:
                self._backlog = await storage.outbox.counts()
            except Exception as error:  # the database is away: the last figures stand, and other lines say so
                self._bridge.log.debug("backlog_unknown", detail=describe(error))
            await asyncio.sleep(BACKLOG_EVERY_S)

    def _limits(self) -> Iterator[Metric]:
        usage = self._bridge.admission.usage()
        yield one("bridge_workspace_calls", usage.calls)
        if usage.limit is not None:
            yield one("bridge_workspace_limit", usage.limit)
        yield one("bridge_burst_calls", usage.burst)
        yield one("bridge_batch_calls", usage.batch)
        yield one("bridge_queued_calls", usage.waiting)
        yield one("bridge_instances", usage.instances)
        yield one("bridge_burst_minutes_today", usage.burst_minutes_today)
        yield gauge("bridge_limits_store", [((name,), float(usage.store == name)) for name in STORES])
        redis = self._bridge.parts.redis
        if redis is not None:
            yield one("bridge_redis_failures_total", redis.failures)

    def _records(self, storage: Storage) -> Iterator[Metric]:
        ledger = storage.ledger
        yield one("bridge_database_up", float(not ledger.trouble))
        yield one("bridge_heartbeat_steady", float(storage.instances.steady))
        yield one("bridge_records_pending", ledger.pending)
        yield one("bridge_records_lag_seconds", ledger.lag_s)
        yield one("bridge_records_lost_total", ledger.lost)
        yield one("bridge_webhook_events_lost_total", ledger.lost_events)
        yield one("bridge_instance_lost_calls_total", storage.instances.reaped)

    def _webhooks(self, storage: Storage) -> Iterator[Metric]:
        if storage.worker is None:
            return
        figures = storage.worker.figures
        yield one("bridge_webhooks_delivered_total", figures.delivered)
        yield one("bridge_webhook_failures_total", figures.failed_attempts)
        yield one("bridge_webhooks_dead_total", figures.dead)
        if self._backlog is not None:
            yield one("bridge_webhook_backlog", self._backlog.pending)
            yield one("bridge_webhook_backlog_age_seconds", self._backlog.oldest_pending_s)
            yield one("bridge_webhook_dead_letters", self._backlog.dead)

    def _recordings(self) -> Iterator[Metric]:
        recorder = self._bridge.parts.recorder
        if recorder is None:
            return
        stats = recorder.stats
        yield one("bridge_recordings_active", recorder.active)
        yield one("bridge_recordings_finished_total", stats.finished)
        yield one("bridge_recordings_incomplete_total", stats.incomplete)
        if recorder.uploads is not None:
            yield one("bridge_recording_uploads", recorder.uploads.pending)


def certificate_options(settings: Settings) -> CertificateOptions:
    """What callers' connections depend on: what is shown at PUBLIC_URL, and the SIP port's own."""
    files = {} if settings.sip_tls_cert is None else {"sip": settings.sip_tls_cert}
    return CertificateOptions({"public_url": settings.public_base_url}, files)


@contextlib.asynccontextmanager
async def sampling(bridge: Bridge) -> AsyncIterator[None]:
    """Have the parts' samples in the metrics while this context is open."""
    samples, certificates = Samples(bridge), Certificates(certificate_options(bridge.settings))
    bridge.metrics.sources += [samples, certificates]
    storage = bridge.parts.storage
    tasks = [asyncio.create_task(certificates.run())]
    if storage is not None and storage.worker is not None:
        tasks.append(asyncio.create_task(samples.watch(storage)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
