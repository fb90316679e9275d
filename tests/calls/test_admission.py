"""Who may call now: limits as arithmetic, and the decision. The stores' counting has a table in tests/server."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import outcome
from bridge.calls.admission import (
    PLANS,
    UNLIMITED,
    AgentLimits,
    Ask,
    CallKind,
    Counts,
    Limits,
    SlotRequest,
    ask,
    batch_ceiling,
    day_key,
    explain,
    held_up,
    judge,
    parse_workspace_limit,
    process_ask,
)
from bridge.outcome import EndReason

BURSTING = AgentLimits(bursting=True)
DAY = "2025-03-30"


def wanted(
    limits: Limits, agent: AgentLimits | None = None, kind: CallKind = CallKind.INBOUND, instances: int = 1
) -> Ask:
    request = SlotRequest(call_id="c", agent_id="a", agent=agent or AgentLimits(), kind=kind, source="+15550100")
    return ask(limits, request, DAY, instances)


# --- ceilings ---


@pytest.mark.parametrize(
    ("limit", "burst"),
    # The first four are the vendor's own table ("Capacity calculations").
    [(10, 30), (50, 150), (100, 300), (200, 300), (4, 12), (1, 3), (0, 0), (300, 300), (500, 500)],
)
def test_how_far_bursting_goes(limit: int, burst: int) -> None:
    limits = Limits(1000, limit)
    assert (wanted(limits, BURSTING).normal, wanted(limits, BURSTING).ceiling) == (limit, burst)
    assert wanted(limits).ceiling == limit, "without bursting"
    assert wanted(limits, BURSTING, CallKind.BATCH).ceiling == limit, "batches never burst"
    assert wanted(limits, BURSTING, CallKind.OUTBOUND).ceiling == burst


def test_cap_and_factor_are_the_operators() -> None:
    assert wanted(Limits(1000, 200, burst_cap=500), BURSTING).ceiling == 500
    assert wanted(Limits(1000, 200, burst_cap=1000), BURSTING).ceiling == 600
    assert wanted(Limits(1000, 20, burst_factor=2), BURSTING).ceiling == 40
    assert wanted(Limits(1000, 20, burst_cap=5), BURSTING).ceiling == 20, "never below the normal limit"


def test_no_limit_is_no_limit() -> None:
    free = wanted(Limits(1000), BURSTING, CallKind.BATCH)
    ceilings = (free.normal, free.ceiling, free.agent, free.batch, free.daily, free.burst_ms)
    assert ceilings == (UNLIMITED,) * 6
    assert (free.source, free.spacing_us) == ("", 0)


@pytest.mark.parametrize(
    ("limit", "batch"), [(1, 0), (2, 1), (3, 2), (4, 2), (6, 4), (10, 7), (20, 14), (30, 21), (90, 63), (300, 210)]
)
def test_batches_get_seventy_percent_rounded_down(limit: int, batch: int) -> None:
    assert wanted(Limits(1000, limit), kind=CallKind.BATCH).batch == batch
    assert wanted(Limits(1000, limit)).batch == UNLIMITED


@given(st.integers(0, 5000))
def test_batches_never_get_more_than_their_share(limit: int) -> None:
    assert 10 * batch_ceiling(limit, 0.7) <= 7 * limit < 10 * (batch_ceiling(limit, 0.7) + 1)


@pytest.mark.parametrize(("own", "ceiling"), [(-1, UNLIMITED), (0, 0), (5, 5), (50, 50)])
def test_the_agents_own_limit(own: int, ceiling: int) -> None:
    assert wanted(Limits(1000, 20), AgentLimits(concurrency=own)).agent == ceiling
    assert wanted(Limits(1000, 20), AgentLimits(concurrency=own, bursting=True)).agent == ceiling


@pytest.mark.parametrize(
    ("per_second", "spacing_us", "tolerance_us"),
    [(None, 0, 0), (0, 0, 0), (1, 1_000_000, 0), (5, 200_000, 800_000), (0.5, 2_000_000, 0), (2.5, 400_000, 400_000)],
)
def test_the_pace_of_a_source(per_second: float | None, spacing_us: int, tolerance_us: int) -> None:
    paced = wanted(Limits(1000, calls_per_second_per_source=per_second))
    assert (paced.spacing_us, paced.tolerance_us) == (spacing_us, tolerance_us)
    assert "5550100" not in paced.source
    assert len(paced.source) == (32 if spacing_us else 0)


def test_nobodys_pace_is_not_counted() -> None:
    limits = Limits(1000, calls_per_second_per_source=1)
    assert ask(limits, SlotRequest(call_id="c"), DAY).spacing_us == 0


@pytest.mark.parametrize(
    ("instances", "normal", "ceiling", "batch", "agent", "daily", "burst_ms"),
    [(1, 20, 60, 14, 6, 10, 60_000), (2, 10, 30, 7, 3, 5, 30_000), (4, 5, 15, 3, 1, 2, 15_000), (50, 1, 1, 0, 1, 1, 0)],
)
def test_the_share_of_one_process(
    instances: int, normal: int, ceiling: int, batch: int, agent: int, daily: int, burst_ms: int
) -> None:
    limits = Limits(1000, 20, burst_minutes_per_day=1 if instances < 50 else 0.0001)
    agent_limits = AgentLimits(concurrency=6, daily=10, bursting=True)
    share = wanted(limits, agent_limits, instances=instances)
    assert (share.normal, share.ceiling, share.agent, share.daily) == (normal, ceiling, agent, daily)
    assert share.burst_ms == burst_ms
    assert wanted(limits, agent_limits, CallKind.BATCH, instances).batch == batch
    assert wanted(Limits(1000), instances=instances).normal == UNLIMITED
    assert wanted(Limits(1000, 0), instances=instances).normal == 0


def test_the_room_of_a_process() -> None:
    room = process_ask(Limits(100, 20), SlotRequest(call_id="c", kind=CallKind.BATCH, agent=BURSTING, wait=True))
    assert (room.normal, room.ceiling, room.batch, room.agent, room.daily) == (
        100,
        100,
        UNLIMITED,
        UNLIMITED,
        UNLIMITED,
    )
    assert room.wait
    assert not room.is_batch, "the workspace's limit is what batches have a share of"
    alone = process_ask(Limits(100), SlotRequest(call_id="c", kind=CallKind.BATCH))
    assert (alone.is_batch, alone.batch) == (True, 70)


# --- plans and days ---


@pytest.mark.parametrize(
    ("text", "limit"),
    [("free", 4), ("Starter", 6), ("creator", 10), (" PRO ", 20), ("scale", 30), ("business", 30), ("25", 25)],
)
def test_a_plan_or_a_number(text: str, limit: int) -> None:
    assert parse_workspace_limit(text) == limit


@pytest.mark.parametrize("text", ["", "enterprise", "-1", "0", "1.5", "²", "9" * 40])
def test_neither_plan_nor_number(text: str) -> None:
    with pytest.raises(ValueError, match="nor a plan \\(free, starter, creator, pro, scale, business\\)"):
        parse_workspace_limit(text)


def test_the_plans_are_the_vendors() -> None:
    assert PLANS == {"free": 4, "starter": 6, "creator": 10, "pro": 20, "scale": 30, "business": 30}


@pytest.mark.parametrize(
    ("utc", "zone", "day"),
    [
        ("2025-03-30T00:30:00", "UTC", "2025-03-30"),
        ("2025-03-30T00:30:00", "America/New_York", "2025-03-29"),
        ("2025-03-29T23:30:00", "Europe/Berlin", "2025-03-30"),  # the night that summer time begins
        ("2025-03-30T21:59:59", "Europe/Berlin", "2025-03-30"),
        ("2025-03-30T22:00:00", "Europe/Berlin", "2025-03-31"),
    ],
)
def test_the_operators_day(utc: str, zone: str, day: str) -> None:
    moment = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    assert day_key(moment, ZoneInfo(zone)) == day


# --- the decision ---

SMALL = Limits(1000, 10, burst_minutes_per_day=1)


@pytest.mark.parametrize(
    ("kind", "agent", "counts", "reason"),
    [
        (CallKind.INBOUND, AgentLimits(), Counts(9, 0, 0, 0, 0), None),
        (CallKind.INBOUND, AgentLimits(), Counts(10, 0, 0, 0, 0), outcome.CAPACITY),
        (CallKind.INBOUND, AgentLimits(), Counts(99, 0, 0, 0, 0), outcome.CAPACITY),
        (CallKind.INBOUND, BURSTING, Counts(29, 0, 0, 0, 0), None),
        (CallKind.INBOUND, BURSTING, Counts(30, 0, 0, 0, 0), outcome.CAPACITY),
        (CallKind.INBOUND, BURSTING, Counts(10, 0, 0, 0, 59_999), None),
        (CallKind.INBOUND, BURSTING, Counts(10, 0, 0, 0, 60_000), outcome.CAPACITY),
        (CallKind.INBOUND, BURSTING, Counts(9, 0, 0, 0, 60_000), None),
        (CallKind.BATCH, BURSTING, Counts(9, 6, 0, 0, 0), None),
        (CallKind.BATCH, BURSTING, Counts(7, 7, 0, 0, 0), outcome.CAPACITY),
        (CallKind.BATCH, BURSTING, Counts(10, 0, 0, 0, 0), outcome.CAPACITY),
        (CallKind.INBOUND, AgentLimits(), Counts(7, 7, 0, 0, 0), None),
        (CallKind.INBOUND, AgentLimits(concurrency=3), Counts(3, 0, 2, 0, 0), None),
        (CallKind.INBOUND, AgentLimits(concurrency=3), Counts(3, 0, 3, 0, 0), outcome.AGENT_CAPACITY),
        (CallKind.INBOUND, AgentLimits(daily=2), Counts(0, 0, 0, 1, 0), None),
        (CallKind.INBOUND, AgentLimits(daily=2), Counts(0, 0, 0, 2, 0), outcome.AGENT_DAILY_LIMIT),
        (CallKind.INBOUND, AgentLimits(3, 2), Counts(10, 0, 3, 2, 0), outcome.AGENT_DAILY_LIMIT),
        (CallKind.INBOUND, AgentLimits(3, 9), Counts(10, 0, 3, 2, 0), outcome.AGENT_CAPACITY),
    ],
)
def test_one_more_call(kind: CallKind, agent: AgentLimits, counts: Counts, reason: EndReason | None) -> None:
    assert judge(wanted(SMALL, agent, kind), counts) is reason


def test_refusals_in_words() -> None:
    counts = Counts(10, 7, 3, 2, 0)
    agent = wanted(Limits(9, 10, calls_per_second_per_source=2.5), AgentLimits(3, 2))
    assert explain(outcome.CAPACITY, agent, counts, 1) == "10 calls in progress, 1 waiting"
    assert explain(outcome.AGENT_CAPACITY, agent, counts, 0) == "3 of the agent's 3 calls in progress, 0 waiting"
    assert explain(outcome.AGENT_DAILY_LIMIT, agent, counts, 0) == "2 of the agent's 2 calls today"
    assert explain(outcome.RATE_LIMITED, agent, counts, 0) == "more than 2.5 calls a second from one source"
    batch = wanted(Limits(9, 10), kind=CallKind.BATCH)
    assert explain(outcome.CAPACITY, batch, counts, 0) == "7 of 7 batch calls in progress, 0 waiting"


# --- nobody overtakes ---


def one(agent_id: str = "a", limit: int = 10, own: int = -1, **more: bool) -> Ask:
    kind = CallKind.BATCH if more.get("batch") else CallKind.INBOUND
    agent = AgentLimits(concurrency=own, bursting=more.get("bursting", False), daily=3 if more.get("daily") else None)
    return ask(Limits(1000, limit), SlotRequest(call_id="c", agent_id=agent_id, agent=agent, kind=kind), DAY)


@pytest.mark.parametrize(
    ("newcomer", "counts", "ahead", "others", "reason"),
    [
        pytest.param(one(), Counts(9, 0, 9, 9, 0), [], (0, 0), None, id="nobody waits"),
        pytest.param(one(), Counts(9, 0, 9, 9, 0), [one("b")], (0, 0), outcome.CAPACITY, id="last slot is another's"),
        pytest.param(one(), Counts(8, 0, 8, 8, 0), [one("b")], (0, 0), None, id="two slots, one waits"),
        pytest.param(one(), Counts(8, 0, 8, 8, 0), [one("b")] * 2, (0, 0), outcome.CAPACITY, id="two slots, two wait"),
        pytest.param(one(), Counts(9, 0, 0, 0, 0), [one("b", own=2)], (2, 9), None, id="who cannot go holds up nobody"),
        pytest.param(
            one(own=3), Counts(5, 0, 2, 2, 0), [one(own=3)], (2, 2), outcome.AGENT_CAPACITY, id="agent's last slot"
        ),
        pytest.param(one(own=3), Counts(5, 0, 2, 2, 0), [one("b", own=3)], (2, 2), None, id="another agent's queue"),
        pytest.param(
            one(daily=True), Counts(5, 0, 2, 2, 0), [one(daily=True)], (2, 2), outcome.AGENT_DAILY_LIMIT, id="daily"
        ),
        pytest.param(
            one(bursting=True), Counts(9, 0, 0, 0, 0), [one("b")], (0, 0), outcome.CAPACITY, id="burst before normal"
        ),
        pytest.param(
            one(bursting=True), Counts(10, 0, 0, 0, 0), [one("b")], (0, 0), None, id="normal is full, burst goes on"
        ),
        pytest.param(
            one(batch=True), Counts(6, 6, 0, 0, 0), [one("b", batch=True)], (0, 0), outcome.CAPACITY, id="batches"
        ),
        pytest.param(one(), Counts(6, 6, 0, 0, 0), [one("b", batch=True)], (0, 0), None, id="beside batches"),
    ],
)
def test_who_waits_longer_goes_first(
    newcomer: Ask, counts: Counts, ahead: list[Ask], others: tuple[int, int], reason: EndReason | None
) -> None:
    assert judge(newcomer, counts) is None
    assert held_up(newcomer, counts, ahead, lambda _waiter: others) is reason
