"""RTP packets on the wire, and the sender's numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError, RemoteError
from bridge.sip.rtp import (
    MAX_DATAGRAM_BYTES,
    RtpPacket,
    RtpSender,
    build_rtp,
    looks_like_rtcp,
    parse_rtp,
)

PLAIN = bytes.fromhex("80 80 1234 00000960 cafebabe ff7f".replace(" ", ""))


def test_a_plain_packet_both_ways() -> None:
    packet = RtpPacket(0, 0x1234, 2400, 0xCAFEBABE, b"\xff\x7f", marker=True)
    assert parse_rtp(PLAIN) == packet
    assert build_rtp(packet) == PLAIN


def test_everything_that_a_header_can_hold() -> None:
    wire = bytes.fromhex(
        "b2 08 ffff ffffffff 00000001"  # padding, extension, two sources; type 8
        "00000002 00000003"
        "bede 0001 10aa0000"
        "d5d5 000003".replace(" ", "")
    )
    packet = RtpPacket(8, 0xFFFF, 0xFFFFFFFF, 1, b"\xd5\xd5", False, (2, 3), (0xBEDE, b"\x10\xaa\0\0"))
    assert parse_rtp(wire) == packet
    assert build_rtp(packet, padding_bytes=3) == wire


def test_a_packet_without_payload_is_a_packet() -> None:
    assert parse_rtp(PLAIN[:12]).payload == b""


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"", "RTP: a datagram of 0 bytes is not between 12 and 2048"),
        (PLAIN[:11], "RTP: a datagram of 11 bytes is not between 12 and 2048"),
        (PLAIN + bytes(MAX_DATAGRAM_BYTES), "RTP: a datagram of 2062 bytes is not between 12 and 2048"),
        (b"\x40" + PLAIN[1:], "RTP: version 1 is not 2"),
        (b"\x81" + PLAIN[1:], "RTP: 1 contributing sources do not fit into 14 bytes"),
        (b"\x90" + PLAIN[1:], "RTP: the header extension is cut off"),
        (b"\x90" + PLAIN[1:] + b"\0\2", "RTP: a header extension of 2 words does not fit into 16 bytes"),
        (b"\xa0" + PLAIN[1:-1] + b"\0", "RTP: 0 bytes of padding do not fit into 14 bytes"),
        (b"\xa0" + PLAIN[1:-1] + b"\3", "RTP: 3 bytes of padding do not fit into 14 bytes"),
    ],
)
def test_what_is_no_rtp_is_named(wire: bytes, words: str) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_rtp(wire)
    assert str(caught.value) == words


@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_else(wire: bytes) -> None:
    try:
        packet = parse_rtp(wire)
    except RemoteError:
        return
    assert parse_rtp(build_rtp(packet)) == packet


@given(st.integers(0, 255), st.binary(max_size=60))
def test_headers_with_every_bit_raise_nothing_else(first: int, rest: bytes) -> None:
    try:
        parse_rtp(bytes((0x80 | first & 0x3F,)) + rest)
    except RemoteError:
        return


@pytest.mark.parametrize(
    ("packet", "padding"),
    [
        (RtpPacket(0, 70000, 0, 0, b""), 0),
        (RtpPacket(0, 0, 2**32, 0, b""), 0),
        (RtpPacket(0, 0, 0, 0, b"", sources=(1,) * 16), 0),
        (RtpPacket(0, 0, 0, 0, b"", sources=(2**32,)), 0),
        (RtpPacket(0, 0, 0, 0, b"", extension=(1, b"abc")), 0),
        (RtpPacket(0, 0, 0, 0, b""), 256),
    ],
)
def test_what_does_not_fit_is_not_built(packet: RtpPacket, padding: int) -> None:
    with pytest.raises(LocalError):
        build_rtp(packet, padding)


def test_a_sender_counts_up_and_wraps() -> None:
    sender = RtpSender(ssrc=7, sequence=0xFFFF, timestamp=0xFFFFFFFF - 159)
    first = parse_rtp(sender.audio(8, b"a" * 160, 160, marker=True))
    second = parse_rtp(sender.audio(8, b"b" * 160, 160))
    assert (first.sequence, first.timestamp, first.ssrc, first.marker) == (0xFFFF, 0xFFFFFF60, 7, True)
    assert (second.sequence, second.timestamp, second.marker, second.payload) == (0, 0, False, b"b" * 160)
    assert (sender.packets, sender.octets, sender.sequence, sender.timestamp) == (2, 320, 1, 160)


def test_an_event_takes_a_number_but_no_time() -> None:
    sender = RtpSender(7, 10, 1000)
    event = parse_rtp(sender.event(101, b"\x05\x0a\x00\xa0", 1000, marker=True))
    later = parse_rtp(sender.event(101, b"\x05\x0a\x01\x40", 1000))
    assert (event.sequence, event.timestamp, event.payload_type, event.marker) == (10, 1000, 101, True)
    assert (later.sequence, later.timestamp, later.marker) == (11, 1000, False)
    sender.skip(320)
    assert parse_rtp(sender.audio(0, b"x", 160)).timestamp == 1320
    assert (sender.packets, sender.octets) == (3, 9)


@pytest.mark.parametrize("numbers", [(2**32, 0, 0), (0, 2**16, 0), (0, 0, -1)])
def test_a_sender_cannot_begin_out_of_range(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(LocalError):
        RtpSender(*numbers)


@pytest.mark.parametrize(
    ("datagram", "is_rtcp"),
    [(b"\x80\xc8", True), (b"\x80\xcb", True), (b"\x80\x80", False), (b"\x80\xe5", False), (b"\x80", False)],
)
def test_rtcp_is_told_from_rtp(datagram: bytes, is_rtcp: bool) -> None:
    assert looks_like_rtcp(datagram) is is_rtcp
