"""Connections of TCP: taken, opened, used again, bounded, and given up."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import replace

import pytest

from bridge.server.sip.connection import StreamConnection
from bridge.server.sip.limits import LimitOptions
from bridge.server.sip.options import StreamOptions
from bridge.server.sip.streams import _words
from bridge.server.sip.transports import Transports
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.message import Request
from bridge.sip.parse import Limits
from tests.kit import logs
from tests.server.sip.net_fakes import (
    PATIENCE_S,
    RESPONSE,
    Desk,
    Peer,
    connected,
    free_port,
    listen,
    options,
    running,
    until,
)

REQUEST = options(7)
QUIET = StreamOptions(keepalive_s=0)


async def read(reader: asyncio.StreamReader, wanted: bytes) -> None:
    """Exactly these bytes come next."""
    assert await asyncio.wait_for(reader.readexactly(len(wanted)), PATIENCE_S) == wanted


async def closed(reader: asyncio.StreamReader) -> None:
    """The bridge closes the connection, and says nothing more."""
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(65536), PATIENCE_S) == b""


# --- connections that peers open ---


async def test_messages_in_pieces_and_answers_on_the_same_connection() -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (reader, writer):
        stream = options(1, length=4, body=b"abcd") + options(2)
        for place in range(0, len(stream), 100):
            writer.write(stream[place : place + 100])
            await asyncio.sleep(0)
        (first, flow), (_, same) = await desk.got(2)
        port = writer.get_extra_info("sockname")[1]
        assert isinstance(first, Request)
        assert first.body == b"abcd"
        assert (first.headers.get("Via") or "").endswith(f";rport={port};received=127.0.0.1")
        assert flow == same == Flow(Transport.TCP, "127.0.0.1", port, flow.connection)
        assert flow.connection > 0
        assert transports.is_open(flow)
        transports.send(Outgoing(RESPONSE, flow))
        await read(reader, RESPONSE)
        transports.send(Outgoing(REQUEST, replace(flow, connection=0), "key"))
        await read(reader, REQUEST)
    assert not transports.is_open(flow)
    assert transports.counts.received["TCP"] == transports.counts.sent["TCP"] == 2


async def test_a_response_falls_back_on_a_new_connection() -> None:
    desk = Desk()
    async with running(desk) as transports, Peer.listening() as peer:
        async with connected(transports) as (_, writer):
            writer.write(options(1))
            ((_, flow),) = await desk.got(1)
        await until(lambda: not transports.is_open(flow))
        for _ in range(2):
            transports.send(Outgoing(RESPONSE, flow, fallback=peer.flow()))
        await until(lambda: peer.received == RESPONSE * 2)
        assert peer.connections == 1
    assert desk.failed == []


async def test_pings_are_answered() -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (reader, writer):
        writer.write(b"\r\n\r\n")
        await read(reader, b"\r\n")
        writer.write(options(1) + b"\r\n\r\n\r\n\r\n")
        await read(reader, b"\r\n")
        writer.write(b"\r\n")
        await desk.got(1)
        writer.write(options(2))
        await desk.got(2)


@pytest.mark.parametrize("seed", range(5))
async def test_random_bytes(seed: int) -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (reader, writer):
        writer.write(random.Random(seed).randbytes(50_000))
        await closed(reader)
        async with connected(transports) as (_, other):
            other.write(options(1))
            await desk.got(1)
    assert transports.counts.not_sip == 1


async def test_a_head_without_end() -> None:
    desk = Desk()
    async with running(desk, message_limits=Limits(header_bytes=1000)) as transports:
        async with connected(transports) as (reader, writer):
            writer.write(options(1)[:-2] + b"X: " + b"y" * 2000)
            await closed(reader)
        assert desk.messages == []
        assert transports.counts.not_sip == 1


@pytest.mark.parametrize(
    ("length", "status"), [("100000", 413), ("-1", 400), ("12x", 400), (None, 400), ("9" * 30, 400)]
)
async def test_a_length_that_cannot_be_is_answered_before_the_end(length: str | None, status: int) -> None:
    desk = Desk()
    async with running(desk) as transports:
        desk.on_message = lambda _, flow: transports.send(Outgoing(RESPONSE, flow))
        async with connected(transports) as (reader, writer):
            head = options(1, length=None).removesuffix(b"\r\n") + b"Content-Type: text/plain\r\n"
            writer.write(head + (f"Content-Length: {length}\r\n\r\n".encode() if length else b"\r\n") + b"z" * 5000)
            ((message, _),) = await desk.got(1)
            assert isinstance(message, Request) and message.flaw is not None
            assert message.flaw.status == status
            await read(reader, RESPONSE)
            writer.write(options(2))
            await closed(reader)
    assert len(desk.messages) == 1


async def test_a_length_that_is_too_long_waits_in_vain() -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (reader, writer):
        writer.write(options(1, length=50, body=b"short"))
        await until(lambda: any(each.framer.unfinished for each in inside(transports)))
        now = desk.monotonic()
        transports.sweep(now + 9.0)
        await asyncio.sleep(0.02)
        assert transports.connections == 1
        transports.sweep(now + 11.0)
        await closed(reader)
    assert desk.messages == []
    assert transports.counts.slow_connections == 1


def inside(transports: Transports) -> list[StreamConnection]:
    return list(transports._streams._by_number.values())


async def test_slow_loris() -> None:
    desk = Desk()
    async with (
        running(desk, sweep_s=0.02, streams=StreamOptions(unfinished_s=0.2)) as transports,
        connected(transports) as (reader, writer),
    ):
        writer.write(options(1))
        task = asyncio.create_task(trickle(writer))
        await closed(reader)
        task.cancel()
    assert transports.counts.slow_connections == 1
    assert len(desk.messages) == 1


async def trickle(writer: asyncio.StreamWriter) -> None:
    for byte in options(2):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def test_many_messages_one_after_the_other_are_not_slow() -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (_, writer):
        for number in range(4):
            writer.write(options(number)[20:] + options(number + 1)[:20] if number else options(0) + options(1)[:20])
            await desk.got(number + 1)
            desk.shift_s += 9.0
            transports.sweep(desk.monotonic())
        assert transports.connections == 1


async def test_strangers_must_say_something_and_trusted_peers_need_not() -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (reader, writer):
        writer.write(b"\r\n\r\n")
        await read(reader, b"\r\n")
        desk.trusted.add("127.0.0.1")
        transports.sweep(desk.monotonic() + 31.0)
        await asyncio.sleep(0.02)
        assert transports.connections == 1
        desk.trusted.clear()
        transports.sweep(desk.monotonic() + 29.0)
        transports.sweep(desk.monotonic() + 31.0)
        await closed(reader)


async def test_idle_connections_are_closed_unless_a_call_needs_them() -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (reader, writer):
        writer.write(options(1))
        ((_, flow),) = await desk.got(1)
        desk.needed.add(flow.connection)
        transports.sweep(desk.monotonic() + 601.0)
        assert transports.is_open(flow)
        desk.needed.clear()
        transports.sweep(desk.monotonic() + 599.0)
        assert transports.is_open(flow)
        transports.sweep(desk.monotonic() + 601.0)
        assert not transports.is_open(flow)
        await closed(reader)


async def test_connections_of_one_address_are_counted() -> None:
    desk = Desk()
    async with running(desk, limits=LimitOptions(max_connections_per_address=2)) as transports:
        async with connected(transports), connected(transports):
            await until(lambda: transports.connections == 2)
            async with connected(transports) as (reader, _):
                await closed(reader)
            assert transports.counts.refused_connections == 1
        await until(lambda: transports.connections == 0)
        async with connected(transports) as (_, writer):
            writer.write(options(1))
            await desk.got(1)


async def test_too_many_messages_are_read_later_and_none_is_lost() -> None:
    desk = Desk()
    async with (
        running(desk, limits=LimitOptions(messages_per_s=100.0, burst=1)) as transports,
        connected(transports) as (_, writer),
    ):
        began = desk.monotonic()
        writer.write(b"".join(options(number) for number in range(10)))
        await desk.got(10)
        writer.write(options(11))
        await until(lambda: len(desk.messages) == 11)
        assert desk.monotonic() - began > 0.08
    assert transports.counts.limited >= 1


async def test_an_error_in_the_user_agent_does_not_end_the_connection() -> None:
    desk = Desk()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async with running(desk) as transports, connected(transports) as (_, writer):
        desk.on_message = fail
        with logs.captured() as lines:
            writer.write(options(1) + options(2))
            await desk.got(2)
        assert [line["event"] for line in lines] == ["sip_message_failed"] * 2


# --- connections that we open ---


async def test_a_connection_is_opened_once_and_used_again() -> None:
    desk = Desk()
    async with running(desk) as transports, Peer.listening() as peer:
        for key in ("a", "b"):
            transports.send(Outgoing(REQUEST, peer.flow(), key))
        assert peer.connections == 0, "in the background"
        await until(lambda: peer.received == REQUEST * 2)
        peer.writers[0].write(RESPONSE)
        ((_, flow),) = await desk.got(1)
        assert (flow.transport, flow.host, flow.port) == (Transport.TCP, "127.0.0.1", peer.port)
        transports.send(Outgoing(REQUEST, flow, "c"))
        transports.send(Outgoing(REQUEST, peer.flow(), "d"))
        await until(lambda: peer.received == REQUEST * 4)
        assert peer.connections == 1
        assert desk.failed == []


async def test_a_connect_that_fails_is_told_once_for_each_key() -> None:
    desk = Desk()
    async with running(desk) as transports:
        flow = Flow(Transport.TCP, "127.0.0.1", free_port())
        with logs.captured() as lines:
            for key in ("a", "b", "a", ""):
                transports.send(Outgoing(REQUEST, flow, key))
            assert desk.failed == []
            await until(lambda: len(desk.failed) >= 2)
            await asyncio.sleep(0.02)
        assert desk.failed == ["a", "b"]
        assert [line["problem"] for line in lines] == ["Connection refused"]
        assert transports.connections == 0
        async with Peer.listening(port=flow.port) as peer:
            transports.send(Outgoing(REQUEST, flow, "c"))
            await until(lambda: peer.received == REQUEST)
            assert desk.failed == ["a", "b"]
    assert transports.counts.failed_connects == 1


async def test_a_peer_that_does_not_answer_the_connect() -> None:
    desk = Desk()
    with socket.socket() as full:  # its queue of connections is full: whoever comes more is left waiting
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        async with running(desk, streams=StreamOptions(connect_timeout_s=0.2)) as transports:
            transports.send(Outgoing(REQUEST, Flow(Transport.TCP, "127.0.0.1", full.getsockname()[1]), "key"))
            await until(lambda: desk.failed == ["key"])
            transports.send(Outgoing(REQUEST, Flow(Transport.TCP, "127.0.0.1", full.getsockname()[1]), "late"))
            await asyncio.sleep(0.01)
        for each in crowd:
            each.close()
    assert desk.failed == ["key"], "closing tells nobody"


@pytest.mark.parametrize("host", ["peer.example", "127.0.0.1.", "::1"])
async def test_addresses_that_lead_nowhere(host: str) -> None:
    desk = Desk()
    async with running(desk) as transports:
        transports.send(Outgoing(REQUEST, Flow(Transport.TCP, host, 1), "key"))
        await until(lambda: desk.failed == ["key"])


async def test_the_queue_of_a_connection_being_opened_is_bounded() -> None:
    desk = Desk()
    async with running(desk, streams=StreamOptions(max_pending=2)) as transports, Peer.listening() as peer:
        for key in ("a", "b", "c"):
            transports.send(Outgoing(REQUEST, peer.flow(), key))
        await until(lambda: peer.received == REQUEST * 2)
        assert desk.failed == ["c"]
        assert transports.counts.dropped == 1


async def test_connections_being_opened_are_bounded() -> None:
    desk = Desk()
    async with (
        running(desk, streams=StreamOptions(max_connecting=1)) as transports,
        Peer.listening() as first,
        Peer.listening() as second,
    ):
        transports.send(Outgoing(REQUEST, first.flow(), "a"))
        transports.send(Outgoing(REQUEST, second.flow(), "b"))
        await until(lambda: first.received == REQUEST)
        transports.send(Outgoing(REQUEST, second.flow(), "c"))
        await until(lambda: second.received == REQUEST)
        assert desk.failed == ["b"]


async def test_a_peer_that_reads_nothing_is_given_up() -> None:
    desk = Desk()
    async with (
        running(desk, streams=StreamOptions(max_write_bytes=10_000)) as transports,
        connected(transports) as (_, writer),
    ):
        writer.write(options(1))
        ((_, flow),) = await desk.got(1)
        for number in range(5000):
            transports.send(Outgoing(b"x" * 5000, flow, str(number)))
            if not transports.is_open(flow):
                break
        await until(lambda: transports.connections == 0)
        await asyncio.sleep(0.02)
    assert str(number) in desk.failed
    assert len(desk.failed) == len(set(desk.failed))


async def test_a_request_that_an_old_connection_took_with_it_goes_over_a_new_one() -> None:
    desk = Desk()
    async with running(desk) as transports, Peer.listening() as peer:
        transports.send(Outgoing(REQUEST, peer.flow(), "a"))
        await until(lambda: peer.received == REQUEST)
        peer.writers[0].write(RESPONSE)
        await desk.got(1)
        peer.answer = lambda writer: writer.transport.abort() if peer.connections == 1 else None
        transports.send(Outgoing(REQUEST, peer.flow(), "b"))
        await until(lambda: peer.connections == 2 and peer.received == REQUEST * 3)
        assert desk.failed == []


async def test_a_peer_that_never_answers_but_hangs_up_is_a_failure() -> None:
    desk = Desk()
    async with running(desk) as transports, Peer.listening() as peer:
        peer.answer = lambda writer: writer.transport.abort()
        transports.send(Outgoing(REQUEST, peer.flow(), "a"))
        await until(lambda: desk.failed == ["a"])
        await asyncio.sleep(0.02)
        assert peer.connections == 1
    assert desk.failed == ["a"]


async def test_old_requests_are_not_sent_again() -> None:
    desk = Desk()
    async with running(desk) as transports, Peer.listening() as peer:
        peer.answer = lambda writer: writer.write(RESPONSE)
        transports.send(Outgoing(REQUEST, peer.flow(), "a"))
        await desk.got(1)
        peer.answer = lambda _: None
        transports.send(Outgoing(REQUEST, peer.flow(), "b"))
        await until(lambda: peer.received == REQUEST * 2)
        desk.shift_s = 33.0
        peer.writers[0].transport.abort()
        await until(lambda: transports.connections == 0)
        await asyncio.sleep(0.02)
        assert peer.connections == 1
    assert desk.failed == [], "its transaction is over"


async def test_keepalives_on_connections_that_we_opened() -> None:
    desk = Desk()
    async with running(desk) as transports, Peer.listening() as peer:
        transports.send(Outgoing(REQUEST, peer.flow(), "a"))
        await until(lambda: peer.received == REQUEST)
        for round_ in (1, 2):  # whoever never answers pings is not held to it
            desk.shift_s += 31.0
            transports.sweep(desk.monotonic())
            await until(lambda count=round_: peer.received == REQUEST + b"\r\n\r\n" * count)  # type: ignore[misc]
        peer.writers[0].write(b"\r\n")
        await until(lambda: inside(transports)[0]._peer_pongs)
        desk.shift_s += 31.0
        transports.sweep(desk.monotonic())
        assert transports.connections == 1
        desk.shift_s += 31.0
        transports.sweep(desk.monotonic())
        await until(lambda: transports.connections == 0)


async def test_no_keepalives_where_none_are_wanted() -> None:
    desk = Desk()
    async with running(desk, streams=QUIET) as transports, Peer.listening() as peer:
        transports.send(Outgoing(REQUEST, peer.flow(), "a"))
        await until(lambda: peer.received == REQUEST)
        transports.sweep(desk.monotonic() + 31.0)
        await asyncio.sleep(0.02)
        assert peer.received == REQUEST


async def test_ipv6_both_ways() -> None:
    desk = Desk()
    async with running(desk, listen=listen(Transport.TCP, host="::1")) as transports:
        reader, writer = await asyncio.open_connection("::1", transports.port(Transport.TCP))
        writer.write(options(1))
        ((_, flow),) = await desk.got(1)
        assert flow.host == "::1"
        writer.transport.abort()
        async with Peer.listening(host="::1") as peer:
            transports.send(Outgoing(REQUEST, Flow(Transport.TCP, "::1", peer.port), "a"))
            await until(lambda: peer.received == REQUEST)
        del reader


# --- all of them ---


async def test_closing_sends_what_is_left() -> None:
    desk = Desk()
    async with running(desk) as transports, connected(transports) as (reader, writer):
        writer.write(options(1))
        ((_, flow),) = await desk.got(1)
        last = b"x" * 200_000
        transports.send(Outgoing(last, flow))
        closing = asyncio.create_task(transports.close())
        await read(reader, last)
        await closed(reader)
        await closing
        transports.send(Outgoing(REQUEST, flow, "late"))
        await asyncio.sleep(0.01)
        assert desk.failed == ["late"]


async def test_closing_does_not_wait_for_those_who_read_nothing() -> None:
    desk = Desk()
    async with (
        running(desk, close_grace_s=0.1, streams=StreamOptions(max_write_bytes=10**8)) as transports,
        connected(transports) as (_, writer),
    ):
        writer.write(options(1))
        ((_, flow),) = await desk.got(1)
        transports.send(Outgoing(b"x" * 50_000_000, flow))
        async with asyncio.timeout(2):
            await transports.close()
        assert transports.connections == 0


async def test_no_descriptors_left_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    accept, problems = loop.sock_accept, [OSError(24, "Too many open files"), ConnectionAbortedError(103, "gone")]

    async def failing(sock: socket.socket) -> object:
        if problems:
            raise problems.pop(0)
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", failing)
    monkeypatch.setattr("bridge.server.sip.streams.ACCEPT_PAUSE_S", 0.01)
    desk = Desk()
    with logs.captured() as lines:
        async with running(desk, listen=listen(Transport.TCP)) as transports, connected(transports) as (_, writer):
            writer.write(options(1))
            await desk.got(1)
    assert [line["problem"] for line in lines] == ["Too many open files"]


def test_words_for_the_log() -> None:
    assert _words(TimeoutError()) == "no answer in time"
    assert _words(ConnectionRefusedError(111, "x")) == "Connection refused"
    assert _words(ConnectionAbortedError("SSL handshake is taking longer")) == "ConnectionAbortedError"
