"""Every metric of the bridge, in one class. Durations are in seconds; labels come from closed lists.

The media path does not touch prometheus-client: an ``observe`` there costs microseconds. It raises plain
integers (``HopHistogram``, ``CallStats``), and a collector turns them into samples when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.calls.stats import CallStats
from bridge.calls.turns import OWNERS, TurnMeter
from bridge.outcome import EndReason
from bridge.server.tallies import Tally

HOP_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Our own share of a call's delay: 50 us to half a second. 3 ms and 5 ms are the product's promises."""

ROUND_TRIP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
OPERATION_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
RESPONSE_BUCKETS_S = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0)
"""A caller's wait for an answer. People answer each other in a quarter of a second; from two seconds on they ask
whether somebody is there."""
CALL_BUCKETS_S = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


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


_SUMMED: tuple[tuple[str, str, Callable[[CallStats], float]], ...] = (
    ("bridge_caller_frames", "Audio messages from carriers.", lambda s: s.caller_frames),
    ("bridge_agent_frames", "20 ms frames of agent audio sent to carriers.", lambda s: s.agent_frames),
    (
        "bridge_caller_dropped_seconds",
        "Caller audio too old while agents connected.",
        lambda s: s.caller_dropped_ms / 1e3,
    ),
    (
        "bridge_upload_dropped_bytes",
        "Caller audio too old while agents' sockets stuck.",
        lambda s: s.upload_dropped_bytes,
    ),
    (
        "bridge_agent_dropped_seconds",
        "Agent audio that did not fit into the queue.",
        lambda s: s.agent_dropped_ms / 1e3,
    ),
    ("bridge_agent_flushed_seconds", "Agent audio thrown away by interruptions.", lambda s: s.agent_flushed_ms / 1e3),
    ("bridge_stale_audio_bytes", "Agent audio that came after its interruption.", lambda s: s.stale_audio_bytes),
    ("bridge_playout_gaps", "Times a carrier ran dry in the middle of an answer.", lambda s: s.gaps),
    ("bridge_interruptions", "Callers talking over the agent.", lambda s: s.interruptions),
    ("bridge_clears", "Interruptions that emptied a carrier's buffer.", lambda s: s.clears),
    ("bridge_agent_unknown_messages", "Agent messages of unknown types.", lambda s: s.unknown_messages),
    ("bridge_agent_malformed_messages", "Broken agent messages.", lambda s: s.malformed_messages),
)


_OWNER_BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.05, *RESPONSE_BUCKETS_S)
"""Of one owner of a response: our own share is milliseconds, the agent's is nearly all of it."""


class LiveCounters(Protocol):
    """A call in progress, as far as it is counted."""

    def current_stats(self) -> CallStats:
        """The counters as they stand now."""

    @property
    def caller_to_agent(self) -> HopHistogram:
        """Carrier's message in -> agent's message out."""

    @property
    def agent_to_caller(self) -> HopHistogram:
        """Agent's message in -> first audio of it out."""


def _sum(total: HopHistogram, others: Iterable[HopHistogram]) -> HopHistogram:
    summed = HopHistogram(total.bounds_s)
    summed.add(total)
    for other in others:
        summed.add(other)
    return summed


class Metrics(Collector):
    """All metrics of one process, in a registry of their own."""

    def __init__(self, live: Callable[[], Iterable[LiveCounters]]) -> None:
        """``live`` gives the calls in progress, for the moment of a scrape."""
        self._live = live
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        """Further samples, from the parts that count for themselves."""
        self._ended_totals = dict.fromkeys((name for name, _, _ in _SUMMED), 0.0)
        self.caller_to_agent = HopHistogram(HOP_BUCKETS_S)
        """Carrier's message in -> agent's message out, of ended calls."""
        self.agent_to_caller = HopHistogram(HOP_BUCKETS_S)
        """Agent's message in -> first audio of it out, of ended calls; audio that must wait for its time is not
        counted."""
        self.interruption_to_clear = HopHistogram(HOP_BUCKETS_S)
        """Interruption in -> ``clear`` out."""
        self.agent_round_trip = HopHistogram(ROUND_TRIP_BUCKETS_S)
        """The agent side's own estimate, from its pings."""
        self._dtmf_in = 0  # of ended calls
        self._make_turns()
        self._make_tallies()
        self.registry = CollectorRegistry()
        registry = self.registry
        self.calls_active = Gauge("bridge_calls_active", "Calls in progress.", ["provider"], registry=registry)
        self.calls_started = Counter(
            "bridge_calls_started",
            "Calls let in; burst ones are those above the workspace's limit.",
            ["provider", "burst"],
            registry=registry,
        )
        self.calls_ended = Counter(
            "bridge_calls_ended",
            "Calls ended, refused ones included.",
            ["provider", "result", "reason"],
            registry=registry,
        )
        self.call_duration = Histogram(
            "bridge_call_duration_seconds",
            "Calls that were let in.",
            ["provider"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.agent_connect = Histogram(
            "bridge_agent_connect_seconds",
            "Let in -> agent ready: signed URL, connection, metadata.",
            buckets=OPERATION_BUCKETS_S,
            registry=registry,
        )
        self.control_seconds = Histogram(
            "bridge_control_seconds",
            "Requests to carriers' control interfaces, until their answer.",
            ["provider", "action"],
            buckets=OPERATION_BUCKETS_S,
            registry=registry,
        )
        self.refused = Counter(
            "bridge_refused_requests",
            "Requests refused for want of a genuine signature or key.",
            ["entrance"],
            registry=registry,
        )
        self.max_calls = Gauge("bridge_max_calls", "Calls this process may carry.", registry=registry)
        self.ready = Gauge("bridge_ready", "1 while new calls are taken.", registry=registry)
        info = Gauge("bridge_info", "Always 1; the version is the label.", ["version"], registry=registry)
        info.labels(__version__).set(1)
        registry.register(self)

    def _make_turns(self) -> None:
        """What is known of turns, of ended calls."""
        self.turn_response = HopHistogram(RESPONSE_BUCKETS_S)
        """End of the caller's speech -> first audio of the answer handed to the carrier."""
        self.turn_owners = {owner: HopHistogram(_OWNER_BUCKETS_S) for owner in OWNERS}
        """The same time, by whose it was."""
        self.agent_silence = HopHistogram(RESPONSE_BUCKETS_S)
        """What an agent let pass after each turn of the caller, answered or not."""

    def _make_tallies(self) -> None:
        """Counters by label."""
        self.turn_interruptions = Tally(
            "bridge_turn_interruptions", "Callers talking over the agent, in ended calls.", ("provider",)
        )
        self.tool_calls = Tally("bridge_tool_calls", "Client tools that agents called.", ("tool", "outcome"))
        self.transfers = Tally("bridge_transfers", "Callers handed on, or not.", ("kind", "outcome"))
        self.agent_reconnects = Tally(
            "bridge_agent_reconnects",
            "Connections to agents that broke within a call, and how it went on.",
            ("outcome",),
        )
        self.dtmf = Tally("bridge_dtmf", "Keys pressed by callers (in) and for agents (out).", ("direction",))
        """``in`` is taken from the calls' own counters; count ``out`` here."""
        self.digits_lost = Tally("bridge_digits_lost", "Keys of callers that could not be passed on.")
        self.control_requests = Tally(
            "bridge_control_requests", "Requests to carriers' control interfaces.", ("provider", "action", "outcome")
        )
        self.outbound_calls = Tally("bridge_outbound_calls", "Calls placed, or not.", ("provider", "outcome"))
        self._tallies = (
            self.turn_interruptions,
            self.tool_calls,
            self.transfers,
            self.agent_reconnects,
            self.digits_lost,
            self.control_requests,
            self.outbound_calls,
        )

    def call_ended(
        self,
        provider: str,
        reason: EndReason,
        stats: CallStats,
        caller_to_agent: HopHistogram,
        agent_to_caller: HopHistogram,
    ) -> None:
        """Count a call's end and take over its counters."""
        self.calls_ended.labels(provider, reason.result.value, reason.reason).inc()
        self.caller_to_agent.add(caller_to_agent)
        self.agent_to_caller.add(agent_to_caller)
        self._dtmf_in += stats.dtmf
        for name, _, read in _SUMMED:
            self._ended_totals[name] += read(stats)

    def turns_over(self, provider: str, meter: TurnMeter) -> None:
        """Take over the turns of a call that has ended; once per call."""
        if meter.interruptions:
            self.turn_interruptions.labels(provider).inc(meter.interruptions)
        for turn in meter.turns:
            self.agent_silence.observe(turn.silence_ms / 1000)
            if turn.response_ms is not None:
                self.turn_response.observe(turn.response_ms / 1000)
            for owner, spent_ms in turn.owners.items():
                self.turn_owners[owner].observe(spent_ms / 1000)

    def collect(self) -> Iterator[Metric]:
        """prometheus-client: the samples that are kept as plain numbers."""
        live = list(self._live())
        live_stats = [each.current_stats() for each in live]
        for name, text, read in _SUMMED:
            total = self._ended_totals[name] + sum(read(stats) for stats in live_stats)
            yield CounterMetricFamily(name, text, value=total)
        dtmf = self.dtmf.family()
        dtmf.add_metric(["in"], self._dtmf_in + sum(stats.dtmf for stats in live_stats))
        yield dtmf
        for tally in self._tallies:
            yield tally.family()
        yield from self._turn_families()
        hops = HistogramMetricFamily(
            "bridge_hop_latency_seconds", "The bridge's own share of the delay.", labels=["hop"]
        )
        for hop, histogram in (
            ("caller_to_agent", _sum(self.caller_to_agent, (each.caller_to_agent for each in live))),
            ("agent_to_caller", _sum(self.agent_to_caller, (each.agent_to_caller for each in live))),
            ("interruption_to_clear", self.interruption_to_clear),
        ):
            hops.add_metric([hop], histogram.cumulative(), histogram.total_s)
        yield hops
        yield HistogramMetricFamily(
            "bridge_agent_round_trip_seconds",
            "Round trip to the agent's side, as it estimates it.",
            buckets=self.agent_round_trip.cumulative(),
            sum_value=self.agent_round_trip.total_s,
        )
        for source in self.sources:
            yield from source()

    def _turn_families(self) -> Iterator[Metric]:
        for name, text, histogram in (
            ("bridge_turn_response_seconds", "End of speech -> first audio of the answer out.", self.turn_response),
            ("bridge_agent_silence_seconds", "What agents let pass after each turn.", self.agent_silence),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total_s)
        owners = HistogramMetricFamily("bridge_turn_owner_seconds", "Responses by whose time it was.", labels=["owner"])
        for owner, histogram in self.turn_owners.items():
            owners.add_metric([owner], histogram.cumulative(), histogram.total_s)
        yield owners

    def render(self) -> bytes:
        """The text that ``/metrics`` answers."""
        return generate_latest(self.registry)
