"""SIP calls to and from a bridge that listens: the strict simulated phone and trunk, on free ports of this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Scenario
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.sip_phone import SipPhoneOptions, call_sip
from bridge.simulators.sip_result import SipResult
from bridge.simulators.sip_trunk import SipTrunk, SipTrunkOptions, TrunkScript
from bridge.simulators.twilio_line import HangUp, Silence
from tests.kit.server import DEADLINE_S, Place, RunningBridge, Start, free_port, until

OURS, CALLER, HUMAN = "+15551234567", "+15550100", "+4930123456"
API_KEY = "simulated-operator-key-of-the-bridge"

FIRST_RTP_PORT, LAST_RTP_PORT = 20_000, 32_000
"""Below the ports that the kernel gives out by itself, so that no other test gets one in between."""

RTP_PORTS = 80
"""Ports of one bridge: forty calls."""

_random = random.SystemRandom()  # tests that run beside each other begin with the same seed

OPEN: dict[str, str] = {"BRIDGE_AUTH": "off", "SIP_HOST": "127.0.0.1"}
"""Settings of a bridge that takes everybody on loopback for its trunk."""


def free_signalling_port() -> int:
    """A port that nobody uses, neither over UDP nor over TCP."""
    return free_port()


def free_rtp_ports(count: int = RTP_PORTS) -> tuple[int, int]:
    """The first and last of so many ports in a row that nobody uses; the first is even."""
    for _ in range(50):
        first = _random.randrange(FIRST_RTP_PORT, LAST_RTP_PORT - count, 2)
        probes: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                probes.append(probe)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return first, first + count - 1
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no row of ports is free")


@dataclass(frozen=True, slots=True)
class SipPorts:
    """Where a bridge speaks SIP."""

    signalling: int
    """The same over UDP and TCP."""
    rtp_first: int
    rtp_last: int

    @classmethod
    def free(cls, rtp_ports: int = RTP_PORTS) -> SipPorts:
        """Ports that nobody uses right now."""
        return cls(free_signalling_port(), *free_rtp_ports(rtp_ports))

    def settings(self) -> dict[str, str]:
        """As settings of the bridge."""
        return {
            "SIP_UDP_PORT": str(self.signalling),
            "SIP_TCP_PORT": str(self.signalling),
            "SIP_RTP_PORT_MIN": str(self.rtp_first),
            "SIP_RTP_PORT_MAX": str(self.rtp_last),
        }

    def uri(self, number: str = OURS, transport: str = "udp") -> str:
        """The bridge's number, as a phone calls it."""
        return f"sip:{number}@127.0.0.1:{self.signalling};transport={transport}"

    @property
    def address(self) -> str:
        """``host:port`` of the signalling."""
        return f"127.0.0.1:{self.signalling}"


@dataclass(frozen=True, slots=True)
class SipBridge:
    """A bridge with SIP."""

    at: RunningBridge
    ports: SipPorts

    async def dial(self, *actions: AnyAction, transport: str = "udp", **more: Any) -> SipResult:
        """Call it, to the call's end; without actions the caller stays for a second."""
        to = self.ports.uri(transport=transport)
        given = {"max_duration_s": 30.0, **more}
        return await call_sip(
            SipPhoneOptions(to=to, caller=CALLER, actions=actions or (Silence(ms=1000), HangUp()), **given)
        )

    async def ended(self, count: int = 1) -> list[str]:
        """Wait until so many calls have ended and nothing of them is left; returns how they ended."""
        at = self.at
        await until(lambda: len(at.logged("call_ended")) >= count, "the bridge goes on")
        await at.bridge.wait_partings(DEADLINE_S)
        assert not at.bridge.sessions
        assert at.active == 0
        assert at.bridge.live.here() == []
        ends = [f"{line['result']}/{line['reason']}" for line in at.logged("call_ended")]
        text = at.bridge.metrics.render().decode()
        for end in set(ends):
            result, reason = end.split("/")
            labels = f'provider="sip",reason="{reason}",result="{result}"'
            assert f"bridge_calls_ended_total{{{labels}}} {ends.count(end)}.0" in text
        return ends

    async def place(self, number: str = HUMAN, **members: Any) -> httpx.Response:
        """Have it call somebody (``POST /v1/calls``)."""
        return await place_call(self.at, number, **members)


async def place_call(at: Place, number: str, **members: Any) -> httpx.Response:
    """Order a SIP call of a bridge, with the key ``API_KEY``."""
    body = {"provider": "sip", "to_number": number, **members}
    async with httpx.AsyncClient(base_url=at.http_url, headers={"X-API-Key": API_KEY}, trust_env=False) as client:
        return await client.post("/v1/calls", json=body)


async def start_sip(
    start: Start,
    scenario: str | Scenario = "echo",
    *,
    options: AgentOptions | None = None,
    rtp_ports: int = RTP_PORTS,
    **settings: Any,
) -> SipBridge:
    """Start a bridge with SIP on free ports, and an agent that sends the caller's audio back unless told otherwise."""
    ports = SipPorts.free(rtp_ports)
    chosen: dict[str, Any] = {**OPEN, **ports.settings(), **settings}
    return SipBridge(await start(scenario, options=options, **chosen), ports)


@dataclass(frozen=True, slots=True)
class Trunked:
    """A bridge and the carrier that it places calls through."""

    bridge: SipBridge
    trunk: SipTrunk


@asynccontextmanager
async def trunked(
    start: Start,
    scenario: str | Scenario = "echo",
    *,
    people: dict[str, TrunkScript] | None = None,
    transport: str = "udp",
    options: AgentOptions | None = None,
    **settings: Any,
) -> AsyncIterator[Trunked]:
    """Start both. ``people`` says who answers how; the bridge may have broken no rule when the block ends."""
    async with SipTrunk(SipTrunkOptions(people=people or {})) as trunk:
        placing = {
            "SIP_OUTBOUND_ADDRESS": trunk.address,
            "SIP_OUTBOUND_TRANSPORT": transport,
            "SIP_OUTBOUND_CALLER_ID": OURS,
            "BRIDGE_API_KEY": f"admin:{API_KEY}",
        }
        bridge = await start_sip(start, scenario, options=options, **{**placing, **settings})
        yield Trunked(bridge, trunk)
        assert [str(violation) for violation in trunk.violations] == []
