"""Transfers, keypad tones and hang-ups by Twilio's REST interface, against a whole simulated Twilio."""

from __future__ import annotations

import pytest

from bridge.calls import tool_words
from bridge.calls.tool_words import ToolFailure
from bridge.simulators.twilio_person import Answer, PersonScript, PressWhenAsked
from tests.kit.server import Start
from tests.kit.twilio_flows import HUMAN, WaitPlayed, flow, talk, tool

pytestmark = pytest.mark.e2e

TRANSFER = tool(
    "transfer_to_number", transfer_number=HUMAN, client_message="One moment please.", agent_message="A caller for you."
)


async def test_a_warm_transfer(start: Start) -> None:
    people = {HUMAN: PersonScript(answer_after_ms=300, hang_up_after_ms=2500)}
    async with flow(start, talk(WaitPlayed(), TRANSFER), people) as at:
        leg = at.call()
        record = await at.ended(leg)
        assert (record.result, record.reason, record.detail) == ("success", "transferred", "conference")
        assert at.results() == [(tool_words.TRANSFERRED, False)]
        human = at.cloud.call_to(HUMAN)
        assert human is not None
        assert [verb for verb in human.verbs if verb.startswith("Say")] == ["Say A caller for you."]


@pytest.mark.parametrize(
    ("person", "failure"),
    [
        (PersonScript(answer=Answer.BUSY), ToolFailure.BUSY),
        (PersonScript(answer=Answer.FAILS), ToolFailure.CARRIER_REFUSED),
        (PersonScript(answer=Answer.MACHINE), ToolFailure.VOICEMAIL),
        (PersonScript(answer_after_ms=100, hang_up_after_ms=30), ToolFailure.DECLINED),
    ],
    ids=["busy", "fails", "machine", "hangs up"],
)
async def test_a_human_who_does_not_take_the_caller(start: Start, person: PersonScript, failure: ToolFailure) -> None:
    scenario = talk(WaitPlayed(), TRANSFER, tool("end_call", reason="done"))
    async with flow(start, scenario, {HUMAN: person}) as at:
        leg = at.call()
        record = await at.ended(leg)
        assert (record.result, record.reason) == ("success", "agent_hangup")
        assert at.results()[0] == (tool_words.transfer_failed(failure), True)
        assert len(record.conversation_ids) == 1


async def test_the_human_must_press_a_key(start: Start) -> None:
    people = {HUMAN: PersonScript(actions=(PressWhenAsked(digits="5"),), hang_up_after_ms=2500)}
    async with flow(start, talk(WaitPlayed(), TRANSFER), people, TRANSFER_ACCEPT_KEY="5") as at:
        record = await at.ended(at.call())
        assert record.reason == "transferred"


async def test_keypad_tones(start: Start) -> None:
    scenario = talk(WaitPlayed(), tool("play_keypad_touch_tone", dtmf_tones="1w2#"), tool("end_call", reason="done"))
    async with flow(start, scenario) as at:
        leg = at.call()
        record = await at.ended(leg)
        assert (record.result, record.reason) == ("success", "agent_hangup")
        assert at.results()[0] == (tool_words.KEYS_PRESSED, False)
        assert len(record.conversation_ids) == 1
        assert "Play" in " ".join(leg.verbs)


async def test_a_blind_transfer_that_nobody_answers_comes_back(start: Start) -> None:
    blind = tool("transfer_to_number", transfer_number=HUMAN, transfer_type="blind")
    scenario = talk(WaitPlayed(), blind, tool("end_call", reason="done"))
    async with flow(start, scenario, {HUMAN: PersonScript(answer=Answer.BUSY)}) as at:
        record = await at.ended(at.call())
        assert (record.result, record.reason) == ("success", "agent_hangup")
        assert at.results()[0] == (tool_words.transfer_failed(ToolFailure.BUSY), True)


async def test_a_blind_transfer(start: Start) -> None:
    blind = tool("transfer_to_number", transfer_number=HUMAN, transfer_type="blind")
    async with flow(start, talk(WaitPlayed(), blind), {HUMAN: PersonScript(hang_up_after_ms=1500)}) as at:
        record = await at.ended(at.call())
        assert (record.result, record.reason, record.detail) == ("success", "transferred", "blind")
