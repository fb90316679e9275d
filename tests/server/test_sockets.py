"""Media sockets over loopback: at the other end the ``websockets`` library, or bare TCP where it is too polite."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from picows import ws_connect, ws_create_server
from picows.picows import WSAutoPingStrategy
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.server import sockets
from bridge.server.sockets import MediaSocket
from tests.kit.server import until
from tests.kit.sockets import Owner

LIMIT_BYTES = 1000
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    return bytes([fin << 7 | opcode]) + length + b"\0\0\0\0" + payload


@contextlib.asynccontextmanager
async def listening(owner: Owner, **options: Any) -> AsyncIterator[int]:
    """A server whose every socket reports to ``owner``; gives the port."""
    server = await ws_create_server(
        lambda _request: MediaSocket(owner, LIMIT_BYTES), "127.0.0.1", 0, max_frame_size=LIMIT_BYTES, **options
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def peer_of(owner: Owner, **options: Any) -> AsyncIterator[ClientConnection]:
    """A client of such a server."""
    async with (
        listening(owner, **options) as port,
        connect(f"ws://127.0.0.1:{port}/", compression=None, proxy=None, ping_interval=None) as peer,
    ):
        await until(lambda: owner.opened)
        yield peer


@contextlib.asynccontextmanager
async def bare_peer_of(
    owner: Owner, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TCP client of such a server that has shaken hands and does nothing on its own."""
    async with listening(owner, **options) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: owner.opened)
        try:
            yield reader, writer
        finally:
            writer.close()


async def test_whole_messages_both_ways() -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        await peer.send("grüß Gott")
        await peer.send(b"\x00\xff")
        await until(lambda: len(owner.messages) == 2)
        owner.open_socket.send_text("hörst du?")
        owner.open_socket.send_binary(b"\xff\x00")
        assert [await peer.recv(), await peer.recv()] == ["hörst du?", b"\xff\x00"]
    assert owner.messages == ["grüß Gott", b"\x00\xff"]
    await until(lambda: owner.lost)
    assert owner.lost == [(1000, "")]


async def test_fragments_are_joined() -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        await peer.send(["gr", "", "üß", " Gott"])
        await peer.send([b"\x00" * 400, b"\x01" * 400])
        await peer.send("whole")
        await until(lambda: len(owner.messages) == 3)
    assert owner.messages == ["grüß Gott", b"\x00" * 400 + b"\x01" * 400, "whole"]


async def test_a_character_cut_in_two_is_put_together() -> None:
    owner = Owner()
    async with bare_peer_of(owner) as (_, writer):
        whole = "ü".encode()
        writer.write(frame(1, whole[:1], fin=False) + frame(9, b"ping in between") + frame(0, whole[1:]))
        await until(lambda: owner.messages)
    assert owner.messages == ["ü"]


async def test_a_frame_over_the_limit() -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        await peer.send("x" * (LIMIT_BYTES + 1))
        await until(lambda: owner.lost)
        with pytest.raises(ConnectionClosed):
            await peer.recv()
        assert peer.close_code == 1009
    assert [code for code, _ in owner.lost] == [1009]


async def test_a_frame_that_claims_to_be_enormous_takes_no_memory() -> None:
    owner = Owner()
    async with bare_peer_of(owner) as (reader, writer):
        writer.write(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 100)
        assert (await reader.readexactly(4))[2:] == (1009).to_bytes(2, "big")
        await until(lambda: owner.lost)
    assert [code for code, _ in owner.lost] == [1009]
    assert owner.messages == []


async def test_fragments_over_the_limit() -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        with contextlib.suppress(ConnectionClosed):
            await peer.send(["x" * 400] * 50)
        with pytest.raises(ConnectionClosed):
            await peer.recv()
        assert (peer.close_code, peer.close_reason) == (1009, f"a message over {LIMIT_BYTES} bytes")
    assert owner.lost == [(1009, f"a message over {LIMIT_BYTES} bytes")]
    assert owner.messages == []


async def test_a_refused_peer_that_goes_on_fills_no_memory() -> None:
    owner = Owner()
    async with bare_peer_of(owner) as (_, writer):
        writer.write(frame(1, b"x" * 900, fin=False) + frame(0, b"x" * 900, fin=False))
        await until(lambda: owner.lost)
        for _ in range(20):
            writer.write(frame(0, b"x" * 900, fin=False))
        writer.write(frame(0, b"", fin=True) + frame(1, b"as if nothing had happened"))
        writer.write_eof()
        await writer.drain()
        socket = owner.open_socket
        await until(lambda: socket._transport is not None and socket._transport.is_disconnected)
    assert socket._fragments_bytes == 0
    assert (len(owner.lost), owner.messages) == (1, [])


@pytest.mark.parametrize("pieces", [[b"\xff\xfe"], [b"ok", b"\xff\xfe"]])
async def test_text_that_is_not_utf8(pieces: list[bytes]) -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        await peer.send(pieces if len(pieces) > 1 else pieces[0], text=True)
        with pytest.raises(ConnectionClosed):
            await peer.recv()
        assert peer.close_code == 1007
    assert owner.lost == [(1007, "a text message that is not UTF-8")]
    assert owner.messages == []


@pytest.mark.parametrize(("code", "words"), [(1000, ""), (1001, "bye"), (1008, "no"), (1011, "grüß"), (4000, "own")])
async def test_the_peers_close_is_seen_and_answered(code: int, words: str) -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        await peer.close(code, words)
        await until(lambda: owner.lost)
        assert peer.protocol.close_rcvd is not None
    assert owner.lost == [(code, words)]


async def test_a_close_without_a_code() -> None:
    owner = Owner()
    async with bare_peer_of(owner) as (reader, writer):
        writer.write(frame(8, b""))
        await until(lambda: owner.lost)
        assert await reader.read() == b"\x88\x02\x03\xe8"  # our close frame, 1000, and then the end
    assert owner.lost == [(1005, "")]


async def test_a_connection_that_breaks_without_a_word() -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        peer.transport.abort()
        await until(lambda: owner.lost)
    assert owner.lost == [(1006, "")]


async def test_an_end_of_the_stream_without_a_close_frame() -> None:
    owner = Owner()
    async with bare_peer_of(owner) as (_, writer):
        writer.close()
        await until(lambda: owner.lost)
    assert owner.lost == [(1006, "")]


async def test_a_peer_that_answers_no_ping_is_lost_and_not_gone_in_peace() -> None:
    owner = Owner()
    options = {
        "enable_auto_ping": True,
        "auto_ping_idle_timeout": 0.05,
        "auto_ping_reply_timeout": 0.05,
        "auto_ping_strategy": WSAutoPingStrategy.PING_WHEN_IDLE,
    }
    async with bare_peer_of(owner, **options):
        await until(lambda: owner.lost)
    [(code, words)] = owner.lost
    assert code == 1006
    assert "not replied to ping" in words


async def test_our_close() -> None:
    owner = Owner()
    async with peer_of(owner) as peer:
        owner.open_socket.close(1000, "caller_hangup")
        owner.open_socket.close(1011, "a second time")
        owner.open_socket.send_text("too late")
        owner.open_socket.send_binary(b"too late")
        with pytest.raises(ConnectionClosed):
            await peer.recv()
        assert (peer.close_code, peer.close_reason) == (1000, "caller_hangup")
        await until(lambda: owner.lost)
    assert owner.lost == [(1000, "caller_hangup")]  # the peer's answer repeats it


async def test_a_peer_that_does_not_answer_our_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CLOSE_GRACE_S", 0.1)
    owner = Owner()
    async with bare_peer_of(owner) as (reader, _):
        owner.open_socket.close()
        assert await reader.readexactly(4) == b"\x88\x02\x03\xe8"
        assert owner.lost == []
        assert await reader.read() == b""
        await until(lambda: owner.lost)
    assert owner.lost == [(1006, "")]


async def test_cut() -> None:
    owner = Owner()
    async with bare_peer_of(owner) as (reader, _):
        owner.open_socket.cut()
        assert await reader.read() == b""  # no close frame
        await until(lambda: owner.lost)
        owner.open_socket.send_text("nobody is there")
        owner.open_socket.close()
    assert owner.lost == [(1006, "")]


def test_a_socket_that_never_opened_takes_everything_in_silence() -> None:
    socket = MediaSocket(Owner(), LIMIT_BYTES)
    socket.send_text("x")
    socket.send_binary(b"x")
    socket.close()
    socket.cut()


async def test_a_stuck_peer_is_told_and_its_recovery_too() -> None:
    owner = Owner()
    async with bare_peer_of(owner) as (reader, _):
        while not owner.writable:
            owner.open_socket.send_binary(b"x" * 65536)
        assert owner.writable == [False]
        while len(owner.writable) < 2:
            assert await reader.read(1 << 20)
    assert owner.writable == [False, True]


async def test_handing_over_to_another_owner() -> None:
    first, second = Owner(), Owner()
    async with peer_of(first) as peer:
        first.open_socket.hand_over(second)
        assert second.socket is first.socket
        await peer.send("x")
        await until(lambda: second.messages)
    await until(lambda: second.lost)
    assert (first.messages, first.lost) == ([], [])


async def test_the_clients_side() -> None:
    async def answer(connection: ServerConnection) -> None:
        await connection.send(f"got {await connection.recv()!r}")
        await connection.close(1011, "enough")

    owner = Owner()
    async with serve(answer, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        await ws_connect(lambda: MediaSocket(owner, LIMIT_BYTES), f"ws://127.0.0.1:{port}/")
        owner.open_socket.send_text("hello")
        await until(lambda: owner.lost)
    assert (owner.messages, owner.lost) == (["got 'hello'"], [(1011, "enough")])
