"""Two bridges behind HAProxy: calls that meet both, the last slot, a graceful stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.kit.books import ANSWERED, ENDED, STARTED, assert_balanced, by_call, reasons, settled, types
from tests.kit.cluster import Cluster, running_cluster, until
from tests.kit.database import PostgresServer, shared_postgres
from tests.kit.phones import Phones, phones

pytestmark = pytest.mark.e2e

__all__ = ["shared_postgres"]

LIMIT = 6
ROUNDS = 25
CONTENDERS = 3
"""Callers at each instance for the one slot that is left."""
MAX_GAP_S = 1.5
"""What is heard of the echo may pause so long on a busy test machine."""
CLOSED_S = 15.0


async def test_two_instances_are_one_bridge(tmp_path: Path, shared_postgres: PostgresServer) -> None:
    async with (
        running_cluster(tmp_path, shared_postgres, WORKSPACE_CONCURRENCY=str(LIMIT)) as cluster,
        phones(cluster) as everybody,
    ):
        await webhook_here_and_media_there(cluster, everybody)
        await last_slot_goes_to_one(cluster, everybody)
        await graceful_stop_cuts_nobody(cluster, everybody)
        await settled(cluster, everybody.all, CLOSED_S, at="b")
        await assert_balanced(cluster, everybody.all, at="b")
        cluster.assert_no_bugs()


async def webhook_here_and_media_there(cluster: Cluster, everybody: Phones) -> None:
    """HAProxy goes round: what one instance answered comes to the other."""
    placed = await everybody.call(2)
    assert {(phone.answered_by, phone.carried_by) for phone in placed} <= {("a", "b"), ("b", "a")}, "not round robin"
    assert cluster.slots() == 2
    for at in ("a", "b"):
        assert await cluster.live(at) == sorted(phone.caller for phone in placed)
    for phone in placed:
        phone.assert_whole(MAX_GAP_S)
    await everybody.hang_up(placed)
    await until(lambda: cluster.slots() == 0, "a slot is left")
    await settled(cluster, placed, CLOSED_S)
    records = await cluster.records()
    assert sorted(call["instance_id"].rpartition("-")[0] for call in records) == sorted(p.carried_by for p in placed)
    assert reasons(records, placed) == {"success/caller_hangup": 2}
    for events in by_call(cluster.receiver.taken).values():
        assert types(events)[:3] == [STARTED, ANSWERED, ENDED]
    asked = [request.event["call_sid"] for request in cluster.personalizer.received]
    assert sorted(asked) == sorted(phone.call_sid for phone in placed)


async def last_slot_goes_to_one(cluster: Cluster, everybody: Phones) -> None:
    """Both instances are asked for it at the same moment, again and again."""
    held = await everybody.call(LIMIT - 1, talk=False)
    for number in range(ROUNDS):
        racing = [everybody.new() for _ in range(2 * CONTENDERS)]
        verdicts = await asyncio.gather(*(p.is_let_in("ab"[index % 2]) for index, p in enumerate(racing)))
        assert sum(verdicts) == 1, f"round {number}: {verdicts}"
        assert cluster.slots() == LIMIT
        winner = racing[verdicts.index(True)]
        await winner.join(talk=False)
        await winner.hang_up()
        await until(lambda: cluster.slots() == LIMIT - 1, "the slot does not come back")
    await everybody.hang_up(held)
    await until(lambda: cluster.slots() == 0, "a slot is left")


async def graceful_stop_cuts_nobody(cluster: Cluster, everybody: Phones) -> None:
    """SIGTERM to one: its calls go on until they end, new ones come to the other."""
    staying = [*await everybody.call(2, "b", "a"), *await everybody.call(2, "a", "b")]
    cluster["a"].send(signal.SIGTERM)
    await cluster.balancer_knows("b")
    late = await everybody.call(2)
    assert {(phone.answered_by, phone.carried_by) for phone in late} == {("b", "b")}
    assert cluster["a"].is_running
    for phone in (*staying, *late):
        phone.assert_whole(MAX_GAP_S)
    await everybody.hang_up(staying + late)
    assert await cluster["a"].place.exited() == 0
    assert cluster.slots() == 0
    assert reasons(await cluster.records("b"), staying + late) == {"success/caller_hangup": 6}
