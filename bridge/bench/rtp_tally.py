"""What came as RTP in all calls of a round: loss, gaps, and how exactly the packets were paced. Pure.

Pacing is the distance between two packets against that of their timestamps. Times should be the kernel's, taken when
a packet arrived: a load that is busy is not a server that is late.
"""

from __future__ import annotations

from array import array

from bridge.bench.figures import NS_PER_MS, Window

LONG_GAP_NS = 60 * NS_PER_MS
"""Three packets: what jitter buffers bridge before somebody hears it."""
_SAMPLE_NS = 125_000
_HALF = 0x8000


class RtpTally:
    """Of all calls; only what falls into the window counts."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.packets = 0
        self.lost = 0
        """By sequence number."""
        self.disordered = 0
        """Packets that came twice, or after a later one."""
        self.errors_ms: array[float] = array("d")
        """Pacing errors."""
        self.answered_ms: array[float] = array("d")
        """From INVITE to its 200, of all calls, because they begin before the window."""
        self.long_gaps = 0
        """More than 60 ms between two packets."""
        self.longest_ns = 0


class RtpBook:
    """One call's books."""

    __slots__ = ("_at_ns", "_sequence", "_tally", "_timestamp")

    def __init__(self, tally: RtpTally) -> None:
        self._tally = tally
        self._sequence = -1
        self._timestamp = 0
        self._at_ns = 0

    def received(self, sequence: int, timestamp: int, at_ns: int, now_ns: int) -> bool:
        """Book a packet; ``at_ns`` is its own time, ``now_ns`` the window's clock. False: it comes too late to play."""
        tally, counts = self._tally, self._tally.window.holds(now_ns)
        if self._sequence >= 0:
            step = (sequence - self._sequence) & 0xFFFF
            if step == 0 or step >= _HALF:
                tally.disordered += counts
                return False
            if counts:
                distance_ns = at_ns - self._at_ns
                due_ns = ((timestamp - self._timestamp) & 0xFFFFFFFF) * _SAMPLE_NS
                tally.packets += 1
                tally.lost += step - 1
                tally.errors_ms.append(abs(distance_ns - due_ns) / NS_PER_MS)
                tally.long_gaps += distance_ns > LONG_GAP_NS
                tally.longest_ns = max(tally.longest_ns, distance_ns)
        self._sequence, self._timestamp, self._at_ns = sequence, timestamp, at_ns
        return True
