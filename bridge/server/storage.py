"""The part of the bridge that outlives it: database, ledger, outbox, instances, retention. One life for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from bridge.calls.record import CallRecord, OutboxEvent
from bridge.config import Settings
from bridge.server.audio_spool import AudioSpool, SpoolOptions
from bridge.server.chronicle import EventMaker
from bridge.server.logs import get_logger
from bridge.server.outbox import OutboxOptions, OutboxWorker
from bridge.server.outbox_audio import library_audio
from bridge.server.recording.manager import Recorder
from bridge.server.store.calls import CallStore
from bridge.server.store.database import Database, open_database
from bridge.server.store.instances import Instances
from bridge.server.store.ledger import Ledger
from bridge.server.store.outbox import OutboxStore
from bridge.server.store.retention import Purger, Retention
from bridge.server.store.routes import RouteStore

if TYPE_CHECKING:
    from bridge.server.parts import Parts

FLUSH_TIMEOUT_S = 10.0
"""At the end, for records that the database has not taken yet."""


@dataclass(slots=True)
class Storage:
    """What is kept, and who keeps it."""

    database: Database
    calls: CallStore
    routes: RouteStore
    outbox: OutboxStore
    ledger: Ledger
    instances: Instances
    purger: Purger
    spool: AudioSpool
    """Audio of the vendor's webhooks on its way to ours."""
    worker: OutboxWorker | None
    """Delivers webhooks; None without WEBHOOK_URL."""

    @property
    def state(self) -> str:
        """``ok``, or the trouble that the last write had; records wait in memory meanwhile."""
        return self.ledger.trouble or "ok"


def retention_of(settings: Settings) -> Retention:
    """How long what is kept."""
    return Retention(
        settings.retention_records_days, settings.retention_transcripts_days, settings.retention_audio_days
    )


def outbox_options(settings: Settings) -> OutboxOptions:
    """Where events go."""
    return OutboxOptions(
        url=settings.webhook_url or "",
        secret=settings.webhook_signing_secret,
        headers=settings.webhook_header_map,
        give_up_after_s=settings.webhook_max_age_h * 3600,
    )


@contextlib.asynccontextmanager
async def open_storage(
    settings: Settings, parts: Parts, recorder: Recorder, egress: httpx.AsyncClient, events: EventMaker
) -> AsyncIterator[Storage]:
    """Open the database, bring it up to date, and run what works on it."""
    url = settings.database_url
    database = open_database(None if url is None else url.get_secret_value(), settings.data_dir)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await database.upgrade()
        storage = _put_together(settings, database, parts, recorder, egress, events)
        await storage.instances.heartbeat()
        await storage.instances.forget()
        if storage.worker is not None:
            storage.ledger.on_events = storage.worker.notify
        storage.ledger.start()
        stack.push_async_callback(_end, storage)
        await _complete_recordings(storage, recorder, events)
        await stack.enter_async_context(_running(storage, settings))
        yield storage


def _put_together(
    settings: Settings,
    database: Database,
    parts: Parts,
    recorder: Recorder,
    egress: httpx.AsyncClient,
    events: EventMaker,
) -> Storage:
    retention = retention_of(settings)
    calls, outbox = CallStore(database, retention), OutboxStore(database)
    spool = AudioSpool(SpoolOptions(settings.data_dir / "spool"))

    def ended_events(record: CallRecord) -> Sequence[OutboxEvent]:
        return events.on_ended(record, record.ended_at or record.created_at)

    worker = None
    if settings.webhook_url is not None:
        worker = OutboxWorker(
            outbox,
            egress,
            outbox_options(settings),
            owner=parts.instance_id,
            open_audio=spool.opener(library_audio(recorder.audio)),
        )
    return Storage(
        database,
        calls,
        RouteStore(database),
        outbox,
        Ledger(calls),
        Instances(database, calls, parts.instance_id, ended_events),
        Purger(database, retention, recorder.audio.delete_audio),
        spool,
        worker,
    )


async def _complete_recordings(storage: Storage, recorder: Recorder, events: EventMaker) -> None:
    """Recordings that a dead process left unfinished are entered into their calls' records."""
    for call_id, recording in await recorder.recover():
        record = await storage.calls.get(call_id)
        if record is None or record.ended_at is None:  # whoever closes the call then tells of its audio
            if not await storage.calls.attach_recording(call_id, recording):
                await recorder.audio.delete_audio(recording.location)  # its call was deleted, or never written
            continue
        record.recording = recording
        storage.ledger.put(record, events.on_recorded(record, record.ended_at))


@contextlib.asynccontextmanager
async def _running(storage: Storage, settings: Settings) -> AsyncIterator[None]:
    """Run what works beside the calls until the end."""

    def closed(records: Sequence[CallRecord]) -> None:
        log = get_logger()
        for record in records:
            log.error("lost_call_closed", call_id=record.id, instance_id=record.instance_id)
        if storage.worker is not None:
            storage.worker.notify()

    tasks = [asyncio.create_task(storage.instances.run(closed)), asyncio.create_task(storage.purger.run())]
    delivery = asyncio.create_task(storage.worker.run()) if storage.worker is not None else None
    try:
        yield
    finally:
        await storage.ledger.flush(FLUSH_TIMEOUT_S)
        if storage.worker is not None and delivery is not None:
            storage.worker.stop()
            await delivery
        for task in tasks:  # last: an instance that shows no sign of life is taken for dead
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(storage: Storage) -> None:
    """The last records, then this instance's name."""
    await storage.ledger.close(FLUSH_TIMEOUT_S)
    with contextlib.suppress(Exception):  # the database may be what went; others close our calls in due time
        await storage.instances.retire()
