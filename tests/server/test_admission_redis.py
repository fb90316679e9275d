"""Call slots in a real Redis: several processes, leases, races, and a Redis that dies, hangs and comes back empty."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge.calls.admission import AgentLimits, CallKind, Granted, Limits, SlotRequest, ask
from bridge.server.admission import Admission, AdmissionOptions
from bridge.server.admission_memory import QueueOptions, SlotLedger
from bridge.server.admission_redis import RENEWALS_PER_RUN, RedisSlotOptions, RedisSlots
from bridge.server.redis_client import RedisLink, RedisOptions
from bridge.server.slot_store import HeldCall, Release, StoreDown
from tests.kit import logs
from tests.kit.redis import RedisServer, prefix
from tests.kit.slots import DAY, said

pytestmark = pytest.mark.e2e

LEASE_S = 0.6
BURSTING = AgentLimits(bursting=True)

Slots = Callable[..., Awaitable[RedisSlots]]


@asynccontextmanager
async def linked(server: RedisServer, name: str, **options: Any) -> AsyncIterator[RedisLink]:
    link = RedisLink(RedisOptions(server.url, prefix=name, **{"retry_first_s": 0.05, **options}))
    await link.start()
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def instance(
    server: RedisServer, name: str, instance_id: str, limits: Limits, **options: Any
) -> AsyncIterator[Admission]:
    """One process's admission, with short leases."""
    async with linked(server, name) as link:
        slots = RedisSlots(link, RedisSlotOptions(instance_id, lease_s=LEASE_S))
        made = Admission(limits, AdmissionOptions(renew_every_s=LEASE_S / 4, settle_s=LEASE_S, **options), slots)
        link.on_up(made.store_is_back)
        await made.start()
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
async def slots(shared_redis: RedisServer) -> AsyncIterator[Slots]:
    """Makes stores of several processes that share one Redis."""
    name = prefix()
    links: list[RedisLink] = []

    async def make(instance_id: str, lease_s: float = 20.0) -> RedisSlots:
        link = RedisLink(RedisOptions(shared_redis.url, prefix=name, timeout_s=5))
        links.append(link)
        await link.start()
        return RedisSlots(link, RedisSlotOptions(instance_id, lease_s=lease_s))

    yield make
    for link in links:
        await link.close()


def request(call_id: str, agent: AgentLimits | None = None, agent_id: str = "a", **more: Any) -> SlotRequest:
    return SlotRequest(call_id=call_id, agent_id=agent_id, agent=agent or AgentLimits(), **more)


async def take(store: RedisSlots, call_id: str, limit: int = 9, agent_id: str = "a", *, bursting: bool = False) -> str:
    agent = AgentLimits(bursting=bursting)
    return said(await store.take(ask(Limits(999, limit), request(call_id, agent, agent_id), DAY)))


def held(
    call_id: str,
    agent_id: str = "a",
    *,
    is_burst: bool = False,
    is_counted: bool = True,
    is_reserved: bool = False,
) -> HeldCall:
    return HeldCall(call_id, agent_id, False, is_burst, DAY, is_counted, is_reserved)


async def in_use(store: RedisSlots) -> int:
    await store.renew((), DAY, 0)
    return store.usage().calls


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():  # what another process does sets no event
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        await asyncio.sleep(0.01)


# --- one call, two processes ---


async def test_a_call_moves_with_its_slot_and_its_mark(slots: Slots) -> None:
    one, two = await slots("i1"), await slots("i2")
    await take(one, "first", limit=1)
    assert await take(one, "c", limit=1, bursting=True) == "burst"
    assert await take(two, "c", limit=1, agent_id="b") == "burst", "the same slot, whatever the limits say now"
    assert await in_use(two) == 2
    assert two.usage().agents == {"a": 1, "b": 1}
    renewal = await one.renew([held("c", is_burst=True), held("first")], DAY, 0)
    assert renewal.lost == {"c"}
    assert renewal.instances == 2
    await one.give_back([Release("c")])
    assert await in_use(one) == 2, "who lost a call does not end it"
    await two.give_back([Release("c")])
    assert await in_use(one) == 1


async def test_a_call_that_ended_elsewhere_is_not_brought_back(slots: Slots) -> None:
    one, two = await slots("i1"), await slots("i2")
    await take(one, "c")
    await take(two, "c")
    await two.give_back([Release("c"), Release("c")])
    assert (await one.renew([held("c")], DAY, 0)).lost == {"c"}
    assert await in_use(one) == 0
    assert await take(one, "c") == "granted", "but it may call again"
    assert (await one.renew([held("c")], DAY, 0)).lost == frozenset()


async def test_an_agent_that_changed_here_is_followed(slots: Slots) -> None:
    store = await slots("i1")
    await take(store, "c")
    assert (await store.renew([held("c", "b")], DAY, 0)).lost == frozenset()
    assert store.usage().agents == {"b": 1}


async def test_a_dead_process_frees_its_slots(slots: Slots) -> None:
    dead, alive = await slots("i1", lease_s=0.4), await slots("i2", lease_s=0.4)
    for number in range(3):
        assert await take(dead, str(number), limit=3) == "granted"
    await dead.renew([held(str(number)) for number in range(3)], DAY, 0)
    await take(dead, "reserved", limit=4)
    assert await take(alive, "x", limit=4) == "capacity"
    await asyncio.sleep(0.5)
    assert await take(alive, "x", limit=1) == "granted"
    assert await in_use(alive) == 1
    assert (await alive.renew([held("x")], DAY, 0)).instances == 1
    await dead.leave()


async def test_a_process_that_slept_through_its_leases_takes_them_up_again(slots: Slots) -> None:
    store = await slots("i1", lease_s=0.2)
    await take(store, "c")
    await asyncio.sleep(0.3)
    assert await in_use(store) == 0
    assert (await store.renew([held("c")], DAY, 0)).lost == frozenset()
    assert await in_use(store) == 1


async def test_what_was_let_in_without_redis_counts_once_it_is_entered(slots: Slots) -> None:
    store = await slots("i1")
    for _ in range(2):
        await store.renew([held("c", is_counted=False), held("d", is_counted=True)], DAY, 0)
    wanted = ask(Limits(9), request("e", AgentLimits(daily=1)), DAY)
    assert said(await store.take(wanted)) == "agent_daily_limit"
    wanted = ask(Limits(9), request("e", AgentLimits(daily=2)), DAY)
    assert said(await store.take(wanted)) == "granted"


async def test_many_leases_are_renewed_in_pieces(slots: Slots) -> None:
    store = await slots("i1")
    calls = [held(str(number), f"agent-{number % 7}", is_burst=number % 2 == 1) for number in range(600)]
    assert len(calls) > 2 * RENEWALS_PER_RUN
    for _ in range(2):
        await store.renew(calls, DAY, 60_000)
    usage = store.usage()
    assert (usage.calls, usage.burst, sum(usage.agents.values())) == (600, 300, 600)
    assert usage.burst_minutes_today == 2.0


async def test_no_key_lives_for_ever_but_three(slots: Slots, shared_redis: RedisServer) -> None:
    """What a bridge leaves in Redis when it goes is small: its epoch, the queue's number, and what runs out."""
    store = await slots("i1", lease_s=0.2)
    await take(store, "c", bursting=True)
    await store.renew([held("c")], DAY, 5)
    await store.give_back([Release("c")])
    await store.leave()
    names = shared_redis.ask("KEYS", store._link.key("*")).decode().split()
    lasting = {name.rpartition("}:")[2] for name in names if shared_redis.ask("TTL", name) == b":-1\r\n"}
    assert lasting <= {"epoch", "number", "gone", "agents"}


# --- the same as in memory, whatever happens ---


@pytest.mark.parametrize("seed", range(3))
async def test_redis_and_memory_decide_alike(slots: Slots, seed: int) -> None:
    store, ledger = await slots("i1"), SlotLedger(QueueOptions(waiter_ttl_s=60))
    chance = random.Random(seed)
    limits = Limits(999, 6, burst_minutes_per_day=3.0)
    for number in range(400):
        call_id = str(chance.randrange(30))
        kind = chance.random()
        if kind < 0.4:
            release = Release(call_id, refund=chance.random() < 0.2)
            await store.give_back([release])
            ledger.give_back(release)
        elif kind < 0.42:
            await store.renew((), DAY, 20_000)
            ledger.add_burst(DAY, 20_000)
        else:
            agent_id = f"a{int(call_id) % 3}"
            agent = AgentLimits((-1, 3, 5)[int(call_id) % 3], 120, bursting=agent_id == "a0")
            batch = CallKind.BATCH if call_id.endswith("7") else CallKind.INBOUND
            wanted = ask(limits, request(call_id, agent, agent_id, kind=batch, wait=chance.random() < 0.7), DAY)
            assert await store.take(wanted) == ledger.take(wanted, 0.0), f"step {number}"
    await store.renew((), DAY, 0)
    ours, theirs = store.usage(), ledger.usage(DAY, 0.0)
    assert (ours.calls, ours.burst, ours.batch, ours.waiting) == (
        theirs.calls,
        theirs.burst,
        theirs.batch,
        theirs.waiting,
    )
    assert ours.agents == theirs.agents


# --- races ---


async def test_two_processes_race_for_the_last_slots(shared_redis: RedisServer) -> None:
    """In one loop: answers come back in any order, and exactly as many get in as there are slots."""
    name = prefix()
    limits = Limits(999, 50)
    async with (
        instance(shared_redis, name, "i1", limits) as one,
        instance(shared_redis, name, "i2", limits) as two,
    ):
        verdicts = await asyncio.gather(
            *(made.take(request(f"{which}-{number}")) for number in range(60) for which, made in ((1, one), (2, two)))
        )
        assert verdicts.count(Granted()) == 50
        assert one.active + two.active == 50


_RACER = """
import asyncio, sys
from bridge.calls.admission import Granted, Limits, SlotRequest
from bridge.server.admission import Admission
from bridge.server.admission_redis import RedisSlotOptions, RedisSlots
from bridge.server.redis_client import RedisLink, RedisOptions

async def main(url, prefix, name):
    link = RedisLink(RedisOptions(url, prefix=prefix, timeout_s=5))
    await link.start()
    made = Admission(Limits(999, 20), store=RedisSlots(link, RedisSlotOptions(name)))
    await made.start()
    print("ready", flush=True)
    sys.stdin.readline()
    verdicts = []
    for number in range(40):
        verdicts.append(await made.take(SlotRequest(call_id=f"{name}-{number}")))
    print(sum(isinstance(verdict, Granted) for verdict in verdicts), flush=True)
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_of_their_own_race_and_one_is_killed(shared_redis: RedisServer) -> None:
    name = prefix()
    racers = [
        subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            [sys.executable, "-c", _RACER, shared_redis.url, name, racer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(bridge.__file__).parents[1])},
            text=True,
        )
        for racer in ("i1", "i2")
    ]
    try:
        streams = [(racer.stdin, racer.stdout) for racer in racers]
        for _, output in streams:
            assert output is not None
            assert await asyncio.to_thread(output.readline) == "ready\n"
        for stdin, _ in streams:
            assert stdin is not None
            stdin.write("go\n")
            stdin.flush()
        won = [int(await asyncio.to_thread(output.readline)) for _, output in streams if output is not None]
        assert sum(won) == 20
        racers[0].kill()
        async with instance(shared_redis, name, "i3", Limits(999, 20)) as made:
            assert made.usage().calls == 20, "until its leases are over"
            assert said(await made.take(request("late"))) == "capacity"
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


async def test_what_another_process_reserved_is_dismissed_and_does_not_come_back(shared_redis: RedisServer) -> None:
    name = prefix()
    limits = Limits(999, 1)
    async with (
        instance(shared_redis, name, "i1", limits) as one,
        instance(shared_redis, name, "i2", limits) as two,
    ):
        assert isinstance(await one.reserve(request("gone")), Granted)
        two.give_back("gone")
        assert said(await two.take(request("next"))) == "capacity", "another's call is not given back"
        two.dismiss("gone")
        async with asyncio.timeout(5):
            while not isinstance(await two.take(request("next")), Granted):  # noqa: ASYNC110  # it has to be asked
                await asyncio.sleep(0.01)
        one.store_is_back()  # renew now
        await until(lambda: one.active == 0)
        assert two.active == 1


# --- Redis fails ---


async def test_redis_comes_back_empty_and_every_call_is_counted_once(own_redis: RedisServer) -> None:
    name = prefix()
    limits = Limits(999, 4)
    async with (
        instance(own_redis, name, "i1", limits) as one,
        instance(own_redis, name, "i2", limits) as two,
    ):
        for number in (1, 2):
            assert isinstance(await one.take(request(f"1-{number}")), Granted)
            assert isinstance(await two.take(request(f"2-{number}")), Granted)
        assert await one.take(request("burst", BURSTING)) == Granted(is_burst=True)
        await until(lambda: one.usage().instances == 2)
        with logs.captured() as lines:
            own_redis.restart()
            for more, made in (("1-more", one), ("2-more", two)):
                assert said(await made.take(request(more))) == "capacity", "never more than the share meanwhile"
            await until(lambda: all(made.usage().calls == 5 for made in (one, two)))
            await until(lambda: all(made.usage().instances == 2 for made in (one, two)))
        assert one.usage().burst == 1, "the mark has come with the call"
        assert (one.active, two.active) == (3, 2)
        assert [line["event"] for line in lines].count("slots_lost") == 2
        two.give_back("2-1")
        one.give_back("burst")
        await until(lambda: one.usage().calls == 3)
        assert await one.take(request("1-3")) == Granted()
        assert said(await one.take(request("1-4"))) == "capacity"


@pytest.mark.parametrize("fail_open", [True, False])
async def test_a_redis_that_hangs_costs_one_time_out(own_redis: RedisServer, fail_open: bool) -> None:
    async with instance(own_redis, prefix(), "i1", Limits(999, 3), fail_open=fail_open) as made:
        assert await made.take(request("1")) == Granted()
        own_redis.hang()
        started_s = time.monotonic()
        verdicts = await asyncio.gather(*(made.take(request(f"h{number}")) for number in range(5)))
        assert time.monotonic() - started_s < 1.0, "one time-out of 0.25 s, however many ask"
        words = sorted(map(said, verdicts))
        assert words == (["capacity"] * 3 + ["granted"] * 2 if fail_open else ["limits_unknown"] * 5)
        started_s = time.monotonic()
        assert await made.take(request("1")) == Granted(), "the call in progress"
        made.give_back("1")
        assert time.monotonic() - started_s < 0.2, "nobody else waits"
        assert made.usage().store == "redis_down"
        own_redis.go_on()  # and carries out what it was asked while it hung
        await until(lambda: made.usage().store == "redis")
        await until(lambda: made.usage().calls == made.active == (2 if fail_open else 0))
        free = 3 - made.active
        words = [said(await made.take(request(f"n{number}"))) for number in range(4)]
        assert words == ["granted"] * free + ["capacity"] * (4 - free)


async def test_redis_is_gone_for_a_while(own_redis: RedisServer) -> None:
    async with instance(own_redis, prefix(), "i1", Limits(999, 3)) as made:
        assert await made.take(request("1")) == Granted()
        own_redis.kill()
        assert await made.take(request("2")) == Granted()
        made.give_back("1")
        own_redis.start()
        await until(lambda: made.usage().store == "redis")
        await until(lambda: made.usage().calls == 1)
        assert said(await made.take(request("2"))) == "granted"


async def test_a_process_that_dies_while_others_go_on(own_redis: RedisServer) -> None:
    name = prefix()
    async with instance(own_redis, name, "i2", Limits(999, 3)) as alive:
        async with linked(own_redis, name) as link:
            dead = RedisSlots(link, RedisSlotOptions("i1", lease_s=LEASE_S))
            for number in range(2):
                await take(dead, str(number))
            await dead.renew([held("0"), held("1")], DAY, 0)
        assert await alive.take(request("x")) == Granted()
        assert said(await alive.take(request("y"))) == "capacity"
        started_s = time.monotonic()
        await until(lambda: alive.usage().calls == 1)
        assert time.monotonic() - started_s < 4 * LEASE_S
        assert alive.active == 1
        assert [said(await alive.take(request(f"n{number}"))) for number in range(3)] == [
            "granted",
            "granted",
            "capacity",
        ]


async def test_a_reserved_call_arrives_at_another_process(own_redis: RedisServer) -> None:
    name = prefix()
    limits = Limits(999, 1)
    async with (
        instance(own_redis, name, "i1", limits, hold_s=0.4) as webhook,
        instance(own_redis, name, "i2", limits) as socket,
    ):
        assert await webhook.reserve(request("c")) == Granted()
        assert said(await socket.take(request("other"))) == "capacity"
        assert await socket.take(request("c")) == Granted()
        await until(lambda: webhook.active == 0)
        await asyncio.sleep(0.5)
        assert socket.active == 1
        assert said(await webhook.take(request("other"))) == "capacity", "the hold's end did not end the call"
        socket.give_back("c")
        await until(lambda: socket.usage().calls == 0)


@pytest.mark.parametrize("first", ["webhook", "socket"])
async def test_redis_comes_back_empty_while_a_call_is_on_its_way_from_one_to_the_other(
    slots: Slots, first: str
) -> None:
    """Whoever is the first to enter it, the slot is the process's that has the call."""
    one, two = await slots("i1"), await slots("i2")
    reserved, taken = held("c", is_reserved=True), held("c")
    if first == "webhook":
        assert (await one.renew([reserved], DAY, 0)).lost == frozenset()
        assert (await two.renew([taken], DAY, 0)).lost == frozenset()
    else:
        assert (await two.renew([taken], DAY, 0)).lost == frozenset()
    assert (await one.renew([reserved], DAY, 0)).lost == {"c"}
    assert (await two.renew([taken], DAY, 0)).lost == frozenset()
    await one.give_back([Release("c", refund=True)])
    assert await in_use(two) == 1, "the end of the reservation does not end the call"
    await two.give_back([Release("c")])
    assert await in_use(two) == 0


async def test_a_reservation_that_ends_before_the_call_is_entered_again_does_not_keep_it_out(slots: Slots) -> None:
    one, two = await slots("i1"), await slots("i2")
    await one.give_back([Release("c", refund=True)])
    assert (await two.renew([held("c")], DAY, 0)).lost == frozenset()
    assert await in_use(two) == 1


async def test_a_call_that_is_over_ends_the_reservation_that_was_entered_again(slots: Slots) -> None:
    one, two = await slots("i1"), await slots("i2")
    await one.renew([held("c", is_reserved=True)], DAY, 0)
    await two.give_back([Release("c", refund=True)])
    assert await in_use(two) == 1, "another reservation that ended"
    await two.give_back([Release("c")])
    assert await in_use(two) == 0


async def test_a_redis_full_of_something_else_is_down(own_redis: RedisServer) -> None:
    name = prefix()
    async with linked(own_redis, name) as link:
        store = RedisSlots(link, RedisSlotOptions("i1"))
        own_redis.ask("SET", link.key("calls"), "no sorted set")
        with logs.captured() as lines, pytest.raises(StoreDown, match="^Redis refused$"):
            await take(store, "c")
        assert [(line["event"], line["detail"]) for line in lines] == [("redis_refused", "WRONGTYPE")]
        assert link.is_up, "others need not suffer for it"


async def test_an_answer_that_nobody_understands_leaves_nobody_waiting(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await slots("i1")

    async def nonsense(*_words: object) -> object:
        return 5

    monkeypatch.setattr(store._link, "script", nonsense)
    with logs.captured() as lines, pytest.raises(StoreDown, match="^bug$"):
        await take(store, "c")
    assert [line["event"] for line in lines] == ["bug"]
