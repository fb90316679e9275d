"""A webhook event as whoever asks for it sees it: what it is, and how far it got."""

from __future__ import annotations

import msgspec


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook event and how far it got."""

    id: str
    """Receivers see it in the body and in a header; the same when it is sent again."""
    call_id: str
    """The bridge's id of the call."""
    sequence: int
    """Order among the events of the call, from 1."""
    type: str
    """E.g. ``call.started``, ``post_call_transcription``."""
    state: str
    """``pending``, ``delivered`` or ``dead``."""
    attempts: int
    """How often it was sent."""
    created_at: float
    """Unix seconds."""
    next_attempt_at: float | None
    """Unix seconds; null when there will be none."""
    delivered_at: float | None
    """Unix seconds; null while it is not."""
    last_error: str
    """What the last attempt came to; empty when it was taken."""
