"""Several bridges behind HAProxy, with Redis, PostgreSQL, an agent and a strict receiver: all of them real processes.

Only the receiver of webhooks runs in the process of the tests. Instances have names, are addressed singly or through
HAProxy (which goes round between them and leaves out those that are not ready), and may be killed, frozen, stopped
and started again on their ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.bench.floor import find_haproxy, haproxy_command
from tests.kit import webhooks
from tests.kit.database import PostgresServer
from tests.kit.process import ProcessBridge, bridge_process, environment
from tests.kit.redis import RedisServer
from tests.kit.server import DEADLINE_S, free_port, until

API_KEY = "key_of_the_cluster_tests"
SERVED_BY = "x-served-by"
"""Header in which HAProxy names the instance that answered."""

HEALTH_EVERY_MS = 200
"""HAProxy asks each instance so often whether it is ready; one refusal takes it out."""
BALANCER_DEADLINE_S = 5.0

_POLL_S = 0.05


@dataclass
class Instance:
    """One ``bridge serve``; it keeps its name and its port over restarts."""

    name: str
    folder: Path
    settings: dict[str, str]
    runs: list[ProcessBridge] = field(default_factory=list)
    """Every process that it was, the latest last."""
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.settings["BRIDGE_PORT"])

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def place(self) -> ProcessBridge:
        """The process that it is now, or was last."""
        return self.runs[-1]

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return bool(self.runs) and self.place.process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self._stack = contextlib.AsyncExitStack()
        self.runs.append(await self._stack.enter_async_context(bridge_process(self.folder, **self.settings)))

    async def kill(self) -> None:
        """It dies without a word."""
        last_words = self.place.raw[-2000:].decode(errors="replace")
        assert self.is_running, f"{self.name} has ended by itself ({self.place.process.returncode}): {last_words}"
        self.send(signal.SIGKILL)
        await self.end()

    async def end(self) -> None:
        """See it off, killing it if need be."""
        await self._stack.aclose()

    def send(self, number: signal.Signals) -> None:
        """Give it a signal."""
        self.place.process.send_signal(number)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log lines of this event, of all its processes."""
        return [line for run in self.runs for line in run.logged(event)]


@dataclass
class Cluster:
    """All of it."""

    instances: dict[str, Instance]
    redis: RedisServer
    receiver: webhooks.Receiver
    personalizer: webhooks.Receiver
    """Answers the personalization webhook."""
    port: int
    """HAProxy's."""
    client: httpx.AsyncClient
    """For everything that tests ask over HTTP."""

    def __getitem__(self, name: str) -> Instance:
        """The instance of this name."""
        return self.instances[name]

    @property
    def public_url(self) -> str:
        """PUBLIC_URL: HAProxy's address."""
        return f"http://127.0.0.1:{self.port}"

    def address(self, name: str | None) -> str:
        """Host and port of an instance; None = HAProxy's."""
        return f"127.0.0.1:{self.port}" if name is None else self[name].address

    # --- what is known, over HTTP ---

    async def get(self, path: str, at: str | None = None, **query: str) -> Any:
        """What the API answers."""
        answer = await self.client.get(
            f"http://{self.address(at)}{path}", params=query or None, headers={"X-API-Key": API_KEY}
        )
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def ready(self, at: str) -> dict[str, Any]:
        """What ``/readyz`` says, whatever its status."""
        body: dict[str, Any] = (await self.client.get(f"http://{self.address(at)}/readyz")).json()
        return body

    async def records(self, at: str | None = None) -> list[dict[str, Any]]:
        """Every call of the database, as the API lists it."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await self.get("/v1/calls", at, limit="200", **({"cursor": cursor} if cursor else {}))
            found += page["calls"]
            cursor = page["next_cursor"]
        return found

    async def live(self, at: str | None = None) -> list[str]:
        """The carrier's numbers of all calls in progress, sorted: each test call has its own caller's number."""
        return sorted(call["caller"] for call in (await self.get("/v1/live", at))["calls"])

    def slots(self) -> int:
        """Slots in use by Redis' own account: members of the set of calls whose lease runs."""
        answer = self.redis.ask("ZCOUNT", "{bridge}:calls", f"({time.time() * 1000:.0f}", "+inf")
        return int(answer.decode().strip().removeprefix(":") or -1)

    async def balancer_knows(self, *names: str) -> None:
        """Wait until HAProxy sends new requests to these instances, and to no others."""
        deadline_s = time.monotonic() + BALANCER_DEADLINE_S
        while True:
            seen = set()
            for _ in range(2 * len(self.instances)):
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self.client.get(f"{self.public_url}/healthz")
                    seen.add(answer.headers.get(SERVED_BY, ""))
            if seen == set(names):
                return
            assert time.monotonic() < deadline_s, f"HAProxy sends requests to {sorted(seen)}"
            await asyncio.sleep(_POLL_S)

    def assert_no_bugs(self) -> None:
        """No instance has met a bug of its own."""
        for instance in self.instances.values():
            for run in instance.runs:
                assert run.logged("bug") == run.logged("bug_while_ending") == []
                assert b"Traceback" not in run.raw, run.raw.decode()


# --- bringing it up --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def running_cluster(
    folder: Path,
    postgres: PostgresServer,
    names: Sequence[str] = ("a", "b"),
    *,
    behaviour: webhooks.Behaviour | None = None,
    own: dict[str, dict[str, str]] | None = None,
    **settings: str,
) -> AsyncIterator[Cluster]:
    """Start everything, on a new database of ``postgres``; nothing is left of it afterwards.

    ``settings`` are of all instances, ``own`` of single ones by name.
    """
    async with contextlib.AsyncExitStack() as stack:
        redis = RedisServer(folder)
        redis.start()
        stack.callback(redis.stop)
        receiver = await stack.enter_async_context(webhooks.receiver(behaviour))
        personalizer = await stack.enter_async_context(webhooks.receiver(_personalize))
        agent_port, port = free_port(), free_port()
        await stack.enter_async_context(_process(folder, "-m", "bridge", "agent", f"--port={agent_port}", *_ECHO))
        common = {
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "ELEVENLABS_BASE_URL": f"http://127.0.0.1:{agent_port}",
            "BRIDGE_API_KEY": API_KEY,
            "REDIS_URL": redis.url,
            "DATABASE_URL": postgres.new_database(),
            "WEBHOOK_URL": receiver.url,
            "WEBHOOK_SECRET": webhooks.SECRET,
            "PERSONALIZATION_URL": personalizer.url,
            "EGRESS_ALLOW": "127.0.0.0/8",
            **settings,
        }
        instances = {name: _instance(folder, name, {**common, **(own or {}).get(name, {})}) for name in names}
        client = await stack.enter_async_context(_new_client())
        cluster = Cluster(instances, redis, receiver, personalizer, port, client)
        for instance in instances.values():
            stack.push_async_callback(instance.end)
            await instance.start()  # one after the other: together they may take too long on a busy machine
        await stack.enter_async_context(_haproxy(folder, cluster))
        await _wait_for_port(agent_port)
        await cluster.balancer_knows(*(name for name in names))
        yield cluster


_ECHO = ("--scenario", "echo")


def _new_client() -> httpx.AsyncClient:
    # A new connection for every request: one to an instance that died meanwhile would fail.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(trust_env=False, verify=False, limits=limits, timeout=DEADLINE_S)


def _instance(folder: Path, name: str, settings: dict[str, str]) -> Instance:
    own = folder / name
    own.mkdir()
    return Instance(name, own, {"BRIDGE_PORT": str(free_port()), "INSTANCE_ID": name, **settings})


def _personalize(_request: webhooks.Received, _number: int) -> webhooks.Reply:
    return webhooks.Reply(body=b'{"type": "conversation_initiation_client_data", "dynamic_variables": {"name": "Ada"}}')


@contextlib.asynccontextmanager
async def _process(folder: Path, *arguments: str) -> AsyncIterator[None]:
    """A Python program that lives as long as the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment({}), cwd=folder, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def haproxy_binary() -> str:
    """The program. Without it: an error in CI that names the package, elsewhere a skip with the reason."""
    found = find_haproxy()
    if found is not None:
        return found
    reason = "haproxy is missing: install the package haproxy (apt-get install haproxy)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextlib.asynccontextmanager
async def _haproxy(folder: Path, cluster: Cluster) -> AsyncIterator[None]:
    program = haproxy_binary()
    config = folder / "haproxy.cfg"
    config.write_text(_config(cluster))
    process = await asyncio.create_subprocess_exec(*haproxy_command(program, config), stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def _config(cluster: Cluster) -> str:
    """What such a set-up needs, with short pauses: health from /readyz, one after the other, no stickiness."""
    servers = "\n".join(f"    server {one.name} {one.address} check" for one in cluster.instances.values())
    return f"""\
global
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
    timeout check 1s
    option redispatch 1
frontend carriers
    bind 127.0.0.1:{cluster.port}
    default_backend bridges
backend bridges
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    http-response set-header {SERVED_BY} %s
    default-server inter {HEALTH_EVERY_MS} fall 1 rise 1
{servers}
"""


async def _wait_for_port(port: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < deadline_s, f"nobody listens on {port}"
            await asyncio.sleep(_POLL_S)
        else:
            writer.close()
            return


def new_number() -> str:
    """A caller's number that no other call has."""
    return f"+1555{secrets.randbelow(10**7):07d}"


async def until_true(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> float:
    """``until`` for a coroutine function, asked a few times a second; returns how long it took."""
    began_s = time.monotonic()
    while not await condition():
        assert time.monotonic() - began_s < timeout_s, what
        await asyncio.sleep(_POLL_S)
    return time.monotonic() - began_s


__all__ = ["Cluster", "Instance", "new_number", "running_cluster", "until", "until_true"]
