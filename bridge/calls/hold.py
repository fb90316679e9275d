"""What a caller hears while they wait: a soft tone in a loop, or the operator's own audio.

Used while a call waits for a slot or for its agent, on hold, and while results are fetched: never silence, because a
silent line is taken for a dead one. Pure; reading the operator's file is the server's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bridge.media.format import Encoding, MediaFormat
from bridge.media.transcode import Transcoder

TONE_HZ = 425.0
"""The pitch of most countries' network tones: heard as "the line is alive", not as an alarm."""
TONE_PEAK = 0.06
"""-24 dB of full scale: clearly below speech."""
TONE_S = 0.4
PAUSE_S = 1.5
"""Less than the two seconds after which a silent line is taken for a dead one."""
FADE_S = 0.02
"""Without fades a tone begins and ends with a click."""
TONE_RATE_HZ = 8000

MAX_HOLD_S = 600
"""Longest hold audio that is kept: in the memory of every process, once per format."""


@dataclass(frozen=True, slots=True)
class HoldAudio:
    """Hold audio as the operator gave it: signed 16-bit little-endian mono."""

    pcm: bytes
    rate_hz: int


@lru_cache(maxsize=1)
def soft_tone() -> HoldAudio:
    """The tone that is played where the operator gave nothing."""
    times = np.arange(int(TONE_S * TONE_RATE_HZ)) / TONE_RATE_HZ
    envelope = np.minimum(1.0, np.minimum(times, TONE_S - times) / FADE_S)
    tone = np.sin(2 * np.pi * TONE_HZ * times) * envelope * TONE_PEAK
    pause = np.zeros(int(PAUSE_S * TONE_RATE_HZ))
    samples = np.rint(np.concatenate([tone, pause]) * 32767).astype("<i2")
    return HoldAudio(samples.tobytes(), TONE_RATE_HZ)


@lru_cache(maxsize=16)
def loop_for(media: MediaFormat, audio: HoldAudio) -> bytes:
    """The audio in this format, whole samples, ready to be repeated."""
    kept = audio.pcm[: audio.rate_hz * 2 * MAX_HOLD_S]
    return Transcoder(MediaFormat(Encoding.L16, audio.rate_hz, 1), media).process(kept)


class HoldLoop:
    """Where one call stands in the loop."""

    __slots__ = ("_loop", "_position")

    def __init__(self, media: MediaFormat, audio: HoldAudio | None) -> None:
        self._loop = loop_for(media, audio if audio is not None and audio.pcm else soft_tone())
        self._position = 0

    def take(self, size_bytes: int) -> bytes:
        """The next piece; begins again at the end."""
        parts: list[bytes] = []
        while size_bytes:
            part = self._loop[self._position : self._position + size_bytes]
            parts.append(part)
            size_bytes -= len(part)
            self._position = (self._position + len(part)) % len(self._loop)
        return b"".join(parts)
