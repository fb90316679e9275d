"""The vendor's own post-call events: read, joined to our record, and made ready to be passed on. Pure.

What arrives is passed on to the letter: members that are not known here, and numbers as they were written. Only
``data.bridge`` is added (``webhook_facts.BridgeFacts``), null where the conversation is none of ours: a workspace's
webhook reports on its web and app conversations, too. ``post_call_audio`` has its three members and gets no fourth.

Source: ElevenLabs docs, "Post-call webhooks" (read 2026-11-21).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import pybase64

from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.webhook_facts import Redaction, bridge_facts, clean
from bridge.calls.webhook_vendor import AUDIO, INITIATION_FAILURE, TRANSCRIPTION

KNOWN_TYPES = frozenset({TRANSCRIPTION, AUDIO, INITIATION_FAILURE})

MAX_RESULTS = 200
"""Data collection results and criteria taken into the record; an agent has a dozen."""
MAX_RESULT_CHARS = 2_000
MAX_SUMMARY_CHARS = 20_000
MAX_ID_CHARS = 64
"""As the outbox's columns have it; the vendor's ids have some 30."""
PIECE_CHARS = 1024 * 1024
"""Of base64 that are decoded at once; a multiple of four, as four characters are three bytes."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_T = TypeVar("_T")


class BadEvent(ValueError):
    """The body is no event; the message says why, without quoting it."""


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """How the conversation did by one of the agent's criteria."""

    result: str
    """``success``, ``failure`` or ``unknown``."""
    rationale: str = ""


class ConversationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the vendor made of a conversation, as far as a call's record keeps it."""

    conversation_id: str
    agent_id: str
    status: str = ""
    call_successful: str = ""
    """``success``, ``failure`` or ``unknown``; empty without an analysis."""
    summary: str = ""
    title: str = ""
    criteria: dict[str, Criterion] = {}
    results: dict[str, Any] = {}
    """Data collection results by name, those without a value left out."""
    cost_credits: int | None = None
    main_language: str = ""
    termination_reason: str = ""

    def outputs(self) -> dict[str, str]:
        """The results as texts, as ``CallRecord.outputs`` has them: true/false and numbers as JSON writes them."""
        texts = {}
        for name, value in self.results.items():
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            texts[name] = text[:MAX_RESULT_CHARS]
        return texts


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """An event of the vendor's; members are kept as they were written."""

    type: str
    conversation_id: str
    members: dict[str, msgspec.Raw]
    data: dict[str, msgspec.Raw]


class _Result(msgspec.Struct):
    value: Any = None


class _Analysis(msgspec.Struct):
    call_successful: str = ""
    transcript_summary: str = ""
    call_summary_title: str | None = None
    evaluation_criteria_results: dict[str, Criterion] | None = None
    data_collection_results: dict[str, _Result] | None = None


class _Metadata(msgspec.Struct):
    cost: int | None = None
    main_language: str | None = None
    termination_reason: str | None = None


def read_event(body: bytes | memoryview) -> IncomingEvent:
    """Read an event; nothing of ``body`` is copied, so keep it as long as the event. Raises ``BadEvent``."""
    members = _decode(body, dict[str, msgspec.Raw], "the body is no JSON object")
    kind = _decode(members.get("type", b""), str, "the event has no type")
    if kind not in KNOWN_TYPES:
        return IncomingEvent(kind, "", members, {})
    data = _decode(members.get("data", b""), dict[str, msgspec.Raw], "the event has no data")
    conversation_id = _decode(data.get("conversation_id", b""), str, "the event names no conversation")
    if not conversation_id:
        raise BadEvent("the event names no conversation")
    return IncomingEvent(kind, conversation_id, members, data)


def read_report(event: IncomingEvent) -> ConversationReport:
    """What a transcription says of its conversation. Parts that are not as documented are left out."""
    analysis = _lenient(event.data.get("analysis"), _Analysis)
    metadata = _lenient(event.data.get("metadata"), _Metadata)
    found = (analysis.data_collection_results or {}).items()
    criteria = (analysis.evaluation_criteria_results or {}).items()
    return ConversationReport(
        conversation_id=event.conversation_id,
        agent_id=_lenient_text(event.data.get("agent_id")),
        status=_lenient_text(event.data.get("status")),
        call_successful=analysis.call_successful,
        summary=analysis.transcript_summary[:MAX_SUMMARY_CHARS],
        title=(analysis.call_summary_title or "")[:MAX_RESULT_CHARS],
        criteria={
            name: Criterion(result=one.result, rationale=one.rationale[:MAX_RESULT_CHARS])
            for name, one in list(criteria)[:MAX_RESULTS]
        },
        results={name: clean(one.value) for name, one in list(found)[:MAX_RESULTS] if one.value is not None},
        cost_credits=metadata.cost,
        main_language=metadata.main_language or "",
        termination_reason=metadata.termination_reason or "",
    )


def audio_of(event: IncomingEvent) -> Iterator[bytes]:
    """The audio of an audio event, decoded piece by piece. Raises ``BadEvent`` where it is no base64, or none."""
    written = event.data.get("full_audio")
    text = memoryview(written) if written is not None else memoryview(b"")
    if len(text) < 3 or text[0] != ord('"'):
        raise BadEvent("the event has no audio")
    base64 = text[1:-1]
    for start in range(0, len(base64), PIECE_CHARS):
        try:
            yield pybase64.b64decode(base64[start : start + PIECE_CHARS], validate=True)
        except binascii.Error:
            raise BadEvent("the event's audio is no base64") from None


def forwarded(
    event: IncomingEvent,
    record: CallRecord | None,
    unix_s: float,
    *,
    redact_numbers: bool,
    audio: str = "",
) -> OutboxEvent:
    """The event as it is passed on: its own type, with the facts of its call where that is known.

    ``audio`` is where the audio of an audio event was put, as MP3. The id is made of conversation and type, so that
    the vendor's repetitions are known; ``sequence`` is for the outbox to set (``OutboxStore.add_next``).
    """
    data: dict[str, Any] = dict(event.data)
    if event.type == AUDIO:
        data = {name: event.data.get(name) for name in ("agent_id", "conversation_id")}
        data["full_audio"] = ""
    else:
        data["bridge"] = None if record is None else bridge_facts(record, Redaction(record, redact_numbers))
    members: dict[str, Any] = {name: value for name, value in event.members.items() if name != "data"}
    conversation = _short_id(event.conversation_id)
    return OutboxEvent(
        id=f"evt_{conversation}_{event.type}",
        call_id=conversation if record is None else record.id,
        sequence=1 if record is None else record.events_sent + 1,
        type=event.type,
        created_at=unix_s,
        body=msgspec.json.encode({**members, "data": data}),
        audio=audio,
        audio_format="mp3" if audio else "",
    )


def _short_id(conversation_id: str) -> str:
    """The conversation's id as ids of events have it: itself, or its digest where it is unlike the vendor's."""
    if _PLAIN_ID.fullmatch(conversation_id):
        return conversation_id
    return hashlib.sha256(conversation_id.encode("utf-8", "replace")).hexdigest()[:MAX_ID_CHARS]


def _decode(text: msgspec.Raw | bytes | memoryview, kind: type[_T], problem: str) -> _T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadEvent(problem) from None


def _lenient(text: msgspec.Raw | None, kind: type[_T]) -> _T:
    """A part of the event, or an empty one where it is not as documented."""
    try:
        return msgspec.json.decode(text if text is not None else b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return kind()


def _lenient_text(text: msgspec.Raw | None) -> str:
    try:
        return msgspec.json.decode(text if text is not None else b'""', type=str)
    except msgspec.DecodeError:
        return ""
