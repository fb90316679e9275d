"""Histograms cheap enough for the media path, and the bounds of all histograms. No prometheus-client in here."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from bridge.calls.turns import OWNERS

HOP_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Our own share of a call's delay: 50 us to half a second. 3 ms and 5 ms are the product's promises."""

ROUND_TRIP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
OPERATION_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
RESPONSE_BUCKETS_S = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0)
"""A caller's wait for an answer. People answer each other in a quarter of a second; from two seconds on they ask
whether somebody is there."""
OWNER_BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.05, *RESPONSE_BUCKETS_S)
"""Of one owner of a response: our own share is milliseconds, the agent's is nearly all of it."""
CALL_BUCKETS_S = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)

JITTER_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Of a call's RTP: a wired line has a millisecond, a bad mobile one 50."""
LOSS_BUCKETS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
"""Share of packets: concealment hides 1 %, from 5 % on words are lost."""
MOS_BUCKETS = (1.5, 2.0, 2.5, 3.0, 3.2, 3.4, 3.6, 3.8, 4.0, 4.2, 4.4)
"""G.711 at its best is 4.4; under 3.6 many callers are dissatisfied, under 3.1 nearly all (ITU-T G.107, annex B)."""


class HopHistogram:
    """A histogram cheap enough for the media path: one bisection and one addition."""

    __slots__ = ("bounds_s", "counts", "total_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.total_s += seconds

    def add(self, other: HopHistogram) -> None:
        """Take over another one's counts; both have the same bounds."""
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self.total_s += other.total_s

    @property
    def count(self) -> int:
        """Durations counted."""
        return sum(self.counts)

    def quantile_s(self, share: float) -> float:
        """The bound under which this share of the durations lies; the last bound for what lies above it."""
        wanted, seen = share * self.count, 0
        for bound, count in zip(self.bounds_s, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound
        return self.bounds_s[-1]

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus' form: bucket bound -> how many at or under it."""
        out: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip([*map(str, self.bounds_s), "+Inf"], self.counts, strict=True):
            seen += count
            out.append((bound, seen))
        return out


def summed(total: HopHistogram, others: Iterable[HopHistogram]) -> HopHistogram:
    """A new histogram of all of them together."""
    counts, total_s = total.counts, total.total_s
    for other in others:  # a thousand calls at every scrape: one addition a bound, and nothing else
        counts = [have + more for have, more in zip(counts, other.counts, strict=True)]
        total_s += other.total_s
    out = HopHistogram(total.bounds_s)
    out.counts, out.total_s = list(counts), total_s
    return out


def by_owner() -> dict[str, HopHistogram]:
    """An empty histogram for each owner of a response."""
    return {owner: HopHistogram(OWNER_BUCKETS_S) for owner in OWNERS}
