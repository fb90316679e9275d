"""The last seconds of a call: last words that come, come late or never, and results of the conversation."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bridge import events, outcome
from bridge.calls.effects import FetchResults, Finished, Speak, Words
from bridge.calls.farewell import SPEECH_WAIT_S, Farewell
from bridge.calls.state import State
from bridge.leg import CloseSocket
from tests.kit import convai, twilio
from tests.kit.calls import OPTIONS, Line
from tests.kit.legs import FAKE_SPEC, FakeLeg, offer

LATE = "the carrier did not confirm the end of the good-bye in time"


def ending(message: str = "Good-bye") -> Line:
    """The agent ends the call with last words."""
    line = Line().activate()
    line.agent(convai.audio(b"\x01" * 1600))
    line.tool("end_call", reason="done", message=message)
    return line


def test_last_words_are_heard_behind_what_the_agent_said() -> None:
    line = ending()
    assert Speak(Words.GIVEN, "Good-bye") in line.effects
    assert line.to_agent[-1] == CloseSocket(1000)
    assert twilio.marks(line.to_carrier) == [], "the end is behind the last words"
    line.speech(b"\x05" * 1600)
    assert line.played() == b"\x01" * 1600 + b"\x05" * 1600
    line.run(0.4)
    assert line.finished() == []
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "done")]
    assert not line.call.apologised


def test_an_end_without_last_words() -> None:
    line = ending("")
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "done")]


@pytest.mark.parametrize("payload", [None, b""])
def test_last_words_that_cannot_be_made(payload: bytes | None) -> None:
    line = ending()
    line.speech(payload)
    assert [note.event for note in line.notes()][-1] == "no_speech"
    line.run(1.3)
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, f"done; {LATE}")]


def test_last_words_that_never_come() -> None:
    line = ending()
    line.run(SPEECH_WAIT_S - 0.001)
    assert [note.event for note in line.notes()][-1] != "no_speech"
    line.run(0.002)
    assert [note.event for note in line.notes()][-1] == "no_speech"
    line.reached(*twilio.marks(line.to_carrier))
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "done")]
    line.speech(b"\x05" * 160)
    assert len(line.finished()) == 1


def test_last_words_that_come_late_but_not_too_late_are_heard_whole() -> None:
    line = ending()
    line.run(SPEECH_WAIT_S + 0.5)
    [early] = twilio.marks(line.to_carrier)[-1:]
    line.speech(b"\x05" * 8000)
    line.reached(early)
    assert line.finished() == [], "that mark is in front of them"
    line.run(0.9)
    assert line.played().endswith(b"\x05" * 8000)
    line.reached(*twilio.marks(line.to_carrier)[-1:])
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "done")]


def test_a_late_apology_is_one() -> None:
    line = Line(options=dataclasses.replace(OPTIONS, apologise=True)).activate()
    line.agent_lost(1006)
    line.run(SPEECH_WAIT_S + 0.5)
    assert not line.call.apologised
    line.speech(b"\x05" * 160)
    assert line.call.apologised


def test_no_apology_is_none() -> None:
    line = Line(options=dataclasses.replace(OPTIONS, apologise=True)).activate()
    line.agent_lost(1006)
    line.speech(None)
    line.run(2.0)
    assert not line.call.apologised
    assert [finished.reason for finished in line.finished()] == [outcome.AGENT_LOST]


def test_a_caller_who_hangs_up_over_the_last_words() -> None:
    line = ending()
    line.stop()
    line.speech(b"\x05" * 160)
    assert line.finished() == [Finished(outcome.CALLER_HANGUP, "stop")]
    assert line.next_timer() == math.inf


def test_speech_before_there_is_a_line_is_not_heard() -> None:
    line = Line().offer()
    line.speech(b"\x05" * 160)
    assert line.to_carrier == []


# --- results ---

TAKES = dataclasses.replace(FAKE_SPEC, takes_results=True)


def results_line() -> tuple[Line, FakeLeg]:
    leg = FakeLeg()
    options = dataclasses.replace(OPTIONS, results_wait_s=5.0, reconnect_s=2.0, apologise=True)
    line = Line(leg=leg, spec=TAKES, options=options)
    leg.coming = [offer()]
    line.activate()
    return line, leg


def test_results_are_waited_for_behind_the_last_words() -> None:
    line, leg = results_line()
    line.tool("end_call", reason="done", message="Bye")
    assert FetchResults(convai.CONVERSATION_ID) in line.effects
    line.speech(b"\x05" * 160)
    [mark] = [command.name for command in leg.commands if isinstance(command, events.Mark)]
    leg.coming = [events.PlaybackReached(mark)]
    line.carrier("mark")
    assert line.call.state is State.DRAINING
    line.speech(b"\x06" * 160)
    line.run(1.0)
    assert line.call.state is State.DRAINING, "what comes now is heard, and changes nothing"
    line.call.give_results({"a": "1"}, line.clock.now)
    line.drain()
    assert line.finished() == [Finished(outcome.AGENT_HANGUP, "done")]


def test_results_of_a_conversation_that_broke_are_those_of_the_last() -> None:
    line, _leg = results_line()
    line.reconnect().ready_again()
    line.agent_lost(1000)
    assert [effect.conversation_id for effect in line.effects if isinstance(effect, FetchResults)] == ["conv_02second"]


def test_an_agent_that_was_never_there_has_no_results() -> None:
    leg = FakeLeg()
    options = dataclasses.replace(OPTIONS, results_wait_s=5.0, apologise=True)
    line = Line(leg=leg, spec=TAKES, options=options)
    leg.coming = [offer()]
    line.admit()
    line.fail(outcome.AGENT_UNREACHABLE)
    line.speech(None)
    line.run(1.1)
    assert [finished.reason for finished in line.finished()] == [outcome.AGENT_UNREACHABLE]
    assert not any(isinstance(effect, FetchResults) for effect in line.effects)


# --- the clock by itself ---


def test_a_farewell_that_has_not_begun_wants_no_timer() -> None:
    farewell = Farewell()
    assert farewell.next_timer() == math.inf
    assert farewell.end == (outcome.AGENT_HANGUP, "")
    assert not farewell.awaits_speech
    assert not farewell.is_mark("g0:1")
    assert not farewell.awaits_results(0.0)


def test_each_bound_has_its_timer() -> None:
    farewell = Farewell()
    farewell.begin(outcome.AGENT_LOST, "why")
    farewell.await_speech(10.0)
    farewell.await_results(10.0, 5.0)
    assert (farewell.next_timer(), farewell.speech_overdue(12.0)) == (12.0, True)
    farewell.await_mark("m", 11.0, 0.5)
    assert (farewell.next_timer(), farewell.drain_overdue(12.4), farewell.drain_overdue(12.5)) == (12.5, False, True)
    farewell.suspend()
    assert farewell.next_timer() == math.inf
    farewell.heard("late")
    assert farewell.end == (outcome.AGENT_LOST, "why; late")
    assert farewell.next_timer() == 15.0
    farewell.results_came()
    assert farewell.next_timer() == math.inf
