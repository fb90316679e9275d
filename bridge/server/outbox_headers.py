"""The headers of webhook events, and an attempt's name in its call's trace."""

from __future__ import annotations

from bridge.auth import webhook
from bridge.server.store.outbox import Claimed

RESERVED_HEADERS = frozenset(
    {
        "content-length",
        "content-type",
        "elevenlabs-signature",
        "host",
        "idempotency-key",
        "transfer-encoding",
        "x-bridge-attempt",
        "x-bridge-event-id",
        "x-bridge-event-type",
    }
)
"""In lower case: what an operator's extra headers cannot be."""


def event_headers(claimed: Claimed, signature: str) -> dict[str, str]:
    """The headers of an attempt, besides the operator's."""
    event = claimed.event
    return {
        "Content-Type": "application/json",
        **({webhook.HEADER: signature} if signature else {}),
        "Idempotency-Key": event.id,
        "X-Bridge-Event-Id": event.id,
        "X-Bridge-Event-Type": event.type,
        "X-Bridge-Attempt": str(claimed.attempt),
    }


def span_of(claimed: Claimed) -> tuple[str, str]:
    """Name and key of an attempt in its call's trace."""
    return f"webhook {claimed.event.type}", f"{claimed.event.id} {claimed.attempt}"
