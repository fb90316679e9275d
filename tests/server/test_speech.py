"""What the bridge says itself: files by language, texts in the agent's voice; what cannot be said is left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from bridge.calls.effects import Words
from bridge.calls.hold import HoldAudio
from bridge.media.format import ULAW_8K, Encoding, MediaFormat
from bridge.media.tones import tone
from bridge.server import speech
from bridge.server.speech import Speaker, SpeechOptions
from tests.kit import logs
from tests.kit.audio import assert_tone
from tests.kit.clock import FakeClock

BASE = "https://api.example"
PCM = MediaFormat(Encoding.L16, 16000)
FILES = {name: HoldAudio(tone((hz,), 500, 8000, 8000), 8000) for name, hz in (("default", 500.0), ("de", 700.0))}
AGENT = {"conversation_config": {"tts": {"voice_id": "voice of/agent"}}}
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


class Vendor:
    """The vendor's interface, and a speaker that asks it."""

    def __init__(self, handler: Handler | None = None, **options: Any) -> None:
        self.requests: list[httpx.Request] = []
        self.handler = handler or self.speak
        self.clock = FakeClock()
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        given = {"api_key": "key", **options}
        self.speaker = Speaker(SpeechOptions(BASE, **given), http, monotonic=lambda: self.clock.now)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.handler(request)

    @staticmethod
    def speak(request: httpx.Request) -> httpx.Response:
        """Speech that is a tone, and an agent with a voice."""
        if request.method == "GET":
            return httpx.Response(200, json=AGENT)
        if request.url.params["output_format"] == "ulaw_8000":
            return httpx.Response(200, content=b"\x01" * 801)
        return httpx.Response(200, content=tone((440.0,), 100, 16000, 8000) + b"\x00")

    async def say(self, text: str = "Hello.", media: MediaFormat = ULAW_8K, agent_id: str = "agent_1") -> bytes | None:
        """A text of the agent's."""
        return await self.speaker.speech(Words.GIVEN, text, "", agent_id, media)


# --- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "hz"), [("de", 700.0), ("de-CH", 700.0), ("fr", 500.0), ("", 500.0), ("default", 500.0)]
)
@pytest.mark.parametrize("media", [ULAW_8K, PCM, MediaFormat(Encoding.L16, 24000)])
async def test_the_apology_by_language(language: str, hz: float, media: MediaFormat) -> None:
    vendor = Vendor(apologies=FILES)
    said = await vendor.speaker.speech(Words.APOLOGY, "", language, "agent_1", media)
    assert said is not None
    assert media.duration_ms(len(said)) == pytest.approx(500, abs=20)
    assert_tone(said[len(said) // 4 // 2 * 2 : -(len(said) // 4 // 2 * 2)], media, hz)
    assert vendor.requests == []


async def test_a_full_tag_goes_before_its_language() -> None:
    files = {**FILES, "de-ch": HoldAudio(tone((900.0,), 500, 8000, 8000), 8000)}
    vendor = Vendor(apologies=files)
    said = await vendor.speaker.speech(Words.APOLOGY, "", "de-CH", "agent_1", ULAW_8K)
    assert said is not None
    assert_tone(said[800:-800], ULAW_8K, 900.0)


@pytest.mark.parametrize("files", [{}, {"de": FILES["de"]}])
async def test_no_file_for_the_language(files: dict[str, HoldAudio]) -> None:
    vendor = Vendor(apologies=files)
    assert await vendor.speaker.speech(Words.APOLOGY, "", "fr", "agent_1", ULAW_8K) is None
    assert vendor.requests == []


async def test_the_message_for_machines_is_a_file_where_there_is_one() -> None:
    vendor = Vendor(voicemail=FILES["de"])
    assert await vendor.speaker.speech(Words.VOICEMAIL, "Call back.", "", "agent_1", ULAW_8K)
    assert vendor.requests == []
    spoken = Vendor()
    assert await spoken.speaker.speech(Words.VOICEMAIL, "Call back.", "", "agent_1", ULAW_8K)
    assert json.loads(spoken.requests[-1].content)["text"] == "Call back."


# --- texts -----------------------------------------------------------------------------------------------


async def test_a_text_in_the_agents_voice() -> None:
    vendor = Vendor()
    assert await vendor.say() == b"\x01" * 801
    look_up, request = vendor.requests
    assert (look_up.method, str(look_up.url)) == ("GET", f"{BASE}/v1/convai/agents/agent_1")
    assert request.method == "POST"
    assert str(request.url) == f"{BASE}/v1/text-to-speech/voice%20of%2Fagent?output_format=ulaw_8000"
    assert json.loads(request.content) == {"text": "Hello.", "model_id": speech.MODEL}
    assert [one.headers["xi-api-key"] for one in vendor.requests] == ["key", "key"]


@pytest.mark.parametrize("media", [PCM, MediaFormat(Encoding.L16, 24000), MediaFormat(Encoding.ALAW, 8000)])
async def test_for_other_formats_linear_speech_is_converted(media: MediaFormat) -> None:
    vendor = Vendor(voice_id="v1")
    said = await vendor.say(media=media)
    assert said is not None
    assert vendor.requests[0].url.params["output_format"] == "pcm_16000"
    assert media.duration_ms(len(said)) == pytest.approx(100, abs=10)


async def test_the_agents_voice_is_looked_up_once_in_a_while() -> None:
    vendor = Vendor()
    for _ in range(3):
        await vendor.say()
    await vendor.say(agent_id="agent_2")
    assert [one.method for one in vendor.requests].count("GET") == 2
    vendor.clock.now += speech.VOICE_TTL_S
    await vendor.say()
    assert [one.method for one in vendor.requests].count("GET") == 3


async def test_the_operators_voice_is_not_looked_up() -> None:
    vendor = Vendor(voice_id="v1")
    await vendor.say()
    [request] = vendor.requests
    assert request.url.path == "/v1/text-to-speech/v1"


async def test_only_so_many_voices_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "MAX_VOICES", 2)
    vendor = Vendor()
    for agent_id in ("a", "b", "c", "b", "a"):
        await vendor.say(agent_id=agent_id)
    paths = [one.url.path[-1] for one in vendor.requests if one.method == "GET"]
    assert paths == ["a", "b", "c", "a"]


async def test_long_texts_are_cut() -> None:
    vendor = Vendor(voice_id="v1")
    await vendor.say("x" * 5000)
    assert len(json.loads(vendor.requests[0].content)["text"]) == speech.MAX_TEXT_CHARS


@pytest.mark.parametrize(("text", "key"), [("", "key"), ("Hello.", "")])
async def test_without_text_or_key_nobody_is_asked(text: str, key: str) -> None:
    vendor = Vendor(api_key=key)
    assert await vendor.say(text) is None
    assert vendor.requests == []


def refuse(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def no_voice(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"conversation_config": {}})


@pytest.mark.parametrize(
    ("handler", "detail"),
    [
        (refuse, "refused"),
        (lambda _: httpx.Response(401, text="key"), "HTTP 401 from the vendor; check the key's permissions"),
        (lambda _: httpx.Response(503), "HTTP 503 from the vendor; check the key's permissions"),
        (lambda _: httpx.Response(302, headers={"location": "/x"}), "HTTP 302 from the vendor"),
        (lambda _: httpx.Response(200, text="no json"), "JSON is malformed"),
        (lambda _: httpx.Response(200, json={"conversation_config": 1}), "Expected `object`"),
        (no_voice, "the agent's configuration names no voice; set ELEVENLABS_VOICE_ID"),
    ],
)
async def test_what_cannot_be_spoken_is_left_out(handler: Handler, detail: str, lines: list[dict[str, Any]]) -> None:
    vendor = Vendor(handler)
    assert await vendor.say() is None
    [line] = [line for line in lines if line["event"] == "speech_failed"]
    assert detail in line["detail"]
    assert "Hello" not in str(lines)
    vendor.handler = Vendor.speak
    assert await vendor.say(), "a failure is not remembered"


async def test_too_much_speech_is_none(monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(speech, "MAX_SPEECH_BYTES", 800)
    assert await Vendor(voice_id="v1").say() is None
    assert lines[-1]["detail"] == "more than 800 bytes"


async def test_speech_that_takes_too_long(monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(speech, "TIMEOUT_S", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"\x01"
        await asyncio.sleep(60)

    vendor = Vendor(lambda _: httpx.Response(200, content=body()), voice_id="v1")
    assert await vendor.say() is None
    assert lines[-1]["detail"] == "TimeoutError"
