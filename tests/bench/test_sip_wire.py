"""Both ends of the SIP mode on loopback: ``sip_caller.py`` and ``sip_floor.py``, with an agent behind them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from picows import ws_create_server

from bridge.bench.agent import Agent
from bridge.bench.call import Call, Logs, SignalKit
from bridge.bench.rtp_tally import RtpTally
from bridge.bench.sip_caller import CallRefused, SipBenchCaller
from bridge.bench.sip_floor import Floor
from bridge.bench.vonage_far_end import VonageWire
from bridge.media.format import ULAW_8K


def new_call() -> tuple[Call, RtpTally]:
    """A call in an open window."""
    logs = Logs()
    logs.window.open(time.perf_counter_ns())
    return SignalKit(False, raw_frames=True, raw_speech=True).new_call(3, logs), RtpTally(logs.window)


@asynccontextmanager
async def floor(call: Call, agents: list[Agent]) -> AsyncIterator[str]:
    """A floor with an agent behind it; yields its address."""

    def claim(agent: Agent) -> Call:
        agents.append(agent)
        return call

    loop = asyncio.get_running_loop()
    server = await ws_create_server(lambda request: Agent(VonageWire(ULAW_8K), claim, 1), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, listener = await loop.create_datagram_endpoint(lambda: Floor(port), local_addr=("127.0.0.1", 0))
    try:
        yield f"ws://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        listener.stop()
        transport.close()
        for agent in agents:
            agent.hang_up()
        server.close()
        await server.wait_closed()


async def test_a_call_over_the_floor() -> None:
    call, tally = new_call()
    agents: list[Agent] = []
    async with floor(call, agents) as url:
        caller = SipBenchCaller(call, tally)
        await caller.dial(url)
        for number in range(40):
            caller.tick(time.perf_counter_ns())
            if number % 5 == 4:
                agents[0].tick(time.perf_counter_ns())
            if number == 20:
                agents[0].interrupt(time.perf_counter_ns())
            await asyncio.sleep(0.02)
        caller.hang_up()
        await asyncio.wait_for(caller.wait_closed(), 5.0)
    up, down = call.tallies()
    assert call.logs.complaints == []
    assert up.received_ms == pytest.approx(800, abs=60)
    assert down.received_ms > 300
    assert (tally.lost, tally.disordered) == (0, 0)
    assert tally.packets > 25
    assert len(tally.answered_ms) == 1
    assert (call.logs.interruptions, len(call.logs.barge_in.values_ms), down.stale_bytes) == (1, 1, 0)


class Refuses(asyncio.DatagramProtocol):
    """Answers every request with one status."""

    def __init__(self, status: bytes) -> None:
        self._status = status
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        fields = b"\r\n".join(line for line in data.split(b"\r\n") if line.split(b":")[0] in (b"Via", b"CSeq"))
        self.transport.sendto(b"SIP/2.0 " + self._status + b"\r\n" + fields + b"\r\n\r\n", addr)


@pytest.mark.parametrize(("status", "said"), [(b"486 Busy Here", "it answered 486"), (b"200 OK", "lacks a Contact")])
async def test_calls_that_do_not_come_about(status: bytes, said: str) -> None:
    call, tally = new_call()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Refuses(status), local_addr=("127.0.0.1", 0))
    caller = SipBenchCaller(call, tally)
    try:
        with pytest.raises(CallRefused, match=said):
            await caller.dial(f"ws://127.0.0.1:{transport.get_extra_info('sockname')[1]}")
    finally:
        caller.drop()
        transport.close()


async def test_a_bye_of_the_server_is_complained_of() -> None:
    call, tally = new_call()
    async with floor(call, []) as url:
        caller = SipBenchCaller(call, tally)
        await caller.dial(url)
        bye = b"BYE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nCall-ID: y\r\nCSeq: 1 BYE\r\n\r\n"
        caller.datagram_received(bye, ("127.0.0.1", 9))
        await asyncio.wait_for(caller.wait_closed(), 1.0)
    assert call.logs.complaints == ["the server hung call 3 up"]
