"""Cutting messages off datagrams and streams."""

from __future__ import annotations

import pytest

from bridge.sip.errors import NotSip, Rejection
from bridge.sip.framing import PING, PONG, Lost, Ping, Pong, StreamEvent, StreamFramer, parse_datagram
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response
from bridge.sip.parse import Limits

INFO = b"INFO sip:a@b SIP/2.0\r\nl: 3\r\n\r\nabc"
AS_INFO = Request("INFO", "sip:a@b", Headers(), b"abc")
OK = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
AS_OK = Response(200, "OK")


def flawed(message: object) -> Rejection | None:
    assert isinstance(message, Request)
    return message.flaw


# --- datagrams ---


@pytest.mark.parametrize("data", [b"", b"\r\n", PING, b"\n\r\n", b"\r\n" * 100])
def test_keep_alives_in_datagrams(data: bytes) -> None:
    assert parse_datagram(data) is None


def test_line_ends_before_a_message_are_skipped() -> None:
    assert parse_datagram(b"\r\n\r\n" + INFO) == AS_INFO


def test_the_body_of_a_datagram() -> None:
    assert parse_datagram(INFO + b"surplus") == AS_INFO
    assert parse_datagram(b"INFO sip:a@b SIP/2.0\r\n\r\nabc") == AS_INFO  # no length: the rest
    assert parse_datagram(b"INFO sip:a@b SIP/2.0\r\n\r\n") == Request("INFO", "sip:a@b")


def test_a_body_that_is_cut_short() -> None:
    message = parse_datagram(INFO[:-1])
    assert flawed(message) == Rejection(400, "Content-Length Exceeds Message")
    with pytest.raises(NotSip, match="^a response is broken: Content-Length Exceeds Message$"):
        parse_datagram(b"SIP/2.0 200 OK\r\nl: 1\r\n\r\n")


def test_a_datagram_without_an_end_of_headers() -> None:
    for data in (b"INFO sip:a@b SIP/2.0", b"INFO sip:a@b SIP/2.0\r\n", b"INFO sip:a@b SIP/2.0\r\nVia: x\r\n"):
        assert flawed(parse_datagram(data)) == Rejection(400, "No End of Header Section")
    with pytest.raises(NotSip):
        parse_datagram(b"SIP/2.0 200 OK\r\n")


def test_limits_of_datagrams() -> None:
    limits = Limits(header_bytes=28, body_bytes=3)
    assert parse_datagram(b"INFO sip:a@b SIP/2.0\r\nl:   3\r\n\r\nabc", limits) == AS_INFO
    with pytest.raises(NotSip, match="^the header section is too long$"):
        parse_datagram(b"INFO sip:a@b SIP/2.0\r\nl:    3\r\n\r\nabc", limits)
    too_large = parse_datagram(b"INFO sip:a@b SIP/2.0\r\n\r\nabcd", limits)
    assert flawed(too_large) == Rejection(413, "Request Entity Too Large")
    assert isinstance(too_large, Request) and too_large.body == b""
    with pytest.raises(NotSip, match="Request Entity Too Large"):
        parse_datagram(b"SIP/2.0 200 OK\r\n\r\nabcd", limits)


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"jaK", b"\x80\x00" + bytes(170), b"\x00\x01\x00\x08\x21\x12\xa4\x42"])
def test_other_protocols_are_no_sip(data: bytes) -> None:
    with pytest.raises(NotSip):
        parse_datagram(data)


# --- streams ---


def fed(data: bytes, size: int = 10**6, limits: Limits | None = None) -> list[StreamEvent]:
    framer = StreamFramer(limits or Limits())
    return [event for place in range(0, len(data), size) for event in framer.receive(data[place : place + size])]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10**6])
def test_messages_in_any_pieces(size: int) -> None:
    assert fed(INFO + OK + INFO, size) == [AS_INFO, AS_OK, AS_INFO]


def test_keep_alives_at_once() -> None:
    assert fed(PING) == [Ping()]
    assert fed(PONG) == [Pong()]
    assert fed(PONG + OK) == [Pong(), AS_OK]
    assert fed(PING + OK + PING + INFO + PONG) == [Ping(), AS_OK, Ping(), AS_INFO, Pong()]


def test_a_run_of_keep_alives_in_one_read_is_one_ping() -> None:
    assert fed(b"\r\n" * 20_000 + OK) == [Ping(), AS_OK]


def test_keep_alives_in_pieces() -> None:
    assert fed(PING, 1) == [Pong(), Ping()]
    assert fed(PING + PING, 1) == [Pong(), Ping(), Pong(), Ping()]
    assert fed(PONG + OK + PONG, 1) == [Pong(), AS_OK, Pong()]
    framer = StreamFramer()
    assert framer.receive(b"\r\n\r") == [Pong()]
    assert framer.receive(b"\n") == [Ping()]


def test_whether_a_message_is_unfinished() -> None:
    framer = StreamFramer()
    states = [framer.unfinished]
    for piece in (INFO[:10], INFO[10:-3], INFO[-3:], PING):
        framer.receive(piece)
        states.append(framer.unfinished)
    assert states == [False, True, True, False, False]


def test_a_stream_needs_the_lengths_of_bodies() -> None:
    events = fed(b"INFO sip:a@b SIP/2.0\r\nc: text/plain\r\n\r\n" + INFO)
    assert flawed(events[0]) == Rejection(400, "Content-Length Required")
    assert events[1:] == [Lost("the length of a body is missing, malformed or too high")]
    broken = b"SIP/2.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    assert fed(broken + INFO) == [Lost("a response is broken: Content-Length Required")]


def test_on_a_stream_no_type_and_no_length_is_no_body() -> None:
    first, second = fed(b"ACK sip:a@b SIP/2.0\r\n\r\n" + INFO)
    assert isinstance(first, Request) and isinstance(second, Request)
    assert (first.method, first.body, first.flaw) == ("ACK", b"", None)
    assert second.method == "INFO"


def test_a_malformed_length_loses_the_stream() -> None:
    events = fed(INFO.replace(b"3", b"-3"))
    assert flawed(events[0]) == Rejection(400, "Malformed Content-Length")
    assert isinstance(events[1], Lost) and len(events) == 2


def test_other_flaws_do_not_lose_the_stream() -> None:
    events = fed(INFO.replace(b"l:", b"broken\r\nl:") + INFO)
    assert flawed(events[0]) == Rejection(400, "Malformed Header Line")
    assert events[1:] == [AS_INFO]
    assert fed(OK.replace(b"Content", b"broken\r\nContent") + INFO) == [AS_INFO]  # the response is dropped


def test_nothing_follows_a_lost_stream() -> None:
    framer = StreamFramer()
    assert framer.receive(INFO + b"\x16\x03\x01") == [AS_INFO, Lost("no start line")]
    assert framer.receive(INFO) == []
    assert not framer.unfinished


@pytest.mark.parametrize("data", [b"\x16", b"\0", b"\n", b"\rX", b" INFO", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"<"])
def test_other_protocols_lose_the_stream(data: bytes) -> None:
    assert fed(data) == [Lost("no start line")]


def test_limits_of_streams() -> None:
    limits = Limits(header_bytes=40, body_bytes=3)
    assert fed(INFO, limits=limits) == [AS_INFO]
    assert fed(b"A" * 40, limits=limits) == []
    assert fed(b"A" * 41, limits=limits) == [Lost("the header section is too long")]
    assert fed(b"A" * 41 + b"\r\n\r\n", limits=limits) == [Lost("the header section is too long")]
    events = fed(b"INFO sip:a@b SIP/2.0\r\nl: 4\r\n\r\nabcd", limits=limits)
    assert flawed(events[0]) == Rejection(413, "Request Entity Too Large")
    assert events[1:] == [Lost("the length of a body is missing, malformed or too high")]
