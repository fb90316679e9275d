"""Instances that die with their calls, and one that is only held up: slots, records and webhooks are counted."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.books import ANSWERED, ENDED, STARTED, assert_balanced, by_call, event_of, reasons, settled, types
from tests.kit.cluster import Cluster, running_cluster, until, until_true
from tests.kit.database import PostgresServer, shared_postgres
from tests.kit.phones import Phone, Phones, phones

pytestmark = pytest.mark.e2e

__all__ = ["shared_postgres"]

LOST, STAYING, FROZEN = 50, 8, 2
LIMIT = LOST + STAYING + FROZEN
SLOTS_BACK_S = 20.0
"""Leases end 16 s after the last renewal."""
CLOSED_S = 30.0
MAX_GAP_S = 1.5
"""What is heard of the echo may pause so long on a busy test machine."""
INSTANCE_LOST = "server_error/instance_lost"
BY_CALLER = "success/caller_hangup"


async def test_a_killed_and_a_frozen_instance(
    tmp_path: Path, shared_postgres: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    async with (
        running_cluster(tmp_path, shared_postgres, ("a", "b", "c"), WORKSPACE_CONCURRENCY=str(LIMIT)) as cluster,
        phones(cluster) as everybody,
    ):
        staying, frozen = await everybody.call(STAYING, "a", "b"), await everybody.call(FROZEN, "b", "c")
        lost = await everybody.call(LOST, "b", "a")
        assert cluster.slots() == LIMIT
        assert not await everybody.new().is_let_in("b")

        killed_s = time.monotonic()
        await cluster["a"].kill()
        cluster["c"].send(signal.SIGSTOP)
        for phone in lost:
            await until(lambda: phone.was_cut, "a call outlived its process")  # noqa: B023  # awaited right here
        record_property("slots_back_s", await slots_are_back(cluster, everybody, killed_s))
        await settled(cluster, lost + frozen, CLOSED_S - (time.monotonic() - killed_s), at="b")
        record_property("closed_and_told_s", time.monotonic() - killed_s)

        for phone in staying:
            phone.assert_whole(MAX_GAP_S)
        await assert_told_once(cluster, lost)
        await a_frozen_one_comes_back(cluster, everybody, frozen)

        await everybody.hang_up()
        await until(lambda: cluster.slots() == 0, "a slot is left")
        await settled(cluster, everybody.all, 10.0, at="b")
        await assert_balanced(cluster, everybody.all, at="b")
        assert reasons(await cluster.records("b"), staying + frozen) == {BY_CALLER: STAYING + FROZEN}
        cluster.assert_no_bugs()


async def slots_are_back(cluster: Cluster, everybody: Phones, killed_s: float) -> float:
    """Wait for the slots of the dead, then take every one of them; returns after how many seconds they were free."""
    while cluster.slots() > LIMIT - LOST:
        assert time.monotonic() - killed_s < SLOTS_BACK_S, f"{cluster.slots()} of {LIMIT} slots are still taken"
        await asyncio.sleep(0.1)
    took_s = time.monotonic() - killed_s
    for _ in range(LOST):
        phone = everybody.new()
        assert await phone.is_let_in("b")
        await phone.join("b", talk=False)
    return took_s


async def assert_told_once(cluster: Cluster, lost: list[Phone]) -> None:
    """Each lost call has one record with the right end, and one ``call.ended`` that says the same."""
    records = await cluster.records("b")
    assert reasons(records, lost) == {INSTANCE_LOST: LOST}
    ours = {phone.call_sid for phone in lost}
    events = by_call(cluster.receiver.taken)
    for call in records:
        if call["call_sid"] in ours:
            ended = event_of(events[call["id"]], ENDED)
            assert f"{ended['data']['result']}/{ended['data']['reason']}" == INSTANCE_LOST
            assert ended["data"]["call_sid"] == call["call_sid"]


async def a_frozen_one_comes_back(cluster: Cluster, everybody: Phones, frozen: list[Phone]) -> None:
    """It was taken for dead; its calls go on, count again, and nothing is told twice."""
    told = told_of(cluster, frozen)
    assert list(told.values()) == [[STARTED, ANSWERED, ENDED]] * FROZEN
    assert reasons(await cluster.records("b"), frozen) == {INSTANCE_LOST: FROZEN}
    cluster["c"].send(signal.SIGCONT)
    await until(lambda: cluster.slots() == LIMIT, "its calls are not counted again")
    on = sorted(phone.caller for phone in everybody.all if phone.is_on)

    async def all_listed() -> bool:
        return await cluster.live("b") == await cluster.live("c") == on

    await until_true(all_listed, "the list of live calls is wrong")
    for phone in frozen:
        heard = len(phone.heard)
        await until(lambda: len(phone.heard) > heard, "the call does not go on")  # noqa: B023  # awaited right here
    assert told_of(cluster, frozen) == told


def told_of(cluster: Cluster, calls: list[Phone]) -> dict[str, list[str]]:
    """Our own events of these calls, by the carrier's id."""
    told: dict[str, list[str]] = {phone.call_sid: [] for phone in calls}
    for events in by_call(cluster.receiver.taken).values():
        call_sid = event_of(events, STARTED)["data"]["call_sid"]
        if call_sid in told:
            told[call_sid] += [kind for kind in types(events) if kind.startswith("call.")]
    return told
