"""The way to Redis: bounded in time, quick to give up, back by itself, and silent about secrets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.bench.process import free_port
from bridge.server.redis_client import RedisLink, RedisOptions, Script
from bridge.server.slot_store import StoreDown
from tests.kit import logs
from tests.kit.redis import RedisServer, prefix

pytestmark = pytest.mark.e2e

ECHO = Script("return {KEYS[1], ARGV[1]}")


@asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncIterator[RedisLink]:
    before = asyncio.all_tasks()
    link = RedisLink(RedisOptions(url, **{"prefix": prefix(), "retry_first_s": 0.05, **options}))
    await link.start()
    try:
        yield link
    finally:
        await link.close()
        assert asyncio.all_tasks() == before, "tasks left behind"


async def back(link: RedisLink, timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not link.is_up:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


async def test_commands_and_scripts(shared_redis: RedisServer) -> None:
    async with linked(shared_redis.url, prefix="p1") as link:
        assert link.is_up
        assert link.key("a", "b") == "{p1}:a:b"
        assert await link.script(ECHO, "é") == [b"{p1}", "é".encode()]
        shared_redis.ask("SCRIPT", "FLUSH")
        assert await link.script(ECHO, 5) == [b"{p1}", b"5"], "a Redis that lost its scripts is given them again"
        assert await link.command("SET", link.key("x"), b"\x00", "PX", 1000)
        assert await asyncio.gather(*(link.command("GET", link.key("x")) for _ in range(50))) == [b"\x00"] * 50


async def test_a_restart_is_not_noticed(own_redis: RedisServer) -> None:
    async with linked(own_redis.url) as link:
        await asyncio.gather(*(link.command("PING") for _ in range(8)))
        own_redis.restart()
        await asyncio.sleep(0.05)  # the ends of the old connections come in
        for repeat in (False, True):
            assert await asyncio.gather(*(link.command("PING", repeat=repeat) for _ in range(8)))
        assert link.failures == 0


async def test_nobody_listens(own_redis: RedisServer) -> None:
    own_redis.kill()
    with logs.captured() as lines:
        async with linked(own_redis.url) as link:
            assert not link.is_up
            with pytest.raises(StoreDown, match="^Redis is down$"):
                await link.command("PING")
            heard: list[str] = []
            link.on_up(lambda: heard.append("up"))
            own_redis.start()
            await back(link)
            await asyncio.sleep(0)
            assert await link.command("PING")
            assert (heard, link.failures) == (["up"], 1)
    assert [line["event"] for line in lines] == ["redis_down", "redis_up"]


async def test_a_hang_costs_one_time_out(own_redis: RedisServer) -> None:
    async with linked(own_redis.url, timeout_s=0.2) as link:
        own_redis.hang()
        started_s = time.monotonic()
        with pytest.raises(StoreDown, match="^no answer in time$"):
            await link.command("PING")
        assert 0.2 <= time.monotonic() - started_s < 1
        for _ in range(100):
            with pytest.raises(StoreDown):
                await link.command("PING")
        assert time.monotonic() - started_s < 2, "they did not wait"
        own_redis.go_on()
        await back(link)
        assert [await link.command("ECHO", str(number)) for number in range(3)] == [b"0", b"1", b"2"], "no late answers"


async def test_the_pauses_grow(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    own_redis.kill()
    async with linked(own_redis.url, retry_first_s=0.5, retry_most_s=10.0) as link:
        monkeypatch.setattr("bridge.server.redis_client.asyncio.sleep", noted)
        while len(pauses) < 8:
            await sleep(0.01)
        monkeypatch.undo()
        assert not link.is_up
    for pause, wanted in zip(pauses, (0.5, 1, 2, 4, 8, 10, 10, 10), strict=False):
        assert 0.8 * wanted <= pause <= 1.2 * wanted


async def test_a_redis_that_takes_no_writes_is_down(own_redis: RedisServer) -> None:
    async with linked(own_redis.url) as link:
        own_redis.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreDown, match="^ReadOnlyError$"):
            await link.command("SET", link.key("x"), "1")
        await asyncio.sleep(0.2)
        assert not link.is_up
        own_redis.ask("REPLICAOF", "NO", "ONE")
        await back(link)


async def test_a_wrong_password_is_said_without_the_password(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "right-secret")
    with pytest.raises(AssertionError, match="does not answer"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.kit.redis.START_TIMEOUT_S", 0.5)
        server.start()  # it asks for the password, which our own client does not have
    try:
        with logs.captured() as lines:
            async with linked(f"redis://:wrong-secret@127.0.0.1:{server.port}/0") as link:
                assert not link.is_up
        assert [line["detail"] for line in lines] == ["AuthenticationError"]
        assert "secret" not in str(lines)
        assert "secret" not in repr(RedisOptions("redis://:wrong-secret@127.0.0.1/0"))
        async with linked(f"redis://:right-secret@127.0.0.1:{server.port}/0") as link:
            assert await link.command("PING")
    finally:
        server.stop()


async def test_a_cluster(tmp_path: Path) -> None:
    # By default the cluster's own port is 10,000 above the other, which may be no port at all.
    own_port = ("--cluster-port", str(free_port()))
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", *own_port)
    server.start()
    try:
        assert server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"
        async with asyncio.timeout(10):
            while b"cluster_state:ok" not in server.ask("CLUSTER", "INFO"):  # noqa: ASYNC110  # Redis sets no event
                await asyncio.sleep(0.05)
        async with linked(server.url, cluster=True, timeout_s=5, prefix="p1") as link:
            assert link.is_up
            assert await link.script(ECHO, "x") == [b"{p1}", b"x"]
            assert await link.command("SET", link.key("x"), "1")
    finally:
        server.stop()
