"""A whole call: what passes unchanged, what is converted, what an interruption leaves, and that no end is cut off."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.media.format import ULAW_8K, MediaFormat
from bridge.media.tones import dominant_frequencies
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Close, EndCall, Say, Scenario, WaitForCaller
from bridge.simulators.speech import tone
from bridge.simulators.twilio_caller import TwilioCallOptions, call_twilio
from bridge.simulators.twilio_line import HangUp, Silence, WaitForClose
from tests.kit import twilio
from tests.kit.audio import assert_tone, make_tone, numbered, to_pcm
from tests.kit.caller import WireCaller
from tests.kit.server import AUTH_TOKEN, RunningBridge, Start, until

pytestmark = pytest.mark.e2e

AGENT_FORMATS = ("ulaw_8000", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000")
AUDIBLE = 300
"""Sample value above which there is a tone and not the rest of a filter."""


def call_options(at: RunningBridge, *actions: Silence | HangUp | WaitForClose) -> TwilioCallOptions:
    return TwilioCallOptions(voice=at.voice, auth_token=AUTH_TOKEN, actions=actions, max_duration_s=10.0)


def audible(payload: bytes, media: MediaFormat) -> bytes:
    """``payload`` from its first to its last audible sample."""
    samples = np.abs(np.frombuffer(to_pcm(payload, media), "<i2").astype(int))
    loud = np.flatnonzero(samples > AUDIBLE)
    assert len(loud), "nothing is audible"
    size = media.bytes_per_sample
    return payload[loud[0] * size : (loud[-1] + 1) * size]


def middle(payload: bytes, media: MediaFormat, margin_ms: float = 50.0) -> bytes:
    """``payload`` without its ends, where filters and edges are heard."""
    margin = media.size_bytes(margin_ms)
    return payload[margin:-margin]


async def test_mu_law_passes_byte_for_byte_both_ways(start: Start) -> None:
    at = await start("echo")
    said = numbered(160 * 50)
    async with WireCaller(at) as caller:
        await caller.dial_in()
        await caller.say(said)
        await until(lambda: len(caller.heard) >= len(said), "the echo is incomplete")
        await caller.send(twilio.STOP)
        assert await caller.closed() == 1000
        assert caller.heard == said
        assert await at.ended() == ["success/caller_hangup"]
        assert await caller.verbs() == ["Hangup"]
    log = await at.agent.wait_ended()
    assert bytes(log.received_audio) == said
    assert (log.closed_by, log.close_code, log.violations) == ("client", 1000, [])


@pytest.mark.parametrize("name", AGENT_FORMATS)
async def test_a_tone_survives_every_format_of_the_agent(start: Start, name: str) -> None:
    media = MediaFormat.parse(name)
    answer = Scenario(name="answer", steps=(WaitForCaller(), Say(tone_hz=1000, duration_ms=600), EndCall(), Close()))
    at = await start(options=AgentOptions(scenario=answer, input_format=name, output_format=name))
    said = make_tone(1000, 400, ULAW_8K) + ULAW_8K.silence(160 * 40)
    async with WireCaller(at) as caller:
        await caller.dial_in()
        await caller.say(said)
        assert await caller.closed() == 1000
        assert await at.ended() == ["success/agent_hangup"]
        assert await caller.verbs() == ["Hangup"]
    log = await at.agent.wait_ended()
    assert log.violations == []
    up = audible(bytes(log.received_audio), media)
    assert media.duration_ms(len(up)) == pytest.approx(400, abs=5)
    assert_tone(middle(up, media), media, 1000)
    assert media.duration_ms(log.received_audio_bytes) == pytest.approx(ULAW_8K.duration_ms(len(said)), abs=20)
    down = audible(caller.heard, ULAW_8K)
    assert ULAW_8K.duration_ms(len(down)) == pytest.approx(600, abs=5)
    assert_tone(middle(down, ULAW_8K), ULAW_8K, 1000)
    [ready] = at.logged("agent_ready")
    assert (ready["detail"] == "audio passes unchanged") == (name == "ulaw_8000")
    assert ("conversation_id" in ready) and ready["conversation_id"] == log.conversation_id


async def test_an_interruption_leaves_nothing_of_the_old_answer(start: Start) -> None:
    at = await start("stale")
    result = await call_twilio(call_options(at, Silence(ms=1300), HangUp()))
    assert await at.ended() == ["success/caller_hangup"]
    assert result.violations == []
    assert (result.clear_count, result.gaps) == (1, [])
    [clear_ms] = [at_ms for at_ms, what in result.timeline if what.startswith("clear")]
    heard = bytes(result.heard)
    before, after = heard[: clear_ms * 8], heard[(clear_ms + 20) * 8 :]
    assert dominant_frequencies(to_pcm(middle(audible(before, ULAW_8K), ULAW_8K), ULAW_8K), 8000)[
        0
    ].frequency_hz == pytest.approx(400, abs=5)
    new = audible(after, ULAW_8K)
    assert len(new) > 300 * 8
    for begin in range(0, len(new) - 800, 800):
        [loudest, *rest] = dominant_frequencies(to_pcm(new[begin : begin + 800], ULAW_8K), 8000)
        assert loudest.frequency_hz == pytest.approx(1000, abs=10)
        assert not [peak for peak in rest if abs(peak.frequency_hz - 400) < 30 and peak.level_dbm0 > -40]
    [end] = at.logged("call_ended")
    assert (end["interruptions"], end["clears"]) == (1, 1)
    assert end["stale_audio_bytes"] == 5_000 * 8
    assert end["agent_flushed_ms"] > 8_000
    [step] = at.logged("interrupted")
    assert step["detail"].endswith(" ms dropped here, clear sent")


async def test_every_millisecond_of_the_goodbye_is_heard(start: Start) -> None:
    goodbye = Scenario(name="goodbye", steps=(Say(duration_ms=1210, speed=0), EndCall(), Close()))
    at = await start(goodbye)
    result = await call_twilio(call_options(at, WaitForClose()))
    assert await at.ended() == ["success/agent_hangup"]
    assert (result.ended_by, result.close_code, result.violations, result.gaps) == ("bridge", 1000, [], [])
    assert result.unplayed_ms == 0
    assert tone(440, ULAW_8K, 1210) in bytes(result.heard)
    assert [verb.split()[0] for verb in result.verbs] == ["Connect", "Redirect", "Hangup"]


async def test_a_carrier_that_confirms_nothing_still_gets_the_end(start: Start) -> None:
    goodbye = Scenario(name="goodbye", steps=(Say(duration_ms=100, speed=0), EndCall(), Close()))
    at = await start(goodbye)
    async with WireCaller(at) as caller:
        caller.echo_marks = False
        await caller.dial()
        assert await caller.closed() == 1000
    assert caller.heard == tone(440, ULAW_8K, 100)
    assert await at.ended() == ["success/agent_hangup"]
    assert at.logged("call_ended")[0]["detail"].endswith("the carrier did not confirm the end of the good-bye in time")


async def test_a_burst_never_runs_far_ahead_of_the_caller(start: Start) -> None:
    at = await start("burst")
    result = await call_twilio(call_options(at, Silence(ms=1200), HangUp()))
    assert await at.ended() == ["success/caller_hangup"]
    assert 300 <= result.lead_max_ms <= 420
    assert (result.gaps, result.violations) == ([], [])
    heard = audible(bytes(result.heard), ULAW_8K)
    assert heard[:8000] in tone(440, ULAW_8K, 1100)


@pytest.mark.parametrize("name", ["ulaw_8000", "pcm_16000"])
async def test_odd_pieces_are_put_together(start: Start, name: str) -> None:
    odd = Scenario(name="odd", steps=(Say(tone_hz=1000, duration_ms=700, odd_chunks=True), EndCall(), Close()))
    at = await start(options=AgentOptions(scenario=odd, output_format=name))
    result = await call_twilio(call_options(at, WaitForClose()))
    assert await at.ended() == ["success/agent_hangup"]
    heard = audible(bytes(result.heard), ULAW_8K)
    assert ULAW_8K.duration_ms(len(heard)) == pytest.approx(700, abs=5)
    assert_tone(middle(heard, ULAW_8K)[: 8 * 500], ULAW_8K, 1000)
    if name == "ulaw_8000":
        assert tone(1000, ULAW_8K, 700) in bytes(result.heard)


async def test_tool_calls_are_answered_so_that_the_agent_can_go_on(start: Start) -> None:
    at = await start("tools")
    async with WireCaller(at) as caller:
        await caller.dial_in()
        await until(lambda: at.agent.conversations[0].sent_chunks, "the agent did not go on after its tools")
        await caller.send(twilio.STOP)
        assert await caller.closed() == 1000
    assert await at.ended() == ["success/caller_hangup"]
    log = await at.agent.wait_ended()
    assert [tool.tool_name for tool in log.tool_results] == [
        "send_dtmf",
        "send_dtmf",
        "transfer_call",
        "no_such_tool",
        "lookup_order",
        "lookup_order",
    ]
    assert all(tool.is_error for tool in log.tool_results)
    assert log.tool_results[2].result == (
        "The tool 'transfer_call' is not available on this phone line. Tell the caller that this cannot be done right "
        "now and go on with the conversation."
    )
    assert (log.tool_timeouts, log.violations) == ([], [])
    assert at.logged("call_ended")[0]["tool_calls"] == 6


async def test_the_agent_is_told_who_calls_whom(start: Start) -> None:
    at = await start("echo")
    async with WireCaller(at, caller="+15550142", called="+15550143") as caller:
        await caller.dial_in()
        await caller.send(twilio.STOP)
        await caller.closed()
    log = await at.agent.wait_ended()
    assert log.initiation == {
        "dynamic_variables": {
            "caller_id": "+15550142",
            "called_number": "+15550143",
            "call_sid": twilio.CALL_SID,
        },
        "source_info": {"source": "telephony-bridge"},
    }


async def test_the_first_words_are_kept_while_the_agent_connects(start: Start) -> None:
    at = await start("echo", CALLER_BUFFER_MS="500")
    said = numbered(160 * 50)
    async with WireCaller(at) as caller:
        await caller.dial()
        await caller.say(said)  # a second of audio at once: more than is kept, unless the agent was quicker
        await until(lambda: at.logged("agent_ready"))
        await until(lambda: at.agent.conversations[0].received_audio_bytes >= 500 * 8)
        await caller.send(twilio.STOP)
        await caller.closed()
    log = await at.agent.wait_ended()
    [end] = at.logged("call_ended")
    dropped_bytes = round(end.get("caller_dropped_ms", 0) * 8)
    assert bytes(log.received_audio) == said[dropped_bytes:]
