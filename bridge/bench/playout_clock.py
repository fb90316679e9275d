"""The carrier's player as the caller hears it: a buffer that empties in real time.

Pure. It answers two questions: was there a gap (the buffer ran dry while the agent was talking), and when will
everything received so far have been played (for echoing marks as Twilio does).
"""

from __future__ import annotations

from bridge.bench.figures import NS_PER_MS, Window
from bridge.media.format import ULAW_8K, MediaFormat

_NS_PER_S = 1000 * NS_PER_MS

LONG_GAP_NS = 40 * NS_PER_MS
"""From here on people notice a gap."""

START_DELAY_NS = 20 * NS_PER_MS
"""The player starts one frame late, the smallest jitter buffer there is: the agent here talks exactly in real
time, so without it every microsecond of jitter would count as a gap."""


class PlayoutClock:
    """Plays what arrives. ``gaps`` counts underruns inside the window, between two flushes."""

    __slots__ = ("_bytes_per_s", "_window", "ends_ns", "gap_ns", "gaps", "long_gaps", "longest_gap_ns")

    def __init__(self, window: Window, media: MediaFormat = ULAW_8K) -> None:
        self._window = window
        self._bytes_per_s = media.rate_hz * media.bytes_per_sample
        self.ends_ns = 0
        """When all that has arrived will have been played; 0 = nothing arrived since the last flush."""
        self.gaps = 0
        self.long_gaps = 0
        """Those over 40 ms."""
        self.gap_ns = 0
        self.longest_gap_ns = 0

    def arrived(self, now_ns: int, size_bytes: int) -> None:
        """Queue ``size_bytes`` of audio."""
        if now_ns > self.ends_ns:
            if self.ends_ns and self._window.holds(now_ns):
                gap_ns = now_ns - self.ends_ns
                self.gaps += 1
                self.long_gaps += gap_ns > LONG_GAP_NS
                self.gap_ns += gap_ns
                self.longest_gap_ns = max(self.longest_gap_ns, gap_ns)
            self.ends_ns = now_ns + START_DELAY_NS
        self.ends_ns += size_bytes * _NS_PER_S // self._bytes_per_s

    def flush(self) -> None:
        """Throw away what is queued (a ``clear``); the silence that follows is no gap."""
        self.ends_ns = 0
