"""Whether the caller talks, from the energy of live audio: cheap enough to run beside the media path.

For the timing of turns only. Nothing is decided by it: the agent's side has its own detector, and this one takes
music and loud noise for talk until it has got used to them. G.711 is not decoded: the samples over a level are
counted in the companded bytes. Pure; time is an argument.

Source: the hangover is after ITU-T P.56 (12/2011), section 6, method B (pauses up to 200 ms are part of the speech),
with room for feeding every second frame only; the companding tables are those of ``bridge.media.g711``.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import alaw_to_pcm, ulaw_to_pcm

with warnings.catch_warnings():
    # As in ``bridge.media.g711``: 3.11 and 3.12 announce that 3.13 drops the module, which is provided for.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

LEVELS_DBFS = (-44.0, -38.0, -32.0, -26.0)
"""What counts as loud, from a quiet line to a street. Speech on a phone line lies around -20 to -35 dBFS, its peaks 12
dB above, line noise around -55 to -70."""

LOUD_SHARE = 4
"""A G.711 frame is loud when one sample in so many is over the level: noise 4 dB below the level reaches 11 %, speech
at the level 30 %."""

ONSET_S = 0.055
"""Loud for so long is talk; a shorter burst is a click. Just under three frames."""

HANGOVER_S = 0.3
"""A pause up to this long does not end the talk."""

ADAPT_S = 3.0
"""So long without a frame that is clearly quiet is noise, and the level rises; speech has gaps in every second word."""
CLEARLY = 0.5
"""Of what makes a frame loud: below it a frame is clearly quiet. Keeps the level from swinging."""

_FULL_SCALE = 32768


class Vad:
    """The detector of one stream. Feed whole frames of any size, each or every second one."""

    __slots__ = (
        "_adapt_at_s",
        "_bytes_per_s",
        "_last_loud_s",
        "_least",
        "_least_frame",
        "_level",
        "_limits",
        "_onset_s",
        "_tables",
        "since_s",
        "talking",
    )

    def __init__(self, media: MediaFormat) -> None:
        self.talking = False
        self.since_s = -math.inf
        """When it began: the first loud frame's begin, or the last loud frame's end."""
        self._bytes_per_s = media.rate_hz * media.bytes_per_sample
        self._tables = None if media.encoding is Encoding.L16 else _quiet_bytes(media.encoding)
        self._limits = tuple(int(_FULL_SCALE * 10 ** (level / 20)) for level in LEVELS_DBFS)
        self._level = 0
        self._onset_s = math.inf  # begin of the first loud frame of what may become talk
        self._last_loud_s = -math.inf
        self._least = math.inf  # loudness of the quietest frame since the level was looked at
        self._least_frame = b""
        self._adapt_at_s = -math.inf  # set by the first frame

    def feed(self, payload: bytes, now: float) -> bool | None:
        """One frame that has just come: True = the caller began to talk, False = stopped, None = as before."""
        loudness = self._loudness(payload, self._level)
        if loudness < self._least:
            self._least, self._least_frame = loudness, payload
        if loudness > 1.0:
            self._last_loud_s = now
            if not self.talking:
                if self._onset_s == math.inf:
                    self._onset_s = now - len(payload) / self._bytes_per_s
                if now - self._onset_s >= ONSET_S:
                    self.talking, self.since_s = True, self._onset_s
                    return True
        else:
            self._onset_s = math.inf
            if self.talking and now - self._last_loud_s > HANGOVER_S:
                self.talking, self.since_s = False, self._last_loud_s
                return False
        if now >= self._adapt_at_s:
            self._adapt(now)
        return None

    def _loudness(self, payload: bytes, level: int) -> float:
        """Over 1 = loud at this level."""
        if self._tables is not None:
            return len(payload.translate(None, self._tables[level])) * LOUD_SHARE / (len(payload) or 1)
        if len(payload) % 2:  # peers may cut L16 within a sample
            payload = payload[:-1]
        return audioop.rms(payload, 2) / self._limits[level]

    def _adapt(self, now: float) -> None:
        """Follow the noise: up when nothing was clearly quiet, down when the quietest frame would be so there too."""
        if self._adapt_at_s != -math.inf:
            if self._least > CLEARLY:
                self._level = min(self._level + 1, len(LEVELS_DBFS) - 1)
            elif self._level and self._loudness(self._least_frame, self._level - 1) < CLEARLY:
                self._level -= 1
        self._least = math.inf
        self._adapt_at_s = now + ADAPT_S


@lru_cache(maxsize=2)
def _quiet_bytes(encoding: Encoding) -> tuple[bytes, ...]:
    """The companded bytes at or under each level of ``LEVELS_DBFS``."""
    every = bytes(range(256))
    pcm = ulaw_to_pcm(every) if encoding is Encoding.ULAW else alaw_to_pcm(every)
    samples = memoryview(pcm).cast("h")
    limits = [_FULL_SCALE * 10 ** (level / 20) for level in LEVELS_DBFS]
    return tuple(bytes(code for code in every if abs(samples[code]) <= limit) for limit in limits)
