"""Webhook events of a call: which are due at which moment of its life, with their ids, order and bodies. Pure.

One function a moment (``on_started`` and so on) takes the record, makes the events and counts them in
``record.events_sent``; whoever stores the record stores them with it, in one transaction (``OutboxEvent``). An event's
id is made of the call's id and the event's type, so that telling of a moment twice leaves one event.

Our own events have this shape, here of ``call.ended``; the vendor's are in ``webhook_vendor``:

    {"type": "call.ended", "id": "evt_<call id>_call.ended", "event_timestamp": 1739537319, "sequence": 3,
     "data": {...the members of webhook_facts.CallData...}}

``sequence`` counts the events of a call that are sent at all, from 1, without gaps; they arrive in this order, unless
one is given up and replayed later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.webhook_facts import CallData, Redaction, TransferData, TransferFacts, call_data, transfer_data, utf8
from bridge.calls.webhook_vendor import (
    AUDIO,
    INITIATION_FAILURE,
    TRANSCRIPTION,
    InitiationFailure,
    audio_body,
    failure_body,
    transcription_body,
)

STARTED = "call.started"
ANSWERED = "call.answered"
TRANSFERRED = "call.transferred"
ENDED = "call.ended"

ALL_EVENTS = (STARTED, ANSWERED, TRANSFERRED, ENDED, TRANSCRIPTION, AUDIO, INITIATION_FAILURE)
"""Every type of event, as ``WEBHOOK_EVENTS`` names them."""


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """What is told, and how openly."""

    events: frozenset[str] = frozenset(ALL_EVENTS)
    """Types that are made; empty = none at all."""
    redact_numbers: bool = False
    """Whether phone numbers and SIP users are masked wherever they stand."""


NO_WEBHOOKS = WebhookOptions(events=frozenset())
"""For a bridge without a webhook URL: no event is made, so none is stored."""


class CallEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The frame of our own events."""

    type: str
    id: str
    event_timestamp: int
    sequence: int
    data: CallData | TransferData


def parse_events(names: Iterable[str]) -> frozenset[str]:
    """Types of events as ``WEBHOOK_EVENTS`` lists them. Raises ``ValueError`` that quotes the unknown ones."""
    given = {name.strip() for name in names if name.strip()}
    unknown = sorted(given - set(ALL_EVENTS))
    if unknown:
        raise ValueError(f"no such events: {', '.join(unknown)}; there are {', '.join(ALL_EVENTS)}")
    return frozenset(given)


# --- the moments -----------------------------------------------------------------------------------------


def on_started(record: CallRecord, unix_s: float, options: WebhookOptions) -> tuple[OutboxEvent, ...]:
    """The call was let in."""
    return _own(record, STARTED, unix_s, options)


def on_answered(record: CallRecord, unix_s: float, options: WebhookOptions) -> tuple[OutboxEvent, ...]:
    """The agent is ready and the caller hears it."""
    return _own(record, ANSWERED, unix_s, options)


def on_transferred(
    record: CallRecord, unix_s: float, options: WebhookOptions, transfer: TransferFacts, ordinal: int = 1
) -> tuple[OutboxEvent, ...]:
    """A transfer came out, one way or the other. ``ordinal`` tells the transfers of one call apart, from 1."""
    return _own(record, TRANSFERRED, unix_s, options, transfer, ordinal)


def on_ended(record: CallRecord, unix_s: float, options: WebhookOptions, *, audio: bool) -> tuple[OutboxEvent, ...]:
    """The call is over: ``call.ended``, and after a conversation its transcription and, with ``audio``, its audio."""
    events = list(_own(record, ENDED, unix_s, options))
    if record.conversation_id and TRANSCRIPTION in options.events:
        redaction = Redaction(record, options.redact_numbers)
        events.append(_event(record, TRANSCRIPTION, unix_s, transcription_body(record, unix_s, redaction)))
    if audio:
        events += on_recorded(record, unix_s, options)
    return tuple(events)


def on_recorded(record: CallRecord, unix_s: float, options: WebhookOptions) -> tuple[OutboxEvent, ...]:
    """The recording of a conversation can be had: its audio, for a call whose end was told of before."""
    recording = record.recording
    if not record.conversation_id or recording is None or AUDIO not in options.events:
        return ()
    body = audio_body(record, unix_s)
    return (_event(record, AUDIO, unix_s, body, audio=recording.location, audio_format=recording.format),)


def on_initiation_failure(
    record: CallRecord, unix_s: float, options: WebhookOptions, failure: InitiationFailure
) -> tuple[OutboxEvent, ...]:
    """A call that we placed did not come about: nobody answered, or the line failed before anybody could."""
    if INITIATION_FAILURE not in options.events:
        return ()
    body = failure_body(record, unix_s, failure, Redaction(record, options.redact_numbers))
    return (_event(record, INITIATION_FAILURE, unix_s, body),)


# --- inside ----------------------------------------------------------------------------------------------


def event_id(call_id: str, kind: str, ordinal: int = 1) -> str:
    """The id of an event: the same for the same moment of the same call."""
    return f"evt_{call_id}_{kind}" + (f"_{ordinal}" if ordinal > 1 else "")


def _own(
    record: CallRecord,
    kind: str,
    unix_s: float,
    options: WebhookOptions,
    transfer: TransferFacts | None = None,
    ordinal: int = 1,
) -> tuple[OutboxEvent, ...]:
    if kind not in options.events:
        return ()
    redaction = Redaction(record, options.redact_numbers)
    data = call_data(record, redaction) if transfer is None else transfer_data(record, redaction, transfer)
    event = CallEvent(
        type=kind,
        id=event_id(record.id, kind, ordinal),
        event_timestamp=int(unix_s),
        sequence=record.events_sent + 1,
        data=data,
    )
    return (_event(record, kind, unix_s, msgspec.json.encode(event), ordinal=ordinal),)


def _event(
    record: CallRecord,
    kind: str,
    unix_s: float,
    body: bytes,
    *,
    ordinal: int = 1,
    audio: str = "",
    audio_format: str = "",
) -> OutboxEvent:
    record.events_sent += 1
    return OutboxEvent(
        id=event_id(utf8(record.id), kind, ordinal),
        call_id=record.id,
        sequence=record.events_sent,
        type=kind,
        created_at=unix_s,
        body=body,
        audio=audio,
        audio_format=audio_format,
    )
