"""What all calls share: tokens, slots, remembered ends, and when a process is idle."""

from __future__ import annotations

import asyncio

import pytest

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.events import CallInfo
from bridge.providers.twilio import SPEC
from bridge.server import service
from bridge.server.session import Session
from tests.kit import twilio
from tests.kit.legs import REQUEST
from tests.kit.offline import offline_bridge

CLAIMS = CallClaims(caller="+15550100", called="+15550199", direction="inbound")


def info(token: str, call_sid: str = "CA1") -> CallInfo:
    return CallInfo(provider="twilio", call_sid=call_sid, token=token)


class Watcher:
    def __init__(self) -> None:
        self.over: list[str] = []

    def noted(self, session: Session, event: str, detail: str) -> None:
        pass

    def call_over(self, session: Session, reason: outcome.EndReason) -> None:
        self.over.append(str(reason))


async def test_a_call_is_let_in_once_by_its_token() -> None:
    bridge = offline_bridge()
    session = bridge.new_session(SPEC, REQUEST)
    token = bridge.call_token("CA1", CLAIMS)
    assert bridge.call_token("CA1", CLAIMS) == token
    assert bridge.admit(session, info(token), SPEC) is None
    assert bridge.admission.active == 1
    assert bridge.call_token("CA1", CLAIMS) != token, "a used token is no token"
    other = bridge.new_session(SPEC, REQUEST)
    assert bridge.admit(other, info(token), SPEC) == (outcome.BAD_TOKEN, "token used before")
    assert bridge.admission.active == 1


async def test_a_wrong_token_takes_no_slot() -> None:
    bridge = offline_bridge()
    session = bridge.new_session(SPEC, REQUEST)
    assert bridge.admit(session, info(""), SPEC) == (outcome.BAD_TOKEN, "no token")
    assert bridge.admission.active == 0


async def test_without_authentication_no_token_is_asked_for() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off", BRIDGE_MAX_CALLS="1")
    assert bridge.admit(bridge.new_session(SPEC, REQUEST), info(""), SPEC) is None
    assert bridge.admit(bridge.new_session(SPEC, REQUEST), info(""), SPEC) == (outcome.CAPACITY, "1 calls in progress")


async def test_the_end_of_a_call_gives_everything_back_once() -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off")
    watcher = Watcher()
    bridge.observer = watcher
    session = bridge.new_session(SPEC, REQUEST)
    session.call.carrier_message(twilio.start(), 0.0)
    bridge.admit(session, info(""), SPEC)
    waiting = asyncio.create_task(bridge.wait_idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    bridge.call_over(session, outcome.AGENT_LOST)
    bridge.call_over(session, outcome.BUG)
    await waiting
    assert (bridge.admission.active, bridge.sessions) == (0, {})
    assert bridge.ended_counts == {"upstream_error/agent_lost": 1}
    assert watcher.over == ["upstream_error/agent_lost"]
    assert bridge.end_of(twilio.CALL_SID) is outcome.AGENT_LOST
    assert bridge.end_of("CAother") is None


async def test_idle_only_when_the_last_call_is_gone() -> None:
    bridge = offline_bridge()
    first, second = bridge.new_session(SPEC, REQUEST), bridge.new_session(SPEC, REQUEST)
    assert first.call_id != second.call_id
    bridge.call_over(first, outcome.NO_START)
    waiting = asyncio.create_task(bridge.wait_idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    bridge.call_over(second, outcome.NO_START)
    await waiting


async def test_only_so_many_ends_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REMEMBERED_ENDS", 2)
    bridge = offline_bridge()
    for number in range(3):
        session = bridge.new_session(SPEC, REQUEST)
        session.call.carrier_message(twilio.start().replace(twilio.CALL_SID, f"CA{number}"), 0.0)
        bridge.call_over(session, outcome.CALLER_HANGUP)
    assert [bridge.end_of(f"CA{number}") for number in range(3)] == [None, *[outcome.CALLER_HANGUP] * 2]


async def test_the_last_end_of_a_call_counts() -> None:
    """A call may have several streams in turn."""
    bridge = offline_bridge()
    for reason in (outcome.CARRIER_LOST, outcome.AGENT_HANGUP):
        session = bridge.new_session(SPEC, REQUEST)
        session.call.carrier_message(twilio.start(), 0.0)
        bridge.call_over(session, reason)
    assert bridge.end_of(twilio.CALL_SID) is outcome.AGENT_HANGUP


async def test_what_verifiers_may_know() -> None:
    bridge = offline_bridge(PUBLIC_URL="https://b.example/eu/", TWILIO_AUTH_TOKEN="old,new")
    context = bridge.auth_context()
    assert context.public_url == "https://b.example/eu"
    assert context.secrets["twilio_auth_token"] == ("old", "new")
    assert context.unix_s > 1_700_000_000
