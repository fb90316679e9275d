"""The agent protocol's messages: literal JSON in, structs out, and the exact text of ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.convai import messages
from bridge.convai.messages import (
    AgentResponse,
    AgentResponseBody,
    Audio,
    AudioBody,
    ClientToolCall,
    ClientToolCallBody,
    Correction,
    CorrectionBody,
    Error,
    ErrorBody,
    InitiationData,
    Interruption,
    InterruptionBody,
    Malformed,
    Metadata,
    MetadataBody,
    Ping,
    PingBody,
    ServerMessage,
    ToolResponse,
    ToolResponseBody,
    UnknownType,
    UserTranscript,
    UserTranscriptBody,
    decode,
)
from bridge.errors import RemoteError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":{"conversation_id":'
            '"c1","agent_output_audio_format":"ulaw_8000","user_input_audio_format":"pcm_24000"}}',
            Metadata(MetadataBody("c1", "ulaw_8000", "pcm_24000")),
        ),
        (
            '{"type":"audio","audio_event":{"audio_base_64":"AQID","event_id":4,"alignment":{"chars":["a"]}}}',
            Audio(AudioBody(b"\x01\x02\x03", 4)),
        ),
        ('{"type":"interruption","interruption_event":{"event_id":4}}', Interruption(InterruptionBody(4))),
        ('{"type":"ping","ping_event":{"event_id":9,"ping_ms":61}}', Ping(PingBody(9, 61.0))),
        (
            '{"type":"user_transcript","user_transcription_event":{"user_transcript":"hi","event_id":1}}',
            UserTranscript(UserTranscriptBody("hi", 1)),
        ),
        (
            '{"type":"agent_response","agent_response_event":{"agent_response":"hello","event_id":2}}',
            AgentResponse(AgentResponseBody("hello", 2)),
        ),
        (
            '{"type":"agent_response_correction","agent_response_correction_event":{"original_agent_response":"ab",'
            '"corrected_agent_response":"a...","event_id":2}}',
            Correction(CorrectionBody("ab", "a...", 2)),
        ),
        (
            '{"type":"client_tool_call","client_tool_call":{"tool_name":"t","tool_call_id":"id1","parameters":'
            '{"n":1},"event_id":3}}',
            ClientToolCall(ClientToolCallBody("t", "id1", {"n": 1}, 3)),
        ),
        (
            '{"type":"agent_tool_response","agent_tool_response":{"tool_name":"end_call","tool_call_id":"id2",'
            '"tool_type":"system","is_error":false,"is_called":true,"event_id":3}}',
            ToolResponse(ToolResponseBody("end_call", "id2", "system", False)),
        ),
        (
            '{"type":"error","error_event":{"code":1008,"message":"m","error_type":"override_error","reason":"r"}}',
            Error(ErrorBody(1008, "m", "override_error", "r")),
        ),
        ('{"type":"error","message":"flat","code":1002}', Error(None, "flat", 1002)),
    ],
)
def test_a_message_as_the_server_writes_it(text: str, message: ServerMessage) -> None:
    assert decode(text) == message
    assert decode(text.encode()) == message
    reordered = json.dumps(dict(reversed(json.loads(text).items())), indent=2)
    assert decode(reordered) == message
    assert decode(text[:-1] + ',"new_field":{"a":[1]}}') == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":{"conversation_id":'
            '"c1"}}',
            Metadata(MetadataBody("c1", "pcm_16000", "pcm_16000")),
        ),
        ('{"type":"audio","audio_event":{"audio_base_64":""}}', Audio(AudioBody(b"", None))),
        ('{"type":"ping","ping_event":{"event_id":9,"ping_ms":null}}', Ping(PingBody(9, None))),
        ('{"type":"ping","ping_event":{"event_id":9}}', Ping(PingBody(9, None))),
        (
            '{"type":"client_tool_call","client_tool_call":{"tool_name":"t","tool_call_id":"id1"}}',
            ClientToolCall(ClientToolCallBody("t", "id1", {}, None)),
        ),
        (
            '{"type":"agent_tool_response","agent_tool_response":{"tool_name":"t"}}',
            ToolResponse(ToolResponseBody("t", "", "", False)),
        ),
        ('{"type":"error"}', Error(None, None, None)),
    ],
)
def test_what_old_servers_leave_out_has_a_default(text: str, message: ServerMessage) -> None:
    assert decode(text) == message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"type":"audio"}', "audio: Object missing required field `audio_event`"),
        (
            '{"type":"audio","audio_event":{"audio_base_64":"?"}}',
            "audio: Invalid base64 encoded string - at `$.audio_event.audio_base_64`",
        ),
        (
            '{"type":"audio","audio_event":{"audio_base_64":"AAA"}}',
            "audio: Invalid base64 encoded string - at `$.audio_event.audio_base_64`",
        ),
        (
            '{"type":"audio","audio_event":{"audio_base_64":"AAAA","event_id":"1"}}',
            "audio: Expected `int | null`, got `str` - at `$.audio_event.event_id`",
        ),
        (
            '{"type":"interruption","interruption_event":{}}',
            "interruption: Object missing required field `event_id` - at `$.interruption_event`",
        ),
        (
            '{"type":"ping","ping_event":{"event_id":1.5}}',
            "ping: Expected `int`, got `float` - at `$.ping_event.event_id`",
        ),
        ('{"type":"ping","ping_event":[]}', "ping: Expected `object`, got `array` - at `$.ping_event`"),
        (
            '{"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":{}}',
            "conversation_initiation_metadata: Object missing required field `conversation_id` - at "
            "`$.conversation_initiation_metadata_event`",
        ),
        (
            '{"type":"error","error_event":{"code":"1002"}}',
            "error: Expected `int | null`, got `str` - at `$.error_event.code`",
        ),
        (
            '{"type":"ping","ping_event":{"event_id":' + "1" * 5000 + "}}",
            "ping: Integer value out of range - at `$.ping_event.event_id`",
        ),
    ],
)
def test_a_broken_message_of_a_known_type_is_named(text: str, problem: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Input data was truncated"),
        ("hello", "JSON is malformed: invalid character (byte 0)"),
        ("[]", "Expected `object`, got `array`"),
        ("{}", "Object missing required field `type`"),
        ('{"type":5}', "Expected `str` - at `$.type`"),
        ('{"type":"ping"', "Input data was truncated"),
        ('{"type":"x"}x', "Invalid value 'x' - at `$.type`"),
        ("\ud800", "'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed"),
        (b"\xff", "JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_what_is_no_message_of_the_protocol(text: str | bytes, problem: str) -> None:
    with pytest.raises(RemoteError) as caught:
        decode(text)
    assert type(caught.value) is RemoteError
    assert str(caught.value) == f"not a message of the agent protocol: {problem}"


def test_too_deep_a_message_is_no_message() -> None:
    with pytest.raises(RemoteError, match="not a message of the agent protocol: maximum recursion depth exceeded"):
        decode('{"type":"ping","x":' + "[" * 100_000)


def test_an_unknown_type_is_named_and_cut() -> None:
    with pytest.raises(UnknownType) as caught:
        decode('{"type":"vad_score","vad_score_event":{"vad_score":0.9}}')
    assert caught.value.args == ("vad_score",)
    assert "vad_score" in messages.IGNORED_TYPES
    with pytest.raises(UnknownType) as caught:
        decode(f'{{"type":"{"x" * 500}"}}')
    assert caught.value.args == ("x" * 64,)


@given(st.text(st.characters()) | st.binary())
@settings(max_examples=200, deadline=None)
def test_decode_raises_nothing_but_its_own(message: str | bytes) -> None:
    with pytest.raises((UnknownType, RemoteError)):
        decode(message)


# --- ours ---


def test_user_audio_chunk() -> None:
    assert messages.user_audio_chunk(b"\x00\xff\x10") == '{"user_audio_chunk":"AP8Q"}'
    assert messages.user_audio_chunk(b"") == '{"user_audio_chunk":""}'


def test_pong() -> None:
    assert messages.pong(17) == '{"type":"pong","event_id":17}'


def test_client_tool_result() -> None:
    assert messages.client_tool_result("id1", 'no "way"', True) == (
        '{"type":"client_tool_result","tool_call_id":"id1","result":"no \\"way\\"","is_error":true}'
    )


def test_contextual_update() -> None:
    assert messages.contextual_update("on hold") == '{"type":"contextual_update","text":"on hold"}'


def test_user_message() -> None:
    assert messages.user_message("grüß dich") == '{"type":"user_message","text":"grüß dich"}'


def test_user_activity() -> None:
    assert messages.user_activity() == '{"type":"user_activity"}'


def test_initiation_leaves_out_what_is_empty() -> None:
    assert messages.initiation(InitiationData()) == '{"type":"conversation_initiation_client_data"}'


def test_initiation_with_everything() -> None:
    data = InitiationData(
        conversation_config_override={"agent": {"language": "de"}},
        custom_llm_extra_body={"temperature": 0.2},
        dynamic_variables={"caller_id": "+15550100", "vip": True, "visits": 3},
        user_id="u1",
        source_info={"source": "bridge"},
    )
    assert messages.initiation(data) == (
        '{"type":"conversation_initiation_client_data","conversation_config_override":{"agent":{"language":"de"}},'
        '"custom_llm_extra_body":{"temperature":0.2},"dynamic_variables":{"caller_id":"+15550100","vip":true,'
        '"visits":3},"user_id":"u1","source_info":{"source":"bridge"}}'
    )


@given(st.binary(max_size=600))
@settings(max_examples=50, deadline=None)
def test_audio_survives_the_trip(payload: bytes) -> None:
    text = messages.user_audio_chunk(payload)
    coded = json.loads(text)["user_audio_chunk"]
    assert decode(f'{{"type":"audio","audio_event":{{"audio_base_64":"{coded}"}}}}') == Audio(AudioBody(payload))
