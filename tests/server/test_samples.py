"""What the parts count for themselves, in the metrics: there when the part is, and right when it changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.calls.routing import OverflowPolicy, Resolved
from bridge.calls.rules import Overflow
from bridge.server import samples as samples_module
from bridge.server.samples import certificate_options, sampling
from bridge.server.service import Bridge
from tests.kit.offline import keeping_bridge, offline_bridge
from tests.kit.records import ended_record, outbox_event
from tests.kit.server import until

LIMITS = {
    "bridge_workspace_calls",
    "bridge_burst_calls",
    "bridge_batch_calls",
    "bridge_queued_calls",
    "bridge_instances",
    "bridge_burst_minutes_today",
    "bridge_limits_store",
}
RECORDS = {
    "bridge_database_up",
    "bridge_heartbeat_steady",
    "bridge_records_pending",
    "bridge_records_lag_seconds",
    "bridge_records_lost_total",
    "bridge_webhook_events_lost_total",
    "bridge_instance_lost_calls_total",
}
RECORDINGS = {"bridge_recordings_active", "bridge_recordings_finished_total", "bridge_recordings_incomplete_total"}
WEBHOOKS = {"bridge_webhooks_delivered_total", "bridge_webhook_failures_total", "bridge_webhooks_dead_total"}
BACKLOG = {"bridge_webhook_backlog", "bridge_webhook_backlog_age_seconds", "bridge_webhook_dead_letters"}
HOOKS = {"WEBHOOK_URL": "http://127.0.0.1:9/hook", "WEBHOOK_SECRET": "s", "EGRESS_ALLOW": "127.0.0.1"}


def samples(bridge: Bridge) -> dict[str, float]:
    """Every sample by name; those with labels by name and value of their one label."""
    families = text_string_to_metric_families(bridge.metrics.render().decode())
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def names(bridge: Bridge) -> set[str]:
    return {name.split(" ")[0] for name in samples(bridge)}


async def test_limits_are_there_without_anything_else() -> None:
    bridge = offline_bridge(BRIDGE_MAX_CALLS="1")
    before = names(bridge)
    async with sampling(bridge):
        assert names(bridge) - before == LIMITS
        await bridge.take_slot("call_1", "", Resolved("agent_1"), "inbound")
        await bridge.take_slot("call_2", "", Resolved("agent_1", overflow=OverflowPolicy(Overflow.QUEUE)), "inbound")
        now = samples(bridge)
    assert now["bridge_workspace_calls"] == 1
    stores = {name: value for name, value in now.items() if name.startswith("bridge_limits_store ")}
    assert stores == {
        "bridge_limits_store memory": 1,
        "bridge_limits_store redis": 0,
        "bridge_limits_store redis_down": 0,
    }


async def test_burst_calls_and_the_limit() -> None:
    bridge = offline_bridge(WORKSPACE_CONCURRENCY="1", BURST="on")
    async with sampling(bridge):
        for number in range(2):
            route = bridge.routing.resolve("twilio", "", "", bridge.defaults)
            await bridge.take_slot(f"call_{number}", "", route, "inbound")
        now = samples(bridge)
    assert (now["bridge_workspace_limit"], now["bridge_workspace_calls"], now["bridge_burst_calls"]) == (1, 2, 1)


async def test_records_and_recordings_where_they_are_kept(tmp_path: Path) -> None:
    async with keeping_bridge(tmp_path) as bridge:
        before = names(bridge)
        async with sampling(bridge):
            assert names(bridge) - before == LIMITS | RECORDS | RECORDINGS
            assert samples(bridge)["bridge_database_up"] == 1
            storage = bridge.parts.storage
            assert storage is not None
            storage.ledger.trouble, storage.ledger.lost = "database is locked", 3
            now = samples(bridge)
            assert (now["bridge_database_up"], now["bridge_records_lost_total"]) == (0, 3)
            storage.ledger.trouble = ""


async def test_the_outbox_is_counted_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "BACKLOG_EVERY_S", 0.01)
    tasks = asyncio.all_tasks()
    async with keeping_bridge(tmp_path, HOOKS) as bridge:
        storage = bridge.parts.storage
        assert storage is not None
        async with sampling(bridge):
            await until(lambda: names(bridge) >= WEBHOOKS | BACKLOG)
            storage.ledger.put(ended_record("call_1"), (outbox_event("call_1"),))
            await until(lambda: samples(bridge)["bridge_webhook_backlog"] == 1, "it was not counted")

            async def fail() -> None:
                raise OSError

            monkeypatch.setattr(storage.outbox, "counts", fail)
            await asyncio.sleep(0.03)
            assert samples(bridge)["bridge_webhook_backlog"] == 1, "the last figures stand"
    assert asyncio.all_tasks() == tasks


def test_certificates_that_callers_depend_on_are_watched(tmp_path: Path) -> None:
    settings = offline_bridge(PUBLIC_URL="https://bridge.example/calls").settings
    watched = certificate_options(settings)
    assert dict(watched.urls) == {"public_url": "https://bridge.example/calls"}
    assert dict(watched.files) == {}
    own = settings.model_copy(update={"sip_tls_cert": tmp_path / "sip.pem"})
    assert dict(certificate_options(own).files) == {"sip": tmp_path / "sip.pem"}
