"""The vendor's own events: read leniently where it does not matter, passed on to the letter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.webhook_report import (
    MAX_RESULTS,
    BadEvent,
    ConversationReport,
    audio_of,
    forwarded,
    read_event,
    read_report,
)
from tests.kit.records import ended_record

NOW = 1_739_537_400.0


def body(**data: Any) -> bytes:
    given = {"agent_id": "xyz", "conversation_id": "conv_1", **data}
    return json.dumps({"type": "post_call_transcription", "event_timestamp": 1739537297, "data": given}).encode()


def report(**data: Any) -> ConversationReport:
    return read_report(read_event(body(**data)))


def test_everything_of_a_report() -> None:
    read = report(
        status="done",
        metadata={"cost": 296, "main_language": "sv", "termination_reason": "end_call tool"},
        analysis={
            "call_successful": "failure",
            "transcript_summary": "S",
            "call_summary_title": "T",
            "evaluation_criteria_results": {"c": {"criteria_id": "c", "result": "unknown", "rationale": "R"}},
            "data_collection_results": {
                "text": {"data_collection_id": "text", "value": "Lund"},
                "number": {"value": 3.5},
                "flag": {"value": True},
                "list": {"value": ["a"]},
                "nothing": {"value": None},
            },
        },
    )
    assert (read.conversation_id, read.agent_id, read.status, read.call_successful) == (
        "conv_1",
        "xyz",
        "done",
        "failure",
    )
    assert (read.summary, read.title, read.cost_credits, read.main_language) == ("S", "T", 296, "sv")
    assert read.termination_reason == "end_call tool"
    assert (read.criteria["c"].result, read.criteria["c"].rationale) == ("unknown", "R")
    assert read.outputs() == {"text": "Lund", "number": "3.5", "flag": "true", "list": '["a"]'}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"analysis": None, "metadata": None},
        {"analysis": 7, "metadata": "x", "agent_id": 7, "status": []},
        {"analysis": {"call_successful": 7}},
        {"analysis": {"data_collection_results": {"a": 7}}, "metadata": {"cost": "many"}},
    ],
)
def test_parts_that_are_not_as_documented_are_left_out(data: dict[str, Any]) -> None:
    read = report(**data)
    assert (read.conversation_id, read.results, read.criteria, read.cost_credits) == ("conv_1", {}, {}, None)


def test_a_flood_of_results_is_bounded() -> None:
    read = report(analysis={"data_collection_results": {f"r{number}": {"value": "x" * 9_000} for number in range(999)}})
    assert len(read.results) == MAX_RESULTS
    assert max(map(len, read.outputs().values())) == 2_000


def test_what_is_passed_on_is_as_it_was_written() -> None:
    text = (
        b'{"type":"post_call_transcription","event_timestamp":1739537297,"later":{"a":1.50},'
        b'"data":{"conversation_id":"conv_1","big":12345678901234567890,"text":"\\u00e9\\/"}}'
    )
    event = forwarded(read_event(text), None, NOW, redact_numbers=False)
    assert event.body == text[:-2] + b',"bridge":null}}'
    assert (event.created_at, event.sequence, event.audio) == (NOW, 1, "")


def test_what_is_passed_on_of_a_known_call_comes_behind_its_own_events() -> None:
    record = ended_record(events_sent=4)
    event = forwarded(read_event(body()), record, NOW, redact_numbers=True)
    assert (event.call_id, event.sequence) == ("call1", 5)
    assert json.loads(event.body)["data"]["bridge"]["caller"] == "+***001"


@pytest.mark.parametrize("conversation_id", ["a/b", "x" * 65, "é", "\ud800", "a b", "..%2f"])
def test_an_id_unlike_the_vendors_is_passed_on_under_its_digest(conversation_id: str) -> None:
    incoming = read_event(body(conversation_id=conversation_id.encode("utf-8", "replace").decode()))
    event = forwarded(incoming, None, NOW, redact_numbers=False)
    assert len(event.call_id) in (1, 64)
    assert event.id == f"evt_{event.call_id}_post_call_transcription"
    assert event.id.isascii()
    assert "/" not in event.id


def test_audio_is_decoded_piece_by_piece() -> None:
    event = read_event(b'{"type":"post_call_audio","data":{"conversation_id":"c","full_audio":"SUQzBA=="}}')
    assert b"".join(audio_of(event)) == b"ID3\x04"
    ready = forwarded(event, ended_record(), NOW, redact_numbers=False, audio="spool/x.mp3")
    assert ready.body.endswith(b'"data":{"agent_id":null,"conversation_id":"c","full_audio":""}}')
    assert (ready.audio, ready.audio_format) == ("spool/x.mp3", "mp3")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b'""', "the event has no audio"),
        (b"null", "the event has no audio"),
        (b"[]", "the event has no audio"),
        (b'"A"', "the event's audio is no base64"),
        (b'"====": ""', "the body is no JSON object"),
        (b'"QU\\u0041="', "the event's audio is no base64"),
    ],
)
def test_audio_that_is_none(written: bytes, words: str) -> None:
    text = b'{"type":"post_call_audio","data":{"conversation_id":"c","full_audio":%s}}' % written
    with pytest.raises(BadEvent, match=f"^{words}$"):
        b"".join(audio_of(read_event(text)))


@given(st.binary(max_size=300))
def test_no_body_breaks_the_reader(text: bytes) -> None:
    try:
        read_event(text)
    except BadEvent as problem:
        assert str(problem)  # any other exception fails the test


def test_an_unknown_type_is_read_no_further() -> None:
    event = read_event(b'{"type":"voice_removal_notice","data":7}')
    assert (event.type, event.conversation_id, event.data) == ("voice_removal_notice", "", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "the body is no JSON object"),
        (b"{}", "the event has no type"),
        (b'{"type":"post_call_audio"}', "the event has no data"),
        (b'{"type":"post_call_audio","data":{}}', "the event names no conversation"),
        (b'{"type":"post_call_audio","data":{"conversation_id":""}}', "the event names no conversation"),
    ],
)
def test_what_is_no_event_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BadEvent, match=f"^{words}$"):
        read_event(text)
