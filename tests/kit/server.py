"""A bridge on a port of this machine, in this process, with what tests want to know of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bridge.calls.record import CallRecord
from bridge.calls.routing import RoutingTable
from bridge.config import Settings, load_settings
from bridge.server.serve import BridgeServer, serve
from bridge.server.service import Bridge
from bridge.server.store.listing import CallFilter
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Scenario
from bridge.simulators.agent_server import AgentServer

AUTH_TOKEN = "12345678901234567890123456789012"
"""Signs the simulated Twilio's requests; the length of a real one."""

DEADLINE_S = 10.0
"""How long anything may take before a test fails; far above what it does take."""

FIRST_FREE_PORT, LAST_FREE_PORT = 10_000, 20_000
"""Below those that the kernel gives out by itself, and those for RTP."""

_POLL_S = 0.005
_random = random.SystemRandom()  # tests that run beside each other begin with the same seed


def free_port() -> int:
    """A port that nobody uses right now, and that the kernel does not give to the next connection either."""
    for _ in range(50):
        port = _random.randrange(FIRST_FREE_PORT, LAST_FREE_PORT)
        with socket.socket() as probe, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            try:
                probe.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


async def until(condition: Callable[[], object], what: str = "", timeout_s: float = DEADLINE_S) -> None:
    """Wait until ``condition`` holds; fails with ``what`` when it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what or "the condition did not come true in time"
        await asyncio.sleep(_POLL_S)


class Start(Protocol):
    """Starts an agent and a bridge that sends its calls there."""

    async def __call__(
        self,
        scenario: str | Scenario = "echo",
        *,
        options: AgentOptions | None = None,
        routing: RoutingTable | None = None,
        **settings: str,
    ) -> RunningBridge:
        """``options`` takes the place of ``scenario``; ``settings`` by their names. Each has its own DATA_DIR."""


def settings_for(tests_settings: dict[str, str]) -> Settings:
    """Settings as the environment would give them, from nowhere else."""
    nowhere = Path("does-not-exist.env")
    return load_settings({"BRIDGE_CONFIG": "", **tests_settings}, dotenv_path=nowhere)


@dataclass
class Place:
    """Where a bridge can be called, in this process or another."""

    settings: Settings
    lines: list[dict[str, Any]]
    """Log lines so far."""

    @property
    def http_url(self) -> str:
        """Where it really listens."""
        return f"http://127.0.0.1:{self.settings.bridge_port}"

    @property
    def voice(self) -> str:
        """The answer webhook."""
        return f"{self.http_url}/twilio/voice"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log lines of this event."""
        return [line for line in self.lines if line["event"] == event]


@dataclass
class RunningBridge(Place):
    """A bridge that listens in this process."""

    bridge: Bridge
    server: BridgeServer
    task: asyncio.Task[None]
    agent: AgentServer

    @property
    def active(self) -> int:
        """Slots taken."""
        return self.bridge.admission.active

    def ends(self) -> list[str]:
        """How the calls ended so far, as logged; checks that counters and metrics say the same.

        The counters also have the calls that were turned away by their answer webhook.
        """
        logged = [f"{line['result']}/{line['reason']}" for line in self.logged("call_ended")]
        counts = self.bridge.ended_counts
        assert sum(counts.values()) == len(logged) + len(self.logged("call_refused"))
        assert all(counts[name] >= logged.count(name) for name in logged)
        text = self.bridge.metrics.render().decode()
        for name, count in counts.items():
            result, reason = name.split("/")
            labels = f'provider="twilio",reason="{reason}",result="{result}"'
            assert f"bridge_calls_ended_total{{{labels}}} {count:.1f}" in text
        return logged

    async def ended(self, count: int = 1) -> list[str]:
        """Wait until so many calls have ended and nothing of them is left; returns how they ended."""
        await until(lambda: len(self.logged("call_ended")) >= count, f"only {self.ends()} ended")
        await self.bridge.wait_partings(DEADLINE_S)
        assert not self.bridge.sessions
        assert self.active == 0
        assert self.bridge.live.here() == []
        return self.ends()

    async def records(self) -> list[CallRecord]:
        """The calls in the database, the oldest first, with their journals."""
        storage = self.bridge.parts.storage
        assert storage is not None
        assert await storage.ledger.flush(DEADLINE_S), storage.state
        page = await storage.calls.page(CallFilter(), None, 100)
        found = [await storage.calls.get(record.id) for record in reversed(page.calls)]
        return [record for record in found if record is not None]


@contextlib.asynccontextmanager
async def running_bridge(
    settings: Settings, lines: list[dict[str, Any]], agent: AgentServer, routing: RoutingTable | None = None
) -> AsyncIterator[RunningBridge]:
    """Run a bridge; on the way out it is stopped. Its DATA_DIR must be its own: it keeps its database there."""
    ready: asyncio.Future[tuple[Bridge, BridgeServer]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(settings, lambda bridge, server: ready.set_result((bridge, server)), routing=routing)
    )
    await asyncio.wait((task, ready), timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    bridge, server = ready.result()
    try:
        yield RunningBridge(settings, lines, bridge, server, task, agent)
    finally:
        server.should_exit = True
        async with asyncio.timeout(DEADLINE_S):
            await task
