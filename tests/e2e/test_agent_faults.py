"""What the agent's side may do wrong, and what it means for the caller: an end with a reason, and never dead air."""

from __future__ import annotations

import time

import pytest

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Close, Drop, Error, Interrupt, Raw, Say, Scenario, Stall, Wait
from bridge.simulators.twilio_caller import TwilioCallOptions, call_twilio
from bridge.simulators.twilio_line import HangUp, WaitForClose
from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.server import AUTH_TOKEN, RunningBridge, Start, free_port, until

pytestmark = pytest.mark.e2e

PATIENCE_MS = 5000
"""After that long the caller hangs up, and the test fails."""

MID_SPEECH = (Say(duration_ms=10_000, speed=0), Wait(ms=200))


def closing(code: int, *before: Say | Wait, metadata: bool = True) -> Scenario:
    return Scenario(name="closing", steps=(*before, Close(code=code, reason="so be it")), metadata=metadata)


def dropping(*before: Say | Wait, metadata: bool = True) -> Scenario:
    return Scenario(name="dropping", steps=(*before, Drop()), metadata=metadata)


async def end_of_call(at: RunningBridge) -> str:
    """Call, and wait for the bridge to end it; checks what the caller got. Returns how it ended."""
    began_s = time.monotonic()
    actions = (WaitForClose(timeout_ms=PATIENCE_MS), HangUp())
    result = await call_twilio(TwilioCallOptions(voice=at.voice, auth_token=AUTH_TOKEN, actions=actions))
    assert (time.monotonic() - began_s) * 1000 < PATIENCE_MS
    assert (result.ended_by, result.close_code, result.violations) == ("bridge", 1000, [])
    [end] = await at.ended()
    succeeded = end.startswith("success/")
    verbs = ["Connect", "Redirect", "Hangup"] if succeeded else ["Connect", "Redirect", "Say", "Hangup"]
    assert [verb.split()[0] for verb in result.verbs] == verbs
    [line] = at.logged("call_ended")
    assert line["log_level"] == ("info" if succeeded else "warning")
    assert line["advice"]
    return end


@pytest.mark.parametrize(
    ("scenario", "end"),
    [
        ("refuse_401", "upstream_error/agent_unauthorized"),
        ("refuse_403", "upstream_error/agent_unauthorized"),
        ("refuse_404", "upstream_error/agent_not_found"),
        ("refuse_429", "upstream_error/agent_quota"),
        ("refuse_418", "upstream_error/agent_refused"),
        ("refuse_500", "upstream_error/agent_unreachable"),
        ("refuse_503", "upstream_error/agent_unreachable"),
    ],
)
async def test_a_refused_conversation(start: Start, scenario: str, end: str) -> None:
    at = await start(scenario)
    assert await end_of_call(at) == end
    assert at.logged("agent_ready") == []


async def test_a_wrong_key_at_the_signed_url(start: Start) -> None:
    at = await start(options=AgentOptions(scenario="echo", api_key="right"), ELEVENLABS_API_KEY="wrong")
    assert await end_of_call(at) == "upstream_error/agent_unauthorized"
    assert at.logged("call_ended")[0]["detail"].startswith("signed URL: HTTP 401 ")
    assert at.agent.conversations == []


async def test_the_right_key_at_the_signed_url(start: Start) -> None:
    options = AgentOptions(scenario=closing(1000), api_key="right")
    at = await start(options=options, ELEVENLABS_API_KEY="right")
    assert await end_of_call(at) == "success/agent_hangup"
    assert "conversation_signature=" in at.agent.conversations[0].path


async def test_nobody_listens_at_the_agents_address(start: Start) -> None:
    at = await start("echo", ELEVENLABS_BASE_URL=f"http://127.0.0.1:{free_port()}")
    assert await end_of_call(at) == "upstream_error/agent_unreachable"


@pytest.mark.parametrize(
    ("scenario", "end"),
    [
        (closing(1000, metadata=False), "upstream_error/agent_not_ready"),
        (closing(1002, metadata=False), "upstream_error/agent_operational"),
        (closing(1008, metadata=False), "upstream_error/agent_config"),
        (closing(1011, metadata=False), "upstream_error/agent_crashed"),
        (dropping(metadata=False), "upstream_error/agent_lost"),
        (closing(1000), "success/agent_hangup"),
        (closing(1002), "upstream_error/agent_operational"),
        (closing(1008), "upstream_error/agent_config"),
        (closing(1011), "upstream_error/agent_crashed"),
        (closing(4000), "upstream_error/agent_operational"),
        (dropping(), "upstream_error/agent_lost"),
        (closing(1000, Say(duration_ms=500, speed=0), Wait(ms=200)), "success/agent_hangup"),
        (closing(1002, *MID_SPEECH), "upstream_error/agent_operational"),
        (closing(1008, *MID_SPEECH), "upstream_error/agent_config"),
        (closing(1011, *MID_SPEECH), "upstream_error/agent_crashed"),
        (dropping(*MID_SPEECH), "upstream_error/agent_lost"),
    ],
)
async def test_the_agent_goes(start: Start, scenario: Scenario, end: str) -> None:
    assert await end_of_call(await start(scenario)) == end


@pytest.mark.parametrize(
    ("scenario", "end"),
    [
        ("quota", "upstream_error/agent_quota"),
        ("error_nested", "upstream_error/agent_crashed"),
        ("error_flat", "upstream_error/agent_operational"),
        ("missing_variable", "upstream_error/agent_config"),
        ("override_error", "upstream_error/agent_config"),
        ("unknown_format", "upstream_error/agent_format"),
        ("garbage", "upstream_error/agent_garbage"),
        ("garbage_first", "upstream_error/agent_garbage"),
    ],
)
async def test_the_agent_says_what_is_wrong_or_what_makes_no_sense(start: Start, scenario: str, end: str) -> None:
    assert await end_of_call(await start(scenario)) == end


async def test_the_agent_never_begins(start: Start) -> None:
    at = await start("mute", AGENT_READY_TIMEOUT_S="0.3")
    assert await end_of_call(at) == "upstream_error/agent_not_ready"


async def test_the_agent_falls_silent(start: Start) -> None:
    at = await start("silent", AGENT_SILENCE_S="0.3")
    assert await end_of_call(at) == "upstream_error/agent_silent"


async def test_an_error_that_no_close_follows_ends_the_call_all_the_same(start: Start) -> None:
    at = await start(Scenario(name="error", steps=(Error(code=1011),)))
    assert await end_of_call(at) == "upstream_error/agent_crashed"


async def test_strange_messages_do_not_end_a_call(start: Start) -> None:
    strange = (
        Raw(text='{"type":"something_new","body":{"a":[1,2]}}'),
        Raw(text='{"type":"audio","audio_event":{"audio_base_64":"%%%","event_id":1}}'),
        Raw(text='{"type":"ping","ping_event":{}}'),
        Interrupt(stale_ms=0),
    )
    at = await start(Scenario(name="strange", steps=(*strange, Close())))
    assert await end_of_call(at) == "success/agent_hangup"
    [line] = at.logged("call_ended")
    assert (line["unknown_messages"], line["malformed_messages"], line["interruptions"]) == (1, 2, 1)


async def test_an_agent_that_does_not_read_never_holds_the_caller_up(start: Start) -> None:
    """12 MB of caller audio, far more than the kernel holds, go into a socket that nobody reads for a while."""
    stalled = Scenario(name="stalled", steps=(Stall(ms=1200),))
    at = await start(options=AgentOptions(scenario=stalled, keep_audio=False))
    payload, count = bytes(range(256)) * 156, 300
    message = twilio.media(payload)
    async with WireCaller(at) as caller:
        await caller.dial_in()
        began_s = time.monotonic()
        for _ in range(count):
            await caller.send(message)
        await until(lambda: next(iter(at.bridge.sessions.values())).call.stats.caller_frames == count)
        assert time.monotonic() - began_s < 1.2, "the caller had to wait for the agent"
        assert at.logged("agent_stuck") and not at.logged("agent_writable")
        await until(lambda: at.logged("agent_writable"), "the agent's socket stayed stuck")
        [session] = at.bridge.sessions.values()
        dropped_bytes = session.call.conversation.dropped_audio_bytes
        assert dropped_bytes > len(payload)
        late_bytes = count * len(payload) - dropped_bytes
        await until(lambda: at.agent.conversations[0].received_audio_bytes == late_bytes, "audio was lost uncounted")
        await caller.send(twilio.STOP)
        assert await caller.closed() == 1000
    assert await at.ended() == ["success/caller_hangup"]
    assert at.logged("call_ended")[0]["upload_dropped_bytes"] == dropped_bytes
