"""From a call's record to its row and back. Pure.

A record is encoded when it is handed in, so that whoever goes on changing it cannot change what is written. That takes
some 30 us for a usual call (see ``Ledger``), and makes the memory that waits for the database countable in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import String

from bridge.calls.journal import Journal
from bridge.calls.record import CallRecord, OutboxEvent, Recording, decode, encode
from bridge.calls.webhook_facts import clean
from bridge.server.store.retention import Retention, has_transcript, scrub
from bridge.server.store.schema import CALLS, CONVERSATIONS

Saved = tuple[CallRecord, tuple[OutboxEvent, ...]]
"""A version of a record, and the events that are written with it."""

ENTRY_BYTES = 2_000
"""What a waiting version takes in memory besides its JSON: the row's dictionary and its short texts."""

_EMPTY = Journal()
_journals = msgspec.json.Decoder(Journal)
_recordings = msgspec.json.Decoder(Recording)


class EncodedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a record, ready to be written."""

    id: str
    instance_id: str
    row: dict[str, Any]
    """Of CALLS."""
    keep: bool
    """False = only the events are written, and the row goes."""
    conversation_ids: tuple[str, ...]
    events: tuple[dict[str, Any], ...]
    """Rows of OUTBOX."""
    size_bytes: int

    @property
    def is_end(self) -> bool:
        """Whether the call is over with this version."""
        return self.row["ended_at"] is not None

    def with_events(self, earlier: tuple[dict[str, Any], ...]) -> EncodedCall:
        """The same, with the events of an earlier version that was not written before its own."""
        own = {event["id"] for event in self.events}
        added = tuple(event for event in earlier if event["id"] not in own)
        return msgspec.structs.replace(
            self, events=(*added, *self.events), size_bytes=self.size_bytes + sum(map(_event_bytes, added))
        )


def encode_call(record: CallRecord, events: Sequence[OutboxEvent], retention: Retention) -> EncodedCall:
    """Encode a version of a record. Values that JSON cannot hold (lone surrogates, foreign objects) are replaced."""
    try:
        return _encode(record, events, retention)
    except (TypeError, ValueError):  # a carrier's text may hold anything; the record is worth more than the letter
        safe = clean(msgspec.to_builtins(record, enc_hook=lambda _value: None))
        return _encode(msgspec.convert(safe, CallRecord), events, retention)


def decode_call(document: bytes, recording: str, journal: bytes | None = None) -> CallRecord:
    """The record from its row's columns; without ``journal`` its lists are empty."""
    record = decode(document)
    if journal is not None:
        record.journal = _journals.decode(journal)
    record.recording = _recordings.decode(recording) if recording else None
    return record


def _encode(record: CallRecord, events: Sequence[OutboxEvent], retention: Retention) -> EncodedCall:
    journal = record.journal if retention.effective_transcripts_days != 0 else scrub(record.journal)
    keeps_text = journal is record.journal and has_transcript(journal)
    recording = "" if record.recording is None else msgspec.json.encode(record.recording).decode()
    document = encode(msgspec.structs.replace(record, journal=_EMPTY, recording=None))
    journal_json = msgspec.json.encode(journal)
    row = {
        "id": record.id,
        "instance_id": record.instance_id,
        "provider": _fit(record.provider, "provider"),
        "direction": _fit(record.direction, "direction"),
        "caller": _clean(record.caller),
        "called": _clean(record.called),
        "agent_id": _fit(record.agent_id, "agent_id"),
        "call_sid": _fit(record.call_sid, "call_sid"),
        "conversation_id": _fit(record.conversation_id, "conversation_id"),
        "state": _fit(record.state, "state"),
        "result": _fit(record.result, "result"),
        "reason": _fit(record.reason, "reason"),
        "is_burst": record.is_burst,
        "created_at": record.created_at,
        "answered_at": record.answered_at,
        "ended_at": record.ended_at,
        "recording": recording,
        "document": document,
        "journal": journal_json,
        "has_transcript": keeps_text,
    }
    rows = tuple(map(_event_row, events))
    return EncodedCall(
        id=record.id,
        instance_id=record.instance_id,
        row=row,
        keep=not (retention.records_days == 0 and record.ended_at is not None and record.recording is None),
        conversation_ids=tuple(_fit_conversation(text) for text in record.conversation_ids if text),
        events=rows,
        size_bytes=ENTRY_BYTES + len(document) + len(journal_json) + sum(map(_event_bytes, rows)),
    )


def _event_row(event: OutboxEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "call_id": event.call_id,
        "sequence": event.sequence,
        "type": event.type,
        "created_at": event.created_at,
        "body": event.body,
        "audio": event.audio,
        "audio_format": event.audio_format,
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": 0.0,  # at once, whatever this machine's clock says
        "claimed_by": "",
        "claimed_until": 0.0,
        "delivered_at": None,
        "last_error": "",
    }


def _event_bytes(event: dict[str, Any]) -> int:
    return ENTRY_BYTES + len(event["body"])


def _length(table_column: Any) -> int:
    kind = table_column.type
    assert isinstance(kind, String) and kind.length is not None
    return kind.length


_LENGTHS = {
    name: _length(CALLS.c[name])
    for name in ("provider", "direction", "agent_id", "call_sid", "conversation_id", "state", "result", "reason")
}
_CONVERSATION_LENGTH = _length(CONVERSATIONS.c.conversation_id)


def _fit(text: str, column: str) -> str:
    """The text as its column takes it. The document has it whole."""
    return _clean(text)[: _LENGTHS[column]]


def _fit_conversation(text: str) -> str:
    return _clean(text)[:_CONVERSATION_LENGTH]


def _clean(text: str) -> str:
    """Without what PostgreSQL's texts cannot hold: the null character and lone surrogates."""
    if text.isprintable():  # neither of the two is printable
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
