"""Puts the operator's API and the vendor's webhook entrance onto a bridge that keeps records."""

from __future__ import annotations

import time
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
from fastapi import APIRouter

from bridge.auth.api_keys import GuessCounter, GuessLimits, KeyRing
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.webhook_report import KNOWN_TYPES, ConversationReport
from bridge.server.api.access import AccessControl
from bridge.server.api.errors import Unavailable
from bridge.server.api.flights import flight_operations
from bridge.server.api.ports import ApiPorts
from bridge.server.api.router import create_api
from bridge.server.api.sip_messages import sip_message_operations
from bridge.server.api.stored_routes import StoredRoutes
from bridge.server.control import CallControl
from bridge.server.elevenlabs_http import ElevenLabsWebhooks, WebhookInOptions
from bridge.server.recording.manager import Recorder
from bridge.server.service import Bridge
from bridge.server.storage import Storage

if TYPE_CHECKING:
    from bridge.server.reload import Reloader


CATCH_UP_S = 5.0
"""How long the vendor's report on a call waits for our own records; a busy database takes milliseconds for them."""


def access_of(bridge: Bridge) -> AccessControl:
    """Who may do what, by API key."""
    settings = bridge.settings
    return AccessControl(
        KeyRing(settings.api_keys),
        GuessCounter(GuessLimits()),
        monotonic,
        auth_on=settings.bridge_auth == "on",
        on_refused=lambda entrance: bridge.metrics.refused.labels(entrance).inc(),
    )


def api_router(
    bridge: Bridge, storage: Storage, recorder: Recorder, access: AccessControl, reloader: Reloader
) -> APIRouter:
    """Everything below ``/v1``, and its description."""

    async def reload_routes() -> None:
        await reloader.refresh_routes(forced=True)

    ports = ApiPorts(
        calls=storage.calls,
        live=bridge.live,
        audio=recorder.audio,
        routes=StoredRoutes(
            storage.routes, lambda: bridge.routing, lambda: bridge.settings.route_defaults, reload_routes
        ),
        deliveries=storage.outbox,
        control=CallControl(bridge),
        usage=bridge.admission,
        outbound=bridge.outbound,
        leftovers=tuple(
            store.delete for store in (bridge.parts.flights, bridge.parts.sip_messages) if store is not None
        ),
    )
    settings = bridge.settings
    more = flight_operations(bridge.flight_desk) if bridge.flight_desk is not None else ()
    if (sip_messages := bridge.parts.sip_messages) is not None:
        more += sip_message_operations(sip_messages, lambda: bridge.settings.redact_numbers)
    return create_api(
        ports, access, redact_numbers=settings.redact_numbers, public_url=settings.public_base_url, more=more
    )


def webhook_in_options(bridge: Bridge) -> WebhookInOptions:
    """The vendor's secrets, and what is passed on."""
    settings = bridge.settings
    return WebhookInOptions(
        settings.elevenlabs_webhook_secrets,
        frozenset(settings.webhook_events) & KNOWN_TYPES,
        redact_numbers=settings.redact_numbers,
        verify=settings.bridge_auth == "on",
    )


def vendor_webhooks(bridge: Bridge, storage: Storage) -> ElevenLabsWebhooks:
    """The entrance for the vendor's own webhooks."""

    async def lookup(conversation_id: str) -> CallRecord | None:
        # What is read is written back with the report in it, so it must not be older than what waits to be written.
        if not await storage.ledger.flush(CATCH_UP_S):
            raise Unavailable("the database is behind")
        return await storage.calls.by_conversation(conversation_id)

    async def merge(record: CallRecord, report: ConversationReport) -> None:
        record.outputs = {**record.outputs, **report.outputs()}
        record.analysis = msgspec.to_builtins(report)
        storage.ledger.put(record, ())

    async def forward(event: OutboxEvent) -> bool:
        added = await storage.outbox.add_next(event)
        if storage.worker is not None:
            storage.worker.notify()
        return added

    return ElevenLabsWebhooks(
        webhook_in_options(bridge),
        lookup=lookup,
        merge=merge,
        forward=forward if storage.worker is not None else None,
        spool=storage.spool,
        unix=time.time,
    )
