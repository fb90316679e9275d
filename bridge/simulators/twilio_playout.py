"""Twilio's play buffer as the caller hears it: an 8 kHz clock, audio and marks in order, silence when it runs dry.

Source: Twilio docs, "Media Streams - WebSocket Messages" (read 2026-11-21): media is buffered and played in the order
received; a mark comes back when everything before it has played, at once when nothing is queued, and all pending
marks come back after ``clear``.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from bridge.media.format import ULAW_8K

SILENCE = b"\xff"
"""One sample of mu-law silence."""

GAP_LIMIT_MS = 1000
"""A buffer that is empty for longer counts as the end of what the agent had to say, not as an underrun."""

_ROUNDING = 1e-6
"""Part of a sample by which a clock reading may be short without losing the sample."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The buffer ran dry although more audio of the same speech was to come."""

    at_ms: float
    """Since the start of the stream."""
    length_ms: float


class Playout:
    """One stream's play buffer. Time stands still until ``now`` moves on in some call."""

    def __init__(self, started_s: float) -> None:
        self.heard = bytearray()
        """What the caller heard from the start on, one byte per sample."""
        self.gaps: list[Gap] = []
        self.lead_max_ms = 0.0
        """Most audio that was ever waiting."""
        self._started_s = started_s
        self._chunks: deque[bytes] = deque()
        self._marks: deque[tuple[int, str]] = deque()
        self._queued = self._played = 0
        """Bytes ever queued (without the cleared ones) and played."""
        self._dry_since: int | None = None
        """Sample at which the buffer ran dry in the midst of speech; None = it did not."""

    @property
    def buffered_ms(self) -> float:
        """Audio waiting to be played."""
        return ULAW_8K.duration_ms(self._queued - self._played)

    def push(self, payload: bytes, now: float) -> list[str]:
        """Queue audio. Returns marks reached by now."""
        reached = self.advance(now)
        if payload:
            if self._dry_since is not None:
                length_ms = ULAW_8K.duration_ms(len(self.heard) - self._dry_since)
                if 0 < length_ms <= GAP_LIMIT_MS:
                    self.gaps.append(Gap(ULAW_8K.duration_ms(self._dry_since), length_ms))
                self._dry_since = None
            self._chunks.append(payload)
            self._queued += len(payload)
            self.lead_max_ms = max(self.lead_max_ms, self.buffered_ms)
        return reached

    def mark(self, name: str, now: float) -> list[str]:
        """Queue a mark. Returns marks reached by now, itself among them when nothing is queued."""
        self.advance_clock(now)
        self._marks.append((self._queued, name))
        return self._reached()

    def clear(self, now: float) -> tuple[float, list[str]]:
        """Empty the buffer. Returns the dropped audio in ms and all marks that come back, in order."""
        reached = self.advance(now)
        dropped_ms = self.buffered_ms
        self._chunks.clear()
        self._queued = self._played
        self._dry_since = None
        reached += [name for _, name in self._marks]
        self._marks.clear()
        return dropped_ms, reached

    def advance(self, now: float) -> list[str]:
        """Play up to ``now``. Returns the marks reached."""
        self.advance_clock(now)
        return self._reached()

    def next_mark_s(self) -> float:
        """When the next mark will be reached; inf = none is pending."""
        if not self._marks:
            return math.inf
        return self._started_s + (len(self.heard) + self._marks[0][0] - self._played) / ULAW_8K.rate_hz

    def advance_clock(self, now: float) -> None:
        """Play up to ``now`` and leave the marks alone."""
        missing = int((now - self._started_s) * ULAW_8K.rate_hz + _ROUNDING) - len(self.heard)
        while missing > 0 and self._chunks:
            chunk = self._chunks.popleft()
            if len(chunk) > missing:
                self._chunks.appendleft(chunk[missing:])
                chunk = chunk[:missing]
            self.heard += chunk
            self._played += len(chunk)
            missing -= len(chunk)
            if not self._chunks:
                self._dry_since = len(self.heard)
        if missing > 0:
            self.heard += SILENCE * missing

    def _reached(self) -> list[str]:
        names = []
        while self._marks and self._marks[0][0] <= self._played:
            names.append(self._marks.popleft()[1])
        return names
