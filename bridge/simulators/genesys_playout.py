"""Genesys Cloud's play buffer as the caller hears it: an 8 kHz clock, silence when it runs dry, and what it reports.

``playback_started`` is due when audio begins to play after a rest, ``playback_completed`` when all of it has played.
Source: AudioHook protocol reference, Audio Connector messages; that audio plays as soon as it comes and that the
buffer has no limit is what call logs show, no document says it.
"""

from __future__ import annotations

import enum
import math
from collections import deque

from bridge.media.format import ULAW_8K
from bridge.simulators.twilio_playout import GAP_LIMIT_MS, SILENCE, Gap

_ROUNDING = 1e-6
"""Part of a sample by which a clock reading may be short without losing the sample."""


class Playback(enum.Enum):
    """What is reported to the server; the value is the message's type."""

    STARTED = "playback_started"
    COMPLETED = "playback_completed"


class Playout:
    """The play buffer of one session: mono mu-law. Time stands still until ``now`` moves on in some call."""

    def __init__(self, started_s: float, *, completed_after_clear: bool = True) -> None:
        """``completed_after_clear`` says whether ``clear`` ends the playback with a report."""
        self.gaps: list[Gap] = []
        self.lead_max_ms = 0.0
        """Most audio that was ever waiting."""
        self.played_samples = 0
        """Position of the clock, silence included."""
        self._started_s = started_s
        self._completed_after_clear = completed_after_clear
        self._chunks: deque[bytes] = deque()
        self._queued = 0
        self._heard = bytearray()
        self._playing = False
        self._dry_since: int | None = None
        """Sample at which the buffer ran dry in the midst of speech; None = it did not."""

    @property
    def buffered_ms(self) -> float:
        """Audio waiting to be played."""
        return ULAW_8K.duration_ms(self._queued)

    def push(self, payload: bytes, now: float) -> list[Playback]:
        """Queue audio. Returns what is to be reported by now, in order."""
        reports = self.advance(now)
        if not payload:
            return reports
        if self._dry_since is not None:
            length_ms = ULAW_8K.duration_ms(self.played_samples - self._dry_since)
            if 0 < length_ms <= GAP_LIMIT_MS:
                self.gaps.append(Gap(ULAW_8K.duration_ms(self._dry_since), length_ms))
            self._dry_since = None
        self._chunks.append(payload)
        self._queued += len(payload)
        self.lead_max_ms = max(self.lead_max_ms, self.buffered_ms)
        if not self._playing:
            self._playing = True
            reports.append(Playback.STARTED)
        return reports

    def clear(self, now: float) -> tuple[float, list[Playback]]:
        """Empty the buffer. Returns the dropped audio in ms, and what is to be reported."""
        reports = self.advance(now)
        dropped_ms = self.buffered_ms
        self._chunks.clear()
        self._queued = 0
        self._dry_since = None
        if self._playing:
            self._playing = False
            if self._completed_after_clear:
                reports.append(Playback.COMPLETED)
        return dropped_ms, reports

    def advance(self, now: float) -> list[Playback]:
        """Play up to ``now``. Returns what is to be reported."""
        missing = int((now - self._started_s) * ULAW_8K.rate_hz + _ROUNDING) - self.played_samples
        while missing > 0 and self._chunks:
            chunk = self._chunks.popleft()
            if len(chunk) > missing:
                self._chunks.appendleft(chunk[missing:])
                chunk = chunk[:missing]
            self._hear(chunk)
            self._queued -= len(chunk)
            missing -= len(chunk)
            if not self._chunks:
                self._dry_since = self.played_samples
        if missing > 0:
            self._hear(SILENCE * missing)
        if self._playing and not self._chunks:
            self._playing = False
            return [Playback.COMPLETED]
        return []

    def next_report_s(self) -> float:
        """When playback will be complete; inf = nothing plays."""
        if not self._playing:
            return math.inf
        return self._started_s + (self.played_samples + self._queued) / ULAW_8K.rate_hz

    def take_heard(self, size_bytes: int) -> bytes:
        """What the caller heard since the last take: the oldest so many samples of it, fewer if there are no more."""
        taken = bytes(self._heard[:size_bytes])
        del self._heard[:size_bytes]
        return taken

    def _hear(self, audio: bytes) -> None:
        self._heard += audio
        self.played_samples += len(audio)
