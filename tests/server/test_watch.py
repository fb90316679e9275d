"""Changes of the configuration that reach a running bridge: files, SIGHUP, and the database's routes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from bridge.calls.routing import encode_route, parse_routing
from bridge.calls.rules import Route
from bridge.config import load_configuration
from bridge.server.convai_client import AgentTarget
from bridge.server.reload import Reloader
from bridge.server.service import Bridge
from bridge.server.storage import Storage
from bridge.server.watch import ConfigurationSource, watching
from tests.kit import logs
from tests.kit.offline import keeping_bridge, offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table

ROUTE = '[[routes]]\nnumber = "+15550199"\nagent = "agent_{}"\n'


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


def source_of(path: Path) -> ConfigurationSource:
    return ConfigurationSource(
        lambda: load_configuration({"ELEVENLABS_AGENT_ID": "agent_1", "BRIDGE_AUTH": "off"}, path, Path("no.env")),
        (path,),
    )


@contextlib.asynccontextmanager
async def on_file(tmp_path: Path, text: str) -> AsyncIterator[tuple[Bridge, Reloader, Path]]:
    """A bridge that was started with this file, and watches it."""
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    source = source_of(path)
    bridge = offline_bridge(BRIDGE_AUTH="off")
    started = source.load()
    bridge.settings, bridge.routing = started.settings, started.routing
    before = asyncio.all_tasks()
    async with watching(bridge, source) as reloader:
        yield bridge, reloader, path
    assert asyncio.all_tasks() == before


def agent_of(bridge: Bridge) -> str:
    return bridge.routing.resolve("twilio", "+15550199", "", bridge.defaults).agent_id


# --- files -----------------------------------------------------------------------------------------------


async def test_a_changed_file_is_for_the_calls_to_come(tmp_path: Path) -> None:
    async with on_file(tmp_path, ROUTE.format("old")) as (bridge, reloader, path):
        first = await Table(bridge).activate(called="+15550199")
        path.write_text("bridge_max_calls = 7\n" + ROUTE.format("new"))
        await reloader.poll(forced=True)
        assert (agent_of(bridge), bridge.admission.limits.max_calls) == ("agent_new", 7)
        second = await Table(bridge).activate("CA2", called="+15550199")
        assert [table.agents.targets for table in (first, second)] == [
            [AgentTarget("agent_old")],
            [AgentTarget("agent_new")],
        ]
        assert bridge.ended_counts == {}
        first.hang_up()
        second.hang_up()


async def test_a_bad_file_changes_nothing_and_is_explained(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    async with on_file(tmp_path, ROUTE.format("old")) as (bridge, reloader, path):
        settings = bridge.settings
        path.write_text('bridge_max_calls = "many"\n' + ROUTE.format("new"))
        await reloader.poll(forced=True)
        assert bridge.settings is settings
        assert agent_of(bridge) == "agent_old"
        [line] = [line for line in lines if line["event"] == "configuration_rejected"]
        assert "BRIDGE_MAX_CALLS" in line["detail"]


@pytest.fixture
def deaf() -> Iterator[None]:
    """Without a handler, SIGHUP would end the test run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("deaf")
async def test_sighup_reads_everything_anew(tmp_path: Path) -> None:
    async with on_file(tmp_path, ROUTE.format("old")) as (bridge, _, path):
        path.write_text(ROUTE.format("new"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: agent_of(bridge) == "agent_new", "the signal was not noticed")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL, "afterwards the signal is the system's again"


async def test_without_a_source_signals_are_left_alone() -> None:
    bridge = offline_bridge()
    before = signal.getsignal(signal.SIGHUP)
    async with watching(bridge, None) as reloader:
        assert signal.getsignal(signal.SIGHUP) is before
        await reloader.poll(forced=True)
        assert bridge.settings is reloader.current.settings


# --- the database ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def on_database(tmp_path: Path, *routes: Route) -> AsyncIterator[tuple[Bridge, Storage]]:
    async with keeping_bridge(tmp_path) as bridge:
        storage = bridge.parts.storage
        assert storage is not None
        for route in routes:
            await storage.routes.put(route.number, route.provider, encode_route(route))
        yield bridge, storage


async def test_the_databases_routes_are_there_from_the_start_and_follow(tmp_path: Path) -> None:
    async with on_database(tmp_path, Route(number="+15550199", agent="agent_kept")) as (bridge, storage):
        bridge.routing = parse_routing({"routes": [{"number": "+15550199", "agent": "agent_file"}]})
        assert agent_of(bridge) == "agent_file"
        async with watching(bridge, None) as reloader:
            assert agent_of(bridge) == "agent_kept"
            await storage.routes.delete("+15550199", "")
            await reloader.poll()
            assert agent_of(bridge) == "agent_file"


@pytest.mark.parametrize("failure", [OperationalError("SELECT", {}, Exception("gone")), OSError(), TimeoutError()])
@pytest.mark.parametrize("method", ["version", "all"])
async def test_a_database_that_does_not_answer_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[dict[str, Any]],
    failure: Exception,
    method: str,
) -> None:
    async def fail() -> None:
        raise failure

    async with (
        on_database(tmp_path, Route(number="+15550199", agent="agent_kept")) as (bridge, storage),
        watching(bridge, None) as reloader,
    ):
        with monkeypatch.context() as broken:
            broken.setattr(storage.routes, method, fail)
            assert await reloader.refresh_routes(forced=True) is False
        assert agent_of(bridge) == "agent_kept"
        assert await reloader.refresh_routes(forced=True) is True
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["routes_unknown"]
