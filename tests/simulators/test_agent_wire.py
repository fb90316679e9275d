from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.simulators import agent_wire as wire


def test_what_the_agent_sends_is_as_in_the_contract() -> None:
    assert json.loads(wire.metadata("conv_1", "pcm_16000", "ulaw_8000")) == {
        "type": "conversation_initiation_metadata",
        "conversation_initiation_metadata_event": {
            "conversation_id": "conv_1",
            "agent_output_audio_format": "pcm_16000",
            "user_input_audio_format": "ulaw_8000",
        },
    }
    assert wire.audio("/38=", 7) == '{"type":"audio","audio_event":{"audio_base_64":"/38=","event_id":7}}'
    assert json.loads(wire.audio("/38=", 7, wire.alignment("Hi", 100.0)))["audio_event"]["alignment"] == {
        "chars": ["H", "i"],
        "char_start_times_ms": [0, 50],
        "char_durations_ms": [50, 50],
    }
    assert wire.alignment("", 10.0) == {"chars": [], "char_start_times_ms": [], "char_durations_ms": []}
    assert wire.interruption(7) == '{"type":"interruption","interruption_event":{"event_id":7}}'
    assert wire.ping(1, None) == '{"type":"ping","ping_event":{"event_id":1,"ping_ms":null}}'
    assert wire.ping(2, 15) == '{"type":"ping","ping_event":{"event_id":2,"ping_ms":15}}'
    assert json.loads(wire.user_transcript("Hi.", 3)) == {
        "type": "user_transcript",
        "user_transcription_event": {"user_transcript": "Hi.", "event_id": 3},
    }
    assert json.loads(wire.tentative_user_transcript("H", 3)) == {
        "type": "tentative_user_transcript",
        "tentative_user_transcription_event": {"user_transcript": "H", "event_id": 3},
    }
    assert json.loads(wire.agent_response("Yes.", 4)) == {
        "type": "agent_response",
        "agent_response_event": {"agent_response": "Yes.", "event_id": 4},
    }
    assert json.loads(wire.agent_response_correction("Yes, of course.", "Yes,", 4)) == {
        "type": "agent_response_correction",
        "agent_response_correction_event": {
            "original_agent_response": "Yes, of course.",
            "corrected_agent_response": "Yes,",
            "event_id": 4,
        },
    }
    assert json.loads(wire.client_tool_call("look", "t1", {"a": 1}, 5)) == {
        "type": "client_tool_call",
        "client_tool_call": {"tool_name": "look", "tool_call_id": "t1", "parameters": {"a": 1}, "event_id": 5},
    }
    assert json.loads(wire.agent_tool_request("end_call", "e1", "system", 6)) == {
        "type": "agent_tool_request",
        "agent_tool_request": {"tool_name": "end_call", "tool_call_id": "e1", "tool_type": "system", "event_id": 6},
    }
    assert json.loads(wire.agent_tool_response("end_call", "e1", "system", 6)) == {
        "type": "agent_tool_response",
        "agent_tool_response": {
            "tool_name": "end_call",
            "tool_call_id": "e1",
            "tool_type": "system",
            "is_error": False,
            "is_called": True,
            "event_id": 6,
        },
    }
    assert json.loads(wire.error(1002, "too slow", "llm_timeout")) == {
        "type": "error",
        "error_event": {"code": 1002, "message": "too slow", "reason": "too slow", "error_type": "llm_timeout"},
    }
    assert "error_type" not in wire.error(1011, "?", "")
    assert wire.flat_error("over quota") == '{"type":"error","message":"over quota"}'


def test_audio_is_read_with_and_without_its_base64() -> None:
    assert wire.read_client_message('{"user_audio_chunk": "f/8="}') == wire.UserAudio(b"\x7f\xff", "f/8=")
    assert wire.read_client_message('{"user_audio_chunk": ""}') == wire.UserAudio(b"", "")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "conversation_initiation_client_data"}, wire.Initiation()),
        (
            {
                "type": "conversation_initiation_client_data",
                "conversation_config_override": {"agent": {"language": "de"}, "text_only": True},
                "dynamic_variables": {"a": "x", "b": 1, "c": 1.5, "d": True},
                "user_id": None,
                "something_new": 1,
            },
            wire.Initiation(
                conversation_config_override={"agent": {"language": "de"}, "text_only": True},
                dynamic_variables={"a": "x", "b": 1, "c": 1.5, "d": True},
            ),
        ),
        ({"type": "pong", "event_id": 3}, wire.Pong(3)),
        (
            {"type": "client_tool_result", "tool_call_id": "t", "result": "r", "is_error": False},
            wire.ToolResult("t", "r", False),
        ),
        ({"type": "contextual_update", "text": "digits 12"}, wire.ContextualUpdate("digits 12")),
        ({"type": "user_message", "text": "12#"}, wire.UserMessage("12#")),
        ({"type": "user_message"}, wire.UserMessage(None)),
        ({"type": "user_activity"}, wire.UserActivity()),
        ({"type": "feedback", "event_id": 1, "score": None}, wire.Feedback(1, None)),
        (
            {"type": "mcp_tool_approval_result", "tool_call_id": "t", "is_approved": True},
            wire.McpToolApproval("t", True),
        ),
        ({"type": "multimodal_message", "text": None}, wire.MultimodalMessage()),
    ],
)
def test_every_message_of_the_contract_is_read(body: dict[str, Any], expected: wire.ClientMessage) -> None:
    assert wire.read_client_message(json.dumps(body)) == expected


INIT = "conversation_initiation_client_data"


@pytest.mark.parametrize(
    ("message", "error_type", "text"),
    [
        (b"\x00\x01", "invalid_message", "binary message of 2 bytes; all messages are JSON text"),
        ("{", "invalid_message", "not JSON (Input data was truncated): '{'"),
        ("[1]", "invalid_message", "not a JSON object: '[1]'"),
        ("{}", "missing_fields", "neither type nor user_audio_chunk: '{}'"),
        ({"user_audio_chunk": 5}, "invalid_message", "user_audio_chunk is int, not a string"),
        ({"user_audio_chunk": "abc"}, "invalid_message", "user_audio_chunk is not base64"),
        (
            {"user_audio_chunk": "ab=c"},
            "invalid_message",
            "user_audio_chunk is not base64",
        ),
        (
            {"user_audio_chunk": "", "type": "user_audio_chunk"},
            "invalid_message",
            "user_audio_chunk goes alone, here with type",
        ),
        ({"type": "pong"}, "missing_fields", "pong: Object missing required field `event_id`"),
        ({"type": "pong", "event_id": "1"}, "invalid_message", "pong: Expected `int`, got `str` - at `$.event_id`"),
        (
            {"type": "client_tool_result", "tool_call_id": "t", "result": {}, "is_error": False},
            "invalid_message",
            "client_tool_result: Expected `str`, got `object` - at `$.result`",
        ),
        (
            {"type": "client_tool_result", "tool_call_id": "t", "result": "r"},
            "missing_fields",
            "client_tool_result: Object missing required field `is_error`",
        ),
        ({"type": "dtmf", "digit": "1"}, "invalid_message", "dtmf: Invalid value 'dtmf' - at `$.type`"),
        ({"type": 5}, "invalid_message", "5: Expected `str`, got `int` - at `$.type`"),
        (
            {"type": INIT, "conversation_config_override": {"audio": {}}},
            "override_error",
            "conversation_config_override has no audio",
        ),
        (
            {"type": INIT, "dynamic_variables": {"system__caller_id": "x"}},
            "invalid_message",
            "dynamic variable system__caller_id has a reserved name",
        ),
        (
            {"type": INIT, "dynamic_variables": {"a": None}},
            "invalid_message",
            f"{INIT}: Expected `bool | int | float | str`, got `null` - at `$.dynamic_variables[...]`",
        ),
    ],
)
def test_what_the_contract_does_not_allow_is_told_with_field_and_problem(
    message: dict[str, Any] | str | bytes, error_type: str, text: str
) -> None:
    with pytest.raises(wire.WireViolation) as caught:
        wire.read_client_message(json.dumps(message) if isinstance(message, dict) else message)
    assert (caught.value.error_type, caught.value.text) == (error_type, text)


@given(st.text() | st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_nothing_but_a_violation_comes_of_garbage(message: str | bytes) -> None:
    with pytest.raises(wire.WireViolation):
        wire.read_client_message(message)


@given(st.binary())
def test_any_audio_is_read_back(payload: bytes) -> None:
    text = json.dumps({"user_audio_chunk": base64.b64encode(payload).decode()})
    message = wire.read_client_message(text)
    assert isinstance(message, wire.UserAudio) and message.payload == payload
