"""The vendor's shapes: against the SDK's models, the documented examples, and with awkward records."""

from __future__ import annotations

import json
from typing import Any

import pytest
from elevenlabs.types import GetConversationResponseModel

from bridge.calls.journal import MAX_TEXT_CHARS, Journal, ToolUse
from bridge.calls.record import CallRecord
from bridge.calls.webhook_facts import Redaction
from bridge.calls.webhook_vendor import (
    MAX_TRANSCRIPT_CHARS,
    InitiationFailure,
    audio_body,
    failure_body,
    sip_failure_body,
    sip_failure_reason,
    split_audio,
    transcription_body,
    twilio_failure_reason,
)
from tests.kit.records import ended_record, finished_recording, journal_of_everything
from tests.kit.webhooks import shape_problem

NOW = 1_739_537_319.75


def talked(**fields: Any) -> CallRecord:
    given = {"conversation_ids": ["conv_1"], "journal": journal_of_everything(), "stream_id": "MZ1"}
    return ended_record(**{**given, **fields})


def transcription(record: CallRecord, *, masked: bool = False) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(transcription_body(record, NOW, Redaction(record, masked)))
    return parsed


# --- post_call_transcription -----------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["twilio", "sip", "genesys", "vonage"])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_the_sdks_model_takes_it(provider: str, direction: str) -> None:
    record = talked(provider=provider, direction=direction, recording=finished_recording(), answered_at=1_700_000_001.5)
    event = transcription(record)
    assert shape_problem(event) == ""
    model = GetConversationResponseModel.model_validate(event["data"])
    assert (model.agent_id, model.conversation_id, model.status) == ("agent_1", "conv_1", "done")
    assert [(turn.role, turn.message) for turn in model.transcript] == [
        ("agent", "Hello, who is there?"),
        ("user", "It is Ann."),
        ("agent", None),
    ]
    assert model.metadata.accepted_time_unix_secs == 1_700_000_001


def test_frame_and_metadata() -> None:
    event = transcription(talked(is_burst=True, queue_wait_ms=1_500))
    assert set(event) == {"type", "event_timestamp", "data"}
    assert (event["type"], event["event_timestamp"]) == ("post_call_transcription", 1739537319)
    metadata = event["data"]["metadata"]
    assert (metadata["start_time_unix_secs"], metadata["call_duration_secs"]) == (1700000000, 30)
    assert metadata["charging"] == {"dev_discount": False, "is_burst": True}
    assert (metadata["queue_wait_secs"], metadata["accepted_time_unix_secs"]) == (1.5, None)
    assert (metadata["termination_reason"], metadata["conversation_initiation_source"]) == ("caller_hangup", "twilio")
    assert event["data"]["analysis"] == {
        "evaluation_criteria_results": {},
        "data_collection_results": {},
        "call_successful": "unknown",
        "transcript_summary": "",
    }
    assert event["data"]["bridge"]["call_id"] == "call1"


def test_the_line_in_the_vendors_words() -> None:
    twilio = transcription(talked(route="+1*"))["data"]["metadata"]["phone_call"]
    assert twilio == {
        "type": "twilio",
        "direction": "inbound",
        "phone_number_id": "+1*",
        "agent_number": "+15550002",
        "external_number": "+15550001",
        "call_sid": "CAcall1",
        "stream_sid": "MZ1",
    }
    sip = transcription(talked(provider="sip", direction="outbound"))["data"]["metadata"]["phone_call"]
    assert sip == {
        "type": "sip_trunking",
        "direction": "outbound",
        "phone_number_id": "",
        "agent_number": "+15550001",
        "external_number": "+15550002",
        "call_sid": "CAcall1",
    }
    genesys = transcription(talked(provider="genesys"))["data"]["metadata"]
    assert (genesys["phone_call"], genesys["conversation_initiation_source"]) == (None, "genesys")


def test_a_tool_call_is_a_turn_of_the_agent() -> None:
    turn = transcription(talked())["data"]["transcript"][2]
    assert (turn["role"], turn["message"], turn["time_in_call_secs"]) == ("agent", None, 2)
    assert turn["tool_calls"] == [
        {
            "type": "client",
            "request_id": "tool1",
            "tool_name": "find_customer",
            "params_as_json": '{"name":"Ann"}',
            "tool_has_been_called": True,
            "tool_details": None,
        }
    ]
    assert turn["tool_results"] == [
        {
            "type": "client",
            "request_id": "tool1",
            "tool_name": "find_customer",
            "result_value": "customer 17",
            "is_error": False,
            "tool_has_been_called": True,
            "tool_latency_secs": 0.25,
            "dynamic_variable_updates": [],
        }
    ]


def test_a_tool_that_never_answered_has_no_result() -> None:
    journal = Journal(tools=[ToolUse(name="slow", call_id="t", at_s=1.0)])
    assert transcription(talked(journal=journal))["data"]["transcript"][0]["tool_results"] == []


def test_an_interrupted_turn_keeps_what_was_meant() -> None:
    journal = Journal()
    journal.said("agent", "Let me tell you everything.", 1.0)
    journal.corrected("Let me")
    turn = transcription(talked(journal=journal))["data"]["transcript"][0]
    assert (turn["message"], turn["original_message"], turn["interrupted"]) == (
        "Let me",
        "Let me tell you everything.",
        True,
    )


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ("success", "done"),
        ("client_error", "done"),
        ("indeterminate", "done"),
        ("server_error", "failed"),
        ("upstream_error", "failed"),
    ],
)
def test_status(result: str, status: str) -> None:
    assert transcription(talked(result=result))["data"]["status"] == status


@pytest.mark.parametrize("complete", [True, False])
def test_audio_is_there_when_the_recording_is_whole(complete: bool) -> None:
    recording = finished_recording()
    recording.complete = complete
    data = transcription(talked(recording=recording))["data"]
    assert [data[f"has_{kind}audio"] for kind in ("", "user_", "response_")] == [complete] * 3


def test_what_the_agent_was_given() -> None:
    initiation = {"user_id": "u1", "conversation_config_override": {"agent": {"language": "sv"}}}
    data = transcription(talked(initiation=initiation, variables={"name": "Zoë"}))["data"]
    assert data["user_id"] == "u1"
    assert data["conversation_initiation_client_data"] == {
        "conversation_config_override": {"agent": {"language": "sv"}},
        "custom_llm_extra_body": {},
        "user_id": "u1",
        "dynamic_variables": {"name": "Zoë"},
    }


def test_numbers_can_be_masked_everywhere() -> None:
    journal = Journal()
    journal.said("user", "It is +15550001.", 1.0)
    journal.tool_called("sms", "t", {"to": "+15550001"}, 2.0)
    journal.tool_answered("t", "sent to 15550001", 3.0, is_error=False)
    event = json.dumps(transcription(talked(journal=journal, variables={"n": "+15550001"}), masked=True))
    assert "5550001" not in event
    assert "+***001" in event


def test_a_boundless_conversation_is_cut_and_the_cut_is_said() -> None:
    journal = Journal(lost=7)
    for number in range(110):
        journal.said("agent", "x" * MAX_TEXT_CHARS, float(number))
    record = talked(journal=journal)
    event = transcription(record)
    kept = MAX_TRANSCRIPT_CHARS // MAX_TEXT_CHARS
    assert len(event["data"]["transcript"]) == kept == 100
    assert event["data"]["bridge"]["transcript_cut"] == 10 + 7


def test_huge_parameters_of_a_tool_are_left_out() -> None:
    journal = Journal()
    journal.tool_called("huge", "t", {"a": "x" * 50_000}, 1.0)
    assert transcription(talked(journal=journal))["data"]["transcript"][0]["tool_calls"][0]["params_as_json"] == "{}"


def test_broken_texts_are_mended() -> None:
    journal = Journal()
    journal.said("user", "half \ud83d of a face", 1.0)
    record = talked(journal=journal, variables={"a": "\udc00"}, call_sid="CA\ud800", initiation={"x": float("nan")})
    data = transcription(record)["data"]
    assert data["transcript"][0]["message"] == "half ? of a face"


# --- post_call_audio -------------------------------------------------------------------------------------


def test_the_audio_event_has_three_members_and_a_gap() -> None:
    body = audio_body(talked(agent_id='a"b'), NOW)
    assert json.loads(body) == {
        "type": "post_call_audio",
        "event_timestamp": 1739537319,
        "data": {"agent_id": 'a"b', "conversation_id": "conv_1", "full_audio": ""},
    }
    head, tail = split_audio(body)
    assert json.loads(head + b"SUQz" + tail)["data"]["full_audio"] == "SUQz"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":{"full_audio":"abc"}}'])
def test_a_body_without_a_gap_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="^this body has no gap for audio at its end$"):
        split_audio(body)


# --- call_initiation_failure -----------------------------------------------------------------------------


def test_a_failure_on_twilio() -> None:
    form = {"CallStatus": "busy", "CallSid": "CA1", "To": "+15550002"}
    record = talked()
    failure = InitiationFailure(twilio_failure_reason("busy"), "twilio", form)
    assert json.loads(failure_body(record, NOW, failure, Redaction(record, on=False))) == {
        "type": "call_initiation_failure",
        "event_timestamp": 1739537319,
        "data": {
            "agent_id": "agent_1",
            "conversation_id": "conv_1",
            "failure_reason": "busy",
            "metadata": {"type": "twilio", "body": form},
        },
    }


def test_a_failure_on_a_trunk() -> None:
    record = ended_record()
    failure = InitiationFailure(sip_failure_reason(486), "sip", sip_failure_body(486, "Busy here", "d8e7"))
    event = json.loads(failure_body(record, NOW, failure, Redaction(record, on=False)))
    assert event["data"]["conversation_id"] == "call1", "there was no conversation"
    assert event["data"]["metadata"] == {
        "type": "sip",
        "body": {
            "sip_status_code": 486,
            "error_reason": "INVITE failed: sip status: 486: Busy here (SIP 486)",
            "call_sid": "d8e7",
            "sip_status": "Busy here",
        },
    }
    assert shape_problem(event) == ""


@pytest.mark.parametrize(
    ("status", "reason"), [("busy", "busy"), ("no-answer", "no-answer"), ("failed", "unknown"), ("", "unknown")]
)
def test_twilios_words(status: str, reason: str) -> None:
    assert twilio_failure_reason(status) == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [(486, "busy"), (600, "busy"), (603, "busy"), (408, "no-answer"), (480, "no-answer"), (487, "no-answer")]
    + [(404, "unknown"), (500, "unknown")],
)
def test_sips_codes(status: int, reason: str) -> None:
    assert sip_failure_reason(status) == reason
