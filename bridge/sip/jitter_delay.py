"""How long a jitter buffer must wait: the distribution of packets' delay, and from it the delay to play at.

Public: ``DelayEstimator``. Everything is in samples, as whole numbers.

Theory of operation. A packet's *transit* is its arrival less its timestamp, on an arbitrary scale: only differences
mean anything. The least transit of the last ``WINDOW_S`` to twice that is the *floor*: a packet that waited for
nothing. It follows clocks that drift apart, downwards at once and upwards within two windows.

Transits are counted in buckets of 10 ms above the floor. After ``FORGET`` packets all counts are halved, so that the
past fades: growing jitter is answered within a few packets (1 % of them), falling jitter after some 10 to 20 s. The
target is the bucket below which 99 % of the packets came (all, while there are fewer than 100), never under the
least nor over the greatest delay.
"""

from __future__ import annotations

BUCKET_SAMPLES = 80
"""10 ms at 8 kHz: half of what playing in whole frames of 20 ms can tell apart."""
BUCKETS = 32
"""320 ms: beyond the greatest delay (200 ms) it does not matter how much."""
LATE_PART = 100
"""One packet in so many may come too late."""
FORGET = 512
"""10 s of packets of 20 ms."""
WINDOW_S = 5.0
RECOUNT = 8
"""Packets between two looks at the counts, unless one comes later than all is set for."""


class DelayEstimator:
    """The delay of one stream."""

    __slots__ = (
        "_anchor",
        "_before",
        "_counts",
        "_current",
        "_is_settled",
        "_least",
        "_greatest",
        "_since",
        "_start",
        "_total",
        "_window",
        "_window_end",
        "target",
    )

    def __init__(self, least: int, greatest: int, start: int, rate_hz: int) -> None:
        """Bounds of the delay in samples; ``start`` is the least one until 100 packets have been seen."""
        self._least, self._greatest, self._start = least, greatest, start
        self._window = int(WINDOW_S * rate_hz)
        self.target = start
        """Delay above the floor at which 99 % of the packets come in time."""
        self.reset()

    @property
    def floor(self) -> int:
        """The least transit, rounded down to a bucket."""
        return self._anchor * BUCKET_SAMPLES

    @property
    def wanted(self) -> int:
        """The transit at which to play: floor and target."""
        return self._anchor * BUCKET_SAMPLES + self.target

    def reset(self) -> None:
        """Forget the stream; the delay that was needed is kept as the start of the next one's."""
        self._counts = [0] * BUCKETS
        self._total = 0
        self._since = 0
        self._anchor = 0
        self._is_settled = False
        self._current: int | None = None
        self._before: int | None = None
        self._window_end = 0

    def observe(self, transit: int, arrival: int) -> None:
        """A packet has come."""
        bucket = transit // BUCKET_SAMPLES
        if self._current is None:
            self._anchor, self._current, self._window_end = bucket, transit, arrival + self._window
        elif transit < self._current:
            self._current = transit
        if arrival >= self._window_end:
            self._next_window(transit, arrival)
        bucket -= self._anchor
        if bucket < 0:
            self._lower(-bucket)
            bucket = 0
        self._counts[min(bucket, BUCKETS - 1)] += 1
        self._total += 1
        self._since += 1
        if self._since >= RECOUNT or bucket * BUCKET_SAMPLES >= self.target:
            self._recount()

    # --- private ---

    def _next_window(self, transit: int, arrival: int) -> None:
        self._before, self._current = self._current, transit
        self._window_end = arrival + self._window
        assert self._before is not None  # set with the first packet
        raised = min(self._before, transit) // BUCKET_SAMPLES - self._anchor
        if raised > 0:
            self._raise(raised)

    def _lower(self, buckets: int) -> None:
        """The floor falls: every count is that much further above it."""
        self._anchor -= buckets
        self._since = RECOUNT
        kept = max(0, BUCKETS - buckets)
        beyond = sum(self._counts[kept:])
        self._counts = ([0] * min(buckets, BUCKETS) + self._counts[:kept])[:BUCKETS]
        self._counts[-1] += beyond

    def _raise(self, buckets: int) -> None:
        """The floor rises: what was below it counts as on it."""
        self._anchor += buckets
        self._since = RECOUNT
        below = sum(self._counts[:buckets])
        self._counts = (self._counts[buckets:] + [0] * buckets)[-BUCKETS:]
        self._counts[0] += below

    def _recount(self) -> None:
        self._since = 0
        if self._total >= FORGET:
            self._counts = [count >> 1 for count in self._counts]
            self._total = sum(self._counts)
            self._is_settled = True
        elif self._total >= LATE_PART:
            self._is_settled = True
        may_be_late = self._total // LATE_PART
        bucket = BUCKETS - 1
        while bucket > 0 and self._counts[bucket] <= may_be_late:
            may_be_late -= self._counts[bucket]
            bucket -= 1
        least = self._least if self._is_settled else self._start
        self.target = min(self._greatest, max(least, (bucket + 1) * BUCKET_SAMPLES))
