"""RTCP of one call: when a report is due, what stands in it, and what follows from the peer's.

Public: ``RtcpSession``, ``PeerView``, ``rtcp_interval_s``.

Sources: RFC 3550 section 6.2 and 6.3.1 (interval), 6.4.1 (round trip from LSR and DLSR), 6.6 (BYE). With two members
and audio, the minimum of 5 s always governs, half of that before the first report. Pure: monotonic time, wall-clock
time and the random draw are arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bridge.errors import RemoteError
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
from bridge.sip.rtp import RtpSender
from bridge.sip.rtp_receiver import RtpReceiver

MIN_INTERVAL_S = 5.0
RTCP_SHARE = 0.05
"""Of the session's bandwidth."""
SENDER_SHARE = 0.25
"""Of that, for those who send, where they are few."""
COMPENSATION = math.e - 1.5
"""Of timer reconsideration, which on average makes intervals too short (6.3.1)."""
HEADERS_BYTES = 28
"""IPv4 and UDP, which count in the size of a packet."""
MAX_ROUND_TRIP_S = 10.0
"""More is a peer's clock or arithmetic."""
_SIXTEENTH = 1 / 65536
_MASK_32 = 0xFFFFFFFF


def rtcp_interval_s(
    draw: float, *, is_first: bool, average_bytes: float = 128, members: int = 2, senders: int = 2,
    is_sender: bool = True, bandwidth_bps: int = 64_000,
) -> float:  # fmt: skip
    """Seconds until the next report; ``draw`` is random in [0, 1). ``average_bytes`` is that of all reports."""
    share_bytes_per_s = bandwidth_bps * RTCP_SHARE / 8
    counted = members
    if senders <= members * SENDER_SHARE:
        share_bytes_per_s *= SENDER_SHARE if is_sender else 1 - SENDER_SHARE
        counted = senders if is_sender else members - senders
    least_s = MIN_INTERVAL_S / 2 if is_first else MIN_INTERVAL_S
    deterministic_s = max(least_s, average_bytes * counted / share_bytes_per_s)
    return deterministic_s * (0.5 + draw) / COMPENSATION


@dataclass(frozen=True, slots=True)
class PeerView:
    """What the peer says of our stream in its last report."""

    fraction_lost: float
    """0 to 1, since its report before."""
    cumulative_lost: int
    jitter_ms: float


class RtcpSession:
    """The reports of one call."""

    __slots__ = (
        "_average_bytes",
        "_cname",
        "_clock_hz",
        "_last_sr",
        "_last_sr_at",
        "_receiver",
        "_sender",
        "_sent_at_report",
        "has_ended",
        "malformed",
        "next_due_s",
        "peer_view",
        "round_trip_s",
    )

    def __init__(
        self, sender: RtpSender, receiver: RtpReceiver, cname: str, now: float, draw: float, clock_hz: int = 8000
    ) -> None:
        """``cname`` should be random and not a name of this machine (RFC 7022); ``draw`` is in [0, 1)."""
        self._sender = sender
        self._receiver = receiver
        self._cname = cname
        self._clock_hz = clock_hz
        self._average_bytes = 128.0
        self._last_sr = 0
        self._last_sr_at = 0.0
        self._sent_at_report = 0
        self.has_ended = False
        """The peer has said that its stream has ended. The call goes on: that is signalling's to say."""
        self.malformed = 0
        self.peer_view: PeerView | None = None
        self.round_trip_s: float | None = None
        """As last measured; ``None`` until the peer has reported on a report of ours."""
        self.next_due_s = now + rtcp_interval_s(draw, is_first=True)
        """When ``report`` is to be called next."""

    def report(self, now: float, unix_s: float, draw: float) -> bytes:
        """The compound packet to send now; sets the time of the next one."""
        compound = build_rtcp([self._own_report(now, unix_s), SourceDescription(self._sender.ssrc, self._cname)])
        self._note_size(len(compound))
        self.next_due_s = now + rtcp_interval_s(draw, is_first=False, average_bytes=self._average_bytes)
        return compound

    def bye(self, now: float, unix_s: float) -> bytes:
        """The last compound packet of the stream."""
        return build_rtcp(
            [
                self._own_report(now, unix_s),
                SourceDescription(self._sender.ssrc, self._cname),
                Bye((self._sender.ssrc,)),
            ]
        )

    def receive(self, datagram: bytes, now: float, unix_s: float) -> None:
        """Take a datagram of the peer's, whose source the caller has checked. Never raises on what comes."""
        try:
            packets = parse_rtcp(datagram)
        except RemoteError:
            self.malformed += 1
            return
        self._note_size(len(datagram))
        for packet in packets:
            if isinstance(packet, SenderReport):
                self._last_sr = packet.ntp >> 16 & _MASK_32
                self._last_sr_at = now
            if isinstance(packet, SenderReport | ReceiverReport):
                self._heard(packet.reports, unix_s)
            elif isinstance(packet, Bye) and self._receiver.ssrc in packet.ssrcs:
                self.has_ended = True

    # --- private ---

    def _own_report(self, now: float, unix_s: float) -> RtcpPacket:
        sender = self._sender
        reports = self._reception(now)
        if sender.packets == self._sent_at_report:  # nothing sent since the last one (6.4)
            return ReceiverReport(sender.ssrc, reports)
        self._sent_at_report = sender.packets
        return SenderReport(
            sender.ssrc,
            ntp_timestamp(unix_s),
            sender.timestamp,
            sender.packets,
            sender.octets,
            reports,
        )

    def _reception(self, now: float) -> tuple[ReceptionReport, ...]:
        statistics, ssrc = self._receiver.statistics, self._receiver.ssrc
        if statistics is None or ssrc is None:
            return ()
        delay = int((now - self._last_sr_at) / _SIXTEENTH) & _MASK_32 if self._last_sr else 0
        return (
            ReceptionReport(
                ssrc,
                statistics.take_fraction_lost(),
                statistics.cumulative_lost,
                statistics.extended_highest & _MASK_32,
                statistics.jitter,
                self._last_sr,
                delay,
            ),
        )

    def _heard(self, reports: tuple[ReceptionReport, ...], unix_s: float) -> None:
        for report in reports:
            if report.ssrc != self._sender.ssrc:
                continue
            jitter_ms = report.jitter * 1000 / self._clock_hz
            self.peer_view = PeerView(report.fraction_lost / 256, report.cumulative_lost, jitter_ms)
            if not report.last_sr:
                continue
            arrived = ntp_timestamp(unix_s) >> 16 & _MASK_32
            round_trip_s = (arrived - report.last_sr - report.delay_since_last_sr & _MASK_32) * _SIXTEENTH
            if round_trip_s <= MAX_ROUND_TRIP_S:
                self.round_trip_s = round_trip_s

    def _note_size(self, size_bytes: int) -> None:
        """The average size of reports, ours and the peer's (6.3.3)."""
        self._average_bytes += (size_bytes + HEADERS_BYTES - self._average_bytes) / 16
