"""Upgrades on uvicorn's port: what picows gets, and what a refused client gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from picows import WSListener, WSUpgradeRequest

from bridge.server.sockets import MediaSocket
from bridge.server.upgrade import Refusal, upgrade_protocol
from tests.kit.server import until
from tests.kit.sockets import Owner

LIMIT_BYTES = 1000
HEAD = (
    b"GET /twilio/media?a=%20b HTTP/1.1\r\nHost: bridge.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Twilio-Signature: sig=\r\n\r\n"
)
HELLO = b"\x81\x85\0\0\0\0hello"
"""A client's text message."""


class LikeUvicorn(asyncio.Protocol):
    """Hands over as uvicorn does: the request as text, then the transport."""

    def __init__(self, decide: Callable[[WSUpgradeRequest], WSListener | Refusal], extra: bytes) -> None:
        self._decide, self._extra = decide, extra

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        protocol = upgrade_protocol(self._decide, LIMIT_BYTES)(None, None, None)  # type: ignore[call-arg]
        protocol.connection_made(self._transport)
        protocol.data_received(data + self._extra)
        self._transport.set_protocol(protocol)


async def exchange(
    decide: Callable[[WSUpgradeRequest], WSListener | Refusal],
    head: bytes = HEAD,
    extra: bytes = b"",
    until_true: Callable[[], object] = lambda: True,
) -> bytes:
    """Send the head of a request; returns what came back until the answer's head, or the end, was read."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: LikeUvicorn(decide, extra), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101"):
            answer += await reader.read()
        await until(until_true)
        writer.close()
        await writer.wait_closed()
    return answer


async def test_the_request_reaches_the_decision_as_it_was() -> None:
    seen: list[WSUpgradeRequest] = []

    def decide(request: WSUpgradeRequest) -> WSListener:
        seen.append(request)
        return MediaSocket(owner, LIMIT_BYTES)

    owner = Owner()
    answer = await exchange(decide, until_true=lambda: owner.opened)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # RFC 6455, 1.3: the answer to this key
    [request] = seen
    assert request.path == b"/twilio/media?a=%20b"
    assert request.headers["x-twilio-signature"] == "sig="


async def test_what_follows_the_head_at_once_is_not_lost() -> None:
    owner = Owner()
    await exchange(
        lambda _request: MediaSocket(owner, LIMIT_BYTES), extra=HELLO * 3, until_true=lambda: len(owner.messages) == 3
    )
    assert owner.messages == ["hello"] * 3


async def test_more_than_the_first_read_buffer_holds() -> None:
    owner = Owner()
    await exchange(
        lambda _request: MediaSocket(owner, LIMIT_BYTES),
        extra=HELLO * 2000,
        until_true=lambda: len(owner.messages) == 2000,
    )
    assert set(owner.messages) == {"hello"}


@pytest.mark.parametrize(
    ("status", "text"), [(403, "forbidden"), (404, "no media socket at this path"), (503, "shutting down")]
)
async def test_a_refusal_is_an_http_answer(status: int, text: str) -> None:
    answer = await exchange(lambda _request: Refusal(status, text))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert body == f"{text}\n".encode()


@pytest.mark.parametrize("connection", [b"upgrade", b"keep-alive, Upgrade"])
async def test_connection_may_be_a_list(connection: bytes) -> None:
    owner = Owner()
    head = HEAD.replace(b"Connection: Upgrade", b"Connection: " + connection)
    answer = await exchange(lambda _request: MediaSocket(owner, LIMIT_BYTES), head=head)
    assert answer.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("old", "new"), [(b"Version: 13", b"Version: 9"), (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"")]
)
async def test_a_broken_handshake_is_refused_and_opens_nothing(old: bytes, new: bytes) -> None:
    owner = Owner()
    answer = await exchange(lambda _request: MediaSocket(owner, LIMIT_BYTES), head=HEAD.replace(old, new))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (owner.opened, owner.lost) == (0, [])


async def test_a_mistake_of_ours_is_not_told_to_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    def decide(request: WSUpgradeRequest) -> WSListener | Refusal:
        raise ZeroDivisionError("the inside of the bridge")

    answer = await exchange(decide)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b"internal error\n")
    assert "the inside of the bridge" in caplog.text
