"""The sums of a measurement: percentiles, the measuring window, and what became of the audio.

Pure: every time is an argument, in nanoseconds on one monotonic clock. Percentiles are nearest-rank, so each
is a value that really occurred.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measured quantity is spread, in milliseconds. All zero when nothing was measured."""

    count: int
    p50: float
    p99: float
    max: float


NOTHING = Spread(0, 0.0, 0.0, 0.0)
"""Of what was not measured."""


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Nearest-rank percentile of ascending values; ``fraction`` 0.99 = p99. 0.0 when there are none."""
    if not ordered:
        return 0.0
    rank = math.ceil(fraction * len(ordered))
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def spread(values: Iterable[float]) -> Spread:
    """Summarise values (any order)."""
    ordered = sorted(values)
    return Spread(
        count=len(ordered),
        p50=percentile(ordered, 0.50),
        p99=percentile(ordered, 0.99),
        max=ordered[-1] if ordered else 0.0,
    )


class Window:
    """The stretch of time that is measured; ramp, warm-up and hang-up lie outside."""

    __slots__ = ("closes_ns", "opens_ns")

    def __init__(self) -> None:
        self.opens_ns: float = math.inf
        self.closes_ns: float = math.inf

    def open(self, now_ns: int) -> None:
        """Begin to measure."""
        self.opens_ns = now_ns

    def close(self, now_ns: int) -> None:
        """Stop measuring."""
        self.closes_ns = now_ns

    def holds(self, at_ns: int) -> bool:
        """Whether this moment is measured."""
        return self.opens_ns <= at_ns < self.closes_ns


class LatencyLog:
    """Latencies of what was sent inside the window; all calls of a run share one log per direction."""

    __slots__ = ("values_ms", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.values_ms = array("d")

    def note(self, sent_ns: int, arrived_ns: int, extra_ms: float = 0.0) -> None:
        """Log one latency; ``extra_ms`` is delay inside the signal that arrival times do not show."""
        window = self.window
        if window.opens_ns <= sent_ns < window.closes_ns:
            self.values_ms.append((arrived_ns - sent_ns) / NS_PER_MS + extra_ms)


@dataclass(slots=True)
class PathTally:
    """What became of the audio of one direction. Everything but ``sent_ms``, ``received_ms`` and
    ``discarded_ms`` is zero when the server works as it should.
    """

    sent_ms: float = 0.0
    received_ms: float = 0.0
    lost_ms: float = 0.0
    """Audio that was sent and never came, other than by barge-in."""
    lost_markers: int = 0
    """Conversion mode only: bursts that never came, other than by barge-in."""
    discarded_ms: float = 0.0
    """Agent audio dropped because it was interrupted: rightly not delivered."""
    duplicated: int = 0
    """Frames (conversion mode: bursts) that came again."""
    reordered: int = 0
    """Frames that came after a later one."""
    corrupt: int = 0
    """Frames whose bytes were changed on the way."""
    crosstalk: int = 0
    """Frames of another call."""
    foreign_bytes: int = 0
    """Bytes that nobody sent, other than silence."""
    inserted_silence_bytes: int = 0
    """Silence that nobody sent (filling of an underrun, padding)."""
    stale_bytes: int = 0
    """Audio of an interrupted turn that came after its ``clear``."""
    early_ms: float = 0.0
    """Audio of the next turn that came before the ``clear``: the carrier would have thrown it away."""

    def add(self, other: PathTally) -> None:
        """Sum another call's tally into this one."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def is_clean(self) -> bool:
        """Whether all audio came once, in order, unchanged, and nothing else came."""
        expected = {"sent_ms", "received_ms", "discarded_ms"}
        return not any(getattr(self, item.name) for item in fields(self) if item.name not in expected)
