"""Transfers at bad moments, against a whole simulated Twilio: nobody is left alone, whoever goes, whatever fails."""

from __future__ import annotations

import time

import pytest

from bridge.calls import tool_words
from bridge.calls.tool_words import ToolFailure
from bridge.server import duties, handing
from bridge.simulators.agent_scenarios import CallTools
from bridge.simulators.twilio_cloud_options import Fault
from bridge.simulators.twilio_leg import Leg
from bridge.simulators.twilio_person import Answer, PersonScript, PressWhenAsked
from tests.kit.server import Start, until
from tests.kit.twilio_flows import HUMAN, Flow, Wait, WaitPlayed, flow, talk, tool

pytestmark = pytest.mark.e2e

TRANSFER = tool("transfer_to_number", transfer_number=HUMAN, agent_message="A caller for you.")
AT_ONCE = {"TRANSFER_MACHINE_DETECTION": "off"}
"""Whoever answers takes the caller, without the seconds until it is known that they are no machine."""
DONE = tool("end_call", reason="done")


def hang_up(at: Flow, leg: Leg) -> None:
    at.cloud.hang_up(leg, by="person")


async def human_of(at: Flow) -> Leg:
    return await at.cloud.wait_for_call_to(HUMAN)


async def ringing(at: Flow) -> None:
    await human_of(at)


async def whispering(at: Flow) -> None:
    human = await human_of(at)
    await until(lambda: any(verb.startswith("Gather") for verb in human.verbs))


async def accepting(at: Flow) -> None:
    await at.cloud.wait_for_webhook("/twilio/transfer/accept")


@pytest.mark.parametrize("moment", [ringing, whispering, accepting])
async def test_a_caller_who_hangs_up(start: Start, moment: object) -> None:
    """The human is hung up on at once, and the agent is told; nothing is said to anybody twice."""
    waits = PersonScript(answer_after_ms=60_000)
    asked = PersonScript(actions=(PressWhenAsked(digits="5", after_ms=60_000),))
    takes = PersonScript(actions=(PressWhenAsked(digits="5"),))
    person = {ringing: waits, whispering: asked, accepting: takes}[moment]  # type: ignore[index]
    async with flow(start, talk(WaitPlayed(), TRANSFER), {HUMAN: person}, TRANSFER_ACCEPT_KEY="5") as at:
        leg = at.call()
        await moment(at)  # type: ignore[operator]
        hang_up(at, leg)
        human = await human_of(at)
        await at.cloud.wait_ended(human, 5.0)
        record = await at.ended(leg)
        assert record.result == "success"
        assert record.reason in ("caller_hangup", "transferred")
        assert len(at.results()) <= 1


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_joining_whose_answer_is_lost(start: Start, monkeypatch: pytest.MonkeyPatch, carried_out: bool) -> None:
    monkeypatch.setattr(handing, "DOUBT_S", 0.3)
    people = {HUMAN: PersonScript(hang_up_after_ms=1800)}
    async with flow(start, talk(WaitPlayed(), TRANSFER, DONE), people, **AT_ONCE) as at:
        leg = at.call()
        human = await human_of(at)
        path = f"/Calls/{leg.sid}.json"
        at.cloud.faults.append(Fault(method="POST", path=path, status=500, carried_out=carried_out, times=1))
        record = await at.ended(leg)
        await at.cloud.wait_ended(human, 5.0)
        if carried_out:
            assert (record.reason, at.results()) == ("transferred", [(tool_words.TRANSFERRED, False)])
        else:
            assert record.reason == "agent_hangup", "the caller is still with the agent"
            assert at.results()[0] == (tool_words.transfer_failed(ToolFailure.CARRIER_DOWN), True)


async def test_a_carrier_that_does_not_answer_when_asked_to_ring(start: Start) -> None:
    """It may have rung all the same: who then answers is told that nobody is there, rather than to wait."""
    people = {HUMAN: PersonScript(answer_after_ms=600)}
    settings = {"CARRIER_REQUEST_TIMEOUT_S": "0.3"}
    async with flow(start, talk(WaitPlayed(), TRANSFER, Wait(ms=1200), DONE), people, **settings) as at:
        at.cloud.faults.append(Fault(method="POST", path="/Calls.json", delay_s=1.0, carried_out=True))
        leg = at.call()
        record = await at.ended(leg)
        assert record.reason == "agent_hangup"
        assert at.results()[0] == (tool_words.transfer_failed(ToolFailure.CARRIER_DOWN), True)
        human = await human_of(at)
        await at.cloud.wait_ended(human, 10.0)
        assert human.words in ([], ["The caller is no longer on the line. Goodbye."])


async def test_two_transfers_at_once(start: Start) -> None:
    both = CallTools(calls=(*TRANSFER.calls, *TRANSFER.calls), timeout_ms=10_000)
    async with flow(start, talk(WaitPlayed(), both), {HUMAN: PersonScript(hang_up_after_ms=1200)}, **AT_ONCE) as at:
        record = await at.ended(at.call())
        assert record.reason == "transferred"
        assert sorted(at.results()) == sorted(
            [(tool_words.TRANSFERRED, False), (tool_words.tool_failed(ToolFailure.IN_PROGRESS), True)]
        )
        assert len([leg for leg in at.cloud.calls if leg.facts.called == HUMAN]) == 1


async def test_a_slow_interface_does_not_keep_a_call_open(start: Start) -> None:
    async with flow(start, talk(WaitPlayed(), DONE)) as at:
        at.cloud.faults.append(Fault(method="POST", path="/Calls/*.json", delay_s=1.7))
        leg = at.call()
        await until(lambda: at.at.logged("call_ended"))
        began_s = time.monotonic()
        await at.cloud.wait_ended(leg, 1.6)
        assert time.monotonic() - began_s < duties.HANG_UP_WAIT_S + 0.5
        record = await at.ended(leg)
        assert record.reason == "agent_hangup"


async def test_a_caller_who_hangs_up_while_keys_are_pressed(start: Start) -> None:
    keys = tool("play_keypad_touch_tone", dtmf_tones="1")
    async with flow(start, talk(WaitPlayed(), keys)) as at:
        leg = at.call()
        await until(lambda: at.at.bridge.sessions)
        await until(lambda: any("Play" in verb for verb in leg.verbs))
        hang_up(at, leg)
        record = await at.ended(leg)
        assert (record.result, record.reason) == ("success", "caller_hangup")
        assert len(at.at.agent.conversations) == 1


async def test_a_blind_transfer_to_a_number_that_is_none(start: Start) -> None:
    blind = tool("transfer_to_number", transfer_number=HUMAN, transfer_type="blind")
    people = {HUMAN: PersonScript(answer=Answer.FAILS)}
    async with flow(start, talk(WaitPlayed(), blind, DONE), people) as at:
        record = await at.ended(at.call())
        assert record.reason == "agent_hangup"
        assert at.results()[0] == (tool_words.transfer_failed(ToolFailure.CARRIER_REFUSED), True)
