"""Redis dies and comes back empty, PostgreSQL dies and comes back: calls go on, nothing is counted wrong or lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.books import assert_balanced, reasons, settled
from tests.kit.cluster import Cluster, running_cluster, until, until_true
from tests.kit.database import PostgresServer, own_postgres
from tests.kit.phones import NoAnswer, Phone, Phones, phones

pytestmark = pytest.mark.e2e

__all__ = ["own_postgres"]

LIMIT = 12
CLOSED = "closed"
"""The instance that lets nobody in while Redis is away."""
OPEN = ("a", "b")
SHARE = LIMIT // 3
"""Of each of three instances."""
BEAT_S = 5.0
NOTICED_S = 2 * BEAT_S
BACK_S = 15.0
"""Until a server that is back is used again: pauses between attempts grow to a few seconds meanwhile."""
MAX_GAP_S = 1.5
"""What is heard of the echo may pause so long on a busy test machine."""
BY_CALLER = "success/caller_hangup"


async def test_redis_and_postgres_go_and_come_back(tmp_path: Path, own_postgres: PostgresServer) -> None:
    own = {CLOSED: {"LIMITS_WHEN_REDIS_DOWN": "fail_closed"}}
    async with (
        running_cluster(tmp_path, own_postgres, (*OPEN, CLOSED), own=own, WORKSPACE_CONCURRENCY=str(LIMIT)) as cluster,
        phones(cluster) as everybody,
    ):
        staying = [*await everybody.call(3, "a", "a"), *await everybody.call(1, "b", "b")]
        staying += await everybody.call(1, CLOSED, CLOSED)
        await redis_comes_back_empty(cluster, everybody, staying)
        await database_comes_back(cluster, everybody, own_postgres)
        for phone in staying:
            phone.assert_whole(MAX_GAP_S)
        await everybody.hang_up()
        await until(lambda: cluster.slots() == 0, "a slot is left")
        await settled(cluster, everybody.all, BACK_S)
        await assert_balanced(cluster, everybody.all)
        assert reasons(await cluster.records(), staying) == {BY_CALLER: len(staying)}
        cluster.assert_no_bugs()


# --- Redis ---


async def redis_comes_back_empty(cluster: Cluster, everybody: Phones, staying: list[Phone]) -> None:
    await until_true(lambda: all_know_all(cluster), "an instance does not know the others", 2 * BEAT_S)
    cluster.redis.kill()
    await until_true(lambda: limits_are_in(cluster, "redis_down"), "nobody notices", NOTICED_S)
    assert (await cluster.ready(CLOSED))["reason"] == "limits_unknown"
    assert not (await cluster.ready(CLOSED))["ready"]
    assert (await cluster.ready("a"))["ready"]
    with pytest.raises(NoAnswer, match="busy"):
        await everybody.new().place(CLOSED)
    meanwhile = await everybody.call(1, "a", "b")  # what one instance answered, another takes without asking it
    meanwhile += await as_many_as_go(everybody, OPEN)
    assert held_by(everybody, "b") == SHARE
    # The slot of the call that went elsewhere stays reserved at first: nobody can tell.
    assert SHARE - 1 <= held_by(everybody, "a") <= SHARE

    cluster.redis.start()
    await until_true(lambda: limits_are_in(cluster, "redis"), "Redis is not used again", BACK_S)
    on = len(everybody_on(everybody))
    assert on == len(staying) + len(meanwhile)
    await until(lambda: cluster.slots() == on, "a call is not counted", BEAT_S)
    await as_many_as_go(everybody, (*OPEN, CLOSED))
    assert len(everybody_on(everybody)) == cluster.slots() == LIMIT
    assert [len(await cluster.live(at)) for at in OPEN] == [LIMIT, LIMIT]
    await everybody.hang_up([phone for phone in everybody_on(everybody) if phone not in staying])
    await until(lambda: cluster.slots() == len(staying), "a slot is left")


async def all_know_all(cluster: Cluster) -> bool:
    """Whether every instance knows among how many the limits are shared."""
    return {(await cluster.get("/v1/usage", name))["instances"] for name in cluster.instances} == {3}


async def limits_are_in(cluster: Cluster, store: str) -> bool:
    """Whether all instances count their slots there."""
    return {(await cluster.ready(name))["limits_in"] for name in cluster.instances} == {store}


async def as_many_as_go(everybody: Phones, names: tuple[str, ...]) -> list[Phone]:
    """Place calls at these instances, in turn and two at a time, until all refuse."""
    placed: list[Phone] = []
    refusing: set[str] = set()
    while refusing != set(names):
        trying = [(everybody.new(), name) for name in names for _ in range(2)]
        verdicts = await asyncio.gather(*(phone.is_let_in(name) for phone, name in trying))
        refusing = {name for (_, name), let_in in zip(trying, verdicts, strict=True) if not let_in}
        for (phone, name), let_in in zip(trying, verdicts, strict=True):
            if let_in:
                await phone.join(name)
                await phone.hears_something()
                placed.append(phone)
    return placed


def everybody_on(everybody: Phones) -> list[Phone]:
    """The calls in progress."""
    return [phone for phone in everybody.all if phone.is_on]


def held_by(everybody: Phones, name: str) -> int:
    """How many of them an instance has."""
    return sum(phone.carried_by == name for phone in everybody_on(everybody))


# --- PostgreSQL ---


async def database_comes_back(cluster: Cluster, everybody: Phones, postgres: PostgresServer) -> None:
    """Calls come, go on and go while it is away: their records and events are all there afterwards."""
    await until_true(lambda: all_know_all(cluster), "an instance did not come back to Redis", 2 * BEAT_S)
    ending = await everybody.call(2)
    postgres.kill()
    begun = await everybody.call(3)
    await everybody.hang_up(ending)
    await until_true(lambda: database_works(cluster, False), "nobody notices", NOTICED_S)
    passing = await everybody.call(3)
    await everybody.hang_up(passing)
    for phone in begun:
        phone.assert_whole(MAX_GAP_S)
    postgres.start()
    await until_true(lambda: database_works(cluster, True), "the database is not used again", BACK_S)
    await everybody.hang_up(begun)
    await settled(cluster, [*ending, *begun, *passing], BACK_S)
    assert reasons(await cluster.records(), [*ending, *begun, *passing]) == {BY_CALLER: 8}


async def database_works(cluster: Cluster, works: bool) -> bool:
    """Whether both instances say so."""
    return {(await cluster.ready(name))["database"] == "ok" for name in OPEN} == {works}
