"""The metrics' text: names, labels, buckets, and that the counters of live and of ended calls add up."""

from __future__ import annotations

import re
import time

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from bridge import __version__, outcome
from bridge.calls.stats import CallStats
from bridge.calls.turns import OWNERS, TurnMeter
from bridge.outcome import EndReason
from bridge.server.metrics import HOP_BUCKETS_S, HopHistogram, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the text, by name and labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[(name, frozenset(labels.items()))]


def test_every_metric_is_there_from_the_start() -> None:
    text = Metrics(list).render().decode()
    names = set(re.findall(r"^# TYPE (\S+) \S+$", text, re.MULTILINE))
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names
    assert {name for name in names if not name.endswith("_created") and not name.startswith("process_")} == {
        "bridge_agent_connect_seconds",
        "bridge_agent_dropped_seconds_total",
        "bridge_agent_flushed_seconds_total",
        "bridge_agent_frames_total",
        "bridge_agent_malformed_messages_total",
        "bridge_agent_reconnects_total",
        "bridge_agent_round_trip_seconds",
        "bridge_agent_silence_seconds",
        "bridge_agent_unknown_messages_total",
        "bridge_call_duration_seconds",
        "bridge_caller_dropped_seconds_total",
        "bridge_caller_frames_total",
        "bridge_calls_active",
        "bridge_calls_ended_total",
        "bridge_calls_started_total",
        "bridge_clears_total",
        "bridge_control_requests_total",
        "bridge_control_seconds",
        "bridge_digits_lost_total",
        "bridge_dtmf_total",
        "bridge_hop_latency_seconds",
        "bridge_info",
        "bridge_interruptions_total",
        "bridge_max_calls",
        "bridge_outbound_calls_total",
        "bridge_personalization_requests_total",
        "bridge_personalization_seconds",
        "bridge_playout_gaps_total",
        "bridge_ready",
        "bridge_refused_requests_total",
        "bridge_stale_audio_bytes_total",
        "bridge_tool_calls_total",
        "bridge_transfers_total",
        "bridge_turn_interruptions_total",
        "bridge_turn_owner_seconds",
        "bridge_turn_response_seconds",
        "bridge_upload_dropped_bytes_total",
    }
    assert f'bridge_info{{version="{__version__}"}} 1.0' in text
    for help_line in re.findall(r"^# HELP (.*)$", text, re.MULTILINE):
        assert " " in help_line, "a metric without a word of help"


class Live:
    """A call in progress."""

    def __init__(self, stats: CallStats | None = None) -> None:
        self.stats = stats or CallStats()
        self.caller_to_agent, self.agent_to_caller = HopHistogram(HOP_BUCKETS_S), HopHistogram(HOP_BUCKETS_S)

    def current_stats(self) -> CallStats:
        return self.stats

    def end(self, metrics: Metrics, reason: EndReason = outcome.AGENT_HANGUP) -> None:
        metrics.call_ended("twilio", reason, self.stats, self.caller_to_agent, self.agent_to_caller)


def test_live_and_ended_calls_add_up_without_counting_twice() -> None:
    live = [Live(CallStats(caller_frames=5, agent_dropped_ms=500)), Live(CallStats(caller_frames=7))]
    metrics = Metrics(lambda: live)
    assert value(metrics, "bridge_caller_frames_total") == 12
    assert value(metrics, "bridge_agent_dropped_seconds_total") == 0.5
    live.pop(0).end(metrics)
    assert value(metrics, "bridge_caller_frames_total") == 12
    live[0].stats.caller_frames += 1
    assert value(metrics, "bridge_caller_frames_total") == 13
    assert value(metrics, "bridge_agent_dropped_seconds_total") == 0.5


def test_latencies_of_live_and_ended_calls_add_up_without_counting_twice() -> None:
    live = [Live(), Live()]
    metrics = Metrics(lambda: live)
    for call in live:
        call.caller_to_agent.observe(0.0003)
    live[0].agent_to_caller.observe(0.0003)
    name = "bridge_hop_latency_seconds_count"
    for _ in range(2):  # a scrape takes nothing away
        assert value(metrics, name, hop="caller_to_agent") == 2
        assert value(metrics, name, hop="agent_to_caller") == 1
    live.pop(0).end(metrics)
    assert value(metrics, name, hop="caller_to_agent") == 2
    assert value(metrics, name, hop="agent_to_caller") == 1
    live.pop(0).end(metrics)
    assert value(metrics, name, hop="caller_to_agent") == 2


def test_ends_are_counted_by_result_and_reason() -> None:
    metrics = Metrics(list)
    Live().end(metrics, outcome.AGENT_QUOTA)
    Live().end(metrics, outcome.AGENT_QUOTA)
    labels = {"provider": "twilio", "result": "upstream_error", "reason": "agent_quota"}
    assert value(metrics, "bridge_calls_ended_total", **labels) == 2


@pytest.mark.parametrize("hop", ["caller_to_agent", "agent_to_caller", "interruption_to_clear"])
def test_hops_are_histograms_in_seconds(hop: str) -> None:
    metrics = Metrics(list)
    getattr(metrics, hop).observe(0.0003)
    getattr(metrics, hop).observe(0.003)
    getattr(metrics, hop).observe(7.0)
    name = "bridge_hop_latency_seconds"
    assert value(metrics, f"{name}_count", hop=hop) == 3
    assert value(metrics, f"{name}_sum", hop=hop) == pytest.approx(7.0033)
    assert value(metrics, f"{name}_bucket", hop=hop, le="0.0002") == 0
    assert value(metrics, f"{name}_bucket", hop=hop, le="0.0005") == 1
    assert value(metrics, f"{name}_bucket", hop=hop, le="0.003") == 2  # a bound counts what equals it
    assert value(metrics, f"{name}_bucket", hop=hop, le="0.5") == 2
    assert value(metrics, f"{name}_bucket", hop=hop, le="+Inf") == 3


def test_the_agents_round_trip() -> None:
    metrics = Metrics(list)
    metrics.agent_round_trip.observe(0.12)
    assert value(metrics, "bridge_agent_round_trip_seconds_bucket", le="0.1") == 0
    assert value(metrics, "bridge_agent_round_trip_seconds_bucket", le="0.15") == 1
    assert value(metrics, "bridge_agent_round_trip_seconds_sum") == pytest.approx(0.12)


def test_the_cheap_histogram_is_cumulative_and_in_order() -> None:
    histogram = HopHistogram(HOP_BUCKETS_S)
    for seconds in (*HOP_BUCKETS_S, 99.0):
        histogram.observe(seconds)
    bounds = [bound for bound, _ in histogram.cumulative()]
    assert bounds == [*map(str, HOP_BUCKETS_S), "+Inf"]
    assert [count for _, count in histogram.cumulative()] == list(range(1, len(HOP_BUCKETS_S) + 2))
    assert histogram.total_s == pytest.approx(sum(HOP_BUCKETS_S) + 99.0)


def test_what_a_histogram_says_of_a_call() -> None:
    histogram = HopHistogram((0.001, 0.002, 0.005))
    assert histogram.count == 0
    for seconds in (0.0005, 0.0015, 0.0015, 0.004):
        histogram.observe(seconds)
    assert histogram.count == 4
    assert histogram.quantile_s(0.25) == 0.001
    assert histogram.quantile_s(0.5) == 0.002
    assert histogram.quantile_s(0.99) == 0.005
    histogram.observe(1.0)
    assert histogram.quantile_s(0.99) == 0.005, "the last bound stands for what lies above it"


def test_keys_of_live_and_of_ended_calls_and_those_pressed_for_agents() -> None:
    live = [Live(CallStats(dtmf=3)), Live(CallStats(dtmf=1))]
    metrics = Metrics(lambda: live)
    assert value(metrics, "bridge_dtmf_total", direction="in") == 4
    live.pop(0).end(metrics)
    metrics.dtmf.labels("out").inc(5)
    assert value(metrics, "bridge_dtmf_total", direction="in") == 4
    assert value(metrics, "bridge_dtmf_total", direction="out") == 5


def test_what_else_is_counted_by_label() -> None:
    metrics = Metrics(list)
    metrics.tool_calls.labels("hold", "done").inc()
    metrics.transfers.labels("conference", "no_answer").inc()
    metrics.agent_reconnects.labels("succeeded").inc()
    metrics.digits_lost.inc(2)
    metrics.control_requests.labels("twilio", "hang_up", "done").inc()
    metrics.control_seconds.labels("twilio", "hang_up").observe(0.3)
    metrics.outbound_calls.labels("twilio", "placed").inc()
    metrics.personalized("timeout", 3.0)
    assert value(metrics, "bridge_tool_calls_total", tool="hold", outcome="done") == 1
    assert value(metrics, "bridge_transfers_total", kind="conference", outcome="no_answer") == 1
    assert value(metrics, "bridge_agent_reconnects_total", outcome="succeeded") == 1
    assert value(metrics, "bridge_digits_lost_total") == 2
    assert value(metrics, "bridge_control_requests_total", provider="twilio", action="hang_up", outcome="done") == 1
    assert value(metrics, "bridge_control_seconds_bucket", provider="twilio", action="hang_up", le="0.5") == 1
    assert value(metrics, "bridge_outbound_calls_total", provider="twilio", outcome="placed") == 1
    assert value(metrics, "bridge_personalization_requests_total", outcome="timeout") == 1
    assert value(metrics, "bridge_personalization_seconds_bucket", le="2.0") == 0
    assert value(metrics, "bridge_personalization_seconds_bucket", le="4.0") == 1


def test_a_scrape_of_a_thousand_calls_is_quick() -> None:
    live = [Live(CallStats(caller_frames=number)) for number in range(1000)]
    metrics = Metrics(lambda: live)
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        text = metrics.render()
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 0.05, "the loop of the calls waits for as long"
    assert len(text) < 64_000, "the text must not grow with the number of calls"


def test_the_turns_of_a_call() -> None:
    metrics, meter = Metrics(list), TurnMeter()
    meter.caller_speech(True, 1.0)
    meter.interrupted(1.2)
    meter.caller_speech(False, 2.0, late_s=0.03)
    meter.caller_said(2.3)
    meter.agent_audio(2.8)
    meter.sent(2.81)
    meter.caller_said(4.0)  # never answered
    meter.end(12.0)
    metrics.turns_over("twilio", meter)
    assert value(metrics, "bridge_turn_interruptions_total", provider="twilio") == 1
    assert value(metrics, "bridge_turn_response_seconds_count") == 1
    assert value(metrics, "bridge_turn_response_seconds_sum") == pytest.approx(0.84)
    assert value(metrics, "bridge_turn_response_seconds_bucket", le="0.7") == 0
    assert value(metrics, "bridge_turn_response_seconds_bucket", le="1.0") == 1
    assert value(metrics, "bridge_agent_silence_seconds_count") == 2
    assert value(metrics, "bridge_agent_silence_seconds_sum") == pytest.approx(8.81)
    spent = {owner: value(metrics, "bridge_turn_owner_seconds_sum", owner=owner) for owner in OWNERS}
    assert spent == pytest.approx({"carrier": 0.03, "bridge_in": 0, "agent": 0.8, "tool": 0, "bridge_out": 0.01})


def test_a_call_without_turns_adds_nothing() -> None:
    metrics, meter = Metrics(list), TurnMeter()
    meter.end(1.0)
    metrics.turns_over("twilio", meter)
    assert value(metrics, "bridge_turn_response_seconds_count") == 0
    assert ("bridge_turn_interruptions_total", frozenset({("provider", "twilio")})) not in samples(metrics)


def test_parts_may_count_for_themselves() -> None:
    metrics = Metrics(list)
    waiting = [3.0]
    metrics.sources.append(lambda: [GaugeMetricFamily("bridge_waiting", "Calls that wait.", value=waiting[0])])
    assert value(metrics, "bridge_waiting") == 3
    waiting[0] = 1.0
    assert value(metrics, "bridge_waiting") == 1


def test_two_processes_parts_do_not_share_a_registry() -> None:
    first, second = Metrics(list), Metrics(list)
    first.refused.labels("status").inc()
    assert value(first, "bridge_refused_requests_total", entrance="status") == 1
    assert ("bridge_refused_requests_total", frozenset({("entrance", "status")})) not in samples(second)
