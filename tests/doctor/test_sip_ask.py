"""One OPTIONS request against scripted peers: answers, repeats, silence, and what is no answer."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.doctor import sip_ask
from bridge.doctor.reach import Trouble
from bridge.doctor.sip_ask import Answer, Asking, Question, Silence, answers, ask, options_request
from bridge.sip.flow import Flow, Transport
from bridge.sip.framing import parse_datagram
from bridge.sip.headers import Headers
from bridge.sip.message import Response
from tests.kit.doctor import new_authority, tcp_server, udp_peer
from tests.kit.server import free_port
from tests.kit.sip_peer import response_to

QUESTION = Question("sip:trunk.example.com", "198.51.100.1", "bridge/1 doctor")


def asking(tls: ssl.SSLContext | None = None) -> Asking:
    numbers = itertools.count(1)
    return Asking(lambda: f"id{next(numbers)}", time.monotonic, tls)


async def ask_at(port: int, transport: Transport = Transport.UDP, tls: ssl.SSLContext | None = None) -> Answer:
    return await ask(Flow(transport, "127.0.0.1", port, server_name="localhost"), QUESTION, asking(tls))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(sip_ask, "T1_S", 0.02)
    monkeypatch.setattr(sip_ask, "ASK_TIMEOUT_S", 0.3)


# --- the request -----------------------------------------------------------------------------------------


def test_the_request_to_the_letter() -> None:
    request = options_request(QUESTION, Transport.TCP, ("192.0.2.7", 40001), asking().new_id)
    assert request.encode() == (
        b"OPTIONS sip:trunk.example.com SIP/2.0\r\n"
        b"Via: SIP/2.0/TCP 192.0.2.7:40001;branch=z9hG4bKid1;rport\r\n"
        b"Max-Forwards: 70\r\n"
        b"From: <sip:198.51.100.1>;tag=id2\r\n"
        b"To: <sip:trunk.example.com>\r\n"
        b"Call-ID: id3\r\n"
        b"CSeq: 1 OPTIONS\r\n"
        b"Contact: <sip:192.0.2.7:40001;transport=tcp>\r\n"
        b"Accept: application/sdp\r\n"
        b"User-Agent: bridge/1 doctor\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


def test_ipv6_stands_in_brackets() -> None:
    request = options_request(QUESTION, Transport.UDP, ("fe80::1%eth0", 40001), asking().new_id)
    assert (request.headers.get("Via") or "").startswith("SIP/2.0/UDP [fe80::1]:40001;")


def test_which_messages_are_the_answer() -> None:
    request = options_request(QUESTION, Transport.UDP, ("192.0.2.7", 40001), asking().new_id)
    text = request.encode().decode()
    assert answers(parse_datagram(response_to(text, 486).encode()), request)
    assert not answers(parse_datagram(response_to(text, 100).encode()), request)
    assert not answers(parse_datagram(response_to(text.replace("z9hG4bKid1", "z9hG4bKid9"), 200).encode()), request)
    assert not answers(Response(200, "OK", Headers((("Via", "nonsense"),))), request)
    assert not answers(Response(200, "OK"), request)
    assert not answers(request, request)


# --- UDP -------------------------------------------------------------------------------------------------


async def test_an_answer_over_udp() -> None:
    asked: list[str] = []

    def reply(text: str) -> Iterator[str]:
        asked.append(text)
        yield response_to(text.replace(";rport", ";rport=40001;received=203.0.113.9"), 405, headers=("Server: PBX 1",))

    async with udp_peer(reply) as port:
        answer = await ask_at(port)
    assert (answer.status, answer.product, answer.seen_as, answer.trouble) == (405, "PBX 1", "203.0.113.9", None)
    assert 0 <= answer.took_ms < 4000
    assert asked[0].startswith("OPTIONS sip:trunk.example.com SIP/2.0\r\n")


async def test_what_is_no_answer_is_passed_over() -> None:
    def reply(text: str) -> Iterator[str | bytes]:
        yield b"\x00\x01"
        yield b"\r\n\r\n"
        yield response_to(text, 100)
        yield response_to(text.replace("z9hG4bK", "z9hG4bKother"), 500)
        yield response_to(text, 200)
        yield response_to(text, 503)

    async with udp_peer(reply) as port:
        answer = await ask_at(port)
    assert (answer.status, answer.product, answer.seen_as) == (200, "", "")


@pytest.mark.usefixtures("hasty")
async def test_a_lost_request_is_repeated_as_it_was() -> None:
    asked: list[str] = []

    def reply(text: str) -> Iterator[str]:
        asked.append(text)
        if len(asked) == 3:
            yield response_to(text, 200)

    async with udp_peer(reply) as port:
        assert (await ask_at(port)).status == 200
    assert len(asked) == 3
    assert len(set(asked)) == 1


@pytest.mark.usefixtures("hasty")
async def test_silence_over_udp_ends() -> None:
    async with udp_peer(lambda text: ()) as port:
        answer = await ask_at(port)
    assert (answer.status, answer.trouble) == (0, Silence.TIME_OUT)


async def test_nobody_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert (await ask_at(port)).trouble is Silence.REFUSED
    assert (await ask_at(free_port(), Transport.TCP)).trouble is Silence.REFUSED


async def test_datagrams_leave_from_the_address_that_is_listened_to() -> None:
    asked: list[str] = []

    def reply(text: str) -> Iterator[str]:
        asked.append(text)
        yield response_to(text, 200)

    question = Question("sip:x", "127.0.0.1", "doctor", bind_host="127.0.0.3")
    async with udp_peer(reply) as port:
        assert (await ask(Flow(Transport.UDP, "127.0.0.1", port), question, asking())).status == 200
    assert "Via: SIP/2.0/UDP 127.0.0.3:" in asked[0]
    foreign = Question("sip:x", "127.0.0.1", "doctor", bind_host="192.0.2.99")
    assert (await ask(Flow(Transport.UDP, "127.0.0.1", port), foreign, asking())).trouble is Silence.NO_CONNECTION


# --- TCP and TLS -----------------------------------------------------------------------------------------


async def _request(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


async def answer_in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    text = await _request(reader)
    whole = "\r\n" + response_to(text, 100) + response_to(text, 403)
    for place in range(0, len(whole), 40):
        writer.write(whole[place : place + 40].encode())
        await writer.drain()
    await reader.read()


async def test_an_answer_over_tcp_comes_in_pieces() -> None:
    async with tcp_server(answer_in_pieces) as port:
        answer = await ask_at(port, Transport.TCP)
    assert (answer.status, answer.expires_unix_s, answer.trouble) == (403, None, None)


async def test_a_peer_that_speaks_something_else() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with tcp_server(http) as port:
        assert (await ask_at(port, Transport.TCP)).trouble is Silence.NOT_SIP


async def test_a_peer_that_hangs_up() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    for handle in (leave, reset):
        async with tcp_server(handle) as port:
            assert (await ask_at(port, Transport.TCP)).trouble is Silence.HUNG_UP


@pytest.mark.usefixtures("hasty")
async def test_silence_over_tcp_ends() -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp_server(wait) as port:
        assert (await ask_at(port, Transport.TCP)).trouble is Silence.TIME_OUT


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = new_authority()
    trusting = authority.client_context()
    async with tcp_server(answer_in_pieces, authority.server_context(tmp_path)) as port:
        good = await ask_at(port, Transport.TLS, trusting)
        stranger = await ask_at(port, Transport.TLS, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        nothing_to_show = await ask_at(port, Transport.TLS)
    assert (good.status, good.trouble) == (403, None)
    assert good.expires_unix_s is not None
    assert 89 < (good.expires_unix_s - time.time()) / 86_400 < 91
    assert (stranger.status, stranger.trouble) == (0, Trouble.CHAIN)
    assert nothing_to_show.trouble is Trouble.NO_TLS
    async with tcp_server(answer_in_pieces, authority.server_context(tmp_path, "other.example.com")) as port:
        assert (await ask_at(port, Transport.TLS, trusting)).trouble is Trouble.HOSTNAME
    async with tcp_server(answer_in_pieces, authority.server_context(tmp_path, days=-1)) as port:
        assert (await ask_at(port, Transport.TLS, trusting)).trouble is Trouble.EXPIRED


async def test_a_plain_port_is_no_tls() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        await reader.read()

    async with tcp_server(garbage) as port:
        assert (await ask_at(port, Transport.TLS, new_authority().client_context())).trouble is Trouble.NO_TLS
