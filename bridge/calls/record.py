"""The record of a call: what is kept of it, in the database, the API and the webhooks.

One struct from the first moment to the last: written when the call is let in, again with every change of state,
and a last time at its end. Times are Unix seconds. The store keeps the newest version whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.calls.journal import Journal
from bridge.calls.turns import TurnSummary, TurnTiming


class LatencySummary(msgspec.Struct, frozen=True, kw_only=True):
    """One hop of the media path in one call; the bounds of the histogram limit the precision."""

    count: int
    mean_ms: float
    p50_ms: float
    p99_ms: float


class Recording(msgspec.Struct, kw_only=True):
    """Where the audio of a call is."""

    location: str
    """Path below the recordings' folder, or ``s3://bucket/key``."""
    format: str
    """``wav`` or ``mp3``."""
    duration_ms: int = 0
    size_bytes: int = 0
    pauses: list[tuple[float, float]] = []
    """Stretches in seconds of the recording in which silence was written on request."""
    complete: bool = False
    """False while it is written, and for ever when its process died."""


class CallRecord(msgspec.Struct, kw_only=True):
    """All that is known of one call."""

    id: str
    """Our own id of the call."""
    instance_id: str
    """The process that carries it."""
    provider: str
    direction: str = "inbound"
    caller: str = ""
    called: str = ""
    call_sid: str = ""
    """The carrier's id."""
    stream_id: str = ""
    account_id: str = ""
    agent_id: str = ""
    route: str = ""
    """The route's number pattern that chose the agent; empty = the default agent."""
    environment: str = ""
    branch: str = ""
    conversation_ids: list[str] = []
    """The agent side's ids, in order; more than one after a reconnect."""

    state: str
    """A name of ``bridge.calls.state.State``."""
    admission: str = ""
    """``granted``, ``burst``, ``queued``, or the reason of a refusal."""
    is_burst: bool = False
    queue_wait_ms: int = 0
    created_at: float
    """When the carrier offered it."""
    answered_at: float | None = None
    """When the agent was ready."""
    ended_at: float | None = None
    result: str = ""
    reason: str = ""
    detail: str = ""

    carrier_format: str = ""
    agent_input_format: str = ""
    agent_output_format: str = ""
    variables: dict[str, str | int | float | bool] = {}
    """Dynamic variables that the agent was given."""
    initiation: dict[str, Any] = {}
    """The rest of the initiation data: overrides, user id, extra body."""
    analysis: dict[str, Any] = {}
    """What the vendor made of the conversation, once its own webhook has said so."""
    outputs: dict[str, str] = {}
    """Results that the carrier was given, or would have been had the caller not hung up."""
    stats: dict[str, int | float | None] = {}
    """The counters of ``bridge.calls.stats``."""
    latency: dict[str, LatencySummary] = {}
    """Per hop, by the names of the metrics' label."""
    media: dict[str, int | float | None] = {}
    """How the carrier's media stream was, where the carrier leaves that to us: SIP's loss, jitter, round trip and an
    estimate of the quality (MOS)."""
    journal: Journal = msgspec.field(default_factory=Journal)
    turns: list[TurnTiming] = []
    """When the caller's turns ended and how soon they were answered."""
    turn_summary: TurnSummary | None = None
    """All turns of the call, once it is over."""
    recording: Recording | None = None
    events_sent: int = 0
    """Webhook events of this call so far: the sequence number of the last one."""

    @property
    def conversation_id(self) -> str:
        """The latest conversation; empty before there was one."""
        return self.conversation_ids[-1] if self.conversation_ids else ""

    @property
    def duration_s(self) -> float:
        """From the offer to the end; 0 while it runs."""
        return 0.0 if self.ended_at is None else max(0.0, self.ended_at - self.created_at)


class OutboxEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook event on its way; written to the database together with the record that it tells of.

    ``id`` is derived from the call and the event, so that writing the same event twice leaves one.
    """

    id: str
    """Idempotency id, e.g. ``evt_<call id>_call.ended``; receivers see it in the body and in a header."""
    call_id: str
    sequence: int
    """Order among the events of the call, from 1."""
    type: str
    """E.g. ``call.started``, ``post_call_transcription``."""
    created_at: float
    body: bytes
    """The JSON body; for ``post_call_audio`` without its audio, which is read from the recording when it is sent."""
    audio: str = ""
    """``Recording.location`` of audio to be put into the body; empty = none."""
    audio_format: str = ""


def encode(record: CallRecord) -> bytes:
    """The record as JSON, as the database and the API have it."""
    return msgspec.json.encode(record)


_decoder = msgspec.json.Decoder(CallRecord)


def decode(text: bytes | str) -> CallRecord:
    """The record from its JSON. Raises ``msgspec.ValidationError`` for what is none."""
    return _decoder.decode(text)
