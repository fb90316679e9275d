"""What a leg of the simulated Twilio cloud can be connected to, and how sounds are mixed: mu-law, 20 ms at a time.

Good enough to tell by tone detection who hears whom; no jitter, no echo, no level control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.media.g711 import pcm_to_ulaw, ulaw_to_pcm
from bridge.media.tones import dtmf, tone
from bridge.simulators.twilio_playout import SILENCE

FRAME_BYTES: Final = ULAW_8K.size_bytes(FRAME_MS)
SILENT_FRAME: Final = SILENCE * FRAME_BYTES

SAY_HZ, RING_HZ, MUSIC_HZ, BEEP_HZ = 320.0, (440.0, 480.0), 660.0, 1400.0
"""What <Say>, ringing, waiting music and a conference's beep sound like: one pitch each, so that tests can tell."""

_LEVEL = 6000
_RING_MS, _RING_PAUSE_MS, _MUSIC_MS, _BEEP_MS = 2000, 4000, 1000, 200


class Speaker(Protocol):
    """Somebody who says something."""

    out: bytes
    """What is said in this frame."""


class Media(Protocol):
    """What one leg is connected to."""

    @property
    def joined(self) -> bool:
        """Whether another person is there."""

    def hear(self, now: float) -> bytes:
        """The next frame for the leg's ear; called once every 20 ms, after everybody said theirs."""

    def key(self, digit: str) -> bool:
        """The leg's person pressed a key. True where it is taken out of band, without a tone."""


class Quiet:
    """Nothing at all."""

    joined = False

    def hear(self, now: float) -> bytes:
        """Silence."""
        return SILENT_FRAME

    def key(self, digit: str) -> bool:
        """Lost."""
        return False


class Player(Quiet):
    """Plays a piece of audio, once or for ever."""

    def __init__(self, audio: bytes, *, forever: bool = False) -> None:
        self.done = asyncio.Event()
        self._audio, self._at, self._forever = audio, 0, forever

    def hear(self, now: float) -> bytes:
        """The next frame of it."""
        frame = self._audio[self._at : self._at + FRAME_BYTES]
        self._at += FRAME_BYTES
        if self._at >= len(self._audio):
            self._at = 0
            if not self._forever:
                self._audio = b""
                self.done.set()
        return frame.ljust(FRAME_BYTES, SILENCE)


class Bridged(Quiet):
    """Hears one other person."""

    joined = True

    def __init__(self, other: Speaker) -> None:
        self._other = other

    def hear(self, now: float) -> bytes:
        """What they say."""
        return self._other.out


QUIET: Final[Media] = Quiet()


def ulaw_tone(frequencies_hz: Sequence[float], duration_ms: float, level: int = _LEVEL) -> bytes:
    """A sum of sines as mu-law."""
    return pcm_to_ulaw(tone(tuple(frequencies_hz), duration_ms, ULAW_8K.rate_hz, level))


def key_tones(digits: str) -> bytes:
    """Keys and pauses as they sound, mu-law."""
    return pcm_to_ulaw(dtmf(digits, ULAW_8K.rate_hz))


def ringback() -> Player:
    """What a caller hears while somebody's telephone rings."""
    return Player(ulaw_tone(RING_HZ, _RING_MS) + SILENCE * ULAW_8K.size_bytes(_RING_PAUSE_MS), forever=True)


def music() -> Player:
    """What somebody hears who waits for a conference to begin."""
    return Player(ulaw_tone((MUSIC_HZ,), _MUSIC_MS), forever=True)


def beep() -> bytes:
    """A conference's beep."""
    return ulaw_tone((BEEP_HZ,), _BEEP_MS)


def mix(frames: Sequence[bytes]) -> bytes:
    """Several frames of 20 ms as one."""
    audible = [frame for frame in frames if frame != SILENT_FRAME]
    if len(audible) <= 1:
        return audible[0] if audible else SILENT_FRAME
    total = np.zeros(FRAME_BYTES, np.int32)
    for frame in audible:
        total += np.frombuffer(ulaw_to_pcm(frame), "<i2")
    return pcm_to_ulaw(total.clip(-32768, 32767).astype("<i2").tobytes())
