"""Waiting with the line open: for a slot, and for the conversation's results. And who listens meanwhile."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from bridge import events, outcome
from bridge.calls.effects import ConnectAgent, DigitsTyped, FetchResults, Finished, Note, TransferPlanned
from bridge.calls.hold import HoldAudio
from bridge.calls.keypad import KeypadMode, KeypadOptions, KeySource
from bridge.calls.options import CallOptions
from bridge.calls.state import State
from bridge.calls.tools import Abilities, ToolOptions
from bridge.errors import LocalError
from bridge.leg import CloseSocket, TransferKind
from bridge.media.format import ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import dominant_frequencies
from tests.kit import convai, twilio
from tests.kit.calls import OPTIONS, Line
from tests.kit.legs import FAKE_SPEC, FakeLeg, offer

RESULTS_SPEC = dataclasses.replace(FAKE_SPEC, takes_results=True)
RESULTS_OPTIONS = dataclasses.replace(OPTIONS, results_wait_s=5.0)
REDACTING = KeypadOptions(redact=True)


def hears_tone(payload: bytes) -> bool:
    peaks = dominant_frequencies(ulaw_to_pcm(payload), 8000, 1)
    return bool(peaks) and abs(peaks[0].frequency_hz - 425) < 10


# --- for a slot ---


def test_a_waiting_caller_hears_hold_audio_without_a_gap() -> None:
    line = Line().queue()
    assert line.call.state is State.QUEUED
    assert line.asked()[1:] == []
    line.run(4.0)
    heard = line.played()
    assert 4.0 * 8000 <= len(heard) <= 4.4 * 8000 + 160
    assert hears_tone(heard[:3200])
    assert hears_tone(heard[15200:18400]), "the loop begins again after 1.9 s"
    assert line.call.current_stats().gaps == 0
    assert line.call.current_stats().agent_frames == 0, "hold audio is none of the agent's"


def test_the_operators_own_hold_audio() -> None:
    line = Line(options=dataclasses.replace(OPTIONS, hold_audio=HoldAudio(b"\x00\x40" * 800, 8000))).queue()
    assert set(line.played()) == set(line.played()[:1])
    assert ulaw_to_pcm(line.played()[:1]) != b"\x00\x00"


def test_positions_may_be_repeated() -> None:
    line = Line().queue()
    line.call.hold(1, line.clock.now)
    line.drain()
    assert line.notes() == [Note("queued", "position 1")]
    assert line.call.history[-1][1] is State.QUEUED


def test_from_the_queue_to_the_agent_in_one_step() -> None:
    line = Line().queue()
    line.carrier(twilio.media(b"\x01" * 160, 20))
    line.run(1.0)
    line.forget()
    line.admit()
    assert [type(effect) for effect in line.effects] == [ConnectAgent]
    line.run(0.5)
    assert hears_tone(line.played()[-3200:]) or len(line.played()) >= 0.1 * 8000, "no dead air while connecting"
    line.carrier(twilio.media(b"\x02" * 160, 40))
    line.connect()
    line.agent(convai.metadata())
    assert twilio.clears(line.to_carrier) == 1, "the hold audio stops at once"
    assert line.uploaded() == b"\x02" * 160, "what was said in the queue is not for the agent"
    line.forget()
    line.agent(convai.audio(b"\x07" * 160))
    assert line.played() == b"\x07" * 160
    stats = line.call.current_stats()
    assert (stats.agent_frames, stats.agent_flushed_ms, stats.heard_ms, stats.interruptions) == (1, 0.0, 0.0, 0)


def test_only_the_agents_audio_counts_as_heard() -> None:
    line = Line().queue()
    line.run(2.0)
    line.activate()
    line.agent(convai.audio(b"\x07" * 1600))
    line.run(1.0)
    for mark in twilio.marks(line.to_carrier):
        line.carrier(twilio.mark(mark))
    assert line.call.current_stats().heard_ms == 200.0


def test_a_caller_who_waited_too_long_is_hung_up_not_rejected() -> None:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC)
    leg.coming = [offer()]
    line.carrier("offer")
    line.queue()
    line.refuse(outcome.QUEUE_TIMEOUT, "60 s")
    assert leg.commands[-1] == events.Hangup(outcome.QUEUE_TIMEOUT, "60 s")
    assert line.finished() == [Finished(outcome.QUEUE_TIMEOUT, "60 s")]


def test_a_caller_who_hangs_up_while_waiting() -> None:
    line = Line().queue()
    line.carrier(twilio.STOP)
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "stop")]
    line.call.hold(2, line.clock.now)
    line.call.admit(line.clock.now)
    line.drain()
    assert line.call.state is State.ENDED
    assert line.next_timer() == math.inf


def test_an_interruption_does_not_stop_the_hold_audio() -> None:
    line = Line().queue()
    line.call.admit(line.clock.now)
    line.forget()
    line.agent(convai.interruption(1))
    assert twilio.clears(line.to_carrier) == 0


# --- for the results ---


def results_line(options: CallOptions = RESULTS_OPTIONS) -> tuple[Line, FakeLeg]:
    leg = FakeLeg()
    line = Line(leg=leg, spec=RESULTS_SPEC, options=options)
    leg.coming = [offer()]
    line.activate()
    return line, leg


def goodbye_heard(line: Line, leg: FakeLeg) -> None:
    """The agent says good-bye and the caller hears it."""
    line.agent(convai.audio(b"\x01" * 1600))
    line.agent_lost(1000)
    mark = [command.name for command in leg.commands if isinstance(command, events.Mark)][-1]
    leg.coming = [events.PlaybackReached(mark)]
    line.carrier("mark")


def test_results_that_come_after_the_good_bye() -> None:
    line, leg = results_line()
    goodbye_heard(line, leg)
    assert FetchResults(convai.CONVERSATION_ID) in line.effects
    assert line.call.state is State.DRAINING
    line.run(2.0)
    plays = b"".join(command.payload for command in leg.commands if isinstance(command, events.Play))
    assert len(plays) > 1.5 * 8000, "the line is not silent meanwhile"
    line.call.give_results({"city": "Berlin"}, line.clock.now)
    line.drain()
    wanted = {"conversation_id": convai.CONVERSATION_ID, "city": "Berlin"}
    assert leg.commands[-1] == events.Hangup(outcome.AGENT_HANGUP, "close 1000", wanted)
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "close 1000")]


def test_results_that_come_before_the_caller_has_heard_everything() -> None:
    line, leg = results_line()
    line.agent(convai.audio(b"\x01" * 8000))
    line.agent_lost(1000)
    line.call.give_results({"city": "Berlin"}, line.clock.now)
    line.drain()
    assert line.finished() == [], "the good-bye is heard first"
    mark = [command.name for command in leg.commands if isinstance(command, events.Mark)]
    assert mark == []
    line.run(2.5)
    [finished] = line.finished()
    assert finished.reason is outcome.AGENT_HANGUP
    assert line.call.outputs == {"city": "Berlin", "conversation_id": convai.CONVERSATION_ID}


def test_results_that_never_come() -> None:
    line, leg = results_line()
    goodbye_heard(line, leg)
    line.run(4.9)
    assert line.finished() == []
    line.run(0.2)
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "close 1000")]
    assert [note.event for note in line.notes()][-1] == "no_results"
    line.call.give_results({"late": "1"}, line.clock.now)
    assert line.call.outputs["late"] == "1", "kept for the record"
    assert len(line.finished()) == 1


def test_a_caller_who_hangs_up_while_results_are_fetched() -> None:
    line, leg = results_line()
    goodbye_heard(line, leg)
    leg.coming = [events.Ended(outcome.CALLER_HANGUP)]
    line.carrier("gone")
    line.call.give_results({"a": "1"}, line.clock.now)
    line.drain()
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "")]


@pytest.mark.parametrize("options", [OPTIONS, dataclasses.replace(OPTIONS, results_wait_s=0.0)])
def test_nobody_asks_for_results_without_a_wait(options: CallOptions) -> None:
    line, leg = results_line(options)
    goodbye_heard(line, leg)
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "close 1000")]
    assert FetchResults(convai.CONVERSATION_ID) not in line.effects


# --- who listens ---


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def caller(self, payload: bytes, now: float) -> None:
        self.heard.append(("caller", payload))

    def agent(self, payload: bytes, now: float) -> None:
        self.heard.append(("agent", payload))

    def flush(self, now: float) -> None:
        self.heard.append(("flush", b""))


@pytest.mark.parametrize("agent_format", ["ulaw_8000", "pcm_16000"])
def test_a_tap_hears_both_sides_in_the_legs_format(agent_format: str) -> None:
    line, ear = Line(), Ear()
    line.call.listen(ear)
    line.admit()
    line.carrier(twilio.media(b"\x01" * 160, 20))  # held for the agent, but heard
    line.activate(agent_format, agent_format)
    line.carrier(twilio.media(b"\x02" * 160, 40))
    line.agent(convai.audio(b"\x00" * (160 if agent_format == "ulaw_8000" else 640)))
    line.agent(convai.interruption(1))
    kinds = [kind for kind, _ in ear.heard]
    assert kinds == ["caller", "caller", "agent", "flush"]
    assert ear.heard[:2] == [("caller", b"\x01" * 160), ("caller", b"\x02" * 160)]
    assert len(ear.heard[2][1]) == 160


def test_a_tap_that_comes_and_goes() -> None:
    line, ear = Line().activate(), Ear()
    line.carrier(twilio.media(b"\x01" * 160, 20))
    assert line.leg.relayed + line.call.stats.caller_frames == 1
    line.call.listen(ear)
    line.carrier(twilio.media(b"\x02" * 160, 40))
    line.call.listen(None)
    line.carrier(twilio.media(b"\x03" * 160, 60))
    assert ear.heard == [("caller", b"\x02" * 160)]
    assert line.uploaded() == b"\x01" * 160 + b"\x02" * 160 + b"\x03" * 160
    assert line.call.current_stats().caller_frames == 3


# --- what is written down ---


def test_the_journal_of_a_call() -> None:
    line = Line().activate()
    line.agent(convai.agent_response("Hello, what can I do?"), convai.user_transcript("Stop"))
    line.agent(convai.correction("Hello"), convai.tool_call("look_up", "t1"))
    line.carrier(twilio.dtmf("5"))
    journal = line.call.journal
    assert [(turn.role, turn.text) for turn in journal.turns] == [("agent", "Hello"), ("user", "Stop")]
    assert [(tool.name, tool.is_error) for tool in journal.tools] == [("look_up", True)]
    assert [press.digit for press in journal.digits] == ["5"]
    assert [step.event for step in journal.steps] == [
        "admitting",
        "connecting",
        "active",
        "agent_ready",
        "tool_refused",
    ]


def test_redacted_digits_are_not_written_down() -> None:
    line = Line(options=dataclasses.replace(OPTIONS, keypad=REDACTING)).activate()
    line.carrier(twilio.dtmf("5"))
    assert [press.digit for press in line.call.journal.digits] == [""]
    assert line.call.stats.dtmf == 1


def test_the_socket_is_closed_when_the_queue_is_refused() -> None:
    line = Line().queue()
    line.forget()
    line.refuse(outcome.CAPACITY)
    assert line.to_carrier[-1] == CloseSocket(1000, "capacity")


# --- a transfer by the carrier's flow ---


def transfer_line() -> tuple[Line, FakeLeg]:
    abilities = Abilities(transfers=frozenset({TransferKind.FLOW}))
    tools = ToolOptions(transfer_allow=("+4930*",))
    return results_line(dataclasses.replace(RESULTS_OPTIONS, tools=tools, abilities=abilities))


def transfer_call(target: str) -> str:
    body = {"tool_name": "transfer_to_number", "tool_call_id": "t1", "parameters": {"transfer_number": target}}
    return json.dumps({"type": "client_tool_call", "client_tool_call": body})


def test_a_transfer_ends_the_call_with_its_target() -> None:
    line, leg = transfer_line()
    line.agent(convai.audio(b"\x01" * 1600), transfer_call("+4930123456"))
    [answer, close] = line.to_agent
    assert isinstance(answer, str)
    assert json.loads(answer) == {
        "type": "client_tool_result",
        "tool_call_id": "t1",
        "result": "The caller is being transferred now. Say nothing more.",
        "is_error": False,
    }
    assert close == CloseSocket(1000)
    assert TransferPlanned("+4930123456") in line.effects
    assert line.finished() == [], "the caller hears the sentence to its end"
    line.call.give_results({"city": "Berlin"}, line.clock.now)
    line.run(2.0)
    assert leg.commands[-1] == events.Hangup(
        outcome.TRANSFERRED,
        "the carrier did not confirm the end of the good-bye in time",
        {
            "transfer_to": "+4930123456",
            "transfer_reason": "",
            "city": "Berlin",
            "conversation_id": convai.CONVERSATION_ID,
        },
    )
    assert line.call.journal.tools[0].is_error is False


def test_a_transfer_that_is_not_allowed_leaves_the_agent_talking() -> None:
    line, _leg = transfer_line()
    line.agent(transfer_call("+4940123456"))
    assert '"is_error":true' in str(line.to_agent[0])
    assert line.call.state is State.ACTIVE
    assert line.call.outputs == {}


def test_a_second_transfer_changes_nothing() -> None:
    line, _leg = transfer_line()
    line.agent(convai.audio(b"\x01" * 1600), transfer_call("+4930123456"), transfer_call("+4930999999"))
    assert line.call.outputs["transfer_to"] == "+4930123456"
    assert sum(isinstance(effect, TransferPlanned) for effect in line.effects) == 1


def test_a_line_that_cannot_transfer_says_so() -> None:
    line = Line(options=dataclasses.replace(OPTIONS, tools=ToolOptions(transfer_allow=("*",)))).activate()
    line.agent(transfer_call("+4930123456"))
    assert "this phone line cannot transfer calls" in str(line.to_agent[0])
    assert line.call.state is State.ACTIVE


# --- keys ---


def test_the_agent_is_told_what_the_caller_typed() -> None:
    line = Line().activate()
    line.carrier(twilio.dtmf("4"), twilio.dtmf("2"))
    assert line.told() == []
    line.run(2.1)
    assert line.told() == [("user_message", "I pressed 42 on the keypad.")]


def test_the_agent_may_be_told_of_each_key() -> None:
    line = Line(options=dataclasses.replace(OPTIONS, keypad=KeypadOptions(KeypadMode.EACH))).activate()
    line.carrier(twilio.dtmf("4"))
    assert line.told() == [("contextual_update", "The caller pressed the key 4 on the keypad.")]


def test_redacted_keys_never_reach_the_agent() -> None:
    keypad = KeypadOptions(KeypadMode.EACH, redact=True)
    line = Line(options=dataclasses.replace(OPTIONS, keypad=keypad)).activate()
    line.carrier(twilio.dtmf("4"))
    line.run(3.0)
    assert line.told() == []
    assert line.effects == [DigitsTyped("4")]
    line.carrier(twilio.dtmf("7"), twilio.STOP)
    assert line.effects[1] == DigitsTyped("7"), "the last entry is complete when the call ends"
    assert isinstance(line.effects[2], Finished)


@pytest.mark.parametrize("wait_s", [0.5, 3.0])
def test_keys_before_the_agent_listens_are_told_when_it_does(wait_s: float) -> None:
    line = Line().connect()
    line.carrier(twilio.dtmf("4"))
    line.run(wait_s)
    assert line.told() == [], "nothing may come before the conversation has begun"
    line.agent(convai.metadata())
    line.run(3.0)
    assert line.told() == [("user_message", "I pressed 4 on the keypad.")]
    assert line.call.stats.dtmf == 1


def test_keys_in_the_queue_are_not_for_the_agent() -> None:
    line = Line().queue()
    line.carrier(twilio.dtmf("4"))
    line.run(3.0)
    line.activate()
    line.run(3.0)
    assert line.told() == []
    assert [press.digit for press in line.call.journal.digits] == ["4"]


def test_keys_before_the_calls_route_is_known_are_counted_only() -> None:
    line = Line().offer()
    line.carrier(twilio.dtmf("4"))
    assert [press.digit for press in line.call.journal.digits] == [""]
    line.activate()
    line.run(3.0)
    assert line.told() == []


def test_a_key_that_the_audio_and_the_carrier_report_is_one_key() -> None:
    line = Line().activate()
    line.carrier(twilio.dtmf("4"))
    line.clock.advance(0.3)
    line.call.key_pressed("4", 100, KeySource.INBAND, line.clock.now)
    line.run(3.0)
    assert line.told() == [("user_message", "I pressed 4 on the keypad.")]
    assert line.call.stats.dtmf == 1
    assert [press.digit for press in line.call.journal.digits] == ["4"]


def test_a_flood_of_keys_floods_nobody() -> None:
    line = Line().activate()
    for _ in range(1000):
        line.carrier(twilio.dtmf("4"))
        line.run(0.01)
    line.run(20.0)
    assert 1 <= len(line.told()) <= 20
    assert line.call.stats.dtmf == 1000
    assert len(line.call.journal.digits) <= 1000


# --- what else a driver may ask ---


def test_before_the_offer_there_is_no_format() -> None:
    line = Line()
    with pytest.raises(LocalError, match="^the carrier has offered nothing so far$"):
        _ = line.call.offered_media
    assert line.offer().call.offered_media == ULAW_8K


def test_a_tap_hears_hold_audio_and_what_had_to_wait() -> None:
    line, ear = Line(), Ear()
    line.call.listen(ear)
    line.queue()
    assert hears_tone(b"".join(payload for kind, payload in ear.heard if kind == "agent"))
    line.activate()
    line.agent(convai.audio(b"\x07" * 8000))
    line.run(2.0)
    assert b"".join(payload for kind, payload in ear.heard if kind == "agent").endswith(b"\x07" * 8000)
