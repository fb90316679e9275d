"""RTCP on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError, RemoteError
from bridge.sip.rtcp import (
    Bye,
    ReceiverReport,
    ReceptionReport,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    build_rtcp,
    ntp_timestamp,
    parse_rtcp,
)

REPORT = ReceptionReport(0x11111111, 64, -2, 0x00010002, 7, 0xAABBCCDD, 65536)
COMPOUND: list[RtcpPacket] = [
    SenderReport(0x22222222, 0x0102030405060708, 160, 3, 480, (REPORT,)),
    SourceDescription(0x22222222, "ab@c"),
    Bye((0x22222222,), "bye"),
]
WIRE = bytes.fromhex(
    "81c8000c 22222222 0102030405060708 000000a0 00000003 000001e0"
    "11111111 40fffffe 00010002 00000007 aabbccdd 00010000"
    "81ca0003 22222222 01046162 40630000"
    "81cb0002 22222222 03627965".replace(" ", "")
)


def test_a_compound_packet_both_ways() -> None:
    assert build_rtcp(COMPOUND) == WIRE
    assert parse_rtcp(WIRE) == COMPOUND


def test_a_receiver_report_without_anything_to_report() -> None:
    wire = bytes.fromhex("80c9000100000005")
    assert build_rtcp([ReceiverReport(5)]) == wire
    assert parse_rtcp(wire) == [ReceiverReport(5)]


def test_other_packets_are_skipped_and_padding_is_taken_off() -> None:
    application = bytes.fromhex("80cc0002 00000001 41424344".replace(" ", ""))
    padded = bytes.fromhex("a1cb0003 00000009 02686900 00000004".replace(" ", ""))
    assert parse_rtcp(application + padded) == [Bye((9,), "hi")]


def test_only_the_name_is_kept_of_a_source_description() -> None:
    # Two chunks: a tool (type 6) then a name; and one with nothing in it.
    wire = bytes.fromhex("82ca0005 00000001 0601780 101790000 00000002 00000000".replace(" ", ""))
    assert parse_rtcp(wire) == [SourceDescription(1, "y"), SourceDescription(2, "")]


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"", "RTCP: the datagram is empty"),
        (b"\x80\xc8\0", "RTCP: a header is cut off"),
        (b"\x40\xc9\0\0", "RTCP: version 1, 0 words at 0 of 4 bytes"),
        (b"\x80\xc9\0\1", "RTCP: version 2, 1 words at 0 of 4 bytes"),
        (b"\x80\xc8\0\0", "RTCP: a packet of type 200 is cut off"),
        (b"\x81\xc9\0\1\0\0\0\1", "RTCP: a packet of type 201 is cut off"),
        (b"\x81\xca\0\0", "RTCP: a packet of type 202 is cut off"),
        (b"\x81\xca\0\2\0\0\0\1\1\xffab", "RTCP: an item of a source description is cut off"),
        (b"\x81\xca\0\2\0\0\0\1\1\1a\1", "RTCP: an item of a source description is cut off"),
        (b"\x82\xcb\0\1\0\0\0\1", "RTCP: a packet of type 203 is cut off"),
        (b"\xa0\xc9\0\1\0\0\0\0", "RTCP: the padding does not fit"),
        (b"\xa0\xc9\0\1\0\0\0\5", "RTCP: the padding does not fit"),
        (b"\xa0\xc9\0\0", "RTCP: the padding does not fit"),
        (bytes(2049), "RTCP: a datagram of 2049 bytes is more than 2048"),
    ],
)
def test_what_is_no_rtcp_is_named(wire: bytes, words: str) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_rtcp(wire)
    assert str(caught.value) == words


@given(st.sampled_from([200, 201, 202, 203, 204]), st.integers(0, 63), st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_else(kind: int, low_bits: int, rest: bytes) -> None:
    body = rest[: len(rest) // 4 * 4]
    try:
        parse_rtcp(bytes((0x80 | low_bits, kind)) + (len(body) // 4).to_bytes(2, "big") + body)
    except RemoteError:
        return


@given(st.text(max_size=400), st.integers(0, 31))
def test_names_of_any_length_come_back(name: str, count: int) -> None:
    wire = build_rtcp([SourceDescription(1, name), ReceiverReport(1, (REPORT,) * count)])
    description, report = parse_rtcp(wire)
    assert isinstance(description, SourceDescription)
    assert name.startswith(description.cname)
    assert report == ReceiverReport(1, (REPORT,) * count)


@pytest.mark.parametrize(
    "packet",
    [
        ReceiverReport(-1),
        ReceiverReport(1, (ReceptionReport(1, 256, 0, 0, 0),)),
        ReceiverReport(1, (ReceptionReport(1, 0, 2**23, 0, 0),)),
        ReceiverReport(1, (REPORT,) * 32),
    ],
)
def test_what_does_not_fit_is_not_built(packet: RtcpPacket) -> None:
    with pytest.raises(LocalError):
        build_rtcp([packet])


def test_wall_clock_time_as_ntp() -> None:
    assert ntp_timestamp(0.0) == 2_208_988_800 << 32
    assert ntp_timestamp(1_700_000_000.5) == (3_908_988_800 << 32) + 2**31
    # 2036-02-07 06:28:16 UTC, where the seconds wrap.
    assert ntp_timestamp(2**32 - 2_208_988_800) == 0
