from __future__ import annotations

from typing import Any

import pytest

from bridge.media.format import ULAW_8K
from bridge.simulators.agent_outbox import Abort, CloseFrame, PauseReading
from bridge.simulators.agent_player import MAX_STEPS_AT_ONCE
from bridge.simulators.agent_scenarios import (
    SCENARIOS,
    CallTools,
    Close,
    Ping,
    Say,
    Scenario,
    ToolCall,
    Wait,
    WaitForCaller,
    WaitPlayed,
)
from bridge.simulators.speech import CLIP_TEXTS, load_clip, tone
from tests.simulators.agent_run import AgentRun, tone_hz

EVENT_KEYS = {
    "audio": ("audio_event", {"audio_base_64", "event_id"}),
    "interruption": ("interruption_event", {"event_id"}),
    "ping": ("ping_event", {"event_id", "ping_ms"}),
    "user_transcript": ("user_transcription_event", {"user_transcript", "event_id"}),
    "tentative_user_transcript": ("tentative_user_transcription_event", {"user_transcript", "event_id"}),
    "agent_response": ("agent_response_event", {"agent_response", "event_id"}),
    "agent_response_correction": (
        "agent_response_correction_event",
        {"original_agent_response", "corrected_agent_response", "event_id"},
    ),
    "client_tool_call": ("client_tool_call", {"tool_name", "tool_call_id", "parameters", "event_id"}),
    "agent_tool_request": ("agent_tool_request", {"tool_name", "tool_call_id", "tool_type", "event_id"}),
    "agent_tool_response": (
        "agent_tool_response",
        {"tool_name", "tool_call_id", "tool_type", "is_error", "is_called", "event_id"},
    ),
}
"""Fields that the contract requires, by message."""


def event(message: dict[str, Any]) -> dict[str, Any]:
    key, _ = EVENT_KEYS[message["type"]]
    return dict(message[key])


def results(run: AgentRun, *, is_error: bool = False) -> None:
    """Answer every tool call that is open."""
    answered = {tool.tool_call_id for tool in run.log.tool_results}
    for call in run.of("client_tool_call"):
        call_id = event(call)["tool_call_id"]
        if call_id not in answered:
            result = {"tool_call_id": call_id, "result": "done", "is_error": is_error}
            run.send({"type": "client_tool_result", **result})


# --- every scenario --------------------------------------------------------------------------------------

NUMBERED = ("close_1011_250", "close_1006_100", "drop_100", "stall_200", "tone_1000")


@pytest.mark.parametrize("name", [*SCENARIOS, *NUMBERED])
def test_every_scenario_keeps_to_the_contract_with_a_caller_who_talks(name: str) -> None:
    run = AgentRun(name=name)
    run.advance(100)
    for _ in range(3):
        run.talk(load_clip("caller_thanks"))
        run.advance(600)
        results(run)
        run.advance(1_500)
    numbers = []
    for _, message in run.sent:
        if message["type"] in EVENT_KEYS:
            assert event(message).keys() >= EVENT_KEYS[message["type"]][1]
            if message["type"] not in ("ping", "audio"):  # pings count on their own, late audio is late on purpose
                numbers.append(event(message)["event_id"])
    assert numbers == sorted(numbers)
    assert run.log.violations == []
    metadata = "conversation_initiation_metadata"
    assert run.kinds()[:1] == ([metadata] if name not in ("mute", "garbage_first") else [])


def test_demo_is_a_whole_conversation() -> None:
    run = AgentRun(name="demo")
    run.advance(3_500)  # the greeting plays
    run.talk(load_clip("caller_question"))
    run.advance(1_500)  # 0.5 s until the agent answers, then 1 s of the answer
    run.talk(load_clip("caller_interruption"))
    run.quiet(600)
    results(run)
    run.advance(3_500)
    run.talk(load_clip("caller_thanks"))
    run.advance(3_000)
    transcripts = ["tentative_user_transcript", "user_transcript"]
    says = ["agent_response", "audio"]
    assert run.kinds() == [
        "conversation_initiation_metadata",
        *says,
        *transcripts,
        *says,
        "interruption",
        "agent_response_correction",
        "audio",  # late, of the dead turn
        *transcripts,
        "client_tool_call",
        *says,
        *transcripts,
        *says,
        "agent_tool_request",
        "agent_tool_response",
    ]
    assert [event(message)["agent_response"] for message in run.of("agent_response")] == [
        CLIP_TEXTS[f"agent_{name}"] for name in ("greeting", "answer", "reply", "goodbye")
    ]
    assert [event(message)["user_transcript"] for message in run.of("user_transcript")] == [
        CLIP_TEXTS[f"caller_{name}"] for name in ("question", "interruption", "thanks")
    ]
    [call] = run.of("client_tool_call")
    assert (event(call)["tool_name"], event(call)["parameters"]) == ("lookup_order", {"order_id": "427"})
    [response] = run.of("agent_tool_response")
    assert (event(response)["tool_name"], event(response)["tool_type"]) == ("end_call", "system")
    assert [action for _, action in run.actions] == [CloseFrame(1000, "")]


def test_endcall_closes_while_at_least_one_and_a_half_seconds_are_still_to_be_played() -> None:
    run = AgentRun(name="endcall")
    run.advance(5_000)
    [(closed_ms, close)] = run.actions
    assert close == CloseFrame(1000, "")
    assert run.kinds()[-2:] == ["agent_tool_request", "agent_tool_response"]
    assert run.audio() == load_clip("agent_goodbye")
    assert ULAW_8K.duration_ms(len(run.audio())) - closed_ms >= 1_500


def test_silent_says_nothing_after_the_metadata_and_mute_not_even_that() -> None:
    for name, expected in (("silent", 1), ("mute", 0)):
        run = AgentRun(name=name)
        run.quiet(1_000)
        run.advance(300_000)
        assert (len(run.sent), run.actions, run.agent.next_timer()) == (expected, [], float("inf"))


def test_garbage_is_text_that_is_no_json_and_then_binary() -> None:
    run = AgentRun(name="garbage")
    run.advance(100)
    assert run.raw == ["<html>not found</html>", b"\x00\xff\x10"]


def test_unknown_format_is_announced() -> None:
    run = AgentRun(name="unknown_format")
    [metadata] = run.of("conversation_initiation_metadata")
    assert metadata["conversation_initiation_metadata_event"]["agent_output_audio_format"] == "opus_48000"


@pytest.mark.parametrize(
    ("name", "error", "close"),
    [
        (
            "error_nested",
            {
                "type": "error",
                "error_event": {
                    "code": 1011,
                    "message": "Internal error",
                    "reason": "Internal error",
                    "error_type": "unknown_websocket_crash",
                },
            },
            CloseFrame(1011, "Internal error"),
        ),
        (
            "error_flat",
            {"type": "error", "message": "received 1002 (protocol error) LLM request failed"},
            CloseFrame(1002, "LLM request failed"),
        ),
        (
            "quota",
            {"type": "error", "message": "received 1002 (protocol error) This request exceeds your quota limit."},
            CloseFrame(1002, "This request exceeds your quota limit."),
        ),
    ],
)
def test_errors_have_the_two_shapes_of_the_wire(name: str, error: dict[str, Any], close: CloseFrame) -> None:
    run = AgentRun(name=name)
    run.advance(1_000)
    assert run.of("error") == [error]
    assert [action for _, action in run.actions] == [close]


@pytest.mark.parametrize(
    ("name", "at_ms", "action"),
    [
        ("close_1011_250", 250.0, CloseFrame(1011, "as told by the scenario")),
        ("close_1000_0", 0.0, CloseFrame(1000, "as told by the scenario")),
        ("close_1006_100", 100.0, Abort()),
        ("drop_100", 100.0, Abort()),
        ("stall_200", 0.0, PauseReading(0.2)),
    ],
)
def test_ends_and_stalls_come_when_the_name_says(
    name: str, at_ms: float, action: CloseFrame | Abort | PauseReading
) -> None:
    run = AgentRun(name=name)
    run.advance(1_000)
    assert run.actions == [(at_ms, action)]


def test_a_broken_off_conversation_is_noted_as_1006_of_the_agent() -> None:
    run = AgentRun(name="drop_100")
    run.advance(100)
    assert (run.log.closed_by, run.log.close_code) == ("agent", 1006)


def test_burst_sends_30_s_at_once() -> None:
    run = AgentRun(name="burst")
    assert run.now == 100.0
    assert ULAW_8K.duration_ms(len(run.audio())) == 30_000


def test_odd_sends_chunks_of_odd_sizes() -> None:
    run = AgentRun(name="odd", output_format="pcm_16000")
    run.advance(1_000)
    sizes = {len(message["audio_event"]["audio_base_64"]) for message in run.of("audio")}
    assert 4 in sizes  # 1 byte
    assert len(run.audio()) == 96_000
    run = AgentRun(name="greet", odd_chunks=True)
    run.advance(3_000)
    assert len(run.of("audio")) > 40
    assert run.audio() == load_clip("agent_greeting")


def test_tone_goes_on_in_real_time_in_chunks_of_100_ms() -> None:
    run = AgentRun(name="tone_1000")
    run.advance(9_990)
    times = [at for at, message in run.sent if message["type"] == "audio"]
    assert times == pytest.approx([100.0 * index for index in range(100)])
    assert tone_hz(run.audio()) == pytest.approx(1000, rel=0.01)


def test_tools_has_good_and_wrong_arguments_an_unknown_tool_and_two_at_once() -> None:
    run = AgentRun(name="tools")
    for _ in range(5):
        results(run, is_error=True)
    calls = [(event(call)["tool_name"], event(call)["parameters"]) for call in run.of("client_tool_call")]
    assert calls == [
        ("send_dtmf", {"dtmf_tones": "1w2#"}),
        ("send_dtmf", {"dtmf_tones": 12}),
        ("transfer_call", {"destination": "nobody"}),
        ("no_such_tool", {}),
        ("lookup_order", {"order_id": "1"}),
        ("lookup_order", {"order_id": "2"}),
    ]
    assert len({event(call)["tool_call_id"] for call in run.of("client_tool_call")}) == 6
    assert [tool.is_error for tool in run.log.tool_results] == [True] * 6
    assert run.kinds()[-2:] == ["agent_response", "audio"]


def test_stale_sends_5_s_of_the_dead_turn_after_the_interruption_and_then_another_tone() -> None:
    run = AgentRun(name="stale")
    run.advance(2_000)
    [(at_ms, interruption)] = [(at, message) for at, message in run.sent if message["type"] == "interruption"]
    assert (at_ms, event(interruption)["event_id"]) == (500.0, 1)
    late = [message for at, message in run.sent[run.sent.index((at_ms, interruption)) :] if message["type"] == "audio"]
    stale = [event(message) for message in late if event(message)["event_id"] <= 1]
    assert len(stale) == run.log.stale_chunks == 50
    assert {audio["event_id"] for audio in stale} == {0, 1}
    assert tone_hz(run.audio(1)) == pytest.approx(400, rel=0.01)
    assert tone_hz(run.audio(2)) == pytest.approx(1000, rel=0.01)


# --- steps -----------------------------------------------------------------------------------------------


def test_audio_comes_in_bursts_with_alignment_in_the_first_of_a_turn_only() -> None:
    run = AgentRun(name="greet", chunk_ms=50, speed=4.0)
    run.advance(3_000)
    audio = [(at, event(message)) for at, message in run.sent if message["type"] == "audio"]
    assert [at for at, _ in audio[:4]] == [0.0, 12.5, 25.0, 37.5]
    assert [("alignment" in body) for _, body in audio[:3]] == [True, False, False]
    assert "".join(audio[0][1]["alignment"]["chars"]) == CLIP_TEXTS["agent_greeting"]
    assert run.audio() == load_clip("agent_greeting")
    assert run.log.sent_audio_ms == pytest.approx(ULAW_8K.duration_ms(run.log.sent_audio_bytes))


def test_a_barge_in_interrupts_the_turn_corrects_it_and_leaves_late_audio() -> None:
    run = AgentRun(Say(text="one two three four five", duration_ms=5_000), WaitForCaller(text="No!"), speed=0.0)
    run.advance(2_030)
    run.talk(tone(300, ULAW_8K, 80))
    [interruption] = run.of("interruption")
    assert event(interruption) == {"event_id": 1}
    [correction] = run.of("agent_response_correction")
    assert event(correction) == {
        "original_agent_response": "one two three four five",
        "corrected_agent_response": "one two",
        "event_id": 1,
    }
    run.advance(200)
    assert run.log.stale_chunks == 3
    assert [at_s for at_s, _ in run.log.interruptions] == [pytest.approx(102.1, abs=0.03)]
    assert run.of("user_transcript") == []  # the caller has not finished
    run.quiet(500)
    assert [event(message) for message in run.of("user_transcript")] == [{"user_transcript": "No!", "event_id": 2}]


def test_talk_after_the_agent_was_played_is_no_barge_in() -> None:
    run = AgentRun(Say(text="Hello.", duration_ms=500))
    run.quiet(520)
    run.talk(tone(300, ULAW_8K, 200))
    assert run.of("interruption") == []


def test_talk_into_an_echo_of_late_speech_interrupts_without_a_turn_to_correct() -> None:
    run = AgentRun(Say(duration_ms=400, speed=0.0), WaitPlayed(), Say(text="More.", duration_ms=100))
    run.advance(399)
    assert run.of("agent_response") == []
    run.advance(1)
    assert len(run.of("agent_response")) == 1


def test_a_user_message_is_a_turn_of_the_caller_too() -> None:
    run = AgentRun(WaitForCaller(text="12"), Say(text="Thanks."))
    run.send({"type": "user_message", "text": "12"})
    assert run.kinds()[-4:] == ["tentative_user_transcript", "user_transcript", "agent_response", "audio"]


def test_what_the_caller_said_before_the_agent_spoke_does_not_count_as_an_answer() -> None:
    run = AgentRun(Wait(ms=100), Say(text="Hello?", duration_ms=100), WaitForCaller())
    run.send({"type": "user_message", "text": "too early"})
    run.advance(1_000)
    assert run.of("user_transcript") == []


def test_tool_results_are_waited_for_and_a_late_one_is_no_breach() -> None:
    run = AgentRun(CallTools(calls=(ToolCall(tool_name="look"),), timeout_ms=300), Say(text="Well."))
    run.advance(299)
    assert run.of("agent_response") == []
    run.advance(1)
    assert (len(run.of("agent_response")), run.log.tool_timeouts) == (1, ["toolcall_1"])
    run.advance(100)
    results(run)
    assert [(tool.tool_name, tool.result, tool.took_ms) for tool in run.log.tool_results] == [("look", "done", 400.0)]
    assert run.log.violations == []


def test_a_tool_result_that_comes_twice_is_a_breach() -> None:
    run = AgentRun(CallTools(calls=(ToolCall(tool_name="look"),)), Wait(ms=50))
    result = {"type": "client_tool_result", "tool_call_id": "toolcall_1", "result": "", "is_error": False}
    run.send(result)
    run.send(result)
    assert run.log.violations == ["client_tool_result for 'toolcall_1', which is no open call"]


def test_a_scenario_can_go_round() -> None:
    run = AgentRun(name="talk")
    for _ in range(5):
        run.advance(6_000)
        run.talk(load_clip("caller_thanks"))
        run.advance(600)
    texts = [event(message)["agent_response"] for message in run.of("agent_response")]
    answers = [CLIP_TEXTS["agent_answer"], CLIP_TEXTS["agent_reply"]]
    assert texts == [CLIP_TEXTS["agent_greeting"], *answers, *answers, answers[0]][: len(texts)]
    assert len(texts) >= 5
    assert run.log.violations == []


def test_a_scenario_that_goes_round_without_taking_time_is_ended() -> None:
    run = AgentRun(scenario=Scenario(name="loop", steps=(Ping(),), repeat_from=0), strict=False)
    assert run.actions == [(0.0, CloseFrame(1011, "the scenario repeats steps that take no time"))]
    assert run.log.pings_sent == MAX_STEPS_AT_ONCE + 1


def test_nothing_follows_the_close() -> None:
    run = AgentRun(Close(code=1000), Say(text="Too late."))
    run.advance(1_000)
    assert run.kinds() == ["conversation_initiation_metadata"]
