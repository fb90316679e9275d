"""An agent that calls every tool at every state of a call: each call is answered exactly once, or cannot be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from bridge import events, outcome
from bridge.calls import tool_words as words
from bridge.calls.effects import (
    BeginTransfer,
    DigitsTyped,
    FetchResults,
    Finished,
    Note,
    PlayTones,
    RunTool,
    Speak,
    TransferPlanned,
    Words,
)
from bridge.calls.http_tools import HttpTool
from bridge.calls.keypad import KeypadOptions, KeySource
from bridge.calls.machine import MachineAction, MachineOptions
from bridge.calls.options import CallOptions
from bridge.calls.orders import HttpOrder, TransferOrder
from bridge.calls.redact import MASK
from bridge.calls.state import State
from bridge.calls.tool_words import ToolFailure, tool_failed, transfer_failed
from bridge.calls.tools import Abilities, ToolOptions
from bridge.calls.turns import TurnMeter
from bridge.convai.messages import InitiationData
from bridge.leg import CloseSocket, ToneWay, TransferKind
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import dominant_frequencies
from bridge.providers import genesys as genesys_carrier
from tests.kit import convai, genesys, twilio
from tests.kit.calls import AGAIN_ID, LEG_OPTIONS, OPTIONS, Line
from tests.kit.legs import FAKE_SPEC, FakeLeg, offer

SLOW, QUICK = (
    HttpTool("slow", "d", "https://t.example/a", timeout_s=40.0),
    HttpTool("quick", "d", "https://t.example/b"),
)
TOOLS = ToolOptions(transfer_allow=("*",), http_tools={"slow": SLOW, "quick": QUICK})
TWILIO = Abilities(frozenset({TransferKind.WARM, TransferKind.BLIND}), ToneWay.EXCURSION)
ABLE = dataclasses.replace(OPTIONS, tools=TOOLS, abilities=TWILIO, reconnect_s=2.0)

NOT_NOW = tool_failed(ToolFailure.NOT_NOW)
TO = {"transfer_number": "+14155550100"}


def able(**changes: Any) -> Line:
    """A line that can do everything a Twilio call can."""
    return Line(options=dataclasses.replace(ABLE, **changes))


CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("transfer_to_number", {**TO}),
    ("transfer_to_number", {**TO, "transfer_type": "blind"}),
    ("transfer_to_number", {}),
    ("play_keypad_touch_tone", {"dtmf_tones": "1w2#"}),
    ("play_keypad_touch_tone", {"dtmf_tones": 12}),
    ("end_call", {"reason": "done"}),
    ("end_call", {"reason": "done", "message": "Bye"}),
    ("end_call", {}),
    ("voicemail_detection", {"reason": "beep"}),
    ("hold", {}),
    ("resume", {}),
    ("quick", {}),
    ("no_such_tool", {"a": [1, {"b": None}]}),
)
TAKES_A_WHILE = {0, 1, 3, 11}
"""Those whose result comes from the driver."""


def _held(line: Line) -> None:
    line.activate().call.put_on_hold(True, line.clock.now)


STATES: dict[str, Callable[[Line], object]] = {
    "connecting": lambda line: line.connect(),
    "active": lambda line: line.activate(),
    "on hold": _held,
    "about to leave": lambda line: line.activate().let_leave(),
    "away": lambda line: line.activate().leave(),
    "back": lambda line: line.activate().leave().come_back(),
    "reconnecting": lambda line: line.reconnect().call.agent_connected(InitiationData(), line.clock.now),
    "agent back": lambda line: line.reconnect().ready_again(),
    "draining": lambda line: line.begin_draining(),
    "ended": lambda line: line.activate().stop(),
}


@pytest.mark.parametrize("index", range(len(CALLS)))
@pytest.mark.parametrize("state", STATES)
def test_every_tool_at_every_state_is_answered_once_or_cannot_be(state: str, index: int) -> None:
    line, (name, parameters) = able(), CALLS[index]
    STATES[state](line)
    line.drain()
    line.forget()
    line.tool(name, "t1", **parameters)
    if state in ("draining", "ended"):
        assert (line.results(), line.to_carrier, line.effects) == ([], [], []), "nobody is there to be answered"
        return
    if state in ("active", "on hold", "back", "agent back") and index in TAKES_A_WHILE:
        assert line.results() == []
        line.answer("t1", "It is done.")
        assert line.results() == [("t1", "It is done.", False)]
    elif state not in ("active", "on hold", "back", "agent back"):
        assert line.results() == [("t1", NOT_NOW, True)]
        assert [type(effect) for effect in line.effects] == [Note]
    assert [call_id for call_id, _, _ in line.results()] == ["t1"]
    line.answer("t1", "twice")
    line.run(200.0)
    assert [call_id for call_id, _, _ in line.results()] == ["t1"]


# --- what orders come to ---


def test_a_warm_transfer_tells_the_caller_and_leaves_as_an_order() -> None:
    line = able().activate()
    line.tool("transfer_to_number", **TO, client_message="Wait", agent_message="A caller", reason="sales")
    order = TransferOrder(
        kind=TransferKind.WARM,
        target="+14155550100",
        client_message="Wait",
        agent_message="A caller",
        reason="sales",
    )
    assert line.effects == [
        Note("tool_accepted", "transfer_to_number"),
        Speak(Words.GIVEN, "Wait"),
        BeginTransfer(order, "t1"),
    ]
    assert line.call.state is State.ACTIVE, "the agent stays with the caller"
    line.speech(b"\x05" * 800)
    assert line.played() == b"\x05" * 800
    line.answer("t1", words.TRANSFERRED)
    line.call.handed_over("conference", line.clock.now)
    line.drain()
    assert line.results() == [("t1", words.TRANSFERRED, False)]
    assert line.finished() == [Finished(outcome.TRANSFERRED, "conference")]
    assert line.to_agent[-1] == CloseSocket(1000)


def test_a_blind_transfer_says_nothing_itself() -> None:
    line = able().activate()
    line.tool("transfer_to_number", **TO, transfer_type="blind", client_message="Wait")
    assert [type(effect) for effect in line.effects] == [Note, BeginTransfer]


def test_one_errand_at_a_time() -> None:
    line = able().activate()
    line.tool("transfer_to_number", "t1", **TO)
    line.tool("transfer_to_number", "t2", **TO)
    line.tool("play_keypad_touch_tone", "t3", dtmf_tones="1")
    line.tool("quick", "t4")
    busy = tool_failed(ToolFailure.IN_PROGRESS)
    assert line.results() == [("t2", busy, True), ("t3", busy, True)]
    line.answer("t1", "nobody answered", is_error=True)
    line.tool("play_keypad_touch_tone", "t5", dtmf_tones="1")
    assert PlayTones("1", "t5") in line.effects


def test_an_errand_of_a_tool_call_without_an_id_is_one_too() -> None:
    line = able().activate()
    line.tool("transfer_to_number", "", **TO)
    line.tool("transfer_to_number", "t2", **TO)
    assert line.results() == [("t2", tool_failed(ToolFailure.IN_PROGRESS), True)]


def test_tones_that_the_leg_itself_can_send_need_no_driver() -> None:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC, options=dataclasses.replace(ABLE, abilities=Abilities(tones=ToneWay.LEG)))
    leg.coming = [offer()]
    line.activate()
    line.tool("play_keypad_touch_tone", dtmf_tones="1w2#")
    assert leg.commands[-1] == events.SendDtmf("1w2#")
    assert line.results() == [("t1", words.KEYS_PRESSED, False)]
    line.tool("play_keypad_touch_tone", "t2", dtmf_tones="3")
    assert leg.commands[-1] == events.SendDtmf("3")


def test_a_repeated_message_is_neither_carried_out_nor_answered_again() -> None:
    line = able().activate()
    line.tool("quick")
    line.tool("quick")
    line.tool("transfer_to_number", "t1", **TO)
    assert [effect for effect in line.effects if not isinstance(effect, Note)] == [
        RunTool(HttpOrder("quick", {}), "t1")
    ]
    line.answer("t1")
    line.tool("quick")
    assert line.results() == [("t1", "done", False)]
    assert line.call.stats.tool_calls == 1


def test_the_seventeenth_open_call_is_one_too_many() -> None:
    line = able().activate()
    for number in range(18):
        line.tool("quick", f"t{number}")
    too_many = tool_failed(ToolFailure.TOO_MANY)
    assert line.results() == [("t16", too_many, True), ("t17", too_many, True)]
    line.answer("t3")
    line.tool("quick", "t18")
    line.tool("quick", "t17")
    assert sum(isinstance(effect, RunTool) for effect in line.effects) == 17


def test_an_end_of_the_call_answers_whoever_still_waits() -> None:
    line = able().activate()
    line.tool("quick", "t1")
    line.tool("transfer_to_number", "t2", **TO)
    line.tool("end_call", "t3", reason="done")
    over = tool_failed(ToolFailure.CALL_OVER)
    assert line.results() == [("t3", words.ENDING, False), ("t1", over, True), ("t2", over, True)]
    assert line.to_agent[-1] == CloseSocket(1000)
    line.answer("t1", "late")
    line.answer("t2", "late")
    assert len(line.results()) == 3
    assert line.told() == []


def test_a_caller_who_hangs_up_is_the_answer_to_whoever_waits() -> None:
    line = able().activate()
    line.tool("quick", "t1")
    line.stop()
    assert line.results() == [("t1", tool_failed(ToolFailure.CALLER_GONE), True)]
    assert line.to_agent[-1] == CloseSocket(1000)
    line.answer("t1", "late")
    assert len(line.results()) == 1


def test_an_agent_that_hangs_up_cannot_be_answered() -> None:
    line = able().activate()
    line.tool("quick", "t1")
    line.agent_lost(1000)
    line.answer("t1", "late")
    assert line.results() == []
    assert [(tool.result, tool.is_error) for tool in line.call.journal.tools] == [("late", False)], "for the record"


# --- bounds ---


@pytest.mark.parametrize(
    ("name", "parameters", "bound_s", "told"),
    [
        ("quick", {}, 20.0, tool_failed(ToolFailure.TIMEOUT)),
        ("slow", {}, 41.0, tool_failed(ToolFailure.TIMEOUT)),
        ("play_keypad_touch_tone", {"dtmf_tones": "1"}, 59.0, tool_failed(ToolFailure.TIMEOUT)),
        ("transfer_to_number", TO, 119.0, transfer_failed(ToolFailure.TIMEOUT)),
    ],
)
def test_a_driver_that_never_answers(name: str, parameters: dict[str, Any], bound_s: float, told: str) -> None:
    line = able().activate()
    line.tool(name, **parameters)
    for _ in range(round(bound_s) - 1):
        line.agent(convai.ping(1))
        line.say(b"\xff" * 160)
        line.run(1.0)
    line.run(0.999)
    assert line.results() == []
    line.run(0.002)
    assert line.results() == [("t1", told, True)]
    line.answer("t1", "late")
    assert len(line.results()) == 1
    line.tool("transfer_to_number", "t2", **TO)
    assert isinstance(line.effects[-1], BeginTransfer), "the line is free again"


def test_a_short_bound_of_the_tools_own_does_not_shorten_the_operators() -> None:
    line = able(tool_timeout_s=25.0).activate()
    line.tool("quick")
    line.run(24.9)
    assert line.results() == []
    line.run(0.2)
    assert line.results() == [("t1", tool_failed(ToolFailure.TIMEOUT), True)]


class _Meter(TurnMeter):
    """Writes down when the agent waits no longer."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[float] = []

    def tool_closed(self, at_s: float) -> None:
        self.closed.append(at_s)


def test_a_tool_that_is_overdue_or_lost_keeps_nobody_waiting() -> None:
    line = able().activate()
    line.call.turns = meter = _Meter()
    line.tool("quick", "t1")
    line.answer("t1")
    line.answer("t1")
    line.tool("quick", "t2")
    line.run(20.1)
    assert len(meter.closed) == 2
    line.tool("quick", "t3")
    line.tool("slow", "t4")
    line.agent_lost(1006)
    assert len(meter.closed) == 4
    line.answer("t3")
    assert len(meter.closed) == 4


# --- the flow's transfer ---


def test_a_transfer_by_the_flow() -> None:
    line = able(abilities=Abilities(frozenset({TransferKind.FLOW}))).activate()
    line.agent(convai.audio(b"\x01" * 1600))
    line.tool("transfer_to_number", destination="Sales", reason="wants a person")
    assert line.results() == [("t1", words.TRANSFERRING, False)]
    assert TransferPlanned("Sales") in line.effects
    assert line.call.outputs == {"transfer_to": "Sales", "transfer_reason": "wants a person"}
    assert line.finished() == [], "the sentence is heard first"
    line.reached("g0:1")
    assert line.finished() == [Finished(outcome.TRANSFERRED, "")]


# --- a carrier whose flow transfers ---


def genesys_line(**changes: Any) -> Line:
    """A Genesys call in which the agent talks."""
    options = dataclasses.replace(
        ABLE, abilities=Abilities(frozenset({TransferKind.FLOW})), results_wait_s=3.0, **changes
    )
    leg = genesys_carrier.SPEC.new_leg(LEG_OPTIONS, genesys.REQUEST, 1000.25)
    line = Line(leg=leg, spec=genesys_carrier.SPEC, options=options)
    line.carrier(genesys.opening())
    return line.activate()


def disconnected(line: Line) -> dict[str, str]:
    """The output variables with which the flow goes on."""
    [parameters] = [said for kind, said in genesys.said(line.to_carrier) if kind == "disconnect"]
    found: dict[str, str] = parameters["outputVariables"]
    return found


def test_a_flow_gets_its_target_and_the_results() -> None:
    line = genesys_line()
    line.agent(convai.audio(b"\x01" * 1600))
    line.tool("transfer_to_number", destination="Sales", reason="wants a person")
    assert line.results() == [("t1", words.TRANSFERRING, False)]
    assert FetchResults(convai.CONVERSATION_ID) in line.effects
    line.run(0.1)
    assert line.finished() == []
    line.call.give_results({"city": "Berlin"}, line.clock.now)
    line.run(3.0)
    [finished] = line.finished()
    assert finished.reason is outcome.TRANSFERRED
    assert disconnected(line) == {
        "transfer_to": "Sales",
        "transfer_reason": "wants a person",
        "city": "Berlin",
        "end_reason": "transferred",
        "conversation_id": convai.CONVERSATION_ID,
    }


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("transfer_to_number", {"destination": "Sales", "post_dial_digits": "1"}, words.NO_KEYS_AFTER),
        ("transfer_to_number", {}, words.NO_TARGET),
        ("play_keypad_touch_tone", {"dtmf_tones": "1"}, words.NO_TONES),
        ("dance", {}, words.UNAVAILABLE.format(name="dance")),
    ],
)
def test_what_a_flow_cannot_do(name: str, parameters: dict[str, Any], told: str) -> None:
    line = genesys_line()
    line.tool(name, **parameters)
    assert line.results() == [("t1", told, True)]
    assert line.call.state is State.ACTIVE


def test_hold_and_the_end_on_genesys() -> None:
    line = genesys_line()
    line.tool("hold", "t1")
    line.run(1.0)
    assert genesys.spoken(line.to_carrier)
    line.tool("end_call", "t2", reason="done")
    assert [call_id for call_id, _, _ in line.results()] == ["t1", "t2"]
    line.run(10.0)
    assert [finished.reason for finished in line.finished()] == [outcome.AGENT_HANGUP]
    assert disconnected(line)["conversation_id"] == convai.CONVERSATION_ID


def test_an_agent_that_breaks_on_genesys() -> None:
    line = genesys_line()
    line.agent(convai.audio(b"\x01" * 1600))
    line.reconnect().ready_again()
    line.tool("transfer_to_number", "t1", destination="Sales")
    line.run(10.0)
    assert disconnected(line)["conversation_id"] == AGAIN_ID
    assert [finished.reason for finished in line.finished()] == [outcome.TRANSFERRED]


def test_a_pause_of_genesys_is_silence_for_the_agent() -> None:
    line = genesys_line()
    line.carrier(genesys.message("paused"))
    line.run(2.5)
    assert line.uploaded() == b"\xff" * 16_000
    line.carrier(genesys.message("resumed", {"start": "PT0S", "discarded": "PT2.5S"}, 3))
    line.forget()
    line.carrier(b"\x02" * 160)
    line.run(2.0)
    assert line.uploaded() == b"\x02" * 160


# --- hold ---


def hears_tone(payload: bytes) -> bool:
    peaks = dominant_frequencies(ulaw_to_pcm(payload), 8000, 1)
    return bool(peaks) and abs(peaks[0].frequency_hz - 425) < 10


def test_on_hold_the_caller_hears_music_and_the_agent_silence() -> None:
    line = able().activate()
    line.tool("hold")
    assert line.results() == [("t1", words.ON_HOLD, False)]
    assert hears_tone(line.played()[:3200])
    line.forget()
    line.say(b"\x01" * 160)
    assert line.uploaded() == b"\xff" * 160, "the caller is not heard, but the line is alive"
    line.agent(convai.audio(b"\x07" * 800))
    line.run(1.0)
    assert b"\x07" * 160 not in line.played()
    line.tool("resume", "t2")
    assert line.results()[-1] == ("t2", words.OFF_HOLD, False)
    assert twilio.clears(line.to_carrier) == 1
    line.forget()
    line.say(b"\x02" * 160)
    line.agent(convai.audio(b"\x08" * 800))
    assert (line.uploaded(), line.played()) == (b"\x02" * 160, b"\x08" * 800)
    assert [note.event for note in line.notes()] == []


def test_hold_and_resume_that_change_nothing_say_so() -> None:
    line = able().activate()
    line.tool("resume", "t1")
    line.tool("hold", "t2")
    line.tool("hold", "t3")
    assert line.results() == [
        ("t1", words.NOT_ON_HOLD, False),
        ("t2", words.ON_HOLD, False),
        ("t3", words.ALREADY_ON_HOLD, False),
    ]
    assert [note.event for note in line.notes()].count("hold") == 1


def test_what_was_said_before_the_hold_is_heard_first() -> None:
    line = able().activate()
    line.agent(convai.audio(b"\x01" * 16_000))
    line.tool("hold")
    line.run(1.0)
    assert line.played() == b"\x01" * len(line.played())
    line.run(2.0)
    assert line.played().startswith(b"\x01" * 16_000)
    assert hears_tone(line.played()[16_000:19_200])
    assert twilio.clears(line.to_carrier) == 0
    line.tool("resume", "t2")
    line.stop()
    assert line.call.stats.heard_ms == pytest.approx(2000, abs=1)
    assert line.call.stats.agent_flushed_ms == 0


def test_a_hold_that_has_not_begun_cuts_nothing_off_when_it_ends() -> None:
    line = able().activate()
    line.agent(convai.audio(b"\x01" * 16_000))
    line.tool("hold", "t1")
    line.run(0.5)
    line.tool("resume", "t2")
    line.agent(convai.audio(b"\x02" * 1600))
    line.run(3.0)
    assert line.played() == b"\x01" * 16_000 + b"\x02" * 1600
    assert twilio.clears(line.to_carrier) == 0


def test_who_interrupts_before_the_hold_begins_is_on_hold_at_once() -> None:
    line = able().activate()
    line.agent(convai.audio(b"\x01" * 16_000))
    line.tool("hold")
    line.forget()
    line.agent(convai.interruption(1))
    assert twilio.clears(line.to_carrier) == 1
    assert hears_tone(line.played())
    line.forget()
    line.agent(convai.interruption(2))
    line.run(1.0)
    assert twilio.clears(line.to_carrier) == 0, "hold music is not talked over"


def test_speech_for_a_caller_on_hold_is_heard_between_the_music() -> None:
    line = able().activate()
    line.tool("hold")
    line.tool("transfer_to_number", "t2", **TO, client_message="Wait")
    line.speech(b"\x05" * 1600)
    line.run(2.0)
    heard = line.played()
    assert b"\x05" * 1600 in heard
    assert not heard.endswith(b"\x05" * 160)


def test_the_end_while_on_hold() -> None:
    line = able().activate()
    line.tool("hold", "t1")
    line.run(1.0)
    line.forget()
    line.tool("end_call", "t2", reason="done")
    assert twilio.clears(line.to_carrier) == 1, "no music in front of the end"
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "done")]


def test_an_operator_cannot_hold_a_call_that_does_not_talk() -> None:
    line = able().connect()
    assert not line.call.put_on_hold(True, line.clock.now)
    line.agent(convai.metadata())
    assert line.call.put_on_hold(True, line.clock.now)
    assert line.call.put_on_hold(True, line.clock.now)
    line.stop()
    assert not line.call.put_on_hold(False, line.clock.now)


def test_an_agent_that_breaks_takes_the_caller_off_hold() -> None:
    line = able().activate()
    line.tool("hold")
    line.reconnect().ready_again()
    line.forget()
    line.say(b"\x02" * 160)
    line.agent(convai.audio(b"\x08" * 800))
    assert (line.uploaded(), line.played()) == (b"\x02" * 160, b"\x08" * 800)


# --- answering machines ---


def machine(action: MachineAction, message: str = "Call me back", *, awaits_end: bool = False) -> CallOptions:
    return dataclasses.replace(ABLE, machine=MachineOptions(action, message, awaits_end))


def test_a_machine_is_hung_up_on() -> None:
    line = Line(options=machine(MachineAction.HANG_UP)).activate()
    line.verdict("machine_start")
    assert line.finished() == [Finished(outcome.VOICEMAIL, "")]
    assert line.to_carrier == [CloseSocket(1000, "voicemail")]


@pytest.mark.parametrize("action", [MachineAction.HANG_UP, MachineAction.LEAVE_MESSAGE])
def test_a_fax_is_hung_up_on(action: MachineAction) -> None:
    line = Line(options=machine(action)).connect()
    line.verdict("fax")
    assert line.finished() == [Finished(outcome.FAX, "")]


def test_the_agents_own_verdict_is_answered_before_the_end() -> None:
    line = Line(options=machine(MachineAction.HANG_UP)).activate()
    line.tool("voicemail_detection", reason="a beep")
    assert line.results() == [("t1", words.NOTED, False)]
    assert line.to_agent[-1] == CloseSocket(1000)
    assert line.finished() == [Finished(outcome.VOICEMAIL, "")]


def test_a_message_is_left_and_the_agent_is_cut_first() -> None:
    line = Line(options=machine(MachineAction.LEAVE_MESSAGE)).activate()
    line.agent(convai.audio(b"\x01" * 8000))
    line.forget()
    line.verdict("machine_end_beep")
    assert twilio.clears(line.to_carrier) == 1
    assert Speak(Words.VOICEMAIL, "Call me back") in line.effects
    assert line.call.state is State.DRAINING
    assert line.call.stats.interruptions == 0, "nobody talked over the agent"
    assert not line.call.flushed
    line.forget()
    line.speech(b"\x05" * 1600)
    assert line.played() == b"\x05" * 1600
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.VOICEMAIL, "")]
    assert not line.call.apologised


def test_a_machine_is_patient_while_its_message_is_made() -> None:
    line = Line(options=machine(MachineAction.LEAVE_MESSAGE)).activate()
    line.verdict("machine_end_beep")
    line.run(4.5)
    line.speech(b"\x05" * 1600)
    assert line.played() == b"\x05" * 1600
    line.run(2.0)
    assert [finished.reason for finished in line.finished()] == [outcome.VOICEMAIL]


def test_a_message_is_left_before_the_agent_is_ready() -> None:
    line = Line(options=machine(MachineAction.LEAVE_MESSAGE)).connect()
    line.run(2.0)
    line.forget()
    line.verdict("machine_end_beep")
    assert twilio.clears(line.to_carrier) == 1, "no tone on the recording"
    line.speech(b"\x05" * 1600)
    line.agent(convai.metadata())
    assert line.played() == b"\x05" * 1600
    line.run(2.0)
    assert [finished.reason for finished in line.finished()] == [outcome.VOICEMAIL]


@pytest.mark.parametrize("begin", [Line.offer, Line.queue], ids=["admitting", "queued"])
def test_a_machine_that_is_known_before_the_call_is_let_in(begin: Callable[[Line], Line]) -> None:
    line = begin(Line(options=machine(MachineAction.LEAVE_MESSAGE)))
    line.verdict("machine_end_beep")
    assert line.finished() == []
    line.forget()
    line.admit()
    assert line.asked() == [], "no agent is needed"
    assert Speak(Words.VOICEMAIL, "Call me back") in line.effects
    line.speech(b"\x05" * 160)
    line.run(2.0)
    assert [finished.reason for finished in line.finished()] == [outcome.VOICEMAIL]


def test_the_end_of_the_greeting_is_waited_for_with_a_bound() -> None:
    line = Line(options=machine(MachineAction.LEAVE_MESSAGE, awaits_end=True)).activate()
    line.tool("voicemail_detection", reason="a greeting")
    assert line.call.state is State.ACTIVE
    for _ in range(36):
        line.agent(convai.ping(1))
        line.run(1.0)
    assert Speak(Words.VOICEMAIL, "Call me back") in line.effects


def test_a_machine_may_talk_with_the_agent() -> None:
    line = Line(options=machine(MachineAction.CONTINUE)).activate()
    line.verdict("machine_start")
    line.tool("voicemail_detection", reason="a beep")
    assert line.call.state is State.ACTIVE
    line.stop()
    line.forget()
    line.verdict("fax")
    assert line.effects == []


# --- what may not be seen ---


def test_keys_and_numbers_are_shown_nowhere() -> None:
    line = able(keypad=KeypadOptions(redact=True)).activate()
    line.tool("play_keypad_touch_tone", "t1", dtmf_tones="98761w")
    line.answer("t1")
    line.tool("transfer_to_number", "t2", transfer_number="+14155598763", post_dial_digits="98762")
    line.tool("quick", "t3", pin="98764")
    for digit in "98765":
        line.carrier(twilio.dtmf(digit))
        line.run(0.1)
    line.run(3.0)
    assert DigitsTyped("98765") in line.effects
    line.effects.append(TransferPlanned("+14155598763"))
    shown = repr(line.effects) + repr(line.call.journal.steps) + repr(line.call.journal.digits) + repr(line.told())
    assert "9876" not in shown
    assert [tool.parameters for tool in line.call.journal.tools][:2] == [
        {"dtmf_tones": MASK},
        {"transfer_number": "+14155598763", "post_dial_digits": MASK},
    ]


def test_numbers_in_an_agents_reason_are_not_for_the_log() -> None:
    line = able().activate()
    line.tool("end_call", reason="card 4111 1111-1111 1111 is fine, call +1 (415) 555-0100, 24 h, 3 items")
    line.reached(*twilio.marks(line.to_carrier))
    masked = "card *** is fine, call +***, 24 h, 3 items"
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, masked)]


def test_keys_to_press_are_written_down_where_nothing_is_redacted() -> None:
    line = able().activate()
    line.tool("play_keypad_touch_tone", dtmf_tones="12")
    assert line.call.journal.tools[0].parameters == {"dtmf_tones": "12"}


def test_a_key_after_the_end_is_nobodys() -> None:
    line = able(keypad=KeypadOptions(redact=True)).activate()
    line.stop()
    line.forget()
    line.call.key_pressed("4", 0, KeySource.INBAND, line.clock.now)
    line.run(5.0)
    assert line.effects == []
    assert line.call.stats.dtmf == 0


# --- what the driver knows ---


def test_the_settings_of_the_calls_route_count_from_then_on() -> None:
    line = Line().offer()
    line.call.configure(ABLE)
    line.activate()
    line.tool("quick")
    assert RunTool(HttpOrder("quick", {}), "t1") in line.effects
    line.reconnect()


def test_steps_of_others_are_written_down_until_the_end() -> None:
    line = able().activate()
    line.call.remark("transfer_ringing", line.clock.now)
    line.drain()
    assert line.effects == [Note("transfer_ringing")]
    line.stop()
    line.forget()
    line.call.remark("transfer_sent", line.clock.now)
    line.drain()
    assert line.effects == []


# --- ends by the driver ---


def test_the_carrier_says_beside_its_stream_that_the_call_is_over() -> None:
    line = able().activate()
    line.call.line_over(outcome.CALLER_HANGUP, "completed", line.clock.now)
    line.drain()
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "completed")]
    assert not line.call.ended_by_us
    line.call.line_over(outcome.CALLER_HANGUP, "completed", line.clock.now)
    line.call.handed_over("", line.clock.now)
    line.drain()
    assert len(line.finished()) == 1
    assert line.next_timer() == math.inf
