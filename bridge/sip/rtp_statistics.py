"""What is known of one incoming RTP stream: sequence numbers, loss, interarrival jitter.

Public: ``StreamStatistics``, ``Place``.

Source: RFC 3550 section 6.4.1 (fields of a reception report), appendix A.1 (sequence numbers), A.3 (loss), A.8
(jitter). Beyond it: duplicates are told apart, by a window of the latest ``WINDOW`` numbers, and the loss figure does
not count them as received; in A.3 a doubled packet hides a lost one.
"""

from __future__ import annotations

import enum

from bridge.sip.rtp import SEQUENCE_MASK, TIMESTAMP_MASK

MAX_DROPOUT = 3000
"""A jump forward by less is loss (A.1); by more, the sender may have begun anew."""
MAX_MISORDER = 100
"""A step back by less is reordering (A.1)."""
WINDOW = 128
"""Numbers remembered to find duplicates: more than ``MAX_MISORDER``."""
_MODULO = SEQUENCE_MASK + 1
_WINDOW_MASK = (1 << WINDOW) - 1
_MAX_CUMULATIVE = 0x7FFFFF
_MIN_CUMULATIVE = -0x800000
_JITTER_GAIN = 16


class Place(enum.Enum):
    """Where a packet stands in its stream."""

    NEW = "new"
    """Further than any before."""
    REORDERED = "reordered"
    """Not seen before, behind the furthest."""
    DUPLICATE = "duplicate"
    """Seen before."""
    JUMP = "jump"
    """Far off; the next in order after it shows whether the sender has begun anew."""
    RESTART = "restart"
    """The sender has begun anew: what was known of the stream no longer holds."""


class StreamStatistics:
    """The figures of one SSRC."""

    __slots__ = (
        "_bad_sequence",
        "_base",
        "_clock_hz",
        "_expected_before",
        "_jitter",
        "_last_transit",
        "_received_before",
        "_seen",
        "cycles",
        "duplicates",
        "highest",
        "past_expected",
        "past_received",
        "received",
        "reordered",
    )

    def __init__(self, sequence: int, clock_hz: int = 8000) -> None:
        """``sequence`` is that of the first packet, which counts as received."""
        self._clock_hz = clock_hz
        self.past_expected = 0
        """What was expected before the sender began anew."""
        self.past_received = 0
        """What came before that."""
        self.duplicates = 0
        """Packets that came once more."""
        self.reordered = 0
        """Packets that came after a later one."""
        self._jitter = 0.0
        self._last_transit: int | None = None
        self.highest = sequence
        """The furthest sequence number, 16 bits."""
        self.cycles = 0
        """65536 times the number of wraps."""
        self.received = 1
        """Packets that came, without duplicates."""
        self._base = sequence
        self._seen = 1
        self._bad_sequence: int | None = None
        self._expected_before = 0
        self._received_before = 0

    @property
    def extended_highest(self) -> int:
        """The highest sequence number, with the number of wraps in the upper 16 bits."""
        return self.cycles + self.highest

    @property
    def expected(self) -> int:
        """Packets that should have come since the stream began."""
        return self.extended_highest - self._base + 1

    @property
    def lost(self) -> int:
        """Packets that have not come; those on their way late count until they come."""
        return max(0, self.expected - self.received)

    @property
    def cumulative_lost(self) -> int:
        """As it stands in a report: 24 bits, signed."""
        return max(_MIN_CUMULATIVE, min(_MAX_CUMULATIVE, self.expected - self.received))

    @property
    def jitter(self) -> int:
        """Interarrival jitter as it stands in a report, in samples."""
        return int(self._jitter)

    @property
    def jitter_ms(self) -> float:
        """The same in milliseconds."""
        return self._jitter * 1000 / self._clock_hz

    def is_near(self, sequence: int) -> bool:
        """Whether a number fits the stream, so that ``place`` would neither see a jump nor begin anew."""
        delta = (sequence - self.highest) & SEQUENCE_MASK
        return delta < MAX_DROPOUT or delta > _MODULO - MAX_MISORDER

    def place(self, sequence: int) -> Place:
        """Take the next packet's number into account (A.1)."""
        delta = (sequence - self.highest) & SEQUENCE_MASK
        if 0 < delta < MAX_DROPOUT:
            self._seen = (self._seen << delta | 1) & _WINDOW_MASK
            if sequence < self.highest:
                self.cycles += _MODULO
            self.highest = sequence
            self.received += 1
            return Place.NEW
        if delta == 0 or delta > _MODULO - MAX_MISORDER:
            return self._behind((_MODULO - delta) & SEQUENCE_MASK)
        if sequence != self._bad_sequence:
            self._bad_sequence = (sequence + 1) & SEQUENCE_MASK
            return Place.JUMP
        self.past_expected += self.expected
        self.past_received += self.received
        self._begin(sequence)
        self._last_transit = None
        return Place.RESTART

    def arrived(self, timestamp: int, now: float) -> None:
        """Take the arrival of an audio packet into account (A.8); ``now`` in seconds on any steady clock.

        Not for telephone-events, whose timestamps stand still.
        """
        transit = (int(now * self._clock_hz) - timestamp) & TIMESTAMP_MASK
        if self._last_transit is not None:
            difference = (transit - self._last_transit) & TIMESTAMP_MASK
            if difference > TIMESTAMP_MASK // 2:
                difference = TIMESTAMP_MASK + 1 - difference
            if difference <= self._clock_hz:  # further is a jump of the sender's clock, which is no jitter
                self._jitter += (difference - self._jitter) / _JITTER_GAIN
        self._last_transit = transit

    def take_fraction_lost(self) -> int:
        """Loss since the last call as it stands in a report: 256ths, 0-255 (A.3)."""
        expected, received = self.expected, self.received
        expected_since = expected - self._expected_before
        lost_since = expected_since - (received - self._received_before)
        self._expected_before, self._received_before = expected, received
        if expected_since <= 0 or lost_since <= 0:
            return 0
        return min(255, (lost_since << 8) // expected_since)

    # --- private ---

    def _begin(self, sequence: int) -> None:
        self._base = self.highest = sequence
        self.cycles = 0
        self.received = self._seen = 1
        self._bad_sequence = None
        self._expected_before = self._received_before = 0

    def _behind(self, distance: int) -> Place:
        """A packet that is ``distance`` numbers behind the furthest (0 = the furthest itself)."""
        bit = 1 << distance
        if self._seen & bit:
            self.duplicates += 1
            return Place.DUPLICATE
        self._seen |= bit
        self.received += 1
        self.reordered += 1
        return Place.REORDERED
