"""Admission of one process: its own limit, reserved slots, a store that is down, late, forgetful or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from zoneinfo import ZoneInfo

import pytest

from bridge import outcome
from bridge.calls.admission import AgentLimits, CallKind, Granted, Limits, Refused, SlotRequest, Waiting
from bridge.server.admission import ABANDONED, Admission, AdmissionOptions
from bridge.server.slot_store import HeldCall, Release
from tests.kit.clock import FakeClock
from tests.kit.fake_store import FakeStore
from tests.kit.slots import said

UNIX_S = 1_743_292_800.0
"""2025-03-30 00:00 UTC."""


def call(call_id: str, agent: AgentLimits | None = None, *, wait: bool = False, batch: bool = False) -> SlotRequest:
    return SlotRequest(
        call_id=call_id,
        agent_id="a",
        kind=CallKind.BATCH if batch else CallKind.INBOUND,
        agent=agent or AgentLimits(),
        wait=wait,
    )


BURSTING = AgentLimits(bursting=True)


@asynccontextmanager
async def admission(
    limits: Limits,
    store: FakeStore | None = None,
    options: AdmissionOptions | None = None,
    clock: FakeClock | None = None,
) -> AsyncIterator[Admission]:
    clock = clock or FakeClock()
    made = Admission(limits, options, store, monotonic=lambda: clock.now, unix=lambda: UNIX_S + clock.now)
    before = asyncio.all_tasks()
    await made.start()
    yield made
    await made.close()
    assert made.active == 0
    assert asyncio.all_tasks() == before, "tasks left behind"


async def settled() -> None:
    """Let tasks that are ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def others(store: FakeStore, *call_ids: str) -> None:
    """Calls of another process."""
    for call_id in call_ids:
        store.ledger.insert(HeldCall(call_id, "b", False, False, "", True))


async def beat(made: Admission) -> None:
    """The next renewal, at once."""
    made.store_is_back()
    await settled()


# --- alone ---


async def test_slots_of_one_process() -> None:
    async with admission(Limits(max_calls=2)) as made:
        assert await made.take(call("1")) == Granted()
        assert await made.take(call("1")) == Granted()
        assert await made.take(call("2")) == Granted()
        assert made.active == 2
        assert await made.take(call("3")) == Refused(outcome.CAPACITY, "2 calls in progress, 0 waiting")
        assert await made.take(call("2")) == Granted()
        made.give_back("1")
        made.give_back("1")
        made.give_back("never")
        assert made.active == 1
        assert await made.take(call("3")) == Granted()


async def test_the_workspaces_limit_and_burst() -> None:
    async with admission(Limits(100, 1)) as made:
        assert await made.take(call("1", BURSTING)) == Granted()
        assert await made.take(call("2", BURSTING)) == Granted(is_burst=True)
        assert (made.is_burst("1"), made.is_burst("2"), made.is_burst("3")) == (False, True, False)
        assert said(await made.take(call("3"))) == "capacity"
        made.limits = Limits(100, 3)
        assert await made.take(call("3")) == Granted()


async def test_nobody_new_while_draining() -> None:
    async with admission(Limits(9)) as made:
        await made.take(call("1"))
        made.draining = True
        assert await made.take(call("2")) == Refused(outcome.DRAINING, "shutting down")
        assert await made.take(call("1")) == Granted(), "who has a slot keeps it"
        assert made.active == 1


async def test_asking_takes_nothing() -> None:
    async with admission(Limits(1)) as made:
        assert made.would_refuse() is None
        await made.take(call("1"))
        assert made.would_refuse() is outcome.CAPACITY
        made.draining = True
        assert made.would_refuse() is outcome.DRAINING


async def test_batches_without_a_workspace_limit_leave_room_in_the_process() -> None:
    async with admission(Limits(3)) as made:
        assert [said(await made.take(call(str(n), batch=True))) for n in range(3)] == ["granted", "granted", "capacity"]
        assert await made.take(call("x")) == Granted()


async def test_waiting_for_the_process_and_for_the_workspace() -> None:
    async with admission(Limits(1)) as made:
        await made.take(call("1"))
        assert await made.take(call("2", wait=True)) == Waiting(1)
        assert await made.take(call("3", wait=True)) == Waiting(2)
        made.give_back("2")
        assert await made.take(call("3", wait=True)) == Waiting(1)
        made.give_back("1")
        assert said(await made.take(call("4"))) == "capacity"
        assert await made.take(call("3", wait=True)) == Granted()
    async with admission(Limits(9, 1)) as made:
        await made.take(call("1"))
        assert await made.take(call("2", wait=True)) == Waiting(1)
        assert made.usage().waiting == 1
        assert made.active == 1, "who waits holds no slot"
        made.give_back("1")
        assert await made.take(call("2", wait=True)) == Granted()


async def test_burst_time_counts_while_calls_go_on_and_when_they_end() -> None:
    clock = FakeClock()
    limits = Limits(9, 1, burst_minutes_per_day=1.0)
    async with admission(limits, clock=clock) as made:
        await made.take(call("1", BURSTING))
        await made.take(call("2", BURSTING))
        clock.advance(30)
        await beat(made)
        assert made.usage().burst_minutes_today == 0.5
        assert await made.take(call("3", BURSTING)) == Granted(is_burst=True)
        clock.advance(15)
        await beat(made)
        assert made.usage().burst_minutes_today == 1.0, "two calls of fifteen seconds"
        made.give_back("3", burst_s=14.0)
        assert made.usage().burst_minutes_today == 1.0, "never less than was said"
        clock.advance(6)
        made.give_back("2")
        assert made.usage().burst_minutes_today == 1.1
        assert said(await made.take(call("4", BURSTING))) == "capacity"


async def test_the_day_ends_at_the_operators_midnight() -> None:
    clock = FakeClock(0.0)
    options = AdmissionOptions(zone=ZoneInfo("America/New_York"))  # four hours behind: still the 29th
    daily = AgentLimits(daily=1)
    async with admission(Limits(9), options=options, clock=clock) as made:
        await made.take(call("1", daily))
        assert said(await made.take(call("2", daily))) == "agent_daily_limit"
        clock.advance(4 * 3600 - 1)
        assert said(await made.take(call("2", daily))) == "agent_daily_limit"
        clock.advance(1)
        assert await made.take(call("2", daily)) == Granted()


# --- reserved slots ---


async def test_a_reserved_slot_is_free_again_when_nobody_comes() -> None:
    options = AdmissionOptions(hold_s=0.02)
    async with admission(Limits(1), options=options) as made:
        assert await made.reserve(call("1", AgentLimits(daily=1))) == Granted()
        assert said(await made.take(call("2"))) == "capacity"
        await asyncio.sleep(0.05)
        assert made.active == 0
        assert await made.take(call("2", AgentLimits(daily=1))) == Granted(), "and is none of the day's calls"


@pytest.mark.parametrize("how", ["confirm", "take", "take first"])
async def test_a_confirmed_slot_stays(how: str) -> None:
    options = AdmissionOptions(hold_s=0.02)
    async with admission(Limits(1), options=options) as made:
        if how == "take first":
            await made.take(call("1"))
        assert await made.reserve(call("1")) == Granted()
        if how == "confirm":
            made.confirm("1")
            made.confirm("never")
        elif how == "take":
            await made.take(call("1"))
        await asyncio.sleep(0.05)
        assert made.active == 1


async def test_a_repeated_webhook_holds_the_slot_anew() -> None:
    options = AdmissionOptions(hold_s=0.06)
    async with admission(Limits(1), options=options) as made:
        await made.reserve(call("1"))
        await asyncio.sleep(0.04)
        await made.reserve(call("1"))
        await asyncio.sleep(0.04)
        assert made.active == 1


# --- with a store ---


async def test_the_store_decides_and_is_told() -> None:
    store = FakeStore()
    async with admission(Limits(9, 2), store) as made:
        assert await made.take(call("1")) == Granted()
        others(store, "x")
        assert said(await made.take(call("2"))) == "capacity"
        assert made.active == 1
        made.give_back("1")
        await settled()
        assert store.given_back == [Release("1", refund=False)]
        assert made.usage().store == "redis"
    assert store.left


async def test_this_process_is_full_before_the_store_is_asked() -> None:
    store = FakeStore()
    async with admission(Limits(1, 9), store) as made:
        await made.take(call("1"))
        assert said(await made.take(call("2"))) == "capacity"
        assert [wanted.call_id for wanted in store.taken] == ["1"]


async def test_a_lost_call_is_let_go_and_a_live_one_renewed() -> None:
    store = FakeStore()
    clock = FakeClock()
    async with admission(Limits(9, 9), store, clock=clock) as made:
        await made.reserve(call("1"))
        await made.take(call("2"))
        store.lost = {"1", "unknown"}
        clock.advance(1)
        await beat(made)
        assert made.active == 1
        store.lost = set()
        await beat(made)
        assert [held.call_id for held in store.renewed[-1][0]] == ["2"]


async def test_a_call_taken_again_meanwhile_is_not_lost() -> None:
    store = FakeStore()
    async with admission(Limits(9, 9), store) as made:
        await made.take(call("1"))
        store.lost = {"1"}
        await beat(made)  # at the same moment as the take: the answer may be older
        assert made.active == 1


async def test_burst_time_is_told_once_and_kept_while_the_store_is_down() -> None:
    store = FakeStore()
    clock = FakeClock()
    async with admission(Limits(9, 1), store, clock=clock) as made:
        await made.take(call("1"))
        await made.take(call("2", BURSTING))
        clock.advance(3)
        await beat(made)
        assert store.renewed[-1][1:] == ("2025-03-30", 3000)
        store.is_down = True
        clock.advance(2)
        await beat(made)
        made.give_back("2")
        store.is_down = False
        await beat(made)
        assert store.renewed[-1][2] == 2000
        await beat(made)
        assert store.renewed[-1][2] == 0


# --- the store is down ---


async def test_fail_open_keeps_to_the_share_of_this_process() -> None:
    store = FakeStore()
    store.instances = 2
    async with admission(Limits(99, 4), store) as made:
        assert await made.take(call("1")) == Granted()
        store.is_down = True
        assert await made.take(call("2", AgentLimits(daily=9))) == Granted()
        assert made.usage().store == "redis_down"
        assert made.would_refuse() is None
        assert said(await made.take(call("3"))) == "capacity", "two of four are this process's"
        assert await made.take(call("1")) == Granted()
        assert len(store.taken) == 1, "after the first failure the store is left alone"
        store.is_down = False
        await beat(made)
        assert {held.call_id: held.is_counted for held in store.renewed[-1][0]} == {"1": True, "2": False}
        await beat(made)
        assert {held.is_counted for held in store.renewed[-1][0]} == {True}
        assert await made.take(call("3")) == Granted()
        assert made.usage().store == "redis"


async def test_with_a_store_that_was_never_there_the_process_is_alone() -> None:
    store = FakeStore()
    store.is_down = True
    async with admission(Limits(99, 2), store) as made:
        assert [said(await made.take(call(str(n)))) for n in range(3)] == ["granted", "granted", "capacity"]


async def test_fail_closed_refuses_what_is_new() -> None:
    store = FakeStore()
    async with admission(Limits(99, 4), store, AdmissionOptions(fail_open=False)) as made:
        await made.take(call("1"))
        store.is_down = True
        assert await made.take(call("2")) == Refused(outcome.LIMITS_UNKNOWN, "Redis does not answer")
        assert made.would_refuse() is outcome.LIMITS_UNKNOWN
        assert await made.take(call("1")) == Granted(), "calls in progress go on"
        assert made.active == 1
        store.is_down = False
        await beat(made)
        assert Release("2", refund=True) in store.given_back, "it may have been let in by a store that was late"
        assert made.would_refuse() is None
        assert await made.take(call("2")) == Granted()


async def test_what_ended_meanwhile_is_given_back_later() -> None:
    store = FakeStore()
    async with admission(Limits(99, 4), store) as made:
        await made.take(call("1"))
        store.is_down = True
        made.give_back("1")
        await settled()
        assert len(store.ledger) == 1
        store.is_down = False
        await beat(made)
        assert len(store.ledger) == 0


async def test_an_empty_store_is_believed_with_the_others() -> None:
    """It came back empty: until the other process has entered its calls, this one keeps to its share."""
    store = FakeStore()
    clock = FakeClock()
    store.instances = 2
    async with admission(Limits(99, 4), store, clock=clock) as made:
        await made.take(call("1"))
        await made.take(call("2"))
        store.forget_everything()
        store.instances = 1
        await beat(made)
        assert len(store.ledger) == 2, "our calls are entered"
        assert said(await made.take(call("3"))) == "capacity"
        assert store.taken[-1].ceiling == 0, "it was asked for a slot of another process only"
        others(store, "reserved")
        assert await made.take(call("reserved")) == Granted()
        assert (made.active, len(store.ledger)) == (3, 3)
        made.give_back("reserved")
        await settled()
        store.instances = 2
        await beat(made)
        assert await made.take(call("3")) == Granted()
        store.forget_everything()
        store.instances = 1
        await beat(made)
        assert said(await made.take(call("4"))) == "capacity"
        clock.advance(20)
        await beat(made)
        assert await made.take(call("4")) == Granted(), "the other one is dead"


async def test_a_decision_can_be_the_first_to_see_that_the_store_is_empty() -> None:
    store = FakeStore()
    async with admission(Limits(99, 2), store) as made:
        await made.take(call("1"))
        store.forget_everything()
        await made.take(call("2"))
        await settled()
        assert len(store.ledger) == 2, "the first call was entered again at once"
        store.forget_everything()
        assert said(await made.take(call("3"))) == "capacity", "an empty store would let it in"
        await settled()
        assert (made.active, len(store.ledger)) == (2, 2)
        made.give_back("1")
        await settled()
        store.forget_everything()
        assert await made.take(call("2")) == Granted()
        assert await made.take(call("3")) == Granted()


async def test_after_a_long_absence_the_store_is_believed_with_the_others() -> None:
    store = FakeStore()
    store.instances = 2
    async with admission(Limits(99, 4), store) as made:
        await made.take(call("1"))
        await made.take(call("2"))
        store.is_down = True
        await beat(made)
        store.is_down = False
        store.instances = 1  # the other one's leases are over
        await beat(made)
        assert said(await made.take(call("3"))) == "capacity"


async def test_while_settling_both_must_agree() -> None:
    store = FakeStore()
    store.instances = 2
    async with admission(Limits(99, 4), store) as made:
        await made.take(call("1"))
        store.forget_everything()
        store.instances = 1
        await beat(made)
        others(store, "x", "y", "z")
        assert said(await made.take(call("2"))) == "capacity", "the others have entered three by now"
        assert made.active == 1
        assert await made.take(call("1")) == Granted()


async def test_a_store_that_forgot_a_call_does_not_end_it() -> None:
    store = FakeStore()
    async with admission(Limits(99, 1), store) as made:
        await made.take(call("1"))
        store.forget_everything()
        others(store, "x")
        assert await made.take(call("1")) == Granted()
        assert made.active == 1


async def test_a_slot_reserved_elsewhere_is_dismissed_there_too() -> None:
    """Its media socket came here and was gone before it was let in."""
    store = FakeStore()
    async with admission(Limits(99, 2), store) as made:
        others(store, "reserved")
        made.dismiss("reserved")
        await settled()
        assert store.given_back == [Release("reserved", refund=True, anywhere=True)]
        assert (made.active, len(store.ledger)) == (0, 0)


# --- ends while a decision is on its way ---


async def test_a_call_that_ends_while_it_is_let_in_leaves_no_slot() -> None:
    store = FakeStore()
    async with admission(Limits(99, 4), store) as made:
        store.gate.clear()
        taking = asyncio.create_task(made.take(call("1")))
        await settled()
        made.give_back("1")
        store.gate.set()
        assert await taking == Refused(outcome.CAPACITY, ABANDONED)
        await settled()
        assert (made.active, len(store.ledger)) == (0, 0)
        assert store.given_back == [Release("1", refund=True)]


async def test_a_decision_that_nobody_waits_for_leaves_no_slot() -> None:
    store = FakeStore()
    async with admission(Limits(1, 4), store) as made:
        store.gate.clear()
        taking = asyncio.create_task(made.take(call("1")))
        await settled()
        assert len(store.ledger) == 1, "the store has let it in"
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await settled()
        assert (made.active, len(store.ledger)) == (0, 0)
        store.gate.set()
        assert await made.take(call("2")) == Granted()


async def test_of_two_decisions_about_one_call_one_may_be_abandoned() -> None:
    store = FakeStore()
    async with admission(Limits(1, 4), store) as made:
        store.gate.clear()
        first = asyncio.create_task(made.reserve(call("1")))
        second = asyncio.create_task(made.take(call("1")))
        await settled()
        first.cancel()
        await settled()
        store.gate.set()
        assert await second == Granted()
        again = asyncio.create_task(made.take(call("1")))
        await asyncio.sleep(0)
        again.cancel()
        await settled()
        assert (made.active, len(store.ledger)) == (1, 1), "a call in progress keeps its slot"


async def test_a_bug_in_the_store_ends_no_renewing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    async with admission(Limits(99, 4), store) as made:
        with monkeypatch.context() as patch:
            patch.setattr(store, "renew", None)
            await beat(made)
        await made.take(call("1"))
        await beat(made)
        assert len(store.renewed[-1][0]) == 1
