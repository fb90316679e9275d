"""What is known of a call when it is over: its record, its recording, and who was told, all over real sockets."""

from __future__ import annotations

import asyncio
import json
import wave

import httpx
import numpy as np
import pytest

from bridge.media.format import ULAW_8K
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Close, EndCall, Say, Scenario, WaitForCaller
from tests.kit import twilio
from tests.kit.audio import make_tone
from tests.kit.caller import WireCaller
from tests.kit.server import Start, until
from tests.kit.webhooks import SECRET, Received, Reply, receiver

pytestmark = pytest.mark.e2e

KEY = "key-of-the-operator"
ANSWER = Scenario(
    name="answer",
    steps=(WaitForCaller(), Say(text="Good morning.", tone_hz=1000, duration_ms=300), EndCall(), Close()),
)
SAID = make_tone(1000, 400, ULAW_8K) + ULAW_8K.silence(160 * 40)
TROUBLES = {"500": Reply(500), "no JSON": Reply(body=b"<html>"), "slow": Reply(delay_s=5.0)}


async def test_a_call_from_webhook_to_record(start: Start) -> None:
    at = await start(options=AgentOptions(scenario=ANSWER), RECORDING="on", BRIDGE_API_KEY=KEY)
    async with (
        WireCaller(at, caller="+15550142") as caller,
        httpx.AsyncClient(base_url=at.http_url, trust_env=False, headers={"X-API-Key": KEY}) as operator,
    ):
        await caller.dial_in()
        await caller.send(twilio.dtmf("7"))
        await caller.talk(SAID)
        assert await caller.closed() == 1000
        assert await at.ended() == ["success/agent_hangup"]
        [record] = await at.records()
        [listed] = (await operator.get("/v1/calls")).json()["calls"]
        audio = (await operator.get(f"/v1/calls/{record.id}/audio")).content
    assert listed["id"] == record.id
    assert (record.call_sid, record.caller, record.called) == (twilio.CALL_SID, "+15550142", "+15550199")
    assert (record.state, record.admission, record.result) == ("ended", "granted", "success")
    assert record.answered_at is not None and record.ended_at is not None
    assert record.created_at <= record.answered_at <= record.ended_at
    assert record.variables == {"caller_id": "+15550142", "called_number": "+15550199", "call_sid": twilio.CALL_SID}
    assert (record.carrier_format, record.agent_input_format, record.agent_output_format) == ("ulaw_8000",) * 3
    passed = bytes(at.agent.conversations[0].received_audio)
    assert len(passed) > 400 * 8 and SAID.startswith(passed), "recording changes nothing for the agent"
    assert record.stats["caller_frames"] == len(passed) // 160
    assert [(turn.role, turn.text) for turn in record.journal.turns] == [("user", "..."), ("agent", "Good morning.")]
    assert [press.digit for press in record.journal.digits] == ["7"]
    assert [step.event for step in record.journal.steps if step.event in ("connecting", "active", "ended")] == [
        "connecting",
        "active",
        "ended",
    ]
    assert record.recording is not None and record.recording.complete
    path = at.settings.recordings_dir / record.recording.location
    assert path.read_bytes() == audio
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 8000)
        sides = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert np.abs(sides).max(axis=0).min() > 1000, "one side is silent"


async def test_recording_does_not_change_what_the_caller_hears(start: Start) -> None:
    at = await start("echo", RECORDING="on")
    said = bytes(range(1, 251)) * 16
    async with WireCaller(at) as caller:
        await caller.dial_in()
        await caller.say(said)
        await until(lambda: len(caller.heard) >= len(said), "the echo is incomplete")
        assert caller.heard == said
        await caller.send(twilio.STOP)
        await caller.closed()
    assert await at.ended() == ["success/caller_hangup"]


# --- the personalization webhook -------------------------------------------------------------------------


async def test_the_agent_is_told_what_the_operators_webhook_knows(start: Start) -> None:
    answer = {"type": "conversation_initiation_client_data", "dynamic_variables": {"name": "Ann"}, "user_id": "u1"}

    def reply(_request: Received, _number: int) -> Reply:
        return Reply(body=json.dumps(answer).encode())

    async with receiver(reply) as hook:
        at = await start(
            "echo",
            PERSONALIZATION_URL=hook.url,
            PERSONALIZATION_HEADERS='{"X-Key": "k1"}',
            EGRESS_ALLOW="127.0.0.1",
        )
        async with WireCaller(at) as caller:
            token = await caller.order()
            await until(lambda: hook.received, "nobody was asked before the line was connected")
            assert await caller.order() == token
            await caller.dial(token)
            await until(lambda: at.logged("agent_ready"))
            await caller.send(twilio.STOP)
            await caller.closed()
        assert await at.ended() == ["success/caller_hangup"]
        [asked] = hook.received
    assert asked.headers["x-key"] == "k1"
    assert json.loads(asked.body) == {
        "caller_id": "+15550100",
        "agent_id": "agent_1",
        "called_number": "+15550199",
        "call_sid": twilio.CALL_SID,
    }
    told = at.agent.conversations[0].initiation
    assert told is not None
    assert (told["dynamic_variables"]["name"], told["user_id"]) == ("Ann", "u1")


@pytest.mark.parametrize(
    "trouble", [Reply(500), Reply(body=b"<html>"), Reply(delay_s=5.0)], ids=["500", "html", "slow"]
)
@pytest.mark.parametrize("policy", ["continue", "fallback"])
async def test_a_webhook_that_does_not_help(start: Start, trouble: str, policy: str) -> None:
    async with receiver(lambda _request, _number: TROUBLES[trouble]) as hook:
        at = await start(
            "echo",
            PERSONALIZATION_URL=hook.url,
            EGRESS_ALLOW="127.0.0.1",
            PERSONALIZATION_TIMEOUT_S="0.3",
            PERSONALIZATION_ON_FAILURE=policy,
        )
        async with WireCaller(at) as caller:
            await caller.dial()
            if policy == "continue":
                await until(lambda: at.logged("agent_ready"))
                await caller.send(twilio.STOP)
            assert await caller.closed() == 1000
            verbs = await caller.verbs()
        [end] = await at.ended()
    if policy == "continue":
        assert (end, verbs) == ("success/caller_hangup", ["Hangup"])
    else:
        assert (end, verbs) == ("upstream_error/personalization_failed", ["Say", "Hangup"])
        await until(lambda: all(log.closed_by for log in at.agent.conversations), "the agent was left alone")


# --- webhooks --------------------------------------------------------------------------------------------


async def test_every_end_is_told_once_and_in_order(start: Start) -> None:
    async with receiver() as hooks:
        at = await start("echo", WEBHOOK_URL=hooks.url, WEBHOOK_SECRET=SECRET, EGRESS_ALLOW="127.0.0.1")

        async def live(number: int) -> None:
            async with WireCaller(at, call_sid=f"CA{number:032x}") as caller:
                await caller.dial_in()
                await caller.send(twilio.STOP)
                await caller.closed()

        await asyncio.gather(*(live(number) for number in range(5)))
        await at.ended(5)
        await until(lambda: len(hooks.taken) == 20, "not everybody was told of")
        assert hooks.problems() == []
        kinds = ["call.started", "call.answered", "call.ended", "post_call_transcription"]
        for record in await at.records():
            told = [kind for name, kind in hooks.events() if name.startswith(f"evt_{record.id}_")]
            assert told == kinds
            assert record.events_sent == 4
