"""The list of calls in progress: of this process, of all, of dead ones, through Redis' failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.server import live_calls
from bridge.server.live_calls import LiveCall, LiveCallOptions, LiveCalls
from bridge.server.redis_client import RedisLink, RedisOptions
from tests.kit.redis import RedisServer, prefix

LEASE_S = 0.5


def call(call_id: str, instance_id: str = "i1", state: str = "active", started_at: float = 1000.0) -> LiveCall:
    return LiveCall(
        call_id=call_id,
        instance_id=instance_id,
        provider="twilio",
        direction="inbound",
        caller="+15550100",
        called="+15550199",
        agent_id="agent_1",
        conversation_id="conv_é",
        state=state,
        is_burst=True,
        started_at=started_at,
    )


@asynccontextmanager
async def listed(server: RedisServer, name: str, instance_id: str = "i1") -> AsyncIterator[LiveCalls]:
    link = RedisLink(RedisOptions(server.url, prefix=name, retry_first_s=0.05))
    await link.start()
    calls = LiveCalls(instance_id, link, LiveCallOptions(LEASE_S, LEASE_S / 4))
    await calls.start()
    try:
        yield calls
    finally:
        await calls.close()
        await link.close()


async def shows(calls: LiveCalls, expected: list[LiveCall], timeout_s: float = 5.0) -> None:
    """Wait until the list is this."""
    deadline_s = time.monotonic() + timeout_s
    while (found := await calls.all()) != expected:
        assert time.monotonic() < deadline_s, found
        await asyncio.sleep(0.01)


async def test_one_process() -> None:
    calls = LiveCalls("i1")
    await calls.start()
    calls.put(call("b"))
    calls.put(call("a"))
    calls.put(call("old", started_at=900.0))
    calls.put(call("a", state="draining"))
    assert await calls.all() == [call("old", started_at=900.0), call("a", state="draining"), call("b")]
    assert await calls.all(most=1) == [call("old", started_at=900.0)]
    calls.remove("a")
    calls.remove("a")
    assert len(calls.here()) == 2
    assert calls.state == "memory"
    await calls.close()
    assert await calls.all() == []


@pytest.mark.e2e
async def test_every_process_sees_every_call(shared_redis: RedisServer) -> None:
    name = prefix()
    async with listed(shared_redis, name) as one, listed(shared_redis, name, "i2") as two:
        one.put(call("a"))
        assert await one.all() == [call("a")], "one's own at once"
        two.put(call("b", "i2"))
        await shows(one, [call("a"), call("b", "i2")])
        await shows(two, [call("a"), call("b", "i2")])
        one.put(call("a", state="draining"))
        await shows(two, [call("a", state="draining"), call("b", "i2")])
        await asyncio.sleep(2 * LEASE_S)
        assert len(await two.all()) == 2, "leases are renewed"
        one.remove("a")
        assert await one.all() == [call("b", "i2")]
        await shows(two, [call("b", "i2")])
        assert one.state == "redis"
    assert shared_redis.ask("EXISTS", "{" + name + "}:live") == b":0\r\n", "nothing is left"


@pytest.mark.e2e
async def test_a_call_that_changes_process_is_listed_for_the_one_that_has_it(shared_redis: RedisServer) -> None:
    name = prefix()
    async with listed(shared_redis, name) as one, listed(shared_redis, name, "i2") as two:
        one.put(call("a"))
        await shows(two, [call("a")])
        two.put(call("a", "i2"))
        one.remove("a")
        await shows(one, [call("a", "i2")])


@pytest.mark.e2e
async def test_the_calls_of_a_dead_process_vanish(shared_redis: RedisServer) -> None:
    name = prefix()
    async with listed(shared_redis, name, "i2") as alive:
        async with listed(shared_redis, name) as dead:
            dead.put(call("a"))
            alive.put(call("b", "i2"))
            await shows(alive, [call("a"), call("b", "i2")])
            await dead._beat.stop()
            dead._calls.clear()  # it dies without a word
            started_s = time.monotonic()
            await shows(alive, [call("b", "i2")])
            assert time.monotonic() - started_s < 4 * LEASE_S
        async with asyncio.timeout(5):  # and are swept up
            while shared_redis.ask("HLEN", "{" + name + "}:live") != b":1\r\n":  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)


@pytest.mark.e2e
async def test_more_calls_than_fit_a_page(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_calls, "PER_RUN", 100)
    name = prefix()
    async with listed(shared_redis, name) as one, listed(shared_redis, name, "i2") as two:
        for number in range(1300):
            one.put(call(f"{number:04}"))
        deadline_s = time.monotonic() + 5
        while len(await two.all()) < 1300:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)
        assert [found.call_id for found in await two.all()] == [f"{number:04}" for number in range(1300)]
        assert len(await two.all(most=10)) == 10


@pytest.mark.e2e
async def test_redis_hangs_and_comes_back_empty(own_redis: RedisServer) -> None:
    name = prefix()
    async with listed(own_redis, name) as one, listed(own_redis, name, "i2") as two:
        one.put(call("a"))
        two.put(call("b", "i2"))
        await shows(one, [call("a"), call("b", "i2")])
        own_redis.hang()
        started_s = time.monotonic()
        assert await one.all() == [call("a")], "one's own"
        one.put(call("c"))
        one.remove("a")
        assert await one.all() == [call("c")]
        assert time.monotonic() - started_s < 2
        assert one.state == "redis_down"
        own_redis.kill()
        own_redis.start()
        await shows(two, [call("b", "i2"), call("c")])
        await shows(one, [call("b", "i2"), call("c")])


@pytest.mark.e2e
async def test_a_call_of_another_version_is_left_out(shared_redis: RedisServer) -> None:
    name = prefix()
    async with listed(shared_redis, name) as one, listed(shared_redis, name, "i2") as two:
        one.put(call("a"))
        await shows(two, [call("a")])
        shared_redis.ask("HSET", "{" + name + "}:live", "i1/a", '{"of": "another version"}')
        assert await two.all() == []


@pytest.mark.e2e
async def test_only_so_many_changes_wait_for_redis(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_calls, "MAX_LISTED", 3)
    async with listed(shared_redis, prefix()) as calls:
        for number in range(9):
            calls.put(call(str(number)))
            calls.remove(str(number))
        assert len(calls._removed) == 3
