"""What webhook bodies say of a call: its facts, made from the record, fit for JSON, and redacted when that is set.

Pure. What it is not: the shapes of the events (``webhooks``, ``webhook_vendor``), which are built from these.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.calls.record import CallRecord
from bridge.calls.redact import redact_document, redact_number, redact_text

MAX_DEPTH = 32
"""Nesting of documents that are passed on; deeper parts become null."""

MAX_DETAIL_CHARS = 500
MAX_TARGET_CHARS = 500


class RecordingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The recording; its audio comes as ``post_call_audio``."""

    format: str
    """``wav`` or ``mp3``, as it is stored; it is always sent as MP3."""
    duration_ms: int
    complete: bool


class CallFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One call. Times are Unix seconds with fractions; texts are empty and times null where there is nothing yet."""

    provider: str
    direction: str
    """``inbound`` or ``outbound``."""
    caller: str
    called: str
    agent_id: str
    conversation_id: str
    """The latest; empty before there was one."""
    conversation_ids: list[str]
    """All of them in order: more than one after a reconnect to the agent."""
    call_sid: str
    """The carrier's id of the call."""
    stream_id: str
    account_id: str
    route: str
    environment: str
    branch: str
    instance_id: str
    state: str
    admission: str
    """``granted``, ``burst``, ``queued``, or the reason of a refusal."""
    is_burst: bool
    queue_wait_ms: int
    created_at: float
    answered_at: float | None
    ended_at: float | None
    duration_s: float
    """From the offer to the end; 0 while the call runs."""
    result: str
    reason: str
    detail: str
    turns: int
    """Turns of the conversation so far; what was said comes as ``post_call_transcription``."""
    interruptions: int
    recording: RecordingFacts | None


class CallData(CallFacts, frozen=True, kw_only=True):
    """The facts as the ``data`` of our own events."""

    id: str
    """Our id of the call, the same in the API and in the log."""


class TransferFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a transfer came out."""

    target: str
    """Number or SIP address the caller was to be handed to."""
    succeeded: bool
    detail: str = ""


class TransferData(CallData, frozen=True, kw_only=True):
    """The call's facts and its transfer's."""

    transfer: TransferFacts


class BridgeFacts(CallFacts, frozen=True, kw_only=True):
    """The facts as ``data.bridge`` of events in the vendor's shape."""

    call_id: str
    transcript_cut: int = 0
    """Turns and tool calls that did not fit into the record or into this event."""


class Redaction:
    """Takes texts and documents of one record into a webhook: valid UTF-8, redacted when the operator wants that."""

    __slots__ = ("_known", "_on")

    def __init__(self, record: CallRecord, on: bool) -> None:
        self._on = on
        self._known = (record.caller, record.called)

    def number(self, number: str) -> str:
        """A phone number or SIP address."""
        return redact_number(utf8(number)) if self._on else utf8(number)

    def text(self, text: str) -> str:
        """Something that was said or written."""
        return redact_text(utf8(text), self._known) if self._on else utf8(text)

    def document(self, document: Any) -> Any:
        """A JSON document; what JSON cannot hold becomes null."""
        cleaned = clean(document)
        return redact_document(cleaned, self._known) if self._on else cleaned


def utf8(text: str) -> str:
    """The text with a replacement character for every lone surrogate, which no JSON text may hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def clean(value: Any, depth: int = 0) -> Any:
    """A copy that JSON can hold: valid texts, text keys, bounded depth, null for anything foreign."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        if depth >= MAX_DEPTH:
            return None
        return {utf8(str(name)): clean(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return None if depth >= MAX_DEPTH else [clean(item, depth + 1) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else None


def call_data(record: CallRecord, redaction: Redaction) -> CallData:
    """The facts for our own events."""
    return CallData(id=record.id, **_facts(record, redaction))


def transfer_data(record: CallRecord, redaction: Redaction, transfer: TransferFacts) -> TransferData:
    """The facts for our own event of a transfer."""
    told = TransferFacts(
        target=redaction.number(transfer.target)[:MAX_TARGET_CHARS],
        succeeded=transfer.succeeded,
        detail=redaction.text(transfer.detail)[:MAX_DETAIL_CHARS],
    )
    return TransferData(id=record.id, transfer=told, **_facts(record, redaction))


def bridge_facts(record: CallRecord, redaction: Redaction, transcript_cut: int = 0) -> BridgeFacts:
    """The facts for events in the vendor's shape."""
    return BridgeFacts(call_id=record.id, transcript_cut=transcript_cut, **_facts(record, redaction))


def _facts(record: CallRecord, redaction: Redaction) -> dict[str, Any]:
    recording = record.recording
    return {
        "provider": record.provider,
        "direction": record.direction,
        "caller": redaction.number(record.caller),
        "called": redaction.number(record.called),
        "agent_id": utf8(record.agent_id),
        "conversation_id": utf8(record.conversation_id),
        "conversation_ids": [utf8(name) for name in record.conversation_ids],
        "call_sid": utf8(record.call_sid),
        "stream_id": utf8(record.stream_id),
        "account_id": utf8(record.account_id),
        "route": redaction.text(record.route),
        "environment": utf8(record.environment),
        "branch": utf8(record.branch),
        "instance_id": utf8(record.instance_id),
        "state": record.state,
        "admission": record.admission,
        "is_burst": record.is_burst,
        "queue_wait_ms": record.queue_wait_ms,
        "created_at": record.created_at,
        "answered_at": record.answered_at,
        "ended_at": record.ended_at,
        "duration_s": round(record.duration_s, 3),
        "result": record.result,
        "reason": record.reason,
        "detail": redaction.text(record.detail)[:MAX_DETAIL_CHARS],
        "turns": len(record.journal.turns),
        "interruptions": int(record.stats.get("interruptions") or 0),
        "recording": None
        if recording is None
        else RecordingFacts(format=recording.format, duration_ms=recording.duration_ms, complete=recording.complete),
    }
