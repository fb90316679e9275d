"""Datagrams: in as messages, out to their address, and whatever else a port on the internet gets."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator

import pytest

from bridge.server.sip.limits import LimitOptions
from bridge.server.sip.udp import READS_PER_WAKE_UP
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.message import Request, Response
from tests.server.sip.net_fakes import RESPONSE, Desk, free_port, listen, options, running, until


@pytest.fixture
def phone() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


async def test_a_request_is_stamped_and_the_answer_goes_back(phone: socket.socket) -> None:
    desk = Desk()
    async with running(desk) as transports:
        address = ("127.0.0.1", transports.port(Transport.UDP))
        phone.sendto(options(1, "UDP"), address)
        (message, flow), *_ = await desk.got(1)
        port = phone.getsockname()[1]
        assert isinstance(message, Request)
        assert message.headers.get("Via") == (
            f"SIP/2.0/UDP client.example;branch=z9hG4bK1;rport={port};received=127.0.0.1"
        )
        assert flow == Flow(Transport.UDP, "127.0.0.1", port)
        transports.send(Outgoing(RESPONSE, flow, "key"))
        assert phone.recvfrom(65535) == (RESPONSE, address), "from the port that it wrote to"
        phone.sendto(RESPONSE, address)
        assert isinstance((await desk.got(2))[1][0], Response)
        assert transports.is_open(flow)
    assert desk.failed == []
    assert transports.counts.received["UDP"] == 2
    assert transports.counts.sent["UDP"] == 1


async def test_noise_is_counted_and_dropped(phone: socket.socket) -> None:
    chance = random.Random(5)
    desk = Desk()
    async with running(desk) as transports:
        address = ("127.0.0.1", transports.port(Transport.UDP))
        whole = options(1, "UDP")
        noise = [chance.randbytes(chance.randrange(1, 1500)) for _ in range(50)]
        for datagram in [*noise, b"\x00\x01\x00\x00stun", b"SIP/2.0 999 No\r\n\r\n", b"A" * 65_000]:
            phone.sendto(datagram, address)
        for keepalive in (b"\r\n\r\n", b"\r\n", b""):
            phone.sendto(keepalive, address)
        await until(lambda: transports.counts.not_sip == 53)
        phone.sendto(whole[:-40], address)
        phone.sendto(options(2, "UDP", length=500, body=b"short"), address)
        messages = [message for message, _ in await desk.got(2)]
    assert [message.flaw.status for message in messages if isinstance(message, Request) and message.flaw] == [400, 400]


async def test_one_address_cannot_flood_and_a_trusted_one_may(phone: socket.socket) -> None:
    desk = Desk()
    async with running(desk, limits=LimitOptions(messages_per_s=0.1, burst=5)) as transports:
        address = ("127.0.0.1", transports.port(Transport.UDP))
        for number in range(20):
            phone.sendto(options(number, "UDP"), address)
        await until(lambda: transports.counts.limited == 15)
        await desk.got(5)
        desk.trusted.add("127.0.0.1")
        for number in range(20):
            phone.sendto(options(number, "UDP"), address)
        await desk.got(25)


async def test_a_burst_is_read_in_turns(phone: socket.socket) -> None:
    desk = Desk()
    async with running(desk) as transports:
        address = ("127.0.0.1", transports.port(Transport.UDP))
        for number in range(READS_PER_WAKE_UP + 5):
            phone.sendto(options(number, "UDP"), address)
        turns: list[int] = []
        async with asyncio.timeout(5):
            while len(desk.messages) < READS_PER_WAKE_UP + 5:
                await asyncio.sleep(0)
                turns.append(len(desk.messages))
    assert READS_PER_WAKE_UP in turns, "the loop gets its turn in between"


@pytest.mark.parametrize(
    ("data", "flow"),
    [
        (b"x" * 70_000, Flow(Transport.UDP, "127.0.0.1", 5060)),
        (b"x", Flow(Transport.UDP, "127.0.0.1", 70_000)),
        (b"x", Flow(Transport.UDP, "localhost", 5060)),
        (b"x", Flow(Transport.UDP, "::1", 5060)),
    ],
    ids=["too long", "no port", "no address", "no socket"],
)
async def test_what_cannot_be_sent_is_told_once(data: bytes, flow: Flow) -> None:
    desk = Desk()
    async with running(desk) as transports:
        transports.send(Outgoing(data, flow, "key"))
        assert desk.failed == [], "never from within send"
        transports.send(Outgoing(data, flow))
        await asyncio.sleep(0.02)
    assert desk.failed == ["key"]


async def test_ipv6() -> None:
    desk = Desk()
    both = (*listen(Transport.UDP), *listen(Transport.UDP, host="::1"))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as phone:
        phone.bind(("::1", 0))
        async with running(desk, listen=both) as transports:
            assert transports._udp[True].port != transports.port(Transport.UDP)
            phone.sendto(options(1, "UDP"), ("::1", transports._udp[True].port))
            (message, flow), *_ = await desk.got(1)
            assert isinstance(message, Request)
            assert (message.headers.get("Via") or "").endswith(";received=::1")
            assert (flow.host, flow.port) == ("::1", phone.getsockname()[1])
            phone.settimeout(5)
            transports.send(Outgoing(RESPONSE, flow))
            assert phone.recv(65535) == RESPONSE


async def test_a_peer_that_is_not_there_does_not_stop_the_reading(phone: socket.socket) -> None:
    desk = Desk()
    async with running(desk) as transports:
        gone = Flow(Transport.UDP, "127.0.0.1", free_port(socket.SOCK_DGRAM))
        for _ in range(3):
            transports.send(Outgoing(RESPONSE, gone, "key"))
        phone.sendto(options(1, "UDP"), ("127.0.0.1", transports.port(Transport.UDP)))
        await desk.got(1)


async def test_closed_in_the_middle_of_reading(phone: socket.socket) -> None:
    desk = Desk()
    async with running(desk) as transports:
        udp = transports._udp[False]
        desk.on_message = lambda *_: udp.close()
        address = ("127.0.0.1", udp.port)
        phone.sendto(options(1, "UDP"), address)
        phone.sendto(options(2, "UDP"), address)
        await desk.got(1)
        transports.send(Outgoing(b"x", Flow(Transport.UDP, "127.0.0.1", 5060), "key"))
        await asyncio.sleep(0.01)
    assert desk.failed == ["key"]


async def test_a_full_send_buffer_drops_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    async with running(desk) as transports:

        class Full:
            family = socket.AF_INET

            def sendto(self, *_: object) -> None:
                raise BlockingIOError(11, "Resource temporarily unavailable")

        udp = transports._udp[False]
        with monkeypatch.context() as patched:
            patched.setattr(udp, "_sock", Full())
            transports.send(Outgoing(b"x", Flow(Transport.UDP, "127.0.0.1", 5060), "key"))
        await asyncio.sleep(0.01)
    assert desk.failed == []
    assert transports.counts.dropped == 1
