"""What the bridge itself says to callers: the operator's WAV files, and texts spoken by the vendor's text to speech.

Texts come from an agent's tool call (``client_message``, a last message) or from the operator (the message for
answering machines). They are spoken by the agent's own voice, so that the caller hears nobody else. What cannot be
spoken is left out, and the call goes on: nothing here raises.

Source: ElevenLabs API reference, "Create speech" (``POST /v1/text-to-speech/{voice_id}``, query ``output_format``),
"Get agent" (``conversation_config.tts.voice_id``), read 2026-11-21. That the pcm formats are headerless 16-bit
little-endian is the vendor's word for its WebSocket formats of the same names.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
import msgspec

from bridge.calls.effects import Words
from bridge.calls.hold import HoldAudio
from bridge.media.format import ULAW_8K, Encoding, MediaFormat
from bridge.media.transcode import Transcoder
from bridge.server.hold_audio import DEFAULT_LANGUAGE
from bridge.server.logs import get_logger

TIMEOUT_S = 4.0
"""For one text: the caller waits for it. The vendor's fast model answers within half a second."""

MODEL = "eleven_flash_v2_5"
"""The vendor's model for speech at once, in 32 languages."""

MAX_TEXT_CHARS = 1_000
"""Of one text: a minute of speech, and a bound on what a tool call can make the operator pay."""

MAX_SPEECH_BYTES = 4 * 1024 * 1024
"""Two minutes at 16 kHz."""

MAX_VOICES = 1_000
VOICE_TTL_S = 600.0
"""How long an agent's voice is remembered; operators change voices now and then."""

_SOURCE = MediaFormat(Encoding.L16, 16000)


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """The operator's settings for speech."""

    base_url: str
    api_key: str = field(default="", repr=False)
    """Without one nothing is spoken but the operator's files."""
    voice_id: str = ""
    """Empty = the agent's own."""
    apologies: Mapping[str, HoldAudio] = field(default_factory=dict)
    """By language; ``default`` for all others."""
    voicemail: HoldAudio | None = None
    """The message for answering machines as a file."""


class _Tts(msgspec.Struct):
    voice_id: str = ""


class _Configuration(msgspec.Struct):
    tts: _Tts = msgspec.field(default_factory=_Tts)


class _Agent(msgspec.Struct):
    conversation_config: _Configuration = msgspec.field(default_factory=_Configuration)


class Speaker:
    """Makes speech. ``options`` may be replaced at any time."""

    def __init__(
        self, options: SpeechOptions, http: httpx.AsyncClient, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.options = options
        self._http = http
        self._monotonic = monotonic
        self._voices: OrderedDict[str, tuple[str, float]] = OrderedDict()  # by agent: the voice, and until when
        self._log = get_logger()

    async def speech(self, words: Words, text: str, language: str, agent_id: str, media: MediaFormat) -> bytes | None:
        """Speech in this format; None where there is none. ``text`` is for ``Words.GIVEN`` and ``VOICEMAIL``."""
        if words is Words.APOLOGY:
            return _rendered(self._apology(language), media)
        if words is Words.VOICEMAIL and self.options.voicemail is not None:
            return _rendered(self.options.voicemail, media)
        if not text or not self.options.api_key:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._spoken(text[:MAX_TEXT_CHARS], agent_id, media)
        except (TimeoutError, httpx.HTTPError, msgspec.MsgspecError, _SpeechError) as problem:
            self._log.warning("speech_failed", detail=str(problem) or type(problem).__name__)
            return None

    def _apology(self, language: str) -> HoldAudio | None:
        known, language = self.options.apologies, language.lower()  # the files' names are lower case as well
        short = language.split("-", maxsplit=1)[0]
        return known.get(language) or known.get(short) or known.get(DEFAULT_LANGUAGE)

    async def _spoken(self, text: str, agent_id: str, media: MediaFormat) -> bytes:
        voice = self.options.voice_id or await self._voice_of(agent_id)
        source = ULAW_8K if media.encoding is Encoding.ULAW else _SOURCE
        url = f"{self.options.base_url}/v1/text-to-speech/{quote(voice, safe='')}"
        audio = await self._fetch(
            "POST", url, params={"output_format": source.name}, json={"text": text, "model_id": MODEL}
        )
        return Transcoder(source, media).process(audio[: len(audio) - len(audio) % source.bytes_per_sample])

    async def _voice_of(self, agent_id: str) -> str:
        """The agent's own voice."""
        known = self._voices.get(agent_id)
        if known is not None and self._monotonic() < known[1]:
            return known[0]
        url = f"{self.options.base_url}/v1/convai/agents/{quote(agent_id, safe='')}"
        voice = msgspec.json.decode(await self._fetch("GET", url), type=_Agent).conversation_config.tts.voice_id
        if not voice:
            raise _SpeechError("the agent's configuration names no voice; set ELEVENLABS_VOICE_ID")
        self._voices[agent_id] = voice, self._monotonic() + VOICE_TTL_S
        while len(self._voices) > MAX_VOICES:
            self._voices.popitem(last=False)
        return voice

    async def _fetch(
        self, method: str, url: str, *, params: dict[str, str] | None = None, json: dict[str, str] | None = None
    ) -> bytes:
        """The body of a successful answer, with a bound."""
        headers = {"xi-api-key": self.options.api_key}
        async with self._http.stream(method, url, params=params, json=json, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise _SpeechError(f"HTTP {response.status_code} from the vendor; check the key's permissions")
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_SPEECH_BYTES:
                    raise _SpeechError(f"more than {MAX_SPEECH_BYTES} bytes")
            return bytes(body)


class _SpeechError(Exception):
    """No speech; the text says why, for the log."""


def _rendered(audio: HoldAudio | None, media: MediaFormat) -> bytes | None:
    """A file in the carrier's format."""
    if audio is None:
        return None
    return Transcoder(MediaFormat(Encoding.L16, audio.rate_hz), media).process(audio.pcm)
