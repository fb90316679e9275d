"""Webhook events by moment: types, ids, order, filter; the shape of our own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.calls.record import CallRecord, OutboxEvent, Recording
from bridge.calls.webhook_facts import TransferFacts
from bridge.calls.webhook_vendor import InitiationFailure
from bridge.calls.webhooks import (
    ALL_EVENTS,
    NO_WEBHOOKS,
    WebhookOptions,
    event_id,
    on_answered,
    on_ended,
    on_initiation_failure,
    on_started,
    on_transferred,
    parse_events,
)
from tests.kit.records import call_record, ended_record, finished_recording, journal_of_everything
from tests.kit.webhooks import shape_problem

ALL = WebhookOptions()
NOW = 1_739_537_319.75
TRANSFER = TransferFacts(target="+15559876543", succeeded=False, detail="nobody answered at +15559876543")
FAILURE = InitiationFailure(reason="busy", type="twilio", body={"CallStatus": "busy", "To": "+15550002"})


def talked(**fields: Any) -> CallRecord:
    given = {"conversation_ids": ["conv_1"], "recording": finished_recording(), "journal": journal_of_everything()}
    return ended_record(**{**given, **fields})


def body(event: OutboxEvent) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(event.body)
    return parsed


def test_the_events_of_a_call_from_begin_to_end() -> None:
    record = talked()
    events = [
        *on_started(record, NOW, ALL),
        *on_answered(record, NOW + 1, ALL),
        *on_transferred(record, NOW + 2, ALL, TRANSFER),
        *on_ended(record, NOW + 3, ALL, audio=True),
    ]
    assert [(event.id, event.type, event.sequence) for event in events] == [
        ("evt_call1_call.started", "call.started", 1),
        ("evt_call1_call.answered", "call.answered", 2),
        ("evt_call1_call.transferred", "call.transferred", 3),
        ("evt_call1_call.ended", "call.ended", 4),
        ("evt_call1_post_call_transcription", "post_call_transcription", 5),
        ("evt_call1_post_call_audio", "post_call_audio", 6),
    ]
    assert record.events_sent == 6
    assert {event.call_id for event in events} == {"call1"}
    assert [event.created_at - NOW for event in events] == [0, 1, 2, 3, 3, 3]
    assert [shape_problem(body(event)) for event in events] == [""] * 6


def test_our_own_shape_to_the_letter() -> None:
    (event,) = on_ended(ended_record(detail="bye", is_burst=True, admission="burst"), NOW, ALL, audio=False)
    assert body(event) == {
        "type": "call.ended",
        "id": "evt_call1_call.ended",
        "event_timestamp": 1739537319,
        "sequence": 1,
        "data": {
            "provider": "twilio",
            "direction": "inbound",
            "caller": "+15550001",
            "called": "+15550002",
            "agent_id": "agent_1",
            "conversation_id": "",
            "conversation_ids": [],
            "call_sid": "CAcall1",
            "stream_id": "",
            "account_id": "",
            "route": "",
            "environment": "",
            "branch": "",
            "instance_id": "instance1",
            "state": "ended",
            "admission": "burst",
            "is_burst": True,
            "queue_wait_ms": 0,
            "created_at": 1700000000.25,
            "answered_at": None,
            "ended_at": 1700000030.25,
            "duration_s": 30.0,
            "result": "success",
            "reason": "caller_hangup",
            "detail": "bye",
            "turns": 0,
            "interruptions": 0,
            "recording": None,
            "id": "call1",
        },
    }


def test_a_call_without_a_conversation_has_no_transcription() -> None:
    refused = ended_record(result="server_error", reason="capacity", recording=finished_recording())
    assert [event.type for event in on_ended(refused, NOW, ALL, audio=True)] == ["call.ended"]


@pytest.mark.parametrize(
    ("audio", "recording", "told"),
    [
        (True, finished_recording(), True),
        (False, finished_recording(), False),
        (True, None, False),
    ],
)
def test_audio_is_told_where_there_is_some(audio: bool, recording: Recording | None, told: bool) -> None:
    events = on_ended(talked(recording=recording), NOW, ALL, audio=audio)
    sent = [(event.audio, event.audio_format) for event in events if event.type == "post_call_audio"]
    assert sent == ([("2023/call1.wav", "wav")] if told else [])


def test_a_transfer_is_told_with_its_facts() -> None:
    record = call_record()
    first, second = (on_transferred(record, NOW, ALL, TRANSFER, ordinal)[0] for ordinal in (1, 2))
    assert (first.id, second.id) == ("evt_call1_call.transferred", "evt_call1_call.transferred_2")
    assert (body(second)["id"], body(second)["sequence"]) == (second.id, 2)
    assert body(first)["data"]["transfer"] == {
        "target": "+15559876543",
        "succeeded": False,
        "detail": "nobody answered at +15559876543",
    }
    assert body(first)["data"]["id"] == "call1"


def test_a_call_that_did_not_come_about() -> None:
    (event,) = on_initiation_failure(call_record(direction="outbound"), NOW, ALL, FAILURE)
    assert (event.id, event.type) == ("evt_call1_call_initiation_failure", "call_initiation_failure")
    assert shape_problem(body(event)) == ""


def test_telling_of_a_moment_twice_gives_the_same_id() -> None:
    record = call_record()
    first, second = (on_started(record, at, ALL)[0].id for at in (NOW, NOW + 9))
    assert first == second == event_id("call1", "call.started")


@pytest.mark.parametrize("wanted", ALL_EVENTS)
def test_only_wanted_events_are_made_and_counted(wanted: str) -> None:
    record, options = talked(), WebhookOptions(events=frozenset({wanted}))
    events = [
        *on_started(record, NOW, options),
        *on_answered(record, NOW, options),
        *on_transferred(record, NOW, options, TRANSFER),
        *on_ended(record, NOW, options, audio=True),
        *on_initiation_failure(record, NOW, options, FAILURE),
    ]
    assert [(event.type, event.sequence) for event in events] == [(wanted, 1)]
    assert record.events_sent == 1


def test_without_webhooks_nothing_is_made() -> None:
    record = talked()
    assert on_started(record, NOW, NO_WEBHOOKS) == on_ended(record, NOW, NO_WEBHOOKS, audio=True) == ()
    assert record.events_sent == 0


def test_masked_numbers_are_nowhere_in_any_event() -> None:
    options = WebhookOptions(redact_numbers=True)
    record = talked(variables={"caller_id": "+15550001", "note": "call 15550002 back"})
    record.journal.said("user", "My number is +15550001.", 4.0)
    events = [
        *on_started(record, NOW, options),
        *on_transferred(record, NOW, options, TRANSFER),
        *on_ended(record, NOW, options, audio=True),
        *on_initiation_failure(record, NOW, options, FAILURE),
    ]
    assert len(events) == 6
    for event in events:
        assert b"5550001" not in event.body
        assert b"5550002" not in event.body
        assert b"9876543" not in event.body
    assert body(events[0])["data"]["caller"] == "+***001"
    assert body(events[1])["data"]["transfer"]["target"] == "+***543"


def test_event_names_are_read_as_the_setting_lists_them() -> None:
    assert parse_events([" call.started", "post_call_audio ", ""]) == {"call.started", "post_call_audio"}
    with pytest.raises(ValueError, match=r"^no such events: call\.begun, x; there are call\.started, call\.answered, "):
        parse_events(["x", "call.begun", "call.ended"])
