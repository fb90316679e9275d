"""What processes share for minutes: ends, values, nonces; in memory, in Redis, and while Redis is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from bridge import outcome
from bridge.errors import LocalError
from bridge.server import shared_state
from bridge.server.redis_client import RedisLink, RedisOptions
from bridge.server.shared_state import MAX_VALUE_BYTES, CallEnd, ExpiringMemory, SharedState
from tests.kit.clock import FakeClock
from tests.kit.redis import RedisServer, prefix

Pair = tuple[SharedState, SharedState]


@asynccontextmanager
async def state_of(server: RedisServer, name: str) -> AsyncIterator[SharedState]:
    link = RedisLink(RedisOptions(server.url, prefix=name, retry_first_s=0.05))
    await link.start()
    state = SharedState(link)
    await state.start()
    try:
        yield state
    finally:
        await state.close()
        await link.close()


@asynccontextmanager
async def in_memory(_request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    state = SharedState()
    await state.start()
    assert state.state == "memory"
    yield state, state
    await state.close()


@asynccontextmanager
async def in_redis(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    server: RedisServer = request.getfixturevalue("shared_redis")
    name = prefix()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(state_of(server, name))
        two = await stack.enter_async_context(state_of(server, name))
        assert one.state == "redis"
        yield one, two


Pairs = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Pair]]
both = pytest.mark.parametrize("pair", [in_memory, pytest.param(in_redis, marks=pytest.mark.e2e)])


@both
async def test_an_end_is_known_everywhere(pair: Pairs, request: pytest.FixtureRequest) -> None:
    async with pair(request) as (one, two):
        assert await two.end_of("CA1") is None
        one.remember_end("CA1", outcome.AGENT_LOST)
        assert await one.end_of("CA1") == CallEnd(outcome.AGENT_LOST, {}), "here at once"
        assert await two.end_of("CA1", wait_s=2) == CallEnd(outcome.AGENT_LOST, {})
        one.remember_end("CA1", outcome.DIVERTED, {"divert_to": "+15550123"})
        one.remember_end("CA2", outcome.CALLER_HANGUP)
        assert await two.end_of("CA2", wait_s=2) == CallEnd(outcome.CALLER_HANGUP, {})
        assert await two.end_of("CA1") == CallEnd(outcome.DIVERTED, {"divert_to": "+15550123"}), "the last end counts"


@both
async def test_waiting_for_news_ends(pair: Pairs, request: pytest.FixtureRequest) -> None:
    async with pair(request) as (one, two):
        started_s = time.monotonic()
        assert await one.end_of("CA1", wait_s=0.1) is None
        assert await two.wait_for("key", 0.1) is None
        assert 0.2 <= time.monotonic() - started_s < 2


@both
async def test_values(pair: Pairs, request: pytest.FixtureRequest) -> None:
    async with pair(request) as (one, two):
        await one.put("key +15550100", b"\x00value", ttl_s=60)
        assert await two.get("key +15550100") == b"\x00value"
        await two.put("key +15550100", b"other", ttl_s=60)
        assert await one.get("key +15550100") == b"other"
        await one.remove("key +15550100")
        await one.remove("key +15550100")
        assert await two.get("key +15550100") is None


@both
async def test_the_first_wins_and_the_second_waits(pair: Pairs, request: pytest.FixtureRequest) -> None:
    async with pair(request) as (one, two):
        assert await one.put_if_absent("lock", b"i1", ttl_s=60)
        assert not await two.put_if_absent("lock", b"i2", ttl_s=60)
        assert not await one.put_if_absent("lock", b"i1", ttl_s=60)
        waiting = asyncio.create_task(two.wait_for("answer", 5))
        await asyncio.sleep(0.02)
        await one.put("answer", b"{}", ttl_s=60)
        assert await waiting == b"{}"
        assert await two.get("lock") == b"i1"


@both
async def test_a_nonce_is_new_once(pair: Pairs, request: pytest.FixtureRequest) -> None:
    async with pair(request) as (one, two):
        assert await one.first_time("n1", ttl_s=0.2)
        assert not await two.first_time("n1", ttl_s=0.2)
        assert await two.first_time("n2", ttl_s=0.2)
        await asyncio.sleep(0.25)
        assert await two.first_time("n1", ttl_s=0.2)


@both
async def test_values_have_a_size(pair: Pairs, request: pytest.FixtureRequest) -> None:
    async with pair(request) as (one, _):
        for attempt in (one.put, one.put_if_absent):
            with pytest.raises(LocalError, match=r"^a shared value has at most 1048576 bytes, not 1048577$"):
                await attempt("key", bytes(MAX_VALUE_BYTES + 1), 60)


async def test_an_end_of_a_newer_version_is_no_end() -> None:
    state = SharedState()
    state.remember_end("CA1", outcome.EndReason(outcome.Result.SUCCESS, "to_be_invented", ""))
    assert await state.end_of("CA1") is None


def test_memory_forgets() -> None:
    clock = FakeClock()
    memory = ExpiringMemory(lambda: clock.now)
    memory.put("a", b"1", 10)
    memory.put("b", b"2", 20)
    clock.advance(9.9)
    assert memory.get("a") == b"1"
    clock.advance(0.1)
    assert (memory.get("a"), memory.get("b")) == (None, b"2")
    memory.put("b", b"3", 5)
    clock.advance(5)
    assert memory.get("b") is None


def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_state, "MAX_KEYS", 3)
    monkeypatch.setattr(shared_state, "MAX_MEMORY_BYTES", 10)
    memory = ExpiringMemory(lambda: 0.0)
    for key in "abcd":
        memory.put(key, b"1", 10)
    assert [memory.get(key) for key in "abcd"] == [None, b"1", b"1", b"1"]
    memory.put("e", b"123456789", 10)
    assert [memory.get(key) for key in "bcde"] == [None, None, b"1", b"123456789"]


@pytest.mark.e2e
async def test_only_so_many_ends_wait_for_redis(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_state, "MAX_KEYS", 2)
    async with state_of(shared_redis, prefix()) as state:
        for number in range(5):
            state.remember_end(f"CA{number}", outcome.CALLER_HANGUP)
        assert len(state._unsent) == 2


@pytest.mark.e2e
async def test_while_redis_is_down_everything_is_this_processs(own_redis: RedisServer) -> None:
    name = prefix()
    async with state_of(own_redis, name) as one, state_of(own_redis, name) as two:
        await one.put("before", b"1", 60)
        own_redis.hang()
        one.remember_end("CA1", outcome.AGENT_LOST)
        assert await one.get("before") == b"1"
        assert await one.put_if_absent("key", b"2", 60)
        assert not await one.put_if_absent("key", b"3", 60)
        assert [await one.first_time("nonce", 60) for _ in range(2)] == [True, False]
        await one.put("during", b"4", 60)
        assert await one.get("during") == b"4"
        await one.remove("during")
        assert await one.get("during") is None
        assert one.state == "redis_down"
        own_redis.go_on()
        assert await two.end_of("CA1", wait_s=5) == CallEnd(outcome.AGENT_LOST, {}), "Redis was told later"


@pytest.mark.e2e
async def test_keys_do_not_show_what_they_stand_for(shared_redis: RedisServer) -> None:
    name = prefix()
    async with state_of(shared_redis, name) as state:
        await state.put("+15550100", b"v", 60)
        assert b"5550100" not in shared_redis.ask("KEYS", "{" + name + "}*")
