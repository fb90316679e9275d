"""What the demo sees of its call from inside the bridge: exact latencies, steps, states, the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from bridge.outcome import EndReason
from bridge.server.metrics import HOP_BUCKETS_S, HopHistogram
from bridge.server.service import Bridge
from bridge.server.session import Session


class KeptHistogram(HopHistogram):
    """A histogram that keeps every value, for exact percentiles of one short call."""

    __slots__ = ("values_s",)

    def __init__(self) -> None:
        super().__init__(HOP_BUCKETS_S)
        self.values_s: list[float] = []

    def observe(self, seconds: float) -> None:
        """Count and keep one duration."""
        super().observe(seconds)
        self.values_s.append(seconds)


@dataclass(slots=True)
class Watch:
    """What the demo sees of the call from inside the bridge."""

    caller_to_agent: KeptHistogram = field(default_factory=KeptHistogram)
    agent_to_caller: KeptHistogram = field(default_factory=KeptHistogram)
    clear: KeptHistogram = field(default_factory=KeptHistogram)
    notes: list[tuple[float, str, str]] = field(default_factory=list)
    """Time in seconds since the call's socket opened, event, detail."""
    session: Session | None = None
    reason: EndReason | None = None

    def attach(self, bridge: Bridge) -> None:
        """Watch this bridge."""
        bridge.observer = self
        hops = iter((self.caller_to_agent, self.agent_to_caller))  # of the one call, in the order of ``CallFacts``
        bridge.new_hop = lambda: next(hops, KeptHistogram())
        bridge.metrics.interruption_to_clear = self.clear

    def noted(self, session: Session, event: str, detail: str) -> None:
        """See ``Observer``."""
        self.notes.append((monotonic() - session.started_s, event, detail))

    def call_over(self, session: Session, reason: EndReason) -> None:
        """See ``Observer``."""
        self.session, self.reason = session, reason
