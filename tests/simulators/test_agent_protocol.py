from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.format import MediaFormat
from bridge.simulators.agent_outbox import CloseFrame
from bridge.simulators.agent_protocol import MAX_OPEN_PINGS
from bridge.simulators.agent_scenarios import EndCall, Ping, Say, Wait, WaitForCaller
from bridge.simulators.speech import load_clip, tone
from tests.simulators.agent_run import INIT, START_S, AgentRun, tone_hz

ALL_FORMATS = ("ulaw_8000", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000")


def assert_refused(run: AgentRun, error_type: str, text: str) -> None:
    assert run.log.violations == [text]
    error = {"code": 1008, "message": text, "reason": text, "error_type": error_type}
    assert run.of("error") == [{"type": "error", "error_event": error}]
    assert [action for _, action in run.actions] == [CloseFrame(1008, text[:123])]
    assert (run.log.closed_by, run.log.close_code, run.agent.finished) == ("agent", 1008, True)


# --- beginning -------------------------------------------------------------------------------------------


def test_metadata_comes_first_and_a_ping_with_null_second() -> None:
    run = AgentRun(input_format="pcm_16000", output_format="pcm_24000")
    assert run.sent == [
        (
            0.0,
            {
                "type": "conversation_initiation_metadata",
                "conversation_initiation_metadata_event": {
                    "conversation_id": "conv_1",
                    "agent_output_audio_format": "pcm_24000",
                    "user_input_audio_format": "pcm_16000",
                },
            },
        ),
        (0.0, {"type": "ping", "ping_event": {"event_id": 1, "ping_ms": None}}),
    ]


def test_the_initiation_is_noted_as_it_came() -> None:
    run = AgentRun(init=False)
    run.send({**INIT, "dynamic_variables": {"caller_id": "+1"}, "something_new": [1]})
    assert run.log.initiation == {"dynamic_variables": {"caller_id": "+1"}, "something_new": [1]}
    assert run.log.violations == []


def test_nothing_is_sent_before_the_initiation_and_after_5_s_the_agent_gives_up() -> None:
    run = AgentRun(init=False)
    run.advance(4_999)
    assert run.sent == []
    run.advance(1)
    assert_refused(run, "missing_fields", "no conversation_initiation_client_data within 5 s")


def test_anything_else_first_is_refused() -> None:
    run = AgentRun(init=False)
    run.send({"user_audio_chunk": "//8="})
    assert_refused(run, "invalid_message", "first message is user_audio_chunk, not conversation_initiation_client_data")
    run = AgentRun(init=False)
    run.send({"type": "pong", "event_id": 1})
    assert_refused(run, "invalid_message", "first message is pong, not conversation_initiation_client_data")


def test_a_lenient_agent_starts_without_an_initiation_and_notes_it() -> None:
    run = AgentRun(Say(text="Hello."), init=False, strict=False)
    run.advance(1_000)
    assert run.kinds() == ["conversation_initiation_metadata", "agent_response", "audio"]
    assert run.log.violations == ["no conversation_initiation_client_data; started with defaults"]
    run = AgentRun(Say(text="Hello."), init=False, strict=False)
    run.send({"user_audio_chunk": "//8="})
    assert run.kinds()[0] == "conversation_initiation_metadata"
    assert run.log.violations == ["first message is user_audio_chunk, not conversation_initiation_client_data"]
    assert run.log.received_audio == b"\xff\xff"


def test_a_second_initiation_is_refused() -> None:
    run = AgentRun()
    run.send(INIT)
    assert_refused(run, "invalid_message", "conversation_initiation_client_data came twice")


def test_a_client_that_names_its_events_gets_no_others() -> None:
    run = AgentRun(Say(text="Hello."), EndCall(), init=False)
    events = {"conversation": {"client_events": ["audio", "agent_tool_response"]}}
    run.send({**INIT, "conversation_config_override": events})
    run.advance(500)
    assert run.kinds() == ["conversation_initiation_metadata", "audio", "agent_tool_response"]
    assert run.of("ping") == []


# --- strictness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "error_type", "text"),
    [
        ({"type": "dtmf"}, "invalid_message", "dtmf: Invalid value 'dtmf' - at `$.type`"),
        ({"user_audio_chunk": "?"}, "invalid_message", "user_audio_chunk is not base64"),
        ({"type": "pong", "event_id": 99}, "value_error", "pong with event_id 99 answers no open ping"),
        ({"type": "pong", "event_id": 1}, "value_error", "pong with event_id 1 answers no open ping"),
        (
            {"type": "client_tool_result", "tool_call_id": "x", "result": "", "is_error": True},
            "value_error",
            "client_tool_result for 'x', which is no open call",
        ),
        (b"\x00", "invalid_message", "binary message of 1 bytes; all messages are JSON text"),
    ],
)
def test_a_breach_of_the_contract_ends_the_conversation_with_1008(
    message: dict[str, Any] | bytes, error_type: str, text: str
) -> None:
    run = AgentRun()  # has answered ping 1
    run.send(message)
    assert_refused(run, error_type, text)
    before = len(run.sent)
    run.send({"user_audio_chunk": "//8="})
    run.advance(10_000)
    assert len(run.sent) == before


def test_audio_must_be_whole_samples() -> None:
    run = AgentRun(input_format="pcm_16000")
    run.send_audio(b"\x00" * 321)
    assert_refused(run, "invalid_message", "user_audio_chunk of 321 bytes is no whole number of pcm_16000 samples")
    run = AgentRun(input_format="ulaw_8000")
    run.send_audio(b"\xff" * 321)
    assert run.log.violations == []


def test_a_lenient_agent_notes_breaches_and_goes_on() -> None:
    run = AgentRun(strict=False)
    run.send("x")
    run.send({"type": "pong", "event_id": 5})
    assert len(run.log.violations) == 2
    assert (run.of("error"), run.agent.finished) == ([], False)


def test_a_long_reason_is_cut_to_what_a_close_frame_holds() -> None:
    run = AgentRun()
    run.send({"type": "é" * 200, "event_id": 1})
    [(_, close)] = run.actions
    assert isinstance(close, CloseFrame)
    assert 120 <= len(close.reason.encode()) <= 123


@given(st.lists(st.text() | st.binary() | st.sampled_from([json.dumps(INIT), '{"user_audio_chunk":"/w=="}'])))
def test_receive_takes_anything(messages: list[str | bytes]) -> None:
    run = AgentRun(Say(text="Hi."), WaitForCaller(), strict=False, init=False)
    for message in messages:
        run.send(message)
    run.advance(3_000)
    assert run.kinds()[0] == "conversation_initiation_metadata"


# --- pings, time-outs ------------------------------------------------------------------------------------


def test_pings_come_every_2_s_and_tell_the_round_trip_measured_last() -> None:
    run = AgentRun()
    run.answer_pings = False
    run.advance(2_000)
    run.now += 0.0124
    run.send({"type": "pong", "event_id": 2})
    run.advance(2_000)
    assert [(ping["ping_event"]["event_id"], ping["ping_event"]["ping_ms"]) for ping in run.of("ping")] == [
        (1, None),
        (2, 0),
        (3, 13),
    ]
    assert run.log.round_trip_ms == [0.0, pytest.approx(12.4)]
    assert (run.log.pings_sent, run.log.pongs) == (3, 2)


def test_a_step_can_ping_too() -> None:
    run = AgentRun(Wait(ms=100), Ping())
    run.advance(100)
    assert [at for at, message in run.sent if message["type"] == "ping"] == [0.0, 100.0]


def test_unanswered_pings_do_not_pile_up() -> None:
    run = AgentRun(ping_interval_s=0.01, strict=False)
    run.answer_pings = False
    run.advance(10 * (MAX_OPEN_PINGS + 5))
    run.send({"type": "pong", "event_id": 2})
    assert run.log.violations == ["pong with event_id 2 answers no open ping"]


def test_a_client_that_sends_no_input_for_60_s_is_dropped() -> None:
    run = AgentRun()
    run.advance(30_000)
    run.send({"type": "user_activity"})
    run.advance(59_999)
    assert run.of("error") == []
    run.advance(1)
    text = "No user input for 60 s"
    error = {"code": 1002, "message": text, "reason": text, "error_type": "transport_receive_timeout"}
    assert run.of("error") == [{"type": "error", "error_event": error}]
    assert run.actions == [(90_000.0, CloseFrame(1002, text))]
    assert run.log.violations == []


# --- echo ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ALL_FORMATS)
@pytest.mark.parametrize("source", ALL_FORMATS)
def test_echo_sends_the_caller_back_between_any_two_formats(source: str, output: str) -> None:
    run = AgentRun(name="echo", input_format=source, output_format=output)
    target = MediaFormat.parse(output)
    run.talk(tone(500, run.media, 400))
    payload = run.audio()
    assert target.duration_ms(len(payload)) == pytest.approx(400, abs=5)
    half = payload[: len(payload) // 2 * 2]
    ulaw = half if output == "ulaw_8000" else b""
    if ulaw:
        assert tone_hz(ulaw) == pytest.approx(500, rel=0.03)
    assert len(run.of("audio")) == run.log.received_chunks == 20
    assert run.log.violations == []


def test_echo_answers_each_message_at_once_and_byte_for_byte_in_one_format() -> None:
    run = AgentRun(name="echo")
    run.send_audio(b"\x01\x02\x03")
    assert run.sent[-1] == (0.0, {"type": "audio", "audio_event": {"audio_base_64": "AQID", "event_id": 1}})
    run.send_audio(b"")
    assert len(run.of("audio")) == 2


# --- the log ---------------------------------------------------------------------------------------------


def test_the_log_holds_audio_messages_and_the_end() -> None:
    run = AgentRun()
    run.send_audio(b"\x01\x02")
    run.advance(20)
    run.send_audio(b"\x03")
    run.send({"type": "contextual_update", "text": "keys 12", "context_id": "dtmf"})
    run.send({"type": "feedback", "event_id": 1, "score": "like"})
    run.agent.connection_lost(1001, "gone", run.now)
    log = run.log
    assert (log.received_audio, log.received_audio_bytes, log.received_chunks) == (bytearray(b"\x01\x02\x03"), 3, 2)
    assert log.received_times_s == [(START_S, 2), (START_S + 0.02, 1)]
    assert [(kind, fields) for _, kind, fields in log.messages] == [
        ("conversation_initiation_client_data", {}),
        ("contextual_update", {"text": "keys 12", "context_id": "dtmf"}),
        ("feedback", {"event_id": 1, "score": "like"}),
    ]
    assert (log.closed_by, log.close_code, log.close_reason) == ("client", 1001, "gone")
    assert run.agent.finished and run.agent.next_timer() == float("inf")
    summary = json.loads(json.dumps(log.to_json()))
    assert (summary["duration_ms"], summary["closed_by"], summary["received_audio_bytes"]) == (20.0, "client", 3)
    assert summary["messages"][1] == {
        "at_ms": 20.0,
        "type": "contextual_update",
        "text": "keys 12",
        "context_id": "dtmf",
    }


def test_audio_is_not_kept_when_that_is_switched_off() -> None:
    run = AgentRun(keep_audio=False)
    run.send_audio(b"\x01\x02")
    assert (run.log.received_audio, run.log.received_audio_bytes, run.log.received_times_s) == (bytearray(), 2, [])


def test_talkspurts_are_noted_and_one_whose_audio_stops_coming_ends_all_the_same() -> None:
    run = AgentRun()
    run.quiet(100)
    run.talk(load_clip("caller_thanks"))
    spoke_until_s = run.now
    run.advance(480 - 1)
    assert run.log.talkspurts == []
    run.advance(1)
    [(start_s, end_s)] = run.log.talkspurts
    assert start_s == pytest.approx(START_S + 0.2, abs=0.06)
    assert end_s == pytest.approx(spoke_until_s - 0.02 + 0.5)
    assert json.loads(json.dumps(run.log.to_json()))["duration_ms"] is None


def test_timers_may_be_handled_too_early() -> None:
    run = AgentRun(Wait(ms=100), Say(text="Now."))
    run.agent.handle_timer(run.now + 0.05)
    assert run.agent.drain() == []
    run.agent.handle_timer(run.now + 0.1)
    assert len(run.agent.drain()) == 2
