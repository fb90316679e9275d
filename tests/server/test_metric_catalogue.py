"""The catalogue of metrics: well-formed names, bounded labels, and that nothing is on ``/metrics`` besides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.server.histograms import HopHistogram
from bridge.server.metric_catalogue import CATALOGUE, LABELS, TOPICS, Kind, counter, gauge, histogram, one
from bridge.server.metrics_sip import TRANSPORTS
from bridge.server.samples import sampling
from tests.kit.offline import keeping_bridge

HOOKS: Any = {"WEBHOOK_URL": "http://127.0.0.1:9/hook", "EGRESS_ALLOW": "127.0.0.1"}
ELSEWHERE = {
    "bridge_redis_failures_total",
    "bridge_workspace_limit",
    "bridge_recording_uploads",
    "bridge_webhook_backlog",
    "bridge_webhook_backlog_age_seconds",
    "bridge_webhook_dead_letters",
    "bridge_console_streams",
    "bridge_console_listeners",
    "bridge_console_listened_total",
}
"""Metrics of parts that the bridge of this test has not, or that come later."""


def test_names_follow_prometheus_conventions() -> None:
    assert sum(len(specs) for _, specs in TOPICS) == len(CATALOGUE), "a name stands twice"
    for spec in CATALOGUE.values():
        assert re.fullmatch(r"bridge_[a-z0-9_]+", spec.name)
        assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER), spec.name
        assert spec.text.endswith(".") and "|" not in spec.text
        assert not spec.name.endswith(("_bucket", "_sum", "_count", "_ms"))


def test_every_label_says_where_its_values_come_from() -> None:
    assert {label for spec in CATALOGUE.values() for label in spec.labels} == set(LABELS)
    assert set(LABELS["transport"].split(", ")) == set(TRANSPORTS)


async def test_the_scrape_is_the_catalogue(tmp_path: Path) -> None:
    async with keeping_bridge(tmp_path, **HOOKS) as bridge, sampling(bridge):
        bridge.metrics.sources.append(bridge.metrics.sip)
        families = list(text_string_to_metric_families(bridge.metrics.render().decode()))
    found = {}
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        if not name.startswith("process_") and not name.endswith("_created"):
            found[name] = (family.type, family.documentation)
    assert found == {name: (spec.kind.value, spec.text) for name, spec in CATALOGUE.items() if name not in ELSEWHERE}


def test_families_are_made_of_their_specification() -> None:
    assert one("bridge_max_calls", 3).samples[0].value == 3
    assert one("bridge_digits_lost_total", 2).samples[0].name == "bridge_digits_lost_total"
    (sample,) = gauge("bridge_limits_store", [(("redis",), 1)]).samples
    assert sample.labels == {"store": "redis"}
    (sample,) = counter("bridge_dtmf_total", [(("in",), 7)]).samples
    assert (sample.labels, sample.value) == ({"direction": "in"}, 7)
    counted = HopHistogram((0.1,))
    counted.observe(0.2)
    assert [s.name for s in histogram("bridge_rtp_mos", [((), counted)]).samples] == [
        "bridge_rtp_mos_bucket",
        "bridge_rtp_mos_bucket",
        "bridge_rtp_mos_count",
        "bridge_rtp_mos_sum",
    ]


@pytest.mark.parametrize("make", [counter, histogram])
def test_a_metric_cannot_be_of_another_type(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="bridge_max_calls is a gauge"):
        make("bridge_max_calls", [])
