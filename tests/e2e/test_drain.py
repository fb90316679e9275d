"""Stopping a bridge that has a call: a process of its own gets real signals."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import AgentServer
from tests.kit import twilio
from tests.kit.caller import WireCaller
from tests.kit.process import ProcessBridge, bridge_process
from tests.kit.server import until

pytestmark = pytest.mark.e2e

NEXT_CALL = "CA00000000000000000000000000000002"
AUDIO = twilio.media(b"\x01" * 160)
BUSY = '<?xml version="1.0" encoding="UTF-8"?><Response><Reject reason="busy" /></Response>'


async def first_signal(at: ProcessBridge) -> None:
    at.process.send_signal(signal.SIGTERM)
    await until(lambda: at.logged("draining"), "the signal was not noticed")


def last_end(at: ProcessBridge) -> str:
    [line] = at.logged("call_ended")
    return f"{line['result']}/{line['reason']}"


async def test_a_call_in_progress_ends_in_its_own_time(tmp_path: Path) -> None:
    async with (
        AgentServer(AgentOptions(scenario="echo")) as agent,
        bridge_process(tmp_path, ELEVENLABS_BASE_URL=agent.base_url) as at,
        WireCaller(at) as caller,
        WireCaller(at, call_sid=NEXT_CALL) as late,
        httpx.AsyncClient(base_url=at.http_url, trust_env=False) as operator,
    ):
        assert (await operator.get("/readyz")).status_code == 200
        late_token = await late.order()
        await caller.dial_in()
        await first_signal(at)

        ready = await operator.get("/readyz")
        assert (ready.status_code, ready.json()["ready"], ready.json()["reason"]) == (503, False, "draining")
        assert (await operator.get("/healthz")).status_code == 200
        assert (await late.post("/twilio/voice")).text == BUSY
        with pytest.raises(Exception, match="HTTP 503"):
            await late.dial(late_token)

        await caller.send(AUDIO)
        await until(lambda: caller.heard == b"\x01" * 160, "the call does not go on")
        assert at.process.returncode is None
        await caller.send(twilio.STOP)
        assert await caller.closed() == 1000
        assert await caller.verbs() == ["Hangup"]
        assert await at.exited() == 0
    assert last_end(at) == "success/caller_hangup"


async def test_a_call_that_takes_too_long_is_ended_with_words(tmp_path: Path) -> None:
    async with (
        AgentServer(AgentOptions(scenario="echo")) as agent,
        bridge_process(tmp_path, ELEVENLABS_BASE_URL=agent.base_url, DRAIN_TIMEOUT_S="0.3") as at,
        WireCaller(at) as caller,
    ):
        await caller.dial_in()
        await first_signal(at)
        assert await caller.closed() == 1000
        assert await caller.verbs() == ["Say", "Hangup"]
        assert await at.exited() == 0
        log = await agent.wait_ended()
        assert (log.closed_by, log.close_code) == ("client", 1000)
    assert last_end(at) == "server_error/draining"
    assert at.logged("drain_timeout")[0]["active_calls"] == 1


async def test_a_second_signal_ends_calls_at_once(tmp_path: Path) -> None:
    async with (
        AgentServer(AgentOptions(scenario="echo")) as agent,
        bridge_process(tmp_path, ELEVENLABS_BASE_URL=agent.base_url) as at,
        WireCaller(at) as caller,
    ):
        await caller.dial_in()
        await first_signal(at)
        at.process.send_signal(signal.SIGTERM)
        assert await at.exited(timeout_s=3.0) == 0
        assert await caller.closed() == 1000
        log = await agent.wait_ended()
        assert (log.closed_by, log.close_code) == ("client", 1000)
    assert last_end(at) == "server_error/draining"


async def test_a_taken_port_is_said_and_ends_it(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as other:
        port = str(other.sockets[0].getsockname()[1])
        with pytest.raises(AssertionError, match="address already in use"):
            async with bridge_process(tmp_path, BRIDGE_PORT=port):
                pass
