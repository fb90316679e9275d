"""What is played when a frame of G.711 is missing: the voice goes on for a moment, and fades.

Public: ``Concealer``. What it is not: a decision that a frame is missing (``jitter``), or comfort noise.

Theory of operation, after the idea of ITU-T G.711 Appendix I (09/99): the pitch of the last good audio is found by
correlation (5 to 15 ms), and its last period is repeated; the seam is smoothed by blending a quarter period of the
audio that came before. The first 10 ms keep their loudness; then it falls by a fifth each 10 ms, so that after 60 ms
there is silence. The first good frame afterwards is blended in over 5 ms. While nothing is lost, a frame passes as it
is, the same object, and only a reference to it is kept: the cost is paid by lost frames only.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from bridge.media.format import FRAME_MS, Encoding, MediaFormat
from bridge.sip.g711_frames import Samples, decode, encode

RATE_HZ = 8000
FRAME = RATE_HZ * FRAME_MS // 1000
HISTORY_FRAMES = 3
"""60 ms: the correlation looks at 20 ms and 15 ms before it."""
SHORTEST_PITCH = 40
"""200 Hz at 8 kHz; higher voices repeat two periods."""
LONGEST_PITCH = 120
"""66 Hz."""
CORRELATED = 160
"""20 ms are compared."""
HOLD_SAMPLES = 80
"""10 ms at full loudness."""
FADE_SAMPLES = 400
"""50 ms from full loudness to silence: a fifth each 10 ms."""
MERGE_SAMPLES = 40
"""5 ms, over which good audio replaces what was made up."""


class Concealer:
    """Covers the losses of one stream. Give it every frame of 20 ms that is played (``good``)."""

    __slots__ = ("_encoding", "_history", "_made", "_pattern", "_silence")

    def __init__(self, encoding: Encoding) -> None:
        """``encoding`` is ULAW or ALAW."""
        self._encoding = encoding
        self._history: deque[bytes] = deque(maxlen=HISTORY_FRAMES)
        self._pattern: Samples | None = None
        self._made = 0  # samples made up since the last good frame
        self._silence = MediaFormat(encoding, RATE_HZ).silence(FRAME)

    @property
    def is_concealing(self) -> bool:
        """Whether the last frame was made up."""
        return self._made > 0

    def good(self, frame: bytes) -> bytes:
        """A frame that came: returns what to play, nearly always the very same object."""
        self._history.append(frame)
        if not self._made:
            return frame
        return self._merged(frame)

    def conceal(self) -> bytes:
        """A frame is missing: returns 160 bytes in its place; silence after 60 ms, or when nothing was there before."""
        if self._made >= HOLD_SAMPLES + FADE_SAMPLES or not self._history:
            return self._silence
        frame = encode(self._continued(FRAME), self._encoding)
        self._made += FRAME
        return frame

    def pause(self) -> None:
        """The stream has paused or is noise: forget it, so that the next talkspurt is taken as it is."""
        self._history.clear()
        self._pattern = None
        self._made = 0

    # --- private ---

    def _continued(self, count: int) -> Samples:
        """The next samples of the repeated period, faded."""
        if self._pattern is None:
            self._pattern = _period(decode(b"".join(self._history), self._encoding))
        positions = np.arange(self._made, self._made + count)
        loudness = np.clip(1 - (positions - HOLD_SAMPLES) / FADE_SAMPLES, 0, 1).astype(np.float32)
        return self._pattern[positions % len(self._pattern)] * loudness

    def _merged(self, frame: bytes) -> bytes:
        count = min(MERGE_SAMPLES, len(frame))
        made = self._continued(count)
        rise = ((np.arange(count) + 0.5) / count).astype(np.float32)
        head = decode(frame[:count], self._encoding)
        self._pattern = None
        self._made = 0
        return encode(made + (head - made) * rise, self._encoding) + frame[count:]


def _period(history: Samples) -> Samples:
    """The last period of the history, ready to be repeated after it."""
    if len(history) < CORRELATED + LONGEST_PITCH:
        return history[-FRAME:]
    pitch = _pitch(history)
    period = history[-pitch:].copy()
    # What is repeated ends where the period began: lead its end over into the audio before its beginning.
    seam = pitch // 4
    rise = ((np.arange(seam) + 0.5) / seam).astype(np.float32)
    before = history[-pitch - seam : -pitch]
    period[-seam:] += (before - period[-seam:]) * rise
    return period


def _pitch(history: Samples) -> int:
    """The lag in samples at which the last 20 ms are most like what came before them."""
    recent = history[-CORRELATED:]
    span = history[-CORRELATED - LONGEST_PITCH : -SHORTEST_PITCH]
    products = np.correlate(span, recent, "valid")  # [k] is the lag LONGEST_PITCH - k
    energies = np.convolve(span * span, np.ones(CORRELATED, np.float32), "valid")
    likeness = products / np.sqrt(np.maximum(energies, 1.0))
    return LONGEST_PITCH - int(np.argmax(likeness))
