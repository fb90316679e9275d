"""Calls that ring until the agent is there: nothing is said to a caller who has not been answered."""

from __future__ import annotations

import dataclasses

from bridge import events, outcome
from bridge.calls.effects import Speak
from bridge.calls.state import State
from bridge.events import Accept, Answer, CallInfo, Hangup, Offered, Play
from bridge.media.format import ULAW_8K
from tests.kit import convai
from tests.kit.calls import OPTIONS, Line
from tests.kit.legs import FAKE_SPEC, FakeLeg

APOLOGISING = dataclasses.replace(OPTIONS, apologise=True, reconnect_s=2.0)


def ringing() -> tuple[Line, FakeLeg]:
    leg = FakeLeg()
    line = Line(leg=leg, spec=FAKE_SPEC, options=APOLOGISING)
    leg.coming = [Offered(CallInfo(provider="fake", call_sid="F1"), (ULAW_8K,), rings=True)]
    line.carrier("offer")
    return line, leg


def test_it_is_answered_when_the_agent_is_ready_and_not_before() -> None:
    line, leg = ringing()
    line.connect()
    line.run(OPTIONS.patience_s + 1.0)
    assert leg.commands == [Accept(ULAW_8K)], "no tone for those who hear it ring"
    line.agent(convai.metadata())
    assert leg.commands == [Accept(ULAW_8K), Answer()]
    line.agent(convai.audio(b"\x01" * 160))
    assert leg.commands[-1] == Play(b"\x01" * 160)


def test_it_is_answered_once() -> None:
    line, leg = ringing()
    line.activate()
    line.reconnect()
    line.ready_again()
    assert leg.commands.count(Answer()) == 1


def test_an_agent_that_cannot_be_had_is_a_refusal_and_no_apology() -> None:
    line, leg = ringing()
    line.admit()
    line.fail(outcome.AGENT_UNREACHABLE, "connection refused")
    assert line.state() is State.ENDED
    assert leg.commands == [Accept(ULAW_8K), Hangup(outcome.AGENT_UNREACHABLE, "connection refused")]
    assert not [effect for effect in line.effects if isinstance(effect, Speak)]


def test_an_agent_that_fails_later_is_apologised_for() -> None:
    line, _ = ringing()
    line.activate()
    line.agent_lost(1008, "overrides are not allowed")
    assert [effect for effect in line.effects if isinstance(effect, Speak)]


def test_who_waits_in_the_queue_is_answered_by_the_hold_audio() -> None:
    line, leg = ringing()
    line.queue()
    assert isinstance(leg.commands[1], Play)
    line.admit()
    line.fail(outcome.AGENT_UNREACHABLE, "connection refused")
    assert [effect for effect in line.effects if isinstance(effect, Speak)], "they are on the line"
    line, leg = ringing()
    line.queue()
    line.connect()
    line.agent(convai.metadata())
    assert events.Answer() not in leg.commands
