"""A connection on its own, where timing on real sockets would be a matter of luck."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bridge.server.sip.connection import READ_BYTES, StreamConnection
from bridge.server.sip.options import StreamOptions, TransportCounts
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.message import Message
from bridge.sip.parse import DEFAULT_LIMITS
from tests.server.sip.net_fakes import options

FLOW = Flow(Transport.TCP, "192.0.2.1", 5060, 1)


class Owner:
    def __init__(self) -> None:
        self.counts = TransportCounts()
        self.messages: list[Message] = []
        self.lost = 0

    def monotonic(self) -> float:
        return 100.0

    def deliver(self, message: Message, flow: Flow) -> None:
        self.messages.append(message)

    def delay_s(self, host: str, messages: int, now: float) -> float:
        return 0.0

    def is_trusted(self, host: str) -> bool:
        return False

    def is_needed(self, number: int) -> bool:
        return False

    def on_lost(self, connection: StreamConnection) -> None:
        self.lost += 1


class Wire:
    """A transport that keeps what is written."""

    def __init__(self, unsent_bytes: int = 0) -> None:
        self.written = b""
        self.unsent_bytes = unsent_bytes
        self.ends: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")


def connection(ticket: str | None = "t") -> StreamConnection:
    return StreamConnection(Owner(), FLOW, StreamOptions(max_write_bytes=1000), DEFAULT_LIMITS, ticket)


def opened(wire: Wire, ticket: str | None = "t") -> StreamConnection:
    made = connection(ticket)
    made.connection_made(cast(Any, wire))
    return made


def feed(to: StreamConnection, data: bytes) -> None:
    buffer = to.get_buffer(-1)
    assert len(buffer) == READ_BYTES
    buffer[: len(data)] = data
    to.buffer_updated(len(data))


def test_nothing_is_taken_once_it_is_closing() -> None:
    wire = Wire()
    made = opened(wire)
    made.close()
    assert not made.send(Outgoing(b"x", FLOW))
    feed(made, b"\r\n\r\n")
    assert (wire.written, wire.ends) == (b"", ["close"])
    made.sweep(10_000.0)
    assert wire.ends == ["close"]


@pytest.mark.parametrize("end", [StreamConnection.close, StreamConnection.abort])
def test_given_up_before_it_came_to_be(end: Any) -> None:
    made = connection(None)
    made.send(Outgoing(b"x", FLOW, "key"))
    end(made)
    assert [out.key for out in made.take_pending()] == ["key"]
    wire = Wire()
    made.connection_made(cast(Any, wire))
    assert (wire.written, wire.ends) == (b"", ["abort"])


def test_a_peer_that_pings_and_reads_nothing() -> None:
    wire = Wire(unsent_bytes=1001)
    feed(opened(wire), b"\r\n\r\n")
    assert (wire.written, wire.ends) == (b"", ["abort"])


def test_a_message_that_ends_in_the_next_piece_starts_its_time_anew() -> None:
    wire = Wire()
    made = opened(wire)
    feed(made, options(1) + options(2)[:50])
    made.sweep(109.0)
    assert wire.ends == []
    made.sweep(111.0)
    assert wire.ends == ["abort"]


def test_an_answer_of_any_kind_means_that_requests_arrived() -> None:
    made = opened(Wire(), None)
    made.send(Outgoing(b"x", FLOW, "key"))
    feed(made, b"S")
    assert made.take_unanswered(101.0) == []
    assert made.was_answered


def test_losing_it_is_told_once() -> None:
    made = opened(Wire())
    made.connection_lost(None)
    assert cast(Owner, made._owner).lost == 1
    assert not made.is_usable
