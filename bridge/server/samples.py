"""Samples for ``/metrics`` of the parts that count for themselves. Taken when somebody asks; nothing here waits.

Labels come from closed lists; agents, numbers and calls are never labels.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bridge.server.store.faults import describe
from bridge.server.store.outbox import OutboxCounts

if TYPE_CHECKING:
    from bridge.server.service import Bridge
    from bridge.server.storage import Storage

BACKLOG_EVERY_S = 10.0
"""How often the outbox is counted: a question to the database that a scrape must not wait for."""

STORES = ("memory", "redis", "redis_down")


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


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
        yield _gauge("bridge_workspace_calls", "Slots of the workspace in use, over all processes.", usage.calls)
        if usage.limit is not None:
            yield _gauge("bridge_workspace_limit", "Slots of the workspace without bursting.", usage.limit)
        yield _gauge("bridge_burst_calls", "Calls above the workspace's limit, over all processes.", usage.burst)
        yield _gauge("bridge_batch_calls", "Calls placed by batches, over all processes.", usage.batch)
        yield _gauge("bridge_queued_calls", "Callers who wait for a slot, over all processes.", usage.waiting)
        yield _gauge("bridge_instances", "Processes that share the limits.", usage.instances)
        yield _gauge("bridge_burst_minutes_today", "Minutes of burst calls today.", usage.burst_minutes_today)
        state = GaugeMetricFamily("bridge_limits_store", "1 for where slots are counted right now.", labels=["store"])
        for name in STORES:
            state.add_metric([name], float(usage.store == name))
        yield state
        redis = self._bridge.parts.redis
        if redis is not None:
            yield _counter("bridge_redis_failures", "Commands that Redis did not answer in time.", redis.failures)

    def _records(self, storage: Storage) -> Iterator[Metric]:
        ledger = storage.ledger
        yield _gauge("bridge_database_up", "1 while the last write of records worked.", float(not ledger.trouble))
        yield _gauge("bridge_records_pending", "Records that wait for the database.", ledger.pending)
        yield _gauge("bridge_records_lag_seconds", "How long the oldest of them has waited.", ledger.lag_s)
        yield _counter("bridge_records_lost", "Versions of records that were never written.", ledger.lost)
        yield _counter("bridge_webhook_events_lost", "Webhook events that were never written.", ledger.lost_events)
        yield _counter(
            "bridge_instance_lost_calls", "Calls of dead processes that this one closed.", storage.instances.reaped
        )

    def _webhooks(self, storage: Storage) -> Iterator[Metric]:
        if storage.worker is None:
            return
        figures = storage.worker.figures
        yield _counter("bridge_webhooks_delivered", "Webhook events that were taken.", figures.delivered)
        yield _counter("bridge_webhook_failures", "Attempts that failed and are repeated.", figures.failed_attempts)
        yield _counter("bridge_webhooks_dead", "Webhook events that were given up.", figures.dead)
        if self._backlog is not None:
            yield _gauge("bridge_webhook_backlog", "Webhook events still to be delivered.", self._backlog.pending)
            yield _gauge(
                "bridge_webhook_backlog_age_seconds", "Age of the oldest of them.", self._backlog.oldest_pending_s
            )
            yield _gauge("bridge_webhook_dead_letters", "Webhook events that wait for a replay.", self._backlog.dead)

    def _recordings(self) -> Iterator[Metric]:
        recorder = self._bridge.parts.recorder
        if recorder is None:
            return
        stats = recorder.stats
        yield _gauge("bridge_recordings_active", "Calls being recorded.", recorder.active)
        yield _counter("bridge_recordings_finished", "Recordings that ended.", stats.finished)
        yield _counter("bridge_recordings_incomplete", "Recordings that hold less than their call.", stats.incomplete)
        if recorder.uploads is not None:
            yield _gauge("bridge_recording_uploads", "Recordings that wait for the bucket.", recorder.uploads.pending)


@contextlib.asynccontextmanager
async def sampling(bridge: Bridge) -> AsyncIterator[None]:
    """Have the parts' samples in the metrics while this context is open."""
    samples = Samples(bridge)
    bridge.metrics.sources.append(samples)
    storage = bridge.parts.storage
    task = asyncio.create_task(samples.watch(storage)) if storage is not None and storage.worker is not None else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
