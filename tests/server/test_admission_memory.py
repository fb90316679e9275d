"""Call slots in memory: what the table of scenarios (test_slot_scenarios.py) does not say."""

from __future__ import annotations

import pytest

from bridge.calls.admission import AgentLimits, Limits, SlotRequest, ask
from bridge.server import admission_memory
from bridge.server.admission_memory import SlotLedger
from bridge.server.slot_store import HeldCall, Release
from tests.kit.slots import said


def take(ledger: SlotLedger, call_id: str, limits: Limits, *, daily: int | None = None, **more: str) -> str:
    request = SlotRequest(call_id=call_id, source=more.get("source", ""), agent=AgentLimits(daily=daily))
    return said(ledger.take(ask(limits, request, more.get("day", "d1")), 1000.25))


def test_calls_let_in_elsewhere_count_whatever_the_limits_say() -> None:
    ledger = SlotLedger()
    for _ in range(2):
        ledger.insert(HeldCall("1", "a", is_batch=True, is_burst=True, day="d1", is_counted=True))
    ledger.insert(HeldCall("2", "a", is_batch=False, is_burst=False, day="d1", is_counted=True))
    usage = ledger.usage("d1", 0.0)
    assert (usage.calls, usage.burst, usage.batch, usage.agents) == (2, 1, 1, {"a": 2})
    assert ("1" in ledger, "3" in ledger, len(ledger)) == (True, False, 2)
    assert take(ledger, "1", Limits(9, 1)) == "burst"
    assert take(ledger, "3", Limits(9, 2)) == "capacity"
    ledger.give_back(Release("1"))
    assert take(ledger, "3", Limits(9, 2)) == "granted"


def test_two_days_are_remembered() -> None:
    ledger = SlotLedger()
    ledger.add_burst("d1", 60_000)
    take(ledger, "1", Limits(9), day="d1")
    take(ledger, "2", Limits(9), day="d2")
    assert take(ledger, "3", Limits(9), daily=1, day="d1") == "agent_daily_limit"
    assert ledger.usage("d1", 0.0).burst_minutes_today == 1.0
    take(ledger, "4", Limits(9), day="d3")
    assert take(ledger, "5", Limits(9), daily=1, day="d2") == "agent_daily_limit"
    assert ledger.usage("d1", 0.0).burst_minutes_today == 0.0
    assert take(ledger, "6", Limits(9), daily=1, day="d1") == "granted"


def test_only_so_many_sources_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_memory, "MAX_SOURCES", 2)
    ledger = SlotLedger()
    limits = Limits(9, calls_per_second_per_source=1)
    assert [take(ledger, str(n), limits, source=f"s{n}") for n in range(3)] == ["granted"] * 3
    assert take(ledger, "x", limits, source="s2") == "rate_limited"
    assert take(ledger, "y", limits, source="s0") == "granted", "the oldest went first"
