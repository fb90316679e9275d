"""Between a person (8 kHz mu-law, 20 ms) and a media socket (L16 at 8, 16 or 24 kHz).

So that one scripted person serves all carriers; what the caller hears of a wide-band agent is what a telephone passes.
"""

from __future__ import annotations

from bridge.media.format import FRAME_MS, ULAW_8K
from bridge.media.g711 import pcm_to_ulaw, ulaw_to_pcm
from bridge.media.resample import Resampler
from bridge.simulators.twilio_playout import SILENCE

PERSON_FRAME_BYTES = ULAW_8K.size_bytes(FRAME_MS)


class Mouth:
    """From the person to the socket."""

    def __init__(self, rate_hz: int) -> None:
        self._resampler = Resampler(ULAW_8K.rate_hz, rate_hz) if rate_hz != ULAW_8K.rate_hz else None

    def frame(self, ulaw: bytes) -> bytes:
        """20 ms of the person as the socket carries them."""
        assert len(ulaw) == PERSON_FRAME_BYTES
        pcm = ulaw_to_pcm(ulaw)
        return pcm if self._resampler is None else self._resampler.process(pcm)


class Ear:
    """From the socket to the person."""

    def __init__(self, rate_hz: int) -> None:
        self._resampler = Resampler(rate_hz, ULAW_8K.rate_hz) if rate_hz != ULAW_8K.rate_hz else None
        self._heard = bytearray()

    def feed(self, pcm: bytes) -> None:
        """What was heard since the last time, in whole samples."""
        self._heard += pcm_to_ulaw(pcm if self._resampler is None else self._resampler.process(pcm))

    def frame(self) -> bytes:
        """The next 20 ms for the person; silence where there is less."""
        frame = bytes(self._heard[:PERSON_FRAME_BYTES])
        del self._heard[:PERSON_FRAME_BYTES]
        return frame.ljust(PERSON_FRAME_BYTES, SILENCE)
