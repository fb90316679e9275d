"""What is counted of calls, in one class. Durations are in seconds; labels come from closed lists.

Names, types and meanings are in ``bridge.server.metric_catalogue``; what the SIP side counts is in ``metrics_sip``,
what other parts count for themselves in ``samples``. The media path does not touch prometheus-client: an ``observe``
there costs microseconds. It raises plain integers (``HopHistogram``, ``CallStats``), and a collector turns them into
samples when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.calls.stats import CallStats
from bridge.calls.turns import TurnMeter
from bridge.outcome import EndReason
from bridge.server.histograms import (
    CALL_BUCKETS_S,
    HOP_BUCKETS_S,
    OPERATION_BUCKETS_S,
    RESPONSE_BUCKETS_S,
    ROUND_TRIP_BUCKETS_S,
    HopHistogram,
    by_owner,
    summed,
)
from bridge.server.metric_catalogue import CATALOGUE, histogram, one
from bridge.server.metrics_sip import SipMetrics
from bridge.server.tallies import Tally, tally

__all__ = ["HOP_BUCKETS_S", "HopHistogram", "LiveCounters", "Metrics"]

_SUMMED: dict[str, Callable[[CallStats], float]] = {
    "bridge_caller_frames_total": lambda s: s.caller_frames,
    "bridge_agent_frames_total": lambda s: s.agent_frames,
    "bridge_caller_dropped_seconds_total": lambda s: s.caller_dropped_ms / 1e3,
    "bridge_upload_dropped_bytes_total": lambda s: s.upload_dropped_bytes,
    "bridge_agent_dropped_seconds_total": lambda s: s.agent_dropped_ms / 1e3,
    "bridge_agent_flushed_seconds_total": lambda s: s.agent_flushed_ms / 1e3,
    "bridge_stale_audio_bytes_total": lambda s: s.stale_audio_bytes,
    "bridge_playout_gaps_total": lambda s: s.gaps,
    "bridge_interruptions_total": lambda s: s.interruptions,
    "bridge_clears_total": lambda s: s.clears,
    "bridge_agent_unknown_messages_total": lambda s: s.unknown_messages,
    "bridge_agent_malformed_messages_total": lambda s: s.malformed_messages,
}
"""Counters that calls keep for themselves: live and ended ones are added up."""


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


class Metrics(Collector):
    """All metrics of one process, in a registry of their own."""

    def __init__(self, live: Callable[[], Iterable[LiveCounters]]) -> None:
        """``live`` gives the calls in progress, for the moment of a scrape."""
        self._live = live
        self.sip = SipMetrics()
        """What the SIP side counts; add it to ``sources`` where there are trunks."""
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        """Further samples, from the parts that count for themselves."""
        self._ended_totals = dict.fromkeys(_SUMMED, 0.0)
        self._dtmf_in = 0  # of ended calls
        self.registry = CollectorRegistry()
        self._make_calls()
        self._make_operations()
        self._make_hops()
        self._make_turns()
        self._make_tallies()
        self._gauge("bridge_info").labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def _gauge(self, name: str) -> Gauge:
        spec = CATALOGUE[name]
        return Gauge(name, spec.text, spec.labels, registry=self.registry)

    def _counter(self, name: str) -> Counter:
        spec = CATALOGUE[name]
        return Counter(name, spec.text, spec.labels, registry=self.registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        spec = CATALOGUE[name]
        return Histogram(name, spec.text, spec.labels, buckets=buckets, registry=self.registry)

    def _make_calls(self) -> None:
        self.calls_active = self._gauge("bridge_calls_active")
        self.calls_started = self._counter("bridge_calls_started_total")
        self.calls_ended = self._counter("bridge_calls_ended_total")
        self.call_duration = self._histogram("bridge_call_duration_seconds", CALL_BUCKETS_S)
        self.refused = self._counter("bridge_refused_requests_total")
        self.max_calls = self._gauge("bridge_max_calls")
        self.ready = self._gauge("bridge_ready")

    def _make_operations(self) -> None:
        """What takes a while, and happens a few times a call."""
        self.agent_connect = self._histogram("bridge_agent_connect_seconds", OPERATION_BUCKETS_S)
        self.control_seconds = self._histogram("bridge_control_seconds", OPERATION_BUCKETS_S)
        self.personalization_seconds = self._histogram("bridge_personalization_seconds", OPERATION_BUCKETS_S)

    def _make_hops(self) -> None:
        self.caller_to_agent = HopHistogram(HOP_BUCKETS_S)
        """Carrier's message in -> agent's message out, of ended calls."""
        self.agent_to_caller = HopHistogram(HOP_BUCKETS_S)
        """Agent's message in -> first audio of it out, of ended calls; audio that must wait for its time is not
        counted."""
        self.interruption_to_clear = HopHistogram(HOP_BUCKETS_S)
        """Interruption in -> ``clear`` out."""
        self.agent_round_trip = HopHistogram(ROUND_TRIP_BUCKETS_S)
        """The agent side's own estimate, from its pings."""

    def _make_turns(self) -> None:
        """What is known of turns, of ended calls."""
        self.turn_response = HopHistogram(RESPONSE_BUCKETS_S)
        """End of the caller's speech -> first audio of the answer handed to the carrier."""
        self.turn_owners = by_owner()
        """The same time, by whose it was."""
        self.agent_silence = HopHistogram(RESPONSE_BUCKETS_S)
        """What an agent let pass after each turn of the caller, answered or not."""

    def _make_tallies(self) -> None:
        """Counters by label."""
        self.turn_interruptions = tally("bridge_turn_interruptions_total")
        self.tool_calls = tally("bridge_tool_calls_total")
        self.transfers = tally("bridge_transfers_total")
        self.agent_reconnects = tally("bridge_agent_reconnects_total")
        self.dtmf = tally("bridge_dtmf_total")
        """``in`` is taken from the calls' own counters; count ``out`` here."""
        self.digits_lost = tally("bridge_digits_lost_total")
        self.control_requests = tally("bridge_control_requests_total")
        self.outbound_calls = tally("bridge_outbound_calls_total")
        self.personalizations = tally("bridge_personalization_requests_total")
        self._tallies: tuple[Tally, ...] = (
            self.turn_interruptions,
            self.tool_calls,
            self.transfers,
            self.agent_reconnects,
            self.digits_lost,
            self.control_requests,
            self.outbound_calls,
            self.personalizations,
        )

    def personalized(self, outcome: str, took_s: float) -> None:
        """Count a question to the personalization webhook: how it came out, and how long that took."""
        self.personalizations.labels(outcome).inc()
        self.personalization_seconds.observe(took_s)

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
        for name, read in _SUMMED.items():
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
        for name, read in _SUMMED.items():
            yield one(name, self._ended_totals[name] + sum(read(stats) for stats in live_stats))
        dtmf = self.dtmf.family()
        dtmf.add_metric(["in"], self._dtmf_in + sum(stats.dtmf for stats in live_stats))
        yield dtmf
        for each in self._tallies:
            yield each.family()
        yield from self._turn_families()
        hops = {
            "caller_to_agent": summed(self.caller_to_agent, (each.caller_to_agent for each in live)),
            "agent_to_caller": summed(self.agent_to_caller, (each.agent_to_caller for each in live)),
            "interruption_to_clear": self.interruption_to_clear,
        }
        yield histogram("bridge_hop_latency_seconds", [((hop,), counted) for hop, counted in hops.items()])
        yield histogram("bridge_agent_round_trip_seconds", [((), self.agent_round_trip)])
        for source in self.sources:
            yield from source()

    def _turn_families(self) -> Iterator[Metric]:
        yield histogram("bridge_turn_response_seconds", [((), self.turn_response)])
        yield histogram("bridge_agent_silence_seconds", [((), self.agent_silence)])
        owners = [((owner,), counted) for owner, counted in self.turn_owners.items()]
        yield histogram("bridge_turn_owner_seconds", owners)

    def render(self) -> bytes:
        """The text that ``/metrics`` answers."""
        return generate_latest(self.registry)
