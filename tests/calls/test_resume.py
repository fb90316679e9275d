"""An agent whose connection breaks in the middle of a call, and a caller who waits for one: never silence for long."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from bridge import outcome
from bridge.calls import resume
from bridge.calls.effects import ConnectAgent, Finished, RunTool, Speak, Words
from bridge.calls.hands import LATE_RESULT, MAX_LATE
from bridge.calls.hold import HoldAudio
from bridge.calls.http_tools import HttpTool
from bridge.calls.journal import Turn
from bridge.calls.pending_tools import MAX_OPEN
from bridge.calls.state import State
from bridge.calls.tool_words import ToolFailure, tool_failed
from bridge.calls.tools import Abilities, ToolOptions
from bridge.convai.messages import InitiationData
from bridge.leg import CloseSocket, TransferKind
from bridge.media.format import PCM_16K, ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import dominant_frequencies
from bridge.outcome import EndReason
from tests.kit import convai, twilio
from tests.kit.audio import assert_tone, make_tone
from tests.kit.calls import AGAIN_ID, OPTIONS, Line

LOOK_UP = HttpTool("look_up", "d", "https://t.example/a", timeout_s=60.0)
ABLE = dataclasses.replace(OPTIONS, reconnect_s=2.0, tools=ToolOptions(http_tools={"look_up": LOOK_UP}))
APOLOGETIC = dataclasses.replace(ABLE, apologise=True)


def active() -> Line:
    return Line(options=ABLE).activate()


def hears_tone(payload: bytes) -> bool:
    peaks = dominant_frequencies(ulaw_to_pcm(payload), 8000, 1)
    return bool(peaks) and abs(peaks[0].frequency_hz - 425) < 10


# --- the connection breaks ---


@pytest.mark.parametrize("code", [1001, 1002, 1006, 1011])
def test_a_broken_connection_is_made_anew(code: int) -> None:
    line = active()
    first = line.conversation
    line.forget()
    line.agent_lost(code)
    assert line.call.state is State.RECONNECTING
    info = line.call.info
    assert info is not None
    assert line.asked() == [ConnectAgent(info, again=True)]
    assert hears_tone(line.played()[:3200])
    assert line.call.conversation is not first
    assert [note.event for note in line.notes()] == ["agent_broke"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (convai.FLAT_ERROR, outcome.AGENT_QUOTA),
        (convai.error(1002, "x", "This request exceeds your quota"), outcome.AGENT_QUOTA),
    ],
)
def test_a_quota_is_not_tried_again(message: str, reason: EndReason) -> None:
    line = active()
    line.agent(message)
    line.agent_lost(1002)
    assert [finished.reason for finished in line.finished()] == [reason]
    assert line.asked() == []


def test_a_contract_that_was_broken_is_not_tried_again() -> None:
    line = active()
    line.agent_lost(1008, "missing variable")
    assert line.finished() == [Finished(outcome.AGENT_CONFIG, "close 1008: missing variable")]


def test_an_error_without_a_close_and_an_agent_that_falls_silent_are_tried_again() -> None:
    line = active()
    line.agent(convai.error(1011, "internal", "oops"))
    line.run(2.1)
    assert line.call.state is State.RECONNECTING
    line = active()
    for _ in range(61):
        line.say(b"\xff" * 160)
        line.run(0.5)
    assert line.call.state is State.RECONNECTING


def test_nothing_is_tried_where_the_operator_does_not_want_it() -> None:
    line = Line(options=dataclasses.replace(ABLE, reconnect_s=0.0)).activate()
    line.agent_lost(1006)
    assert line.finished() == [Finished(outcome.AGENT_LOST, "close 1006")]


def test_the_second_conversation_knows_the_first() -> None:
    line = active()
    line.agent(convai.agent_response("Hello, how\ncan I help?"), convai.user_transcript("My order 4711"))
    line.agent_lost(1006)
    line.forget()
    given = InitiationData(dynamic_variables={"name": "Jo"}, user_id="u1", source_info={"source": "x"})
    line.call.agent_connected(given, line.clock.now)
    line.drain()
    [first] = line.to_agent
    assert isinstance(first, str)
    said = "You: Hello, how can I help?\nCaller: My order 4711"
    assert json.loads(first) == {
        "type": "conversation_initiation_client_data",
        "dynamic_variables": {
            "name": "Jo",
            "bridge_resumed": "true",
            "bridge_previous_conversation_id": convai.CONVERSATION_ID,
            "bridge_transcript": said,
        },
        "user_id": "u1",
        "source_info": {"source": "x"},
    }
    line.agent(convai.metadata().replace(convai.CONVERSATION_ID, AGAIN_ID))
    assert line.call.state is State.ACTIVE
    [(kind, words)] = line.told()
    assert kind == "contextual_update"
    assert words.endswith(f"What was said so far:\n{said}")
    assert line.call.conversation_ids == [convai.CONVERSATION_ID, AGAIN_ID]
    assert line.call.conversation_id == AGAIN_ID
    assert [note.event for note in line.notes()] == ["agent_back"]
    line.stop()
    assert line.call.outputs["conversation_id"] == AGAIN_ID


def test_the_first_conversation_is_told_of_no_other() -> None:
    line = Line(options=ABLE).connect()
    assert line.to_agent == ['{"type":"conversation_initiation_client_data"}']


def test_the_tone_stops_at_once_when_the_agent_is_back() -> None:
    line = active().reconnect()
    line.run(0.3)
    line.forget()
    line.ready_again()
    assert twilio.clears(line.to_carrier) == 1
    line.forget()
    line.agent(convai.audio(b"\x02" * 1600))
    line.run(2.0)
    assert line.played() == b"\x02" * 1600
    line.stop()
    assert line.call.stats.agent_flushed_ms == 0
    assert line.call.stats.interruptions == 0


def test_what_the_agent_was_saying_is_heard_to_its_end_then_the_tone() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 8000))
    line.agent_lost(1006)
    line.run(1.5)
    assert line.played().startswith(b"\x01" * 8000)
    assert hears_tone(line.played()[8000:11_200])


def test_a_long_sentence_is_not_cut_off_by_an_agent_that_is_back_soon() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 24_000))
    line.agent_lost(1006)
    line.run(0.5)
    line.ready_again()
    line.agent(convai.audio(b"\x02" * 1600))
    line.run(5.0)
    assert line.played() == b"\x01" * 24_000 + b"\x02" * 1600


def test_the_caller_is_never_without_a_sound_for_two_seconds() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 1600))
    line.agent_lost(1006)
    sounds, silence_s = 0, 0.0
    for _ in range(19):
        line.forget()
        line.run(0.1)
        heard = line.played()
        silence_s = 0.0 if any(byte not in (0xFF, 0x7F) for byte in heard) else silence_s + 0.1
        sounds += silence_s == 0
        assert silence_s < 2.0
    assert sounds


def test_what_the_caller_says_meanwhile_is_kept_with_a_bound() -> None:
    line = active().reconnect()
    for number in range(75):
        line.say(bytes([number]) * 160)
        line.run(0.02)
    assert line.uploaded() == b""
    line.ready_again()
    assert line.uploaded() == b"".join(bytes([number]) * 160 for number in range(25, 75))
    assert line.call.stats.caller_dropped_ms == 500
    line.say(b"\x01" * 160)
    assert line.uploaded().endswith(b"\x01" * 160)
    order = [json.loads(item) for item in line.to_agent if isinstance(item, str)]
    kinds = [message.get("type", "audio") for message in order]
    assert kinds[:3] == ["conversation_initiation_client_data", "contextual_update", "audio"], "told before spoken to"


def test_a_second_conversation_in_another_format() -> None:
    line = active().reconnect()
    line.ready_again("pcm_16000", "pcm_16000")
    line.forget()
    line.agent(convai.audio(make_tone(1000, 500, PCM_16K)))
    line.run(1.0)
    assert_tone(line.played()[800:-800], ULAW_8K, 1000)
    line.say(make_tone(700, 500, ULAW_8K))
    assert_tone(line.uploaded()[1600:-1600], PCM_16K, 700)


def test_interruptions_of_the_first_conversation_are_not_those_of_the_second() -> None:
    line = active()
    line.agent(convai.audio(b"\x01" * 160, 7), convai.interruption(7), convai.audio(b"\x01" * 160, 7))
    line.reconnect().ready_again()
    line.forget()
    line.agent(convai.audio(b"\x02" * 160, 1))
    assert line.played() == b"\x02" * 160
    line.agent('{"type":"telepathy"}', convai.interruption(1), convai.audio(b"\x02" * 160, 1))
    assert line.call.current_stats().stale_audio_bytes == 320, "of both conversations"
    assert line.call.current_stats().unknown_messages == 1


def test_it_is_tried_once_a_call() -> None:
    line = active().reconnect().ready_again()
    line.agent_lost(1006)
    assert line.finished() == [Finished(outcome.AGENT_LOST, "close 1006")]


def test_the_agent_says_good_bye_after_it_was_back() -> None:
    line = active().reconnect().ready_again()
    line.agent(convai.audio(b"\x02" * 160))
    line.agent_lost(1000)
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "close 1000")]


# --- it does not come back ---


def _never_connects(line: Line) -> None:
    line.run(2.1)


def _never_ready(line: Line) -> None:
    line.call.agent_connected(InitiationData(), line.clock.now)
    line.run(2.1)


def _refused(line: Line) -> None:
    line.fail(outcome.AGENT_LOST, "close 1006")


def _breaks_again(line: Line) -> None:
    line.call.agent_connected(InitiationData(), line.clock.now)
    line.agent_lost(1011)


def _hangs_up(line: Line) -> None:
    line.call.agent_connected(InitiationData(), line.clock.now)
    line.agent_lost(1000)


FAILURES = [_never_connects, _never_ready, _refused, _breaks_again, _hangs_up]


@pytest.mark.parametrize("happens", FAILURES)
def test_a_failed_reconnect_ends_the_call_as_the_break_would_have(happens: object) -> None:
    line = active().reconnect()
    happens(line)  # type: ignore[operator]
    assert line.finished() == [Finished(outcome.AGENT_LOST, "close 1006")]
    assert line.to_carrier[-1] == CloseSocket(1000, "agent_lost")
    assert not line.call.apologised


@pytest.mark.parametrize("happens", FAILURES)
def test_a_failed_reconnect_is_apologised_for(happens: object) -> None:
    line = Line(options=APOLOGETIC).activate().reconnect()
    happens(line)  # type: ignore[operator]
    assert line.call.state is State.DRAINING
    assert Speak(Words.APOLOGY) in line.effects
    line.forget()
    line.speech(b"\x05" * 1600)
    assert line.played() == b"\x05" * 1600
    assert line.call.apologised
    line.agent(convai.metadata())
    line.run(1.0)
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.AGENT_LOST, "close 1006")]
    assert line.call.conversation_ids == [convai.CONVERSATION_ID]


def test_a_quota_is_apologised_for_at_once() -> None:
    line = Line(options=APOLOGETIC).activate()
    line.agent(convai.audio(b"\x01" * 1600))
    line.agent_lost(1002, "quota exceeded")
    assert line.call.state is State.DRAINING
    line.speech(b"\x05" * 1600)
    assert line.played() == b"\x01" * 1600 + b"\x05" * 1600
    line.run(2.0)
    assert [finished.reason for finished in line.finished()] == [outcome.AGENT_QUOTA]


def test_an_agent_that_comes_too_late_is_let_go() -> None:
    line = Line(options=APOLOGETIC).activate().reconnect()
    line.run(2.1)
    line.forget()
    line.call.agent_connected(InitiationData(), line.clock.now)
    line.drain()
    assert line.to_agent == []
    assert line.call.state is State.DRAINING


def test_a_caller_who_hangs_up_meanwhile() -> None:
    line = active().reconnect()
    line.stop()
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "stop")]
    line.ready_again()
    line.run(10.0)
    assert len(line.finished()) == 1
    assert line.next_timer() == math.inf


# --- tools of the conversation that is gone ---


def test_a_result_for_a_conversation_that_is_gone_is_news_for_the_next() -> None:
    line = active()
    line.tool("look_up", "t1")
    assert any(isinstance(effect, RunTool) for effect in line.effects)
    line.reconnect().ready_again()
    line.forget()
    line.answer("t1", "the order is on its way")
    assert line.results() == []
    words = LATE_RESULT.format(name="look_up", words="the order is on its way")
    assert line.told() == [("contextual_update", words)]
    assert line.call.journal.tools[0].result == "the order is on its way"
    line.answer("t1", "twice")
    assert len(line.told()) == 1


def test_a_result_that_comes_before_the_next_conversation_waits_for_it() -> None:
    line = active()
    line.tool("look_up", "t1")
    line.reconnect()
    line.answer("t1", "on its way")
    line.carrier(twilio.dtmf("4"))
    line.run(1.0)
    assert line.to_agent == [], "nothing may come before the initiation data"
    line.ready_again()
    assert [kind for kind, _ in line.told()] == ["contextual_update", "contextual_update"]
    assert line.told()[0][1].startswith("This call was interrupted"), "the reminder comes first"
    line.run(2.0)
    assert line.told()[2] == ("user_message", "I pressed 4 on the keypad.")


def test_the_same_id_in_the_next_conversation_is_another_call() -> None:
    line = active()
    line.tool("look_up", "t1")
    line.reconnect().ready_again()
    line.forget()
    line.tool("look_up", "t1")
    line.answer("t1", "found")
    assert line.results() == [("t1", "found", False)]


def test_an_errand_of_the_gone_conversation_goes_on() -> None:
    abilities = Abilities(frozenset({TransferKind.WARM}))
    tools = ToolOptions(transfer_allow=("*",))
    line = Line(options=dataclasses.replace(ABLE, abilities=abilities, tools=tools)).activate()
    line.tool("transfer_to_number", "t1", transfer_number="+14155550100")
    line.reconnect().ready_again()
    line.forget()
    line.tool("transfer_to_number", "t2", transfer_number="+14155550100")
    assert line.results() == [("t2", tool_failed(ToolFailure.IN_PROGRESS), True)]
    line.answer("t1", "nobody answered", is_error=True)
    assert line.told()[0][1].endswith("came to this: nobody answered")
    line.tool("transfer_to_number", "t3", transfer_number="+14155550100")
    assert len(line.results()) == 1, "it is being made"


def test_results_of_the_gone_conversation_are_bounded() -> None:
    assert MAX_OPEN <= MAX_LATE, "all that can be open fit"


def test_a_result_that_comes_after_everything_goes_nowhere() -> None:
    line = active()
    line.tool("look_up", "t1")
    line.reconnect()
    line.stop()
    line.forget()
    line.answer("t1", "on its way")
    assert (line.to_agent, line.effects) == ([], [])


# --- a caller who waits for the agent ---


def test_a_caller_hears_a_tone_when_the_agent_takes_long() -> None:
    line = Line(options=ABLE).connect()
    line.run(1.499)
    assert line.played() == b""
    line.run(0.3)
    assert hears_tone(line.played()[:2400])
    line.forget()
    line.agent(convai.metadata())
    assert twilio.clears(line.to_carrier) == 1
    line.forget()
    line.run(5.0)
    assert line.played() == b""
    line.agent(convai.audio(b"\x01" * 160))
    assert line.played() == b"\x01" * 160


def test_a_quick_agent_is_not_announced_by_a_tone() -> None:
    line = Line(options=ABLE).connect()
    line.run(1.0)
    line.agent(convai.metadata())
    line.run(5.0)
    assert line.to_carrier == []


def test_the_operators_own_music_and_patience() -> None:
    music = HoldAudio(b"\x00\x40" * 800, 8000)
    line = Line(options=dataclasses.replace(ABLE, patience_s=0.5, hold_audio=music)).connect()
    line.run(0.6)
    assert len(set(line.played())) == 1


@pytest.mark.parametrize("apologise", [True, False])
def test_an_agent_that_cannot_be_reached_at_first(apologise: bool) -> None:
    line = Line(options=dataclasses.replace(ABLE, apologise=apologise)).admit()
    line.run(2.0)
    line.forget()
    line.fail(outcome.AGENT_UNREACHABLE, "no route")
    if not apologise:
        assert line.finished() == [Finished(outcome.AGENT_UNREACHABLE, "no route")]
        return
    assert twilio.clears(line.to_carrier) == 1, "the tone stops"
    line.speech(b"\x05" * 1600)
    line.run(1.3)
    assert [finished.reason for finished in line.finished()] == [outcome.AGENT_UNREACHABLE]
    assert line.call.apologised


def test_a_failure_of_ours_is_not_apologised_for_as_the_agents() -> None:
    line = Line(options=APOLOGETIC).admit()
    line.fail(outcome.DRAINING)
    assert line.finished() == [Finished(outcome.DRAINING, "")]


# --- the transcript ---


def turn(text: str, role: str = "user") -> Turn:
    return Turn(role=role, text=text, at_s=0.0)  # type: ignore[arg-type]


def test_the_newest_turns_are_kept() -> None:
    turns = [turn(f"turn {number} " + "x" * 90) for number in range(100)]
    said = resume.transcript(turns)
    assert len(said) <= resume.MAX_CHARS
    assert said.splitlines()[-1].startswith("Caller: turn 99 ")
    assert said.splitlines()[0].startswith("Caller: turn 63 ")


def test_of_a_newest_turn_that_is_too_long_the_end_is_kept() -> None:
    said = resume.transcript([turn("before"), turn("a" * 10_000 + " the end.", "agent")])
    assert said.startswith("Caller: before\nYou: ... aaa")
    assert said.endswith(" the end.")
    assert len(said) <= resume.MAX_CHARS


def test_turns_without_words_are_left_out() -> None:
    assert resume.transcript([turn("Hello"), turn("  \n")]) == "Caller: Hello"
    assert resume.transcript([]) == ""


def test_where_nothing_was_said_the_agent_is_told_so() -> None:
    assert resume.reminder([]).endswith("Nothing has been said yet.")
