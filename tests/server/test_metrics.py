"""The metrics' text: names, labels, buckets, and that the counters of live and of ended calls add up."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge import __version__, outcome
from bridge.calls.stats import CallStats
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
    assert {name for name in names if not name.endswith("_created")} == {
        "bridge_agent_connect_seconds",
        "bridge_agent_dropped_seconds_total",
        "bridge_agent_flushed_seconds_total",
        "bridge_agent_frames_total",
        "bridge_agent_malformed_messages_total",
        "bridge_agent_round_trip_seconds",
        "bridge_agent_unknown_messages_total",
        "bridge_call_duration_seconds",
        "bridge_caller_dropped_seconds_total",
        "bridge_caller_frames_total",
        "bridge_calls_active",
        "bridge_calls_ended_total",
        "bridge_calls_started_total",
        "bridge_clears_total",
        "bridge_dtmf_total",
        "bridge_hop_latency_seconds",
        "bridge_info",
        "bridge_interruptions_total",
        "bridge_max_calls",
        "bridge_playout_gaps_total",
        "bridge_ready",
        "bridge_refused_requests_total",
        "bridge_stale_audio_bytes_total",
        "bridge_tool_calls_total",
        "bridge_upload_dropped_bytes_total",
    }
    assert f'bridge_info{{version="{__version__}"}} 1.0' in text
    for help_line in re.findall(r"^# HELP (.*)$", text, re.MULTILINE):
        assert " " in help_line, "a metric without a word of help"


def test_live_and_ended_calls_add_up_without_counting_twice() -> None:
    live = [CallStats(caller_frames=5, agent_dropped_ms=500), CallStats(caller_frames=7)]
    metrics = Metrics(lambda: live)
    assert value(metrics, "bridge_caller_frames_total") == 12
    assert value(metrics, "bridge_agent_dropped_seconds_total") == 0.5
    metrics.call_ended("twilio", outcome.AGENT_HANGUP, live.pop(0))
    assert value(metrics, "bridge_caller_frames_total") == 12
    live[0].caller_frames += 1
    assert value(metrics, "bridge_caller_frames_total") == 13
    assert value(metrics, "bridge_agent_dropped_seconds_total") == 0.5


def test_ends_are_counted_by_result_and_reason() -> None:
    metrics = Metrics(list)
    metrics.call_ended("twilio", outcome.AGENT_QUOTA, CallStats())
    metrics.call_ended("twilio", outcome.AGENT_QUOTA, CallStats())
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


def test_two_processes_parts_do_not_share_a_registry() -> None:
    first, second = Metrics(list), Metrics(list)
    first.refused.labels("status").inc()
    assert value(first, "bridge_refused_requests_total", entrance="status") == 1
    assert ("bridge_refused_requests_total", frozenset({("entrance", "status")})) not in samples(second)
