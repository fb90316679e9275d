"""One-time tokens in memory and in Redis: once, for one call, in time, on any process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest

from bridge.auth.sealed_tokens import Sealer
from bridge.auth.tokens import CallClaims, TokenProblem
from bridge.errors import LocalError
from bridge.server.call_tokens import CallTokens, MemoryTokens, RedisTokens
from bridge.server.redis_client import RedisLink, RedisOptions
from tests.kit.redis import RedisServer, prefix

CLAIMS = CallClaims(
    caller="+15550100", called="+15550199", direction="inbound", call_id="c1", parameters={"forwarded": "é"}
)
OTHERS = CallClaims(caller="+15550111", called="+15550199", direction="inbound", call_id="c2")
TTL_S = 0.3


@dataclass
class Place:
    """Two processes that share tokens (in memory: one and the same), and time."""

    one: CallTokens
    two: CallTokens
    pause: Callable[[float], object]

    async def wait(self, seconds: float) -> None:
        """Time passes."""
        self.pause(seconds)
        if isinstance(self.one, RedisTokens):
            await asyncio.sleep(seconds)


@asynccontextmanager
async def in_memory(_request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    now_s = [1000.0]

    def pause(seconds: float) -> None:
        now_s[0] += seconds

    tokens = MemoryTokens(TTL_S, 100, monotonic=lambda: now_s[0])
    yield Place(tokens, tokens, pause)


@asynccontextmanager
async def redis_tokens(
    server: RedisServer, name: str, sealer: Sealer | None = None, **options: float
) -> AsyncIterator[tuple[RedisTokens, RedisLink]]:
    link = RedisLink(RedisOptions(server.url, prefix=name, retry_first_s=0.05, timeout_s=options.get("timeout_s", 5.0)))
    await link.start()
    tokens = RedisTokens(link, options.get("ttl_s", TTL_S), MemoryTokens(options.get("ttl_s", TTL_S), 100), sealer)
    try:
        yield tokens, link
    finally:
        await tokens.close()
        await link.close()


@asynccontextmanager
async def in_redis(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    server: RedisServer = request.getfixturevalue("shared_redis")
    name = prefix()
    async with redis_tokens(server, name) as (one, _), redis_tokens(server, name) as (two, _):
        yield Place(one, two, lambda _seconds: None)


def state_of(tokens: CallTokens) -> str:
    """Where they are kept right now."""
    return tokens.state


Places = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Place]]
both = pytest.mark.parametrize("place", [in_memory, pytest.param(in_redis, marks=pytest.mark.e2e)])


@both
async def test_a_token_works_once(place: Places, request: pytest.FixtureRequest) -> None:
    async with place(request) as at:
        issued = await at.one.issue("CA1", CLAIMS)
        assert (issued.claims, issued.is_repeat) == (CLAIMS, False)
        assert len(issued.token) == 32
        assert await at.two.redeem(issued.token, "CA1") == CLAIMS
        assert await at.two.redeem(issued.token, "CA1") is TokenProblem.USED
        assert await at.one.redeem(issued.token, "CA1") is TokenProblem.USED


@both
async def test_a_repeated_webhook_gets_the_same_token_and_the_first_claims(
    place: Places, request: pytest.FixtureRequest
) -> None:
    async with place(request) as at:
        first = await at.one.issue("CA1", CLAIMS)
        again = await at.two.issue("CA1", OTHERS)
        assert (again.token, again.claims, again.is_repeat) == (first.token, CLAIMS, True)
        other = await at.two.issue("CA2", OTHERS)
        assert (other.token != first.token, other.is_repeat) == (True, False)
        await at.two.redeem(first.token, "CA1")
        after = await at.one.issue("CA1", OTHERS)
        assert (after.token != first.token, after.claims, after.is_repeat) == (True, OTHERS, False)
        assert await at.one.redeem(first.token, "CA1") is TokenProblem.USED


@both
async def test_problems(place: Places, request: pytest.FixtureRequest) -> None:
    async with place(request) as at:
        issued = await at.one.issue("CA1", CLAIMS)
        assert await at.two.redeem("", "CA1") is TokenProblem.MISSING
        assert await at.two.redeem("guess", "CA1") is TokenProblem.UNKNOWN
        assert await at.two.redeem("\udc80", "CA1") is TokenProblem.UNKNOWN
        assert await at.two.redeem(issued.token, "CA2") is TokenProblem.OTHER_CALL
        assert await at.two.redeem(issued.token, "CA1") == CLAIMS, "another call's attempt did not use it up"
        with pytest.raises(LocalError):
            await at.one.issue("", CLAIMS)


@both
async def test_a_token_expires(place: Places, request: pytest.FixtureRequest) -> None:
    async with place(request) as at:
        issued = await at.one.issue("CA1", CLAIMS)
        await at.wait(TTL_S + 0.05)
        assert await at.two.redeem(issued.token, "CA1") is TokenProblem.EXPIRED
        fresh = await at.two.issue("CA1", OTHERS)
        assert (fresh.token != issued.token, fresh.is_repeat) == (True, False)
        await at.wait(2 * TTL_S)
        assert await at.two.redeem(issued.token, "CA1") is TokenProblem.UNKNOWN


async def test_claims_are_remembered_for_as_many_calls_as_tokens() -> None:
    tokens = MemoryTokens(60, 2)
    for number in range(4):
        await tokens.issue(f"CA{number}", CLAIMS)
    assert len(tokens._claims) == 2
    assert (await tokens.issue("CA3", OTHERS)).is_repeat
    assert not (await tokens.issue("CA0", OTHERS)).is_repeat
    assert tokens.state == "memory"


def test_tokens_and_numbers_are_not_shown() -> None:
    issued = asyncio.run(MemoryTokens(60, 2, new_token=lambda: "secret-token").issue("CA1", CLAIMS))
    assert repr(issued) == "Issued(is_repeat=False)"


@pytest.mark.e2e
async def test_two_sockets_with_one_token(shared_redis: RedisServer) -> None:
    name = prefix()
    async with redis_tokens(shared_redis, name, ttl_s=60) as (one, _), redis_tokens(shared_redis, name) as (two, _):
        for number in range(20):
            issued = await one.issue(f"CA{number}", CLAIMS)
            verdicts = await asyncio.gather(
                *(tokens.redeem(issued.token, f"CA{number}") for tokens in (one, two, one, two))
            )
            assert sorted(type(verdict).__name__ for verdict in verdicts) == ["CallClaims"] + ["TokenProblem"] * 3


@pytest.mark.e2e
async def test_what_redis_holds(shared_redis: RedisServer) -> None:
    """Numbers only until the token is used, the token only under a digest of its call, everything for a short time."""
    name = prefix()
    async with redis_tokens(shared_redis, name, ttl_s=60) as (tokens, link):
        issued = await tokens.issue("CA1", CLAIMS)
        names = (await link.command("KEYS", link.key("token*"))) or []
        assert len(names) == 2
        assert not any(text in key.decode() for key in names for text in (issued.token, "CA1", "5550100"))
        for key in names:
            assert 0 < await link.command("PTTL", key) <= 120_000
        await tokens.redeem(issued.token, "CA1")
        names = await link.command("KEYS", link.key("token*"))
        assert len(names) == 1
        assert b"5550100" not in await link.command("GET", names[0])
        assert 60_000 < await link.command("PTTL", names[0]) <= 120_000


@pytest.mark.e2e
async def test_while_redis_is_down_tokens_work_in_this_process(own_redis: RedisServer) -> None:
    name = prefix()
    async with (
        redis_tokens(own_redis, name, ttl_s=60, timeout_s=0.25) as (one, _),
        redis_tokens(own_redis, name, ttl_s=60, timeout_s=0.25) as (two, _),
    ):
        assert state_of(one) == "redis"
        before = await one.issue("CA1", CLAIMS)
        own_redis.hang()
        assert await one.redeem(before.token, "CA1") == CLAIMS
        assert state_of(one) == "redis_down"
        assert await one.redeem(before.token, "CA1") is TokenProblem.USED
        during = await one.issue("CA2", OTHERS)
        assert (await one.issue("CA2", OTHERS)).token == during.token
        own_redis.go_on()
        async with asyncio.timeout(5):
            while state_of(one) != "redis":  # noqa: ASYNC110  # the link tells others, not us
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert await two.redeem(before.token, "CA1") is TokenProblem.USED, "Redis was told"
        assert await two.redeem(during.token, "CA2") is TokenProblem.UNKNOWN, "only its own process knows it"
        assert await one.redeem(during.token, "CA2") == OTHERS
        assert await one.redeem(during.token, "CA2") is TokenProblem.USED


@pytest.mark.e2e
async def test_closing_while_redis_is_being_told(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    async with redis_tokens(shared_redis, prefix(), ttl_s=60) as (tokens, link):
        issued = await tokens.issue("CA1", CLAIMS)
        assert tokens._use_here(issued.token, "CA1") == CLAIMS

        async def never(*_words: object, **_options: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(link, "script", never)
        tokens._on_up()
        tokens._on_up()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks() - before) == 1
    assert asyncio.all_tasks() == before


@pytest.mark.e2e
async def test_redis_comes_back_empty_between_webhook_and_socket(own_redis: RedisServer) -> None:
    async with redis_tokens(own_redis, prefix(), ttl_s=60) as (tokens, _):
        issued = await tokens.issue("CA1", CLAIMS)
        own_redis.restart()
        assert await tokens.redeem(issued.token, "CA1") == CLAIMS
        assert await tokens.redeem(issued.token, "CA1") is TokenProblem.USED


def test_claims_survive_the_wire() -> None:
    assert msgspec.json.decode(msgspec.json.encode(CLAIMS), type=CallClaims) == CLAIMS


SEALER = Sealer(("secret",))


async def until_back(tokens: RedisTokens) -> None:
    """Redis answers again, and was told what it missed."""
    async with asyncio.timeout(5):
        while state_of(tokens) != "redis":  # noqa: ASYNC110  # the link tells others, not us
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


@asynccontextmanager
async def two_sealing(server: RedisServer) -> AsyncIterator[tuple[RedisTokens, RedisTokens]]:
    name = prefix()
    async with (
        redis_tokens(server, name, SEALER, ttl_s=60, timeout_s=0.25) as (one, _),
        redis_tokens(server, name, SEALER, ttl_s=60, timeout_s=0.25) as (two, _),
    ):
        yield one, two


@pytest.mark.e2e
async def test_a_sealed_token_works_elsewhere_while_redis_is_down(own_redis: RedisServer) -> None:
    async with two_sealing(own_redis) as (one, two):
        before = await one.issue("CA1", CLAIMS)
        own_redis.kill()
        during = await one.issue("CA2", OTHERS)
        assert await two.redeem(before.token, "CA1") == CLAIMS
        assert await two.redeem(before.token, "CA1") is TokenProblem.USED
        assert await two.redeem(during.token, "CA1") is TokenProblem.UNKNOWN, "of another call"
        assert await two.redeem(during.token, "CA2") == OTHERS
        own_redis.start()
        await until_back(one)
        await until_back(two)
        assert await one.redeem(before.token, "CA1") is TokenProblem.USED, "Redis was told, although it came back empty"
        assert await one.redeem(during.token, "CA2") is TokenProblem.USED


@pytest.mark.e2e
async def test_a_sealed_token_works_once_after_redis_came_back_empty(own_redis: RedisServer) -> None:
    async with two_sealing(own_redis) as (one, two):
        issued = [await one.issue(f"CA{number}", CLAIMS) for number in range(10)]
        own_redis.restart()
        await until_back(one)
        await until_back(two)
        for number, token in enumerate(issued):
            verdicts = await asyncio.gather(*(at.redeem(token.token, f"CA{number}") for at in (two, one, two, one)))
            assert sorted(type(verdict).__name__ for verdict in verdicts) == ["CallClaims"] + ["TokenProblem"] * 3
            assert TokenProblem.USED in verdicts
