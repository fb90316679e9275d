"""Ports for SIP and RTP: free, taken by the bridge, taken by others."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.doctor import sip_ask
from bridge.doctor.reach import Trouble
from bridge.doctor.sip_ask import Answer, Asking, Silence
from bridge.doctor.sip_ports import (
    PortSeen,
    RangeSeen,
    check_port,
    check_range,
    judge_port,
    judge_ports,
    look_at_port,
    look_at_range,
    own_tls,
    sample,
)
from bridge.doctor.tools import DoctorOptions
from bridge.server.sip.media_ports import PortOptions
from bridge.server.sip.options import Listen
from bridge.server.sip.wiring import PRODUCT
from bridge.sip.flow import Flow, Transport
from tests.kit.doctor import new_authority, tcp_server, told, tools_for, udp_peer
from tests.kit.sip import free_rtp_ports, free_signalling_port
from tests.kit.sip_peer import response_to

ASKING = Asking(lambda: "id", time.monotonic)
LISTEN = Listen(Transport.UDP, "10.0.0.5", 5060, "SIP_UDP_PORT")
FLOW = Flow(Transport.UDP, "10.0.0.5", 5060)
TAKEN = "SIP_UDP_PORT: cannot listen on 10.0.0.5 port 5060 (UDP): another program has it; stop that or set another port"


def judged(answer: Answer | None, *, listen: Listen = LISTEN, silent: bool = False, mutual: bool = False) -> object:
    seen = PortSeen() if answer is None else PortSeen(TAKEN, answer)
    return told(judge_port(listen, seen, is_silent=silent, wants_certificate=mutual))


# --- signalling ------------------------------------------------------------------------------------------


def test_a_free_port() -> None:
    assert judged(None) == ("ok", "10.0.0.5 port 5060 is free; no bridge listens there now", "")


def test_the_running_bridge_has_it() -> None:
    refusal = Answer(FLOW, 403, PRODUCT)
    assert judged(refusal) == ("ok", "10.0.0.5 port 5060: the running bridge answers OPTIONS there", "")


def test_a_bridge_of_another_version_has_it() -> None:
    assert judged(Answer(FLOW, 200, "telephony-bridge/0.0.1")) == (
        "warning",
        "10.0.0.5 port 5060: a bridge of another version than this doctor answers there",
        "Restart the bridge with this version.",
    )


def test_somebody_else_has_it() -> None:
    assert judged(Answer(FLOW, 200, "Asterisk PBX")) == (
        "failed",
        "cannot listen on 10.0.0.5 port 5060 (UDP): another program has it, and speaks SIP, too",
        "SIP_UDP_PORT: stop that or set another port.",
    )
    assert judged(Answer(FLOW, trouble=Silence.NOT_SIP)) == (
        "failed",
        "cannot listen on 10.0.0.5 port 5060 (UDP): another program has it",
        "SIP_UDP_PORT: stop that or set another port.",
    )


def test_a_reason_without_a_mend() -> None:
    seen = PortSeen("SIP_UDP_PORT: cannot listen on 10.0.0.5 port 5060 (UDP): Odd", Answer(FLOW))
    assert judge_port(LISTEN, seen, is_silent=False, wants_certificate=False).advice == (
        "SIP_UDP_PORT: look at this port and at SIP_HOST."
    )


def test_a_bridge_that_does_not_talk_to_strangers_may_have_it() -> None:
    maybe = (
        "warning",
        "10.0.0.5 port 5060 is taken, and who has it says nothing to this machine",
        "Right if that is the bridge: with these settings it does not talk to strangers. Else stop that program.",
    )
    assert judged(Answer(FLOW, trouble=Silence.TIME_OUT), silent=True) == maybe
    tls = replace(LISTEN, transport=Transport.TLS)
    assert judged(Answer(FLOW, trouble=Trouble.NO_TLS), listen=tls, mutual=True) == maybe
    failed = judged(Answer(FLOW, trouble=Silence.TIME_OUT))
    assert isinstance(failed, tuple)
    assert failed[0] == "failed"


async def test_a_port_is_opened_and_let_go_of() -> None:
    port = free_signalling_port()
    for transport in (Transport.UDP, Transport.TCP):
        listen = Listen(transport, "127.0.0.1", port, "SIP_PORT")
        assert await look_at_port(listen, ASKING) == PortSeen()
        assert await look_at_port(listen, ASKING) == PortSeen()


async def test_who_has_a_port_is_asked_at_this_machine() -> None:
    def reply(text: str) -> Iterator[str]:
        yield response_to(text, 403, headers=(f"Server: {PRODUCT}",))

    async with udp_peer(reply) as port, tools_for(SIP_UDP_PORT=str(port), SIP_HOST="0.0.0.0") as tools:
        finding = await check_port(tools, Listen(Transport.UDP, "0.0.0.0", port, "SIP_UDP_PORT"), ASKING)
    assert (finding.name, *told(finding)) == (
        "SIP: UDP port", "ok", f"0.0.0.0 port {port}: the running bridge answers OPTIONS there", "",
    )  # fmt: skip


async def test_over_tls_this_machine_is_asked_whatever_its_certificate(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(response_to(text, 200, headers=(f"Server: {PRODUCT}",)).encode())
        await reader.read()

    async with tcp_server(answer, new_authority().server_context(tmp_path, trusted=False)) as port:
        seen = await look_at_port(Listen(Transport.TLS, "127.0.0.1", port, "x"), replace(ASKING, tls=own_tls()))
    assert seen.answer is not None
    assert (seen.answer.status, seen.answer.product) == (200, PRODUCT)


async def test_another_program_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip_ask, "ASK_TIMEOUT_S", 0.1)
    for settings, verdict in (({}, "failed"), ({"SIP_UNKNOWN": "silent"}, "warning")):
        async with udp_peer(lambda text: ()) as port, tools_for(None, settings, SIP_UDP_PORT=str(port)) as tools:
            listen = Listen(Transport.UDP, "127.0.0.1", port, "SIP_UDP_PORT")
            assert (await check_port(tools, listen, ASKING)).verdict.value == verdict


async def test_an_address_that_is_not_ours() -> None:
    async with tools_for(SIP_UDP_PORT="5060", SIP_HOST="192.0.2.99") as tools:
        tools.options = DoctorOptions(at="http://10.0.0.1:8080")
        listen = Listen(Transport.UDP, "192.0.2.99", 5060, "SIP_UDP_PORT")
        elsewhere = "--at names a bridge elsewhere, whose ports cannot be tried from here"
        assert told(await check_port(tools, listen, ASKING)) == ("skipped", elsewhere, "")
        assert told(await check_range(tools)) == ("skipped", elsewhere, "")
        tools.options = DoctorOptions()
        assert told(await check_port(tools, listen, ASKING)) == (
            "failed",
            "cannot listen on 192.0.2.99 port 5060 (UDP): this machine does not have that address",
            "SIP_UDP_PORT: 0.0.0.0 stands for all of them.",
        )
        assert told(await check_range(tools)) == (
            "failed",
            "10000 to 20000 cannot be opened on 192.0.2.99: Cannot assign requested address",
            "Set SIP_HOST to an address of this machine, or to 0.0.0.0.",
        )


# --- audio -----------------------------------------------------------------------------------------------


def test_a_sample_has_both_ends() -> None:
    ports = sample(PortOptions("127.0.0.1", "127.0.0.1", 10_001, 20_000))
    assert (len(ports), ports[0], ports[-1]) == (64, 10_002, 19_998)
    assert len(set(ports)) == 64
    assert not any(port % 2 for port in ports)
    assert list(sample(PortOptions("127.0.0.1", "127.0.0.1", 10_000, 10_005))) == [10_000, 10_002, 10_004]
    assert list(sample(PortOptions("127.0.0.1", "127.0.0.1", 10_000, 10_001))) == [10_000]


def test_pairs_are_opened_and_let_go_of() -> None:
    first, last = free_rtp_ports(8)
    options = PortOptions("127.0.0.1", "127.0.0.1", first, last)
    assert look_at_range(options) == RangeSeen(4, Counter())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", first + 3))
        assert look_at_range(options) == RangeSeen(4, Counter({errno.EADDRINUSE: 1}))
    assert look_at_range(options) == RangeSeen(4, Counter())


def test_ranges() -> None:
    options = PortOptions("127.0.0.1", "127.0.0.1", 10_000, 10_099)

    def range_told(taken: int, max_calls: int = 50) -> tuple[str, str, str]:
        return told(judge_ports(options, RangeSeen(50, Counter({errno.EADDRINUSE: taken})), max_calls))

    about = "10000 to 10099: enough for 50 calls"
    assert range_told(0) == ("ok", about, "")
    taken = "pairs that were tried are taken, by calls or other programs"
    assert range_told(5) == ("ok", f"{about}; 5 of 50 {taken}", "")
    assert range_told(13) == (
        "warning",
        f"{about}; 13 of 50 {taken}",
        "If these are no calls, set SIP_RTP_PORT_MIN and SIP_RTP_PORT_MAX to other ports.",
    )
    assert range_told(50) == (
        "failed",
        "10000 to 10099: none of 50 pairs that were tried is free",
        "Set SIP_RTP_PORT_MIN and SIP_RTP_PORT_MAX to ports that no other program uses; if the bridge is full of calls "
        "just now, make the range larger.",
    )
    assert range_told(0, 51)[0] == "warning"


async def test_the_range_of_the_settings() -> None:
    first, last = free_rtp_ports(8)
    given = {"SIP_UDP_PORT": "5060", "SIP_RTP_PORT_MIN": str(first), "SIP_RTP_PORT_MAX": str(last)}
    async with tools_for(None, given, BRIDGE_MAX_CALLS="4") as tools:
        assert told(await check_range(tools)) == ("ok", f"{first} to {last}: enough for 4 calls", "")
    async with tools_for(None, given, BRIDGE_MAX_CALLS="5") as tools:
        tools.options = DoctorOptions(at="http://10.0.0.1:8080")
        assert (await check_range(tools)).verdict.value == "warning", "this can be seen from anywhere"
    async with tools_for(SIP_UDP_PORT="5060", SIP_RTP_PORT_MIN="10001", SIP_RTP_PORT_MAX="10002") as tools:
        assert (await check_range(tools)).verdict.value == "failed"


def test_ipv6_ports() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    first, last = free_rtp_ports(4)
    seen = look_at_range(PortOptions("::1", "::1", first, last))
    assert seen.tried == 2
    assert not seen.problems or errno.EADDRNOTAVAIL in seen.problems or errno.EAFNOSUPPORT in seen.problems
