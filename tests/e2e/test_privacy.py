"""What must never reach the log, whatever its level: numbers, tokens, keys, signed URLs, and what was said or pressed.

The bridge runs in a process of its own, so that every byte it writes is looked at, other libraries' lines included.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Close, EndCall, Raw, Say, Scenario, Wait
from bridge.simulators.agent_server import AgentServer
from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.process import bridge_process
from tests.kit.server import AUTH_TOKEN, until

pytestmark = pytest.mark.e2e

CALLER, CALLED = "+15557654321", "+15551234567"
KEY = "sk_0123456789abcdef0123456789abcdef"
TALKATIVE = Scenario(
    name="talkative",
    steps=(
        Say(text="Your secret word is rhubarb.", duration_ms=100),
        Raw(text='{"type":"user_transcript","user_transcription_event":{"user_transcript":"marzipan","event_id":1}}'),
        Raw(text='{"type":"rhubarb","x":"marzipan"}'),
        Wait(ms=150),
        EndCall(),
        Close(),
    ),
)


SETTINGS = {
    "LOG_LEVEL": "debug",
    "BRIDGE_API_KEY": "key-of-the-operator",
    "RECORDING": "on",
    "PERSONALIZATION_URL": "http://127.0.0.1:9/who?pass=word-of-the-url",
    "PERSONALIZATION_HEADERS": '{"X-Key": "key-of-the-crm"}',
    "WEBHOOK_URL": "http://127.0.0.1:9/hook?pass=word-of-the-url",
    "WEBHOOK_SECRET": "secret-of-the-webhook",
    "WEBHOOK_HEADERS": '{"X-Key": "key-of-the-receiver"}',
    "EGRESS_ALLOW": "127.0.0.1",
}
"""Nobody listens at port 9, so that what is said of failures is looked at as well."""
SECRETS = ("key-of-the-operator", "word-of-the-url", "key-of-the-crm", "secret-of-the-webhook", "key-of-the-receiver")


async def test_nothing_private_is_logged(tmp_path: Path) -> None:
    async with (
        AgentServer(AgentOptions(scenario=TALKATIVE, api_key=KEY)) as agent,
        bridge_process(tmp_path, ELEVENLABS_BASE_URL=agent.base_url, ELEVENLABS_API_KEY=KEY, **SETTINGS) as at,
        httpx.AsyncClient(base_url=at.http_url, trust_env=False) as stranger,
        WireCaller(at, caller=CALLER, called=CALLED) as caller,
        WireCaller(at, call_sid="CA00000000000000000000000000000002", caller=CALLER) as thief,
        WireCaller(at, call_sid="CA00000000000000000000000000000003", caller=CALLER) as vandal,
    ):
        refused = await stranger.post(f"/twilio/voice?Caller=%2B{CALLER[1:]}", data={"From": CALLER, "CallSid": "CA1"})
        assert refused.status_code == 403
        assert (await caller.post("/twilio/status")).status_code == 204
        token = await caller.order()
        await caller.dial(token)
        await caller.send(twilio.dtmf("*"), twilio.dtmf("#"))
        assert await caller.closed() == 1000
        await thief.dial(token)
        await thief.closed()
        await vandal.dial()
        await vandal.send('{"event":"dtmf","streamSid":"#","dtmf":{"digit":"*#"}}')
        await vandal.closed()
        await until(lambda: len(at.logged("call_ended")) == 3)
        assert (await stranger.get("/v1/calls", headers={"X-API-Key": "key-of-the-operator"})).status_code == 200
        await until(lambda: at.logged("personalization_failed"))
        assert at.logged("call_ended")[0]["dtmf"] == 2
        path = agent.conversations[0].path
    text = at.raw.decode()
    signature = re.search(r"conversation_signature=([^&]+)", path)
    assert signature is not None
    secrets = (CALLER[1:], CALLED[1:], KEY, AUTH_TOKEN, token, signature[1], *SECRETS, "rhubarb", "marzipan", "*", "#")
    assert [secret for secret in secrets if secret in text] == []
    assert '"level":' in text and "request_refused" in text and '"debug"' in text
