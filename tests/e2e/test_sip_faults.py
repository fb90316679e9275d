"""Broken, hostile and unlucky SIP peers against a bridge that listens: what they get, and that nothing is left."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bridge.media.format import ULAW_8K
from bridge.simulators.agent_scenarios import Scenario
from bridge.simulators.speech import tone
from bridge.simulators.twilio_line import HangUp, Silence
from bridge.sip.rtp import RtpSender
from tests.kit.server import Start, free_port, until
from tests.kit.sip import API_KEY, OURS, SipBridge, start_sip
from tests.kit.sip_wire import UdpPeer, WireCall
from tests.server.sip.net_fakes import Certificate, certificate, client_context, server_context

pytestmark = pytest.mark.e2e

TORTURE = Path(__file__).parents[1] / "vectors/sip/rfc4475"
LISTEN = Scenario(name="listen")
LOUD, LOUDER = b"\x90" * 160, b"\x80" * 160
SILENT = b"\xff" * 160


async def assert_serves(bridge: SipBridge) -> None:
    """A call goes through, and nothing is left of anything."""
    result = await bridge.dial(Silence(ms=100), HangUp())
    assert (result.status, result.violations) == (200, ()), result.to_text()
    at = bridge.at
    await until(lambda: not at.bridge.sessions and at.active == 0, "a call is left")
    assert metric(bridge, "bridge_rtp_ports_used") == 0.0


def metric(bridge: SipBridge, name: str) -> float:
    """A sample without labels."""
    text = bridge.at.bridge.metrics.render().decode()
    (found,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(found.rpartition(" ")[2])


async def options(bridge: SipBridge) -> str:
    """The answer to OPTIONS."""
    with UdpPeer(bridge.ports.signalling) as peer:
        peer.send(WireCall(peer, peer, "ping").request("OPTIONS", 1))
        return await peer.hear()


def tls(mine: Certificate) -> dict[str, Any]:
    """Settings of a bridge that has TLS as well."""
    files = {"SIP_TLS_CERT": str(mine.certificate_file), "SIP_TLS_KEY": str(mine.key_file)}
    return {"SIP_TLS_PORT": str(free_port()), **files}


async def exchanged(port: int, data: bytes, context: ssl.SSLContext | None = None, wait_s: float = 0.3) -> bytes:
    """Send bytes on a connection of their own; what comes back until it closes or is silent."""
    name = "127.0.0.1" if context else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    heard = b""
    try:
        writer.write(data)
        while piece := await asyncio.wait_for(reader.read(65_536), wait_s):
            heard += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return heard


def nonsense(seed: int = 4475) -> Iterable[bytes]:
    """Bytes at random, and a sound request that was cut, or had some bytes changed."""
    chance = random.Random(seed)
    with UdpPeer(9) as peer:
        call = WireCall(peer, peer, "fuzz")
        invite, sound = call.invite().encode(), call.request("OPTIONS", 1).encode()
    for _ in range(60):
        yield chance.randbytes(chance.randrange(1, 1500))
    for cut in range(1, len(invite), 9):
        yield invite[:cut]
    for _ in range(60):
        broken = bytearray(sound)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        yield bytes(broken)


# --- bytes ---


async def test_nonsense_in_datagrams(start: Start) -> None:
    bridge = await start_sip(start)
    with UdpPeer(bridge.ports.signalling) as peer:
        for data in nonsense():
            peer.send(data)
        assert [text for text in peer.drain() if b"SIP/2.0 5" in text] == []
    await assert_serves(bridge)
    assert len(bridge.at.logged("call_started")) == 1, "nothing of it was a call"


@pytest.mark.parametrize("is_secure", [False, True])
async def test_nonsense_on_connections(start: Start, tmp_path: Path, is_secure: bool) -> None:
    mine = certificate(tmp_path, "ours", addresses=("127.0.0.1",))
    secured = tls(mine)
    bridge = await start_sip(start, **secured)
    port = int(secured["SIP_TLS_PORT"]) if is_secure else bridge.ports.signalling
    context = client_context(mine) if is_secure else None
    pieces = list(nonsense())
    for begin in range(0, len(pieces), 20):
        await asyncio.gather(*(exchanged(port, data, context) for data in pieces[begin : begin + 20]))
    if is_secure:  # no TLS at all
        await asyncio.gather(*(exchanged(port, data) for data in pieces[:20]))
    await assert_serves(bridge)
    gone = 'bridge_sip_connections{transport="tls"}'
    await until(lambda: metric(bridge, gone) == 0.0, "connections are left")
    await until(lambda: metric(bridge, 'bridge_sip_connections{transport="tcp"}') == 0.0, "connections are left")


# Requests of RFC 4475 and the last response to each, where the agent cannot be had, so that calls end by themselves.
ANSWERS: dict[int, str] = {
    200: "badbranch baddn lwsdisp semiuri transports zeromf",
    400: "badaspec badinv01 escruri insuf inv2543 ltgtruri lwsruri lwsstart mcl01 mismatch01 mismatch02 multi01 ncl "
    "quotbal regbadct scalar02 trws",
    405: "cparam01 cparam02 escnull mpart01 regaut01 regescrt unksm2",
    406: "sdp01",
    415: "invut",
    416: "novelsc unkscm",
    420: "bext01",
    481: "wsinv",
    501: "esc02 intmeth",
    504: "baddate esc01 longreq",
    505: "badvers",
}
UNANSWERED = "bcast bigcode clerr noreason scalarlg unreason"
"""Responses, and a request whose end does not come."""


async def test_torture_messages_get_their_answers(start: Start) -> None:
    bridge = await start_sip(start, "refuse_503")

    async def answer(name: str) -> int:
        heard = await exchanged(bridge.ports.signalling, (TORTURE / f"{name}.dat").read_bytes(), wait_s=1.0)
        lines = [line for line in heard.decode("utf-8", "replace").split("\r\n") if line.startswith("SIP/2.0 ")]
        return int(lines[-1].split()[1]) if lines else 0

    expected = {name: status for status, names in ANSWERS.items() for name in names.split()}
    expected |= dict.fromkeys(UNANSWERED.split(), 0)
    assert {*expected, "dblreq"} == {path.stem for path in TORTURE.glob("*.dat")}
    answers = await asyncio.gather(*(answer(name) for name in expected))
    assert dict(zip(expected, answers, strict=True)) == expected
    assert await answer("dblreq") == 400, "on a stream it is two requests; the second has no Contact"


async def test_torture_messages_as_datagrams_leave_nothing(start: Start) -> None:
    bridge = await start_sip(start, "refuse_503")
    with UdpPeer(bridge.ports.signalling) as peer:
        for path in sorted(TORTURE.glob("*.dat")):
            peer.send(path.read_bytes())
    await until(lambda: len(bridge.at.logged("call_ended")) == 3, "calls are left")
    await until(lambda: not bridge.at.bridge.sessions)
    assert metric(bridge, "bridge_rtp_ports_used") == 0.0
    assert (await options(bridge)).startswith("SIP/2.0 200")


@pytest.mark.parametrize(
    ("length", "answer"), [("-1", 400), ("1e3", 400), ("99999999999999999999", 400), ("70000", 413), ("5", 488)]
)
async def test_lies_about_the_length_on_a_connection(start: Start, length: str, answer: int) -> None:
    bridge = await start_sip(start)
    with UdpPeer(bridge.ports.signalling) as peer:
        call = WireCall(peer, peer, transport="TCP")
        lie = call.request("INVITE", 1, call.offer(), length=length)
        heard = await exchanged(bridge.ports.signalling, lie.encode())
        assert heard.startswith(f"SIP/2.0 {answer} ".encode())
    await assert_serves(bridge)


@pytest.mark.parametrize(
    "header", ["X-A: " + "a" * 200_000, "X-A: 1\r\n" * 20_000 + "X-B: 2", "X-A: b" + "\r\n  c" * 40_000]
)
async def test_headers_without_an_end(start: Start, header: str) -> None:
    bridge = await start_sip(start)
    with UdpPeer(bridge.ports.signalling) as peer:
        call = WireCall(peer, peer)
        huge = call.request("OPTIONS", 1).replace("Max-Forwards", f"{header}\r\nMax-Forwards").encode()
        assert await exchanged(bridge.ports.signalling, huge) == b"", "it is closed"
        peer.send(huge[:65_000])
        await assert_serves(bridge)


# --- signalling ---


async def test_the_same_invite_a_thousand_times(start: Start) -> None:
    bridge = await start_sip(start, LISTEN)
    with UdpPeer(bridge.ports.signalling) as peer, UdpPeer(9) as rtp:
        call = WireCall(peer, rtp)
        for number in range(1000):
            peer.send(call.invite())
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        call.learn(await peer.until("SIP/2.0 200"))
        peer.send(call.request("ACK", 1))
        await asyncio.sleep(0.3)
        peer.drain()
        assert len(bridge.at.logged("call_started")) == 1
        assert metric(bridge, "bridge_rtp_ports_used") == 2.0
        assert (await call.hang_up()).startswith("SIP/2.0 200")
    await bridge.ended()


async def test_a_lost_bye(start: Start) -> None:
    bridge = await start_sip(start, LISTEN, SIP_RTP_TIMEOUT_S="1")
    with UdpPeer(bridge.ports.signalling) as peer, UdpPeer(9) as rtp:
        call = WireCall(peer, rtp)
        await call.begin()
        for _ in range(20):
            rtp.send(call.frame(LOUD))
            await asyncio.sleep(0.02)
        bye = await peer.until("BYE")
        assert "Reason: Q.850;cause=41" in bye
        assert (await call.hang_up()).startswith("SIP/2.0 200"), "the two have crossed"
    assert await bridge.ended() == ["indeterminate/carrier_silent"]


async def test_calls_of_before_a_restart(start: Start) -> None:
    bridge = await start_sip(start)
    with UdpPeer(bridge.ports.signalling) as peer:
        call = WireCall(peer, peer, to_tag="of-another-life")
        for number, method in enumerate(("BYE", "INFO", "UPDATE", "INVITE", "NOTIFY", "PRACK"), 2):
            peer.send(call.request(method, number))
            assert (await peer.until("SIP/2.0")).startswith("SIP/2.0 481"), method
            if method == "INVITE":
                peer.send(call.request("ACK", number, branch="INVITE"))
    assert bridge.at.logged("call_started") == []


# --- strangers ---


async def test_a_scanner_is_banned_and_the_carrier_is_not(start: Start) -> None:
    bridge = await start_sip(start, BRIDGE_AUTH="on", SIP_ALLOWED_ADDRESSES="127.0.0.1/32")
    with UdpPeer(bridge.ports.signalling, "127.0.0.2") as scanner, UdpPeer(bridge.ports.signalling) as forged:
        answers = []
        for number in range(60):
            for peer in (scanner, forged):  # whoever forges the carrier's address sends the same
                call = WireCall(peer, peer, f"scan-{number}")
                peer.send(call.request("REGISTER", 1))
                peer.send(call.request("SUBSCRIBE", 2).replace("Max-Forwards: 70", "Max-Forwards: x"))
            answers.append((await scanner.hear(0.05))[:11])
        assert answers[0] == "SIP/2.0 403"
        assert answers[-10:] == [""] * 10, "it is not answered any more"
    assert metric(bridge, "bridge_sip_banned_addresses") == 1.0
    assert [line["source"] for line in bridge.at.logged("sip_source_banned")] == ["127.0.0.2"]
    await assert_serves(bridge)


async def test_forged_guesses_ban_nobody(start: Start) -> None:
    settings: dict[str, Any] = {"BRIDGE_AUTH": "on", "SIP_USERNAME": "trunk", "SIP_PASSWORD": "secret"}
    bridge = await start_sip(start, **settings)
    with UdpPeer(bridge.ports.signalling) as forged:
        for number in range(200):
            guess = WireCall(forged, forged, f"guess-{number}")
            wrong = 'Authorization: Digest username="trunk", realm="bridge", nonce="x", uri="sip:a", response="00"'
            forged.send(guess.invite().replace("Max-Forwards", f"{wrong}\r\nMax-Forwards"))
    assert metric(bridge, "bridge_sip_banned_addresses") == 0.0
    await asyncio.sleep(1.0)
    result = await bridge.dial(Silence(ms=100), HangUp(), username="trunk", password="secret")
    assert result.status == 200, result.to_text()
    assert len(bridge.at.logged("call_started")) == 1


# --- calls of the bridge ---


@pytest.mark.parametrize(
    ("address", "transport", "problem"),
    [("trunk.invalid", "auto", "the trunk's name has no address"), ("127.0.0.1:5061", "tls", "TLS is off")],
)
async def test_a_trunk_that_there_is_no_way_to(start: Start, address: str, transport: str, problem: str) -> None:
    bridge = await start_sip(
        start,
        SIP_OUTBOUND_ADDRESS=address,
        SIP_OUTBOUND_TRANSPORT=transport,
        SIP_OUTBOUND_CALLER_ID=OURS,
        BRIDGE_API_KEY=f"admin:{API_KEY}",
    )
    assert (await bridge.place()).status_code == 502
    await until(lambda: bridge.at.active == 0)
    [ended] = bridge.at.logged("call_ended")
    assert (ended["reason"], ended["detail"]) == ("control_failed", "down")
    assert [line["problem"] for line in bridge.at.logged("sip_call_not_placed")] == [problem]
    await assert_serves(bridge)


async def test_a_trunk_with_a_bad_certificate(start: Start, tmp_path: Path) -> None:
    theirs = server_context(certificate(tmp_path, "nobody", addresses=("127.0.0.1",)))
    heard: list[bytes] = []

    async def trunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(trunk, "127.0.0.1", 0, ssl=theirs) as server:
        port = server.sockets[0].getsockname()[1]
        bridge = await start_sip(
            start,
            SIP_OUTBOUND_ADDRESS=f"127.0.0.1:{port}",
            SIP_OUTBOUND_TRANSPORT="tls",
            SIP_OUTBOUND_CALLER_ID=OURS,
            BRIDGE_API_KEY=f"admin:{API_KEY}",
            **tls(certificate(tmp_path, "ours", addresses=("127.0.0.1",))),
        )
        assert (await bridge.place()).status_code == 201
        await until(lambda: bridge.at.logged("call_ended"))
        [ended] = bridge.at.logged("call_ended")
        assert (ended["reason"], ended["detail"]) == ("line_failed", "failed 503")
        [failed] = bridge.at.logged("sip_connect_failed")
        assert "certificate" in failed["problem"]
        assert heard == [], "nothing was said to it"
        await assert_serves(bridge)


# --- audio ---


async def test_a_stranger_is_not_heard(start: Start) -> None:
    bridge = await start_sip(start, LISTEN)
    with UdpPeer(bridge.ports.signalling) as peer, UdpPeer(9) as rtp, UdpPeer(9, "127.0.0.2") as other:
        call = WireCall(peer, rtp)
        await call.begin()
        other.to = rtp.to
        theirs = RtpSender(0xBAD, 7, 7)
        for _ in range(100):
            rtp.send(call.frame(LOUD))
            other.send(theirs.audio(0, LOUDER, 160))
            await asyncio.sleep(0.02)
        assert other.drain() == [], "nor does it hear the agent"
        await call.hang_up()
    await bridge.ended()
    heard = bytes((await bridge.at.agent.wait_ended()).received_audio)
    assert heard.count(LOUD[:1]) > 90 * 160
    assert LOUDER[:1] not in heard


def faulty(kind: str, call: WireCall, count: int = 150) -> list[bytes]:
    """Packets of a tone with a fault."""
    chance = random.Random(1)
    sound = [tone(400.0, ULAW_8K, 20.0, number * 160) for number in range(count)]
    half = [call.frame(payload) for payload in sound[: count // 2]]
    match kind:
        case "sequence":
            call.sender = RtpSender(0x5EED, 31_000, 8000 + 160 * count // 2)
        case "ssrc":
            call.sender = RtpSender(0xFEED, 5, 99)
        case "timestamp":
            call.sender = RtpSender(0x5EED, 1000 + count // 2, 9_999_999)
        case "backwards":
            call.sender = RtpSender(0x5EED, 1000 + count // 2, 100)
    packets = half + [call.frame(payload) for payload in sound[count // 2 :]]
    if kind == "loss":
        return [packet for packet in packets if chance.random() > 0.1]
    if kind == "reordered":
        for place in range(10, count - 10, 20):
            packets[place], packets[place + 1] = packets[place + 1], packets[place]
    return packets


@pytest.mark.parametrize(
    ("kind", "silent"),
    [("sequence", 6), ("ssrc", 6), ("timestamp", 6), ("backwards", 10), ("reordered", 2), ("loss", 6), ("twice", 2)],
)
async def test_broken_streams_are_heard_on(start: Start, kind: str, silent: int) -> None:
    bridge = await start_sip(start, LISTEN)
    with UdpPeer(bridge.ports.signalling) as peer, UdpPeer(9) as rtp:
        call = WireCall(peer, rtp)
        await call.begin()
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        for packet in faulty(kind, call):
            rtp.send(packet)
            if kind == "twice":
                rtp.send(packet)
            due_s += 0.02
            await asyncio.sleep(max(0.0, due_s - loop.time()))
        await call.hang_up()
    await bridge.ended()
    heard = bytes((await bridge.at.agent.wait_ended()).received_audio)
    frames = [heard[at : at + 160] for at in range(0, len(heard), 160)]
    loud = [len(set(frame)) > 8 for frame in frames]
    first, last = loud.index(True), len(loud) - loud[::-1].index(True)
    assert loud[first:last].count(False) <= silent
    assert last - first >= 125
