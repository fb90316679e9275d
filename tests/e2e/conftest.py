"""The fixture behind all end-to-end tests: a bridge and an agent on free ports, and nothing left of them after."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bridge.calls.routing import RoutingTable
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Scenario
from bridge.simulators.agent_server import AgentServer
from tests.kit import logs
from tests.kit.server import AUTH_TOKEN, RunningBridge, Start, free_port, running_bridge, settings_for, until


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the event loop that ``bridge serve`` runs on."""
    return {"uvloop": uvloop.new_event_loop}


_tls_context = functools.cache(ssl.create_default_context)
"""Reading all root certificates takes longer than many a call; no test here speaks TLS."""


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Log lines of the test."""
    with logs.captured() as captured:
        yield captured


@pytest.fixture
async def start(lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Start]:
    """Start bridges; when the test is over, none of them may have left a call, a slot or a task."""
    monkeypatch.setattr(ssl, "create_default_context", _tls_context)
    before = asyncio.all_tasks()
    started: list[RunningBridge] = []
    async with contextlib.AsyncExitStack() as stack:

        async def begin(
            scenario: str | Scenario = "echo",
            *,
            options: AgentOptions | None = None,
            routing: RoutingTable | None = None,
            **settings: str,
        ) -> RunningBridge:
            agent = await stack.enter_async_context(AgentServer(options or AgentOptions(scenario=scenario)))
            defaults = {
                "BRIDGE_PORT": str(free_port()),
                "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
                "ELEVENLABS_BASE_URL": agent.base_url,
                "ELEVENLABS_AGENT_ID": "agent_1",
                "DATA_DIR": str(tmp_path / f"data{len(started)}"),
            }
            chosen = settings_for({**defaults, **settings})
            bridge = await stack.enter_async_context(running_bridge(chosen, lines, agent, routing))
            started.append(bridge)
            return bridge

        yield begin
        for bridge in started:
            await until(lambda: not bridge.bridge.sessions, "a call is left")  # noqa: B023  # awaited right here
            await until(lambda: bridge.active == 0, "a slot is left")  # noqa: B023  # likewise
            assert bridge.logged("bug") == bridge.logged("bug_while_ending") == []
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
