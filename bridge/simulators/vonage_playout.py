"""Vonage's playback buffer as the caller hears it: frames of 20 ms on its own clock, silence when it runs dry.

Source: Vonage "Play audio into a WebSocket": up to 3072 messages are buffered; ``notify`` comes back once everything
queued before it has played; ``clear`` drops the buffer. What becomes of a ``notify`` that is queued when ``clear``
comes is not documented: both are possible here.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Mapping
from typing import Any

from bridge.simulators.twilio_playout import GAP_LIMIT_MS, Gap
from bridge.simulators.vonage_wire import FRAME_MS, frame_bytes

BUFFER_MESSAGES = 3072
"""What Vonage holds: 61 s."""

LONG_GAP_MS = 40.0
"""A gap that people notice: two frames."""

MAX_INTERVALS = 200_000
"""Intervals kept between frames: more than an hour of speech."""

_ROUNDING = 1e-6
"""Part of a sample by which a clock reading may be short without losing the sample."""

Payload = Mapping[str, Any]


class Playout:
    """One socket's buffer. Time stands still until ``now`` moves on in some call."""

    def __init__(self, rate_hz: int, started_s: float, *, echo_cleared: bool = False) -> None:
        """``echo_cleared`` says whether ``clear`` sends queued notifies back."""
        self.gaps: list[Gap] = []
        self.lead_max_messages = 0
        """Most messages that were ever waiting."""
        self.played_samples = 0
        """Position of the clock, silence included."""
        self.played_messages = 0
        self.intervals_ms = array("d")
        """Between the arrivals of two frames of the same talkspurt."""
        self._rate_hz, self._frame_bytes = rate_hz, frame_bytes(rate_hz)
        self._started_s, self._echo_cleared = started_s, echo_cleared
        self._queue: deque[bytes | Payload] = deque()
        self._messages = 0
        self._offset = 0  # bytes of the first frame that have played
        self._heard = bytearray()
        self._dry_since: int | None = None  # sample at which the buffer ran dry in the midst of speech
        self._last_s = -math.inf

    @property
    def buffered_messages(self) -> int:
        """Frames waiting, the one that plays now included."""
        return self._messages

    @property
    def buffered_ms(self) -> float:
        """Audio waiting to be played."""
        return self._messages * FRAME_MS - self._ms(self._offset // 2)

    @property
    def long_gaps(self) -> int:
        """Gaps over 40 ms."""
        return sum(gap.length_ms > LONG_GAP_MS for gap in self.gaps)

    def push(self, frame: bytes, now: float) -> tuple[bool, list[Payload]]:
        """Queue a frame. Returns whether there was room, and the notifies reached by now."""
        reached = self.advance(now)
        self._note_arrival(now)
        if self._messages >= BUFFER_MESSAGES:
            return False, reached
        if self._dry_since is not None:
            length_ms = self._ms(self.played_samples - self._dry_since)
            if 0 < length_ms <= GAP_LIMIT_MS:
                self.gaps.append(Gap(self._ms(self._dry_since), length_ms))
            self._dry_since = None
        self._queue.append(frame)
        self._messages += 1
        self.lead_max_messages = max(self.lead_max_messages, self._messages)
        return True, reached

    def notify(self, payload: Payload, now: float) -> list[Payload]:
        """Queue a notify. Returns those reached by now, itself among them when nothing plays."""
        reached = self.advance(now)
        self._queue.append(payload)
        return reached + self._reached()

    def clear(self, now: float) -> tuple[float, list[Payload]]:
        """Empty the buffer. Returns the dropped audio in ms and the notifies that come back, in order."""
        reached = self.advance(now)
        dropped_ms = self.buffered_ms
        if self._echo_cleared:
            reached += [item for item in self._queue if not isinstance(item, bytes)]
        self._queue.clear()
        self._messages = self._offset = 0
        self._dry_since = None
        self._last_s = -math.inf
        return dropped_ms, reached

    def advance(self, now: float) -> list[Payload]:
        """Play up to ``now``. Returns the notifies reached."""
        reached: list[Payload] = []
        missing = 2 * (int((now - self._started_s) * self._rate_hz + _ROUNDING) - self.played_samples)
        while missing > 0 and self._messages:
            reached += self._reached()
            frame = self._queue[0]
            assert isinstance(frame, bytes)
            part = frame[self._offset : self._offset + missing]
            missing -= len(part)
            self._hear(part)
            self._offset += len(part)
            if self._offset == self._frame_bytes:
                self._queue.popleft()
                self._messages -= 1
                self.played_messages += 1
                self._offset = 0
                if not self._messages:
                    self._dry_since = self.played_samples
        if missing > 0:
            self._hear(bytes(missing))
        return reached + self._reached()

    def next_notify_s(self) -> float:
        """When the next notify will be reached; inf = none is pending."""
        frames = next((place for place, item in enumerate(self._queue) if not isinstance(item, bytes)), None)
        if frames is None:
            return math.inf
        samples = (frames * self._frame_bytes - self._offset) // 2
        return self._started_s + (self.played_samples + samples) / self._rate_hz

    def take_heard(self) -> bytes:
        """What the caller heard since the last take, L16."""
        heard, self._heard = bytes(self._heard), bytearray()
        return heard

    def _hear(self, pcm: bytes) -> None:
        self._heard += pcm
        self.played_samples += len(pcm) // 2

    def _reached(self) -> list[Payload]:
        reached: list[Payload] = []
        while self._queue and not isinstance(self._queue[0], bytes):
            item = self._queue.popleft()
            assert not isinstance(item, bytes)
            reached.append(item)
        return reached

    def _note_arrival(self, now: float) -> None:
        interval_ms = (now - self._last_s) * 1000
        if interval_ms <= GAP_LIMIT_MS and len(self.intervals_ms) < MAX_INTERVALS:
            self.intervals_ms.append(interval_ms)
        self._last_s = now

    def _ms(self, samples: int) -> float:
        return samples * 1000 / self._rate_hz
