"""From the caller to the agent: hold back until the agent is ready, convert, and hand straight on what needs neither.

One per call. Sans-I/O like the call it belongs to.
"""

from __future__ import annotations

from bridge.calls.stats import CallStats
from bridge.calls.tap import Tap
from bridge.convai.messages import AUDIO_HEAD, AUDIO_TAIL
from bridge.convai.protocol import Conversation
from bridge.convai.upload import NO_SIZES
from bridge.leg import Leg
from bridge.media.backlog import Backlog
from bridge.media.format import MediaFormat
from bridge.media.transcode import Transcoder


class Uplink:
    """The agent's ear."""

    __slots__ = (
        "_agent_format",
        "_conversation",
        "_held",
        "_held_limit_ms",
        "_is_identity",
        "_is_muted",
        "_leg",
        "_media",
        "_stats",
        "_transcoder",
        "tap",
    )

    def __init__(self, leg: Leg, conversation: Conversation, stats: CallStats) -> None:
        self._leg = leg
        self._conversation = conversation
        self._stats = stats
        self._media: MediaFormat | None = None
        self._held: Backlog | None = None
        self._held_limit_ms = 0
        self._transcoder: Transcoder | None = None  # None until the agent listens
        self._agent_format: MediaFormat | None = None
        self._is_identity = False
        self._is_muted = False
        self.tap: Tap | None = None

    def hold_back(self, media: MediaFormat, limit_ms: int) -> None:
        """Keep the caller's audio from now on, the oldest going first, until ``open``."""
        self._media, self._held, self._held_limit_ms = media, Backlog(media.size_bytes(limit_ms)), limit_ms

    def forget(self) -> None:
        """Nobody will listen to what was kept, or to what comes before the next ``hold_back``."""
        self._held = None

    def open(self, agent_format: MediaFormat) -> Transcoder:
        """The agent listens in this format from now on; what was kept goes first."""
        assert self._media is not None
        self._agent_format = agent_format
        self._transcoder = transcoder = Transcoder(self._media, agent_format)
        self._is_identity = transcoder.is_identity
        held, self._held = self._held, None
        for payload in held.take() if held is not None else ():
            self._conversation.send_audio(transcoder.process(payload))
        self.sync()
        return transcoder

    def take_conversation(self, conversation: Conversation, limit_ms: int) -> None:
        """Another connection to the agent is being made: keep the caller's audio until it listens."""
        assert self._media is not None
        self._conversation = conversation
        self._transcoder = None
        self.hold_back(self._media, limit_ms)
        self.sync()

    def take_leg(self, leg: Leg, media: MediaFormat) -> None:
        """The carrier's stream was replaced."""
        self._leg = leg
        if media != self._media:
            self._change_format(media)
        self.sync()

    def _change_format(self, media: MediaFormat) -> None:
        """The caller is heard in another format from now on."""
        if self._held is not None and self._media is not None:
            converter, held = Transcoder(self._media, media), self._held.take()
            self._held = Backlog(media.size_bytes(self._held_limit_ms))
            for payload in held:
                self._held.push(converter.process(payload))
        if self._agent_format is not None and self._transcoder is not None:
            self._transcoder = Transcoder(media, self._agent_format)
            self._is_identity = self._transcoder.is_identity
        self._media = media

    def mute(self, muted: bool) -> None:
        """Have the agent hear silence in the caller's place, or the caller again."""
        self._is_muted = muted
        self.sync()

    def send_silence(self, duration_s: float) -> None:
        """Silence in place of audio that does not come."""
        if self._transcoder is not None and self._agent_format is not None:
            self._conversation.send_audio(self._agent_format.silence(self._agent_format.size_bytes(duration_s * 1000)))
            self.sync()

    def sync(self) -> None:
        """Tell the leg which caller audio may pass it straight to the agent: what needs no conversion, at once."""
        straight = self._is_identity and self._transcoder is not None and self.tap is None and not self._is_muted
        self._leg.set_relay(AUDIO_HEAD, AUDIO_TAIL, self._conversation.direct_sizes if straight else NO_SIZES)

    def relay(self, message: str | bytes, now: float) -> str | None:
        """See ``Call.relay_to_agent``."""
        transcoder = self._transcoder
        if transcoder is None:
            return None
        payload = self._leg.read_audio(message, now)
        if payload is None:
            return None
        self._stats.caller_frames += 1
        self._leg.last_payload = payload
        if self.tap is not None:
            self.tap.caller(payload, now)
        if self._is_muted:
            payload = self._silence(payload)
        if not self._is_identity:
            payload = transcoder.process(payload)
        relayed = self._conversation.audio_message(payload)
        if relayed is None:
            self._conversation.send_audio(payload)
            self.sync()
            return ""
        return relayed

    def write(self, payload: bytes, now: float) -> None:
        """Caller audio by the long way."""
        self._stats.caller_frames += 1
        self._leg.last_payload = payload
        if self.tap is not None:
            self.tap.caller(payload, now)
        if self._transcoder is not None:
            heard = self._silence(payload) if self._is_muted else payload
            self._conversation.send_audio(self._transcoder.process(heard))
            self.sync()
        elif self._held is not None and self._media is not None:
            self._stats.caller_dropped_ms += self._media.duration_ms(self._held.push(payload))

    def _silence(self, payload: bytes) -> bytes:
        assert self._media is not None
        return self._media.silence(len(payload))
