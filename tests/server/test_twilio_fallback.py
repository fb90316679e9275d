"""What Twilio does after our stream: hang up, dial somebody, connect the stream once more, or apologise."""

from __future__ import annotations

import asyncio
import json
from xml.etree import ElementTree as ET

import pytest

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.resume import PREVIOUS_ID, RESUMED, TRANSCRIPT
from bridge.calls.routing import OverflowPolicy, Resolved
from bridge.calls.rules import Overflow
from bridge.events import CallInfo
from bridge.outcome import EndReason
from bridge.providers.twilio import SPEC
from bridge.server import twilio_fallback
from bridge.server.service import APOLOGISED, BROKEN_LINE, CONVERSATION_ID, DIVERT_TO, LANGUAGE, Bridge
from bridge.server.twilio_fallback import after_stream
from tests.kit import convai, twilio
from tests.kit.controls import controlled, tool_call
from tests.kit.legs import REQUEST
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
HANG_UP = f"{HEAD}<Response><Hangup /></Response>"
APOLOGY = (
    f'{HEAD}<Response><Say language="en-US">We are sorry, a technical problem came up. Please call again later.</Say>'
    "<Hangup /></Response>"
)
DIALLED = f"{HEAD}<Response><Dial><Number>+15550111</Number></Dial></Response>"
INFO = CallInfo(provider="twilio", call_sid=twilio.CALL_SID, caller="+15550100", called="+15550199")

FAILED = [reason for reason in outcome.CATALOGUE.values() if reason.result.value in ("upstream_error", "server_error")]
WELL = [reason for reason in outcome.CATALOGUE.values() if reason.result.value == "success"]
OTHERS = [reason for reason in outcome.CATALOGUE.values() if reason not in (*FAILED, *WELL, *BROKEN_LINE)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_fallback, "END_WAIT_S", 0.06)


def parameters(twiml: str) -> dict[str, str]:
    return {one.attrib["name"]: one.attrib["value"] for one in ET.fromstring(twiml).iter("Parameter")}


async def claims_of(bridge: Bridge, twiml: str) -> CallClaims:
    claims = await bridge.tokens.redeem(parameters(twiml)["token"], twilio.CALL_SID)
    assert isinstance(claims, CallClaims)
    return claims


# --- by the end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", WELL, ids=str)
async def test_a_good_end_is_the_end(end: EndReason) -> None:
    bridge = offline_bridge()
    bridge.shared.remember_end(twilio.CALL_SID, end)
    assert await after_stream(bridge, INFO) == HANG_UP


@pytest.mark.parametrize("end", [end for end in [*FAILED, *OTHERS] if end not in BROKEN_LINE], ids=str)
async def test_a_bad_end_is_apologised_for(end: EndReason) -> None:
    bridge = offline_bridge()
    bridge.shared.remember_end(twilio.CALL_SID, end)
    assert await after_stream(bridge, INFO) == APOLOGY


@pytest.mark.parametrize("end", BROKEN_LINE, ids=str)
async def test_a_broken_line_is_connected_once_more_and_once_only(end: EndReason) -> None:
    bridge = offline_bridge()
    bridge.shared.remember_end(twilio.CALL_SID, end, {CONVERSATION_ID: "conv_1"})
    claims = await claims_of(bridge, await after_stream(bridge, INFO))
    assert claims.parameters == {RESUMED: "true", PREVIOUS_ID: "conv_1"}
    assert not claims.comeback, "the call is over; this is another"
    assert await after_stream(bridge, INFO) == APOLOGY


async def test_a_call_that_died_with_its_process_is_connected_once_more() -> None:
    bridge = offline_bridge()
    claims = await claims_of(bridge, await after_stream(bridge, INFO))
    assert claims.parameters == {RESUMED: "true"}
    assert (claims.caller, claims.called) == ("+15550100", "+15550199")
    assert await after_stream(bridge, INFO) == APOLOGY


async def test_without_a_slot_there_is_no_other_try() -> None:
    bridge = offline_bridge(BRIDGE_MAX_CALLS="1")
    await bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
    assert await after_stream(bridge, INFO) == APOLOGY


async def test_a_call_without_an_id_is_apologised_to() -> None:
    assert await after_stream(offline_bridge(), CallInfo(provider="twilio", call_sid="")) == APOLOGY


@pytest.mark.parametrize("end", FAILED, ids=str)
async def test_another_number_goes_before_everything(end: EndReason) -> None:
    bridge = offline_bridge()
    bridge.shared.remember_end(twilio.CALL_SID, end, {DIVERT_TO: "+15550111", APOLOGISED: "yes"})
    assert await after_stream(bridge, INFO) == DIALLED


async def test_who_was_told_already_is_not_told_twice() -> None:
    bridge = offline_bridge()
    bridge.shared.remember_end(twilio.CALL_SID, outcome.AGENT_LOST, {APOLOGISED: "yes"})
    assert await after_stream(bridge, INFO) == HANG_UP


async def test_the_apology_is_in_the_language_of_the_call() -> None:
    bridge = offline_bridge()
    bridge.shared.remember_end(twilio.CALL_SID, outcome.AGENT_LOST, {LANGUAGE: "de"})
    assert '<Say language="de-DE">Es tut uns leid' in await after_stream(bridge, INFO)


async def test_news_of_the_end_may_come_after_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_fallback, "END_WAIT_S", 5.0)
    bridge = offline_bridge()
    asking = asyncio.create_task(after_stream(bridge, INFO))
    await asyncio.sleep(0.01)
    bridge.shared.remember_end(twilio.CALL_SID, outcome.AGENT_HANGUP)
    assert await asking == HANG_UP


# --- what a call's end leaves for it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "twiml"),
    [
        (outcome.AGENT_LOST, DIALLED),
        (outcome.AGENT_QUOTA, DIALLED),
        (outcome.BUG, DIALLED),
        (outcome.QUEUE_TIMEOUT, DIALLED),
        (outcome.CAPACITY, APOLOGY),
        (outcome.BAD_TOKEN, APOLOGY),
        (outcome.CALLER_HANGUP, HANG_UP),
    ],
    ids=str,
)
async def test_the_number_for_callers_whose_agent_has_failed(end: EndReason, twiml: str) -> None:
    bridge = offline_bridge()
    session = bridge.new_session(SPEC, REQUEST)
    session.call.carrier_message(twilio.start(), 0.0)
    session.facts.route = Resolved("agent_1", overflow=OverflowPolicy(Overflow.REJECT), fallback_to="+15550111")
    session.call.ended_as = end
    bridge.call_over(session, end)
    assert await after_stream(bridge, INFO) == twiml


@pytest.mark.parametrize("lost", ["line", "bug"])
async def test_the_next_conversation_is_told_of_the_first(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = offline_bridge(BRIDGE_AUTH="off")
    first = await Table(bridge).activate()
    first.session.from_agent(convai.user_transcript("Where is my order?"))
    first.session.from_agent(convai.agent_response("On its way."))
    if lost == "line":
        first.session.on_lost(1006, "")
        assert bridge.ended_counts == {"indeterminate/carrier_lost": 1}
    else:
        first.session.bug()
        assert bridge.ended_counts == {"server_error/bug": 1}
    await bridge.wait_partings(5.0)
    twiml = await after_stream(bridge, INFO)
    second = await Table(bridge).connect(token=parameters(twiml)["token"])
    told = json.loads(second.agent.sent[0])["dynamic_variables"]
    assert told[RESUMED] == "true"
    assert told[PREVIOUS_ID] == convai.CONVERSATION_ID
    assert told[TRANSCRIPT] == "Caller: Where is my order?\nYou: On its way."
    second.hang_up()


async def test_a_call_whose_stream_is_on_an_errand_gets_it_back() -> None:
    """The document of the errand has run to its end, for example because its stream could not be connected."""
    bridge, control = controlled()
    control.gates["tones"] = asyncio.Event()
    table = await Table(bridge).activate()
    table.session.from_agent(tool_call("play_keypad_touch_tone", dtmf_tones="1"))
    await until(lambda: control.log == ["tones"])
    claims = await claims_of(bridge, await after_stream(bridge, INFO))
    assert (claims.comeback, claims.call_id) == (True, table.session.call_id)
    table.hang_up()
    table.session.end(outcome.OPERATOR_HANGUP)
    await table.settled()
    assert await after_stream(bridge, INFO) == HANG_UP
