"""Calls that go on when something behind them breaks; what the caller hears is measured, second by second."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.calls import errands, hold
from bridge.calls.resume import PREVIOUS_ID, RESUMED, TRANSCRIPT
from bridge.media.format import ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import dominant_frequencies, tone
from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_rest import SPEECH_CLIP
from bridge.simulators.agent_scenarios import Close, Drop, Error, Raw, Say, Scenario, Wait
from bridge.simulators.speech import load_clip
from bridge.simulators.twilio_cloud import TwilioCloud, running_cloud
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_leg import Leg
from bridge.simulators.twilio_line import HangUp, Silence
from bridge.simulators.twilio_person import PersonScript
from tests.kit.server import AUTH_TOKEN, RunningBridge, Start, until
from tests.kit.twilio_flows import ACCOUNT, CALLER, HUMAN, OWN, tool

pytestmark = pytest.mark.e2e

FIRST_HZ, SECOND_HZ, APOLOGY_HZ = 600.0, 900.0, 1300.0
BLOCK_BYTES = 800
"""A tenth of a second."""
AUDIBLE = 200
"""Mean level of a block, of 32767, from which on something is heard; the hold tone has some 1200."""
MAX_SILENCE_S = 2.0
QUOTA = "This request exceeds your quota limit."
ASKED = '{"type":"user_transcript","user_transcription_event":{"user_transcript":"Where is it?","event_id":1}}'


def speech(hz: float, duration_ms: int = 60_000) -> Say:
    """The agent speaks, in real time."""
    return Say(text="It is on its way.", tone_hz=hz, duration_ms=duration_ms, speed=1.0)


def talking(hz: float) -> Scenario:
    return Scenario(name="talking", steps=(speech(hz),))


def breaking(*ends: Any) -> Scenario:
    """An agent that speaks and breaks off in the middle."""
    say = Say(text="It is on its way.", tone_hz=FIRST_HZ, duration_ms=600, speed=1.0)
    return Scenario(name="breaking", steps=(Raw(text=ASKED), say, *ends))


def frequencies(heard: bytes) -> list[float]:
    """What is heard in each tenth of a second; 0 = nothing."""
    found: list[float] = []
    for start in range(0, len(heard) - BLOCK_BYTES + 1, BLOCK_BYTES):
        pcm = ulaw_to_pcm(heard[start : start + BLOCK_BYTES])
        loud = np.abs(np.frombuffer(pcm, "<i2")).mean() >= AUDIBLE
        peaks = dominant_frequencies(pcm, 8000) if loud else []
        found.append(peaks[0].frequency_hz if peaks else 0.0)
    return found


def first(heard: bytes, hz: float) -> float:
    """After how many seconds this was heard first; fails where it was not."""
    found = frequencies(heard)
    assert any(is_near(each, hz) for each in found), f"{hz} Hz was not heard, but {found}"
    return next(index for index, each in enumerate(found) if is_near(each, hz)) / 10


def last(heard: bytes, hz: float) -> float:
    """After how many seconds this was heard for the last time."""
    found = frequencies(heard)
    return len(found) / 10 - first(heard[: len(found) * BLOCK_BYTES][::-1], hz)


def is_near(found_hz: float, hz: float) -> bool:
    return abs(found_hz - hz) < 15


def silences(heard: bytes) -> list[float]:
    """Seconds of each silence."""
    text = "".join("." if each == 0 else "x" for each in frequencies(heard))
    return [len(part) / 10 for part in text.split("x") if part]


def variables(log: ConversationLog) -> dict[str, str]:
    """What a conversation was told at its beginning."""
    found = (log.initiation or {}).get("dynamic_variables", {})
    return {name: str(value) for name, value in found.items()}


def updates(log: ConversationLog) -> list[str]:
    return [str(fields["text"]) for _, kind, fields in log.messages if kind == "contextual_update"]


class Scene:
    """A bridge, its agents and its Twilio."""

    def __init__(self, at: RunningBridge, cloud: TwilioCloud) -> None:
        self.at, self.cloud = at, cloud

    def call(self, *, stay_ms: int = 3000) -> Leg:
        """Somebody calls and listens for so long."""
        script = PersonScript(actions=(Silence(ms=stay_ms), HangUp()))
        return self.cloud.incoming(CALLER, OWN, self.at.voice, script, status_url=f"{self.at.http_url}/twilio/status")

    async def over(self, leg: Leg, count: int = 1) -> list[str]:
        await self.cloud.wait_ended(leg, 20.0)
        return await self.at.ended(count)


@asynccontextmanager
async def scene(start: Start, *agents: Scenario, delay_s: float = 0.0, **settings: Any) -> AsyncIterator[Scene]:
    """``agents`` are the conversations in turn; the last goes on."""
    human = PersonScript(hang_up_after_ms=400)
    options = CloudOptions(
        account_sid=ACCOUNT, auth_token=AUTH_TOKEN, numbers=(OWN,), people={HUMAN: human}, say_ms_per_char=4.0
    )
    async with running_cloud(options) as cloud:
        at = await start(
            options=AgentOptions(scenario=agents[0], later=agents[1:], upgrade_delay_s=delay_s),
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_API_BASE_URL=cloud.base_url,
            **settings,
        )
        yield Scene(at, cloud)


@pytest.fixture
def apology(tmp_path: Path) -> Path:
    """Words for callers whose agent has failed."""
    path = tmp_path / "default.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(tone((APOLOGY_HZ,), 600, 16000, 8000))
    return path


# --- the agent's connection ------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [(Drop(),), (Error(code=1002), Close(code=1002))])
async def test_the_agent_is_cut_off_in_the_middle_of_its_speech(start: Start, ends: tuple[Any, ...]) -> None:
    async with scene(start, breaking(*ends), talking(SECOND_HZ), delay_s=1.0) as at:
        leg = at.call(stay_ms=4000)
        assert await at.over(leg) == ["success/caller_hangup"]
        heard = bytes(leg.heard)
        assert first(heard, FIRST_HZ) < first(heard, hold.TONE_HZ) < first(heard, SECOND_HZ)
        assert first(heard, hold.TONE_HZ) - last(heard, FIRST_HZ) <= 1.0, "the tone came too late"
        assert last(heard, SECOND_HZ) > 3.5, "the conversation goes on"
        assert max(silences(heard), default=0.0) <= MAX_SILENCE_S
        before, after = at.at.agent.conversations
        told = variables(after)
        assert (told[RESUMED], told[PREVIOUS_ID]) == ("true", before.conversation_id)
        assert told[TRANSCRIPT] == "Caller: Where is it?\nYou: It is on its way."
        [update] = updates(after)
        assert "Where is it?" in update
        [record] = await at.at.records()
        assert record.conversation_ids == [before.conversation_id, after.conversation_id]
        assert len(leg.streams) == 1, "the carrier notices nothing"
        assert (before.violations, after.violations, at.cloud.violations) == ([], [], [])


@pytest.mark.parametrize("fallback", ["", HUMAN])
async def test_an_agent_that_is_gone_for_good(start: Start, apology: Path, fallback: str) -> None:
    again = Scenario(name="refused", refuse_status=503)
    settings = {"APOLOGY_AUDIO": str(apology), "FALLBACK_TO": fallback, "AGENT_CONNECT_TIMEOUT_S": "1"}
    chosen: dict[str, Any] = {name: value for name, value in settings.items() if value}
    async with scene(start, breaking(Drop()), again, **chosen) as at:
        leg = at.call(stay_ms=20_000)
        [end] = await at.over(leg)
        assert end.startswith("upstream_error/agent_")
        heard = bytes(leg.heard)
        assert first(heard, FIRST_HZ) < first(heard, APOLOGY_HZ)
        assert first(heard, APOLOGY_HZ) - last(heard, FIRST_HZ) <= 3.5
        found = [each for each in frequencies(heard) if is_near(each, APOLOGY_HZ)]
        assert 5 <= len(found) <= 7, "all of it, once"
        human = at.cloud.call_to(HUMAN)
        assert (human is not None) is bool(fallback)
        assert leg.words == [], "told once"
        assert leg.ended_by == ("twiml" if fallback else "rest")
        assert leg.duration_s < 15


async def test_without_an_apology_of_ones_own_twilio_says_it(start: Start) -> None:
    async with scene(start, breaking(Close(code=1008)), talking(SECOND_HZ)) as at:
        leg = at.call(stay_ms=20_000)
        assert await at.over(leg) == ["upstream_error/agent_config"]
        assert leg.words == ["We are sorry, a technical problem came up. Please call again later."]
        assert len(at.at.agent.conversations) == 1, "what the configuration refuses is not tried again"


async def test_over_the_quota_there_is_no_second_connection(start: Start, apology: Path) -> None:
    flat = Error(message=f"received 1002 (protocol error) {QUOTA}", flat=True)
    quota = breaking(flat, Close(code=1002, reason=QUOTA))
    async with scene(start, quota, talking(SECOND_HZ), APOLOGY_AUDIO=str(apology)) as at:
        leg = at.call(stay_ms=20_000)
        assert await at.over(leg) == ["upstream_error/agent_quota"]
        assert first(bytes(leg.heard), APOLOGY_HZ) - last(bytes(leg.heard), FIRST_HZ) <= 1.0
        assert len(at.at.agent.conversations) == 1
        [record] = await at.at.records()
        assert len(record.conversation_ids) == 1


async def test_who_waits_for_the_agent_hears_a_tone(start: Start) -> None:
    async with scene(start, talking(SECOND_HZ), delay_s=2.5) as at:
        leg = at.call(stay_ms=4000)
        assert await at.over(leg) == ["success/caller_hangup"]
        heard = bytes(leg.heard)
        assert 1.3 <= first(heard, hold.TONE_HZ) <= 2.0
        assert first(heard, SECOND_HZ) >= 2.3
        assert max(silences(heard)) <= MAX_SILENCE_S


async def test_on_hold_the_agent_is_sent_silence(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor gives up on a caller who is not heard; here after 1 s, for which a second of hold stands for 60."""
    monkeypatch.setattr(errands, "SILENCE_EVERY_S", 0.1)
    scenario = Scenario(name="hold", steps=(tool("hold"), Wait(ms=2700), tool("resume"), speech(SECOND_HZ)))
    async with scene(start, scenario) as at:
        leg = at.call(stay_ms=4200)
        assert await at.over(leg) == ["success/caller_hangup"]
        log = await at.at.agent.wait_ended()
        assert (log.closed_by, log.violations) == ("client", [])
        times = [each_s for each_s, _ in log.received_times_s]
        assert max(later - earlier for earlier, later in zip(times, times[1:], strict=False)) < 1.0
        heard = bytes(leg.heard)
        assert first(heard, hold.TONE_HZ) < first(heard, SECOND_HZ)
        assert max(silences(heard)) <= MAX_SILENCE_S


# --- the carrier's connection ----------------------------------------------------------------------------


async def test_a_stream_that_breaks_is_connected_again_once(start: Start) -> None:
    scenario = Scenario(name="told", steps=(Raw(text=ASKED), speech(FIRST_HZ)))
    async with scene(start, scenario, talking(SECOND_HZ)) as at:
        leg = at.call(stay_ms=20_000)
        await until(lambda: any(is_near(each, FIRST_HZ) for each in frequencies(bytes(leg.heard))))
        cut(at.at)
        await until(lambda: len(at.at.agent.conversations) == 2, "it was not connected again")
        await until(lambda: any(is_near(each, SECOND_HZ) for each in frequencies(bytes(leg.heard))))
        before, after = at.at.agent.conversations
        told = variables(after)
        assert (told[RESUMED], told[PREVIOUS_ID]) == ("true", before.conversation_id)
        assert "Caller: Where is it?" in told[TRANSCRIPT]
        heard = bytes(leg.heard)
        assert first(heard, SECOND_HZ) - last(heard, FIRST_HZ) <= 2.0
        cut(at.at)
        assert await at.over(leg, 2) == ["indeterminate/carrier_lost"] * 2
        assert leg.words == ["We are sorry, a technical problem came up. Please call again later."]
        assert len(leg.streams) == 2, "once"


def cut(at: RunningBridge) -> None:
    """The network between carrier and bridge breaks."""
    [session] = at.bridge.sessions.values()
    assert session._carrier is not None
    session._carrier.cut()


# --- words of the bridge's own ---------------------------------------------------------------------------


async def test_last_words_are_spoken_in_the_agents_voice(start: Start) -> None:
    """The text of a tool call, made into speech by the vendor, heard by the caller before the line is hung up."""
    goodbye = tool("end_call", reason="done", message="It arrives on Monday. Goodbye.")
    scenario = Scenario(name="goodbye", steps=(Wait(ms=100), goodbye))
    async with running_cloud(CloudOptions(account_sid=ACCOUNT, auth_token=AUTH_TOKEN, numbers=(OWN,))) as cloud:
        at = await start(
            options=AgentOptions(scenario=scenario, api_key="key"),
            ELEVENLABS_API_KEY="key",
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_API_BASE_URL=cloud.base_url,
        )
        leg = cloud.incoming(CALLER, OWN, at.voice, PersonScript())
        await cloud.wait_ended(leg, 20.0)
        assert await at.ended() == ["success/agent_hangup"]
        assert leg.ended_by == "rest"
        assert load_clip(SPEECH_CLIP, ULAW_8K) in bytes(leg.heard), "word for word"
