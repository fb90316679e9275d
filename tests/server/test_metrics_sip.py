"""Metrics of the SIP side: what is counted, and that labels stay bounded."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.server.histograms import HOP_BUCKETS_S, HopHistogram
from bridge.server.metrics import Metrics
from bridge.server.metrics_sip import RtpCounts, RtpQuality, SipMetrics


def value(sip: SipMetrics, name: str, **labels: str) -> float:
    metrics = Metrics(list)
    metrics.sources.append(sip)
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}[
        (name, frozenset(labels.items()))
    ]


class Live:
    """A call with RTP."""

    def __init__(self, counts: RtpCounts) -> None:
        self.counts = counts

    def rtp_counts(self) -> RtpCounts:
        return self.counts


@pytest.mark.parametrize(
    ("status", "shown"), [(100, "1xx"), (200, "2xx"), (486, "4xx"), (699, "6xx"), (700, "other"), (7, "other")]
)
def test_answers_are_counted_by_class(status: int, shown: str) -> None:
    sip = SipMetrics()
    sip.response("udp", "out", status)
    assert value(sip, "bridge_sip_messages_total", transport="udp", direction="out", message=shown) == 1


def test_invented_methods_are_one_series() -> None:
    sip = SipMetrics()
    for method in ("INVITE", "FOO", "BAR"):
        sip.request("tls", "in", method)
    assert value(sip, "bridge_sip_messages_total", transport="tls", direction="in", message="INVITE") == 1
    assert value(sip, "bridge_sip_messages_total", transport="tls", direction="in", message="other") == 2


def test_what_else_is_counted() -> None:
    sip = SipMetrics()
    sip.bans.inc()
    sip.malformed = lambda: 3
    sip.refused.labels("unknown_trunk").inc()
    sip.rejected_packets.labels("replay").inc()
    assert value(sip, "bridge_sip_bans_total") == 1
    assert value(sip, "bridge_sip_malformed_total") == 3
    assert value(sip, "bridge_sip_refused_total", why="unknown_trunk") == 1
    assert value(sip, "bridge_rtp_rejected_packets_total", why="replay") == 1


def test_gauges_ask_their_owner() -> None:
    sip = SipMetrics()
    assert value(sip, "bridge_sip_transactions") == 0
    assert value(sip, "bridge_sip_connections", transport="tls") == 0
    sip.transactions, sip.banned, sip.ports = lambda: 4, lambda: 2, lambda: (6, 1000)
    sip.connections = lambda: {"tls": 3}
    assert value(sip, "bridge_sip_transactions") == 4
    assert value(sip, "bridge_sip_banned_addresses") == 2
    assert value(sip, "bridge_rtp_ports_used") == 6
    assert value(sip, "bridge_rtp_ports") == 1000
    assert value(sip, "bridge_sip_connections", transport="tls") == 3
    assert value(sip, "bridge_sip_connections", transport="tcp") == 0


def test_packets_of_live_and_ended_calls_add_up() -> None:
    sip, live = SipMetrics(), [Live(RtpCounts(100, 90, 3, 2, 0.1)), Live(RtpCounts(10, 10))]
    sip.live = lambda: live
    pacing = HopHistogram(HOP_BUCKETS_S)
    pacing.observe(0.004)
    sip.pacing = lambda: pacing
    for _ in range(2):
        assert value(sip, "bridge_rtp_packets_total", direction="in") == 110
        assert value(sip, "bridge_rtp_packets_total", direction="out") == 100
        assert value(sip, "bridge_rtp_lost_packets_total") == 3
        assert value(sip, "bridge_rtp_late_packets_total") == 2
        assert value(sip, "bridge_rtp_concealed_seconds_total") == 0.1
        assert value(sip, "bridge_rtp_pacing_lateness_seconds_bucket", le="0.005") == 1
        if len(live) == 2:
            sip.call_over(live.pop(0), RtpQuality(0.012, 0.05, 3.1))
    live.clear()
    sip.call_over(Live(RtpCounts()))
    assert value(sip, "bridge_rtp_jitter_seconds_sum") == 0.012
    assert value(sip, "bridge_rtp_loss_ratio_bucket", le="0.03") == 0
    assert value(sip, "bridge_rtp_loss_ratio_bucket", le="0.05") == 1
    assert value(sip, "bridge_rtp_mos_count") == 1
