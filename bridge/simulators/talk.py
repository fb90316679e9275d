"""Who is talking: a plain energy detector, good enough for clean simulated lines.

Not for real lines: it has a fixed threshold and knows nothing of noise or echo.
"""

from __future__ import annotations

import enum

import numpy as np

from bridge.media.format import MediaFormat
from bridge.simulators.speech import decode

WINDOW_MS = 10
"""Length over which the level is taken."""

THRESHOLD_RMS = 500
"""Level of speech, in units of a 16-bit sample (-36 dBFS): the clips are far above, a silent line far below."""

START_MS = 60
"""A talkspurt starts when the line was loud for longer than this, dips within it counted against it."""

END_MS = 500
"""A talkspurt ends when the line was quiet for this long: longer than the pauses inside a sentence."""


class Talk(enum.Enum):
    """What the detector noticed."""

    STARTED = "started"
    ENDED = "ended"


class TalkDetector:
    """Finds talkspurts in a stream of audio, on the stream's own time."""

    def __init__(self, media: MediaFormat) -> None:
        self._media = media
        self._window_bytes = media.rate_hz * WINDOW_MS // 1000 * media.bytes_per_sample
        self._rest = b""
        self._loud_ms = 0
        self._quiet_ms = 0
        self.talking = False
        """Whether a talkspurt is going on."""

    def feed(self, payload: bytes) -> list[Talk]:
        """Take the next audio, of any length, and tell what changed in it, in order."""
        data = self._rest + payload
        whole = len(data) // self._window_bytes * self._window_bytes
        self._rest = data[whole:]
        if not whole:
            return []
        samples = np.frombuffer(decode(data[:whole], self._media), "<i2").astype(np.float32)
        windows = samples.reshape(whole // self._window_bytes, -1)
        levels = np.sqrt(np.einsum("ij,ij->i", windows, windows) / windows.shape[1])
        return [change for level in levels.tolist() if (change := self._window(level >= THRESHOLD_RMS))]

    def stop(self) -> list[Talk]:
        """Say that no more audio comes for now; ends a talkspurt."""
        was_talking, self.talking = self.talking, False
        self._loud_ms = 0
        return [Talk.ENDED] if was_talking else []

    def _window(self, loud: bool) -> Talk | None:
        if self.talking:
            self._quiet_ms = 0 if loud else self._quiet_ms + WINDOW_MS
            if self._quiet_ms >= END_MS:
                self.talking, self._loud_ms = False, 0
                return Talk.ENDED
            return None
        self._loud_ms = max(0, self._loud_ms + (WINDOW_MS if loud else -WINDOW_MS))
        if self._loud_ms > START_MS:
            self.talking, self._quiet_ms = True, 0
            return Talk.STARTED
        return None
