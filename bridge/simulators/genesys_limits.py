"""The limits that Genesys Cloud sets on what a server sends, as token buckets on the time they are given.

Source: the limits ``global.inbound.binary.average.rate.per.second`` = 5 and ``global.inbound.binary.max`` = 25 and
their siblings for text (Genesys Cloud, "Audio Connector limits"), and AudioHook protocol reference, "Error codes":
a server above them gets the error 429. Pause and resume at 2/s are second-hand.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may happen."""

    per_second: float
    burst: int
    """How many at once after a long enough rest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of one session. The defaults are those of Genesys Cloud."""

    binary: Rate = Rate(5, 25)
    text: Rate = Rate(5, 25)
    pause_resume: Rate = Rate(2, 4)
    """``pause`` and ``resume`` together; they count as text too."""
    max_message_bytes: int = 64_000
    """Largest message, text or binary."""
    open_timeout_s: float = 5.0
    """From ``open`` to ``opened``."""
    pong_timeout_s: float = 5.0
    close_timeout_s: float = 10.0
    """From ``close`` to ``closed``."""


class TokenBucket:
    """Counts events against a rate."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._at_s = now
        self.least_tokens = self._tokens
        """The nearest that the events came to the limit; below 0 never."""

    def take(self, now: float) -> float:
        """Count one event. Returns 0, or how many seconds it came too early (it is then not counted)."""
        passed_s = max(now - self._at_s, 0.0)
        self._tokens = min(self._tokens + passed_s * self._rate.per_second, float(self._rate.burst))
        self._at_s = max(now, self._at_s)
        if self._tokens < 1.0 - _ROUNDING:
            return (1.0 - self._tokens) / self._rate.per_second
        self._tokens = max(self._tokens - 1.0, 0.0)
        self.least_tokens = min(self.least_tokens, self._tokens)
        return 0.0


_ROUNDING = 1e-9
"""Part of a token that floating point may lose: five times 0.2 s are a second."""
