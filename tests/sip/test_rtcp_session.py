"""RTCP of a call: intervals, reports, round trip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.rtcp import (
    Bye,
    ReceiverReport,
    ReceptionReport,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    build_rtcp,
    parse_rtcp,
)
from bridge.sip.rtcp_session import PeerView, RtcpSession, rtcp_interval_s
from bridge.sip.rtp import RtpPacket, RtpSender, build_rtp
from bridge.sip.rtp_receiver import ReceiverOptions, RtpReceiver
from bridge.sip.rtp_source import LatchOptions, SourceLatch

PEER = ("203.0.113.5", 4000)
UNIX_S = 1_700_000_000.0


class Side:
    """One end of a call, on a monotonic clock that began at ``UNIX_S``."""

    def __init__(self, ssrc: int) -> None:
        self.sender = RtpSender(ssrc, 0, 0)
        self.receiver = RtpReceiver(ReceiverOptions(frozenset({0})), SourceLatch(LatchOptions(), PEER))
        self.rtcp = RtcpSession(self.sender, self.receiver, f"{ssrc}@call", now=0.0, draw=0.5)

    def report(self, now: float) -> bytes:
        return self.rtcp.report(now, UNIX_S + now, 0.5)

    def hear(self, datagram: bytes, now: float) -> None:
        self.rtcp.receive(datagram, now, UNIX_S + now)


def test_intervals() -> None:
    assert rtcp_interval_s(0.5, is_first=True) == pytest.approx(2.5 / 1.21828, rel=1e-5)
    assert rtcp_interval_s(0.0, is_first=False) == pytest.approx(2.5 / 1.21828, rel=1e-5)
    assert rtcp_interval_s(0.999999, is_first=False) == pytest.approx(7.5 / 1.21828, rel=1e-5)
    # 1000 listeners share three quarters of 400 bytes a second.
    many = rtcp_interval_s(0.5, is_first=False, average_bytes=100, members=1001, senders=1, is_sender=False)
    assert many == pytest.approx(100 * 1000 / 300 / 1.21828, rel=1e-5)
    one_of_few = rtcp_interval_s(0.5, is_first=False, average_bytes=1000, members=1001, senders=1, is_sender=True)
    assert one_of_few == pytest.approx(1000 * 1 / 100 / 1.21828, rel=1e-5)


def test_the_schedule() -> None:
    side = Side(1)
    assert side.rtcp.next_due_s == pytest.approx(2.052, abs=0.001)
    side.report(2.1)
    assert side.rtcp.next_due_s == pytest.approx(2.1 + 5 / 1.21828, abs=0.001)


def test_the_first_report_of_a_silent_side() -> None:
    assert parse_rtcp(Side(1).report(1.0)) == [ReceiverReport(1), SourceDescription(1, "1@call")]


def test_a_report_says_what_was_sent_and_heard() -> None:
    side = Side(1)
    side.sender.audio(0, b"x" * 160, 160)
    for sequence in (1, 2, 4, 5):
        side.receiver.receive(build_rtp(RtpPacket(0, sequence, 160 * sequence, 9, b"y")), PEER, 0.02 * sequence)
    report, _ = parse_rtcp(side.report(1.0))
    assert isinstance(report, SenderReport)
    assert (report.ntp >> 32, report.rtp_timestamp, report.packets, report.octets) == (3_908_988_801, 160, 1, 160)
    assert report.reports == (ReceptionReport(9, 256 // 5, 1, 5, 0, 0, 0),)
    # Nothing more was sent: the next one is a receiver's.
    later, _ = parse_rtcp(side.report(6.0))
    assert later == ReceiverReport(1, (ReceptionReport(9, 0, 1, 5, 0, 0, 0),))


def test_the_round_trip() -> None:
    here, there = Side(1), Side(2)
    here.sender.audio(0, b"x", 160)
    there.receiver.receive(build_rtp(RtpPacket(0, 1, 0, 1, b"x")), PEER, 0.0)
    there.hear(here.report(1.0), 1.05)  # 50 ms there
    here.hear(there.report(4.05), 4.12)  # 3 s later, 70 ms back
    assert here.rtcp.round_trip_s == pytest.approx(0.120, abs=0.001)
    assert here.rtcp.peer_view == PeerView(0.0, 0, 0.0)
    assert there.rtcp.round_trip_s is None


@pytest.mark.parametrize(("ssrc", "last_sr"), [(1, 0), (1, 12345), (3, 12345)])
def test_a_report_that_makes_no_sense_gives_no_round_trip(ssrc: int, last_sr: int) -> None:
    side = Side(1)
    side.hear(build_rtcp([ReceiverReport(2, (ReceptionReport(ssrc, 128, 5, 0, 80, last_sr, 0),))]), 1.0)
    assert side.rtcp.round_trip_s is None
    assert side.rtcp.peer_view == (PeerView(0.5, 5, 10.0) if ssrc == 1 else None)


@pytest.mark.parametrize(("ssrc", "has_ended"), [(9, True), (8, False)])
def test_the_peer_s_goodbye(ssrc: int, has_ended: bool) -> None:
    side = Side(1)
    side.receiver.receive(build_rtp(RtpPacket(0, 1, 0, 9, b"y")), PEER, 0.0)
    packets: list[RtcpPacket] = [ReceiverReport(9), Bye((ssrc,))]
    side.hear(build_rtcp(packets), 1.0)
    assert side.rtcp.has_ended is has_ended


def test_our_goodbye() -> None:
    assert parse_rtcp(Side(1).rtcp.bye(1.0, UNIX_S)) == [
        ReceiverReport(1), SourceDescription(1, "1@call"), Bye((1,)),
    ]  # fmt: skip


@given(st.binary(max_size=60))
def test_nothing_that_comes_raises(datagram: bytes) -> None:
    side = Side(1)
    side.hear(datagram, 1.0)
    side.hear(b"", 1.0)
    assert side.rtcp.malformed >= 1
