"""What an operator sees and does of SIP calls: messages, figures, metrics, trunks that change, a drain."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.config import Configuration
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_server import AgentServer
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.sip_phone import SipPhone, SipPhoneOptions, call_sip
from bridge.simulators.sip_result import SipResult
from bridge.simulators.twilio_line import HangUp, Silence
from bridge.sip.trunks import Inbound, Trunk, parse_network
from tests.kit.process import bridge_process
from tests.kit.server import RunningBridge, Start, until
from tests.kit.sip import API_KEY, OPEN, SipBridge, SipPorts, start_sip

pytestmark = pytest.mark.e2e

LOOPBACK: dict[str, Any] = {
    "BRIDGE_AUTH": "on",
    "BRIDGE_API_KEY": f"admin:{API_KEY}",
    "SIP_ALLOWED_ADDRESSES": "127.0.0.0/8",
}


def asking(at: RunningBridge) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=at.http_url, headers={"X-API-Key": API_KEY}, trust_env=False)


def metric(at: RunningBridge, line: str) -> float:
    """The sample whose name and labels are these."""
    text = at.bridge.metrics.render().decode()
    (found,) = [each for each in text.splitlines() if each.startswith(f"{line} ")]
    return float(found.rpartition(" ")[2])


async def dial(ports: SipPorts, *actions: AnyAction) -> SipResult:
    return await call_sip(SipPhoneOptions(to=ports.uri(), actions=actions, max_duration_s=30.0))


async def asked(ports: SipPorts) -> int:
    """The answer to OPTIONS."""
    phone = SipPhone(SipPhoneOptions(to=ports.uri()))
    await phone.open()
    try:
        response = await phone.ping()
        return 0 if response is None else response.status
    finally:
        await phone.close()


def calling(bridge: SipBridge, ms: int = 3000) -> asyncio.Task[SipResult]:
    return asyncio.create_task(bridge.dial(Silence(ms=ms), HangUp()))


async def test_a_calls_messages_are_there_while_it_goes_on_and_afterwards(start: Start) -> None:
    bridge = await start_sip(start, **LOOPBACK)
    call = calling(bridge, 1500)
    await until(lambda: bridge.at.logged("agent_ready"))
    (call_id,) = bridge.at.bridge.sessions
    path = f"/v1/calls/{call_id}/sip-messages"
    async with asking(bridge.at) as client:
        live = (await client.get(path)).json()
        assert [message["summary"].split()[0] for message in live["messages"]][:3] == ["INVITE", "100", "180"]
        await call
        await bridge.ended()
        over = (await client.get(path)).json()
        assert [message["sent"] for message in over["messages"]] == [False, True, True, True, False, False, True]
        text = await client.get(path, params={"format": "text"})
        assert text.headers["content-type"].startswith("text/plain")
        assert "BYE sip:" in text.text
        ladder = await client.get(path, params={"format": "svg"})
        assert ladder.headers["content-type"] == "image/svg+xml"
        assert ladder.text.startswith("<svg")
        detail = (await client.get(f"/v1/calls/{call_id}")).json()
        assert detail["media"]["packets_received"] > 50
        assert detail["media"]["loss"] < 0.2
        assert (await client.delete(f"/v1/calls/{call_id}")).status_code == 204


async def test_figures_of_sip_and_rtp(start: Start) -> None:
    bridge = await start_sip(start)
    call = calling(bridge, 1000)
    await until(lambda: bridge.at.logged("agent_ready"))
    assert metric(bridge.at, "bridge_rtp_ports_used") == 2
    await call
    await bridge.ended()
    await until(lambda: metric(bridge.at, "bridge_rtp_ports_used") == 0)
    assert metric(bridge.at, 'bridge_rtp_packets_total{direction="in"}') > 30
    assert metric(bridge.at, 'bridge_rtp_packets_total{direction="out"}') > 30
    assert metric(bridge.at, 'bridge_sip_messages_total{direction="in",message="INVITE",transport="udp"}') == 1
    assert metric(bridge.at, 'bridge_sip_messages_total{direction="out",message="2xx",transport="udp"}') == 2
    assert metric(bridge.at, "bridge_rtp_mos_count") == 1
    assert metric(bridge.at, "bridge_rtp_pacing_lateness_seconds_count") > 30


async def test_a_trunk_has_calls_of_its_own_at_most(start: Start) -> None:
    bridge = await start_sip(start, SIP_MAX_CALLS="1", **LOOPBACK)
    first = calling(bridge, 1500)
    await until(lambda: bridge.at.active == 1)
    assert (await bridge.dial()).status == 486
    assert (await first).status == 200
    await bridge.ended()
    assert (await bridge.dial(Silence(ms=200), HangUp())).status == 200


async def test_trunks_change_while_calls_go_on(start: Start) -> None:
    bridge = await start_sip(start, **LOOPBACK)
    call = calling(bridge, 1500)
    await until(lambda: bridge.at.active == 1)
    inside = bridge.at.bridge
    elsewhere = Trunk("elsewhere", Inbound(allowed_addresses=(parse_network("192.0.2.0/24"),)))
    inside.apply(Configuration(inside.settings, inside.routing, inside.tools, (elsewhere,)))
    assert (await bridge.dial()).status == 403
    assert (await call).ended_by == "caller", "it keeps what it began with"


async def test_a_drain_takes_no_more_calls_and_lets_those_on_the_line_finish(tmp_path: Path) -> None:
    ports = SipPorts.free()
    async with (
        AgentServer(AgentOptions(scenario="echo")) as agent,
        bridge_process(tmp_path, **{**OPEN, **ports.settings(), "ELEVENLABS_BASE_URL": agent.base_url}) as at,
    ):
        call = asyncio.create_task(dial(ports, Silence(ms=2500), HangUp()))
        await until(lambda: at.logged("agent_ready"))
        assert await asked(ports) == 200
        at.process.send_signal(signal.SIGTERM)
        await until(lambda: at.logged("draining"), "the signal was not noticed")
        assert await asked(ports) == 503
        refused = await dial(ports, HangUp())
        assert refused.status == 503
        assert [str(violation) for violation in refused.violations] == []
        result = await call
        assert (result.status, result.ended_by) == (200, "caller")
        assert await asyncio.wait_for(at.process.wait(), 15) == 0
        assert [line["reason"] for line in at.logged("call_ended")] == ["caller_hangup"]
