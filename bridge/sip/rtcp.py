"""RTCP: compound packets in and out.

Public: ``SenderReport``, ``ReceiverReport``, ``ReceptionReport``, ``SourceDescription``, ``Bye``, ``RtcpPacket``,
``parse_rtcp``, ``build_rtcp``, ``ntp_timestamp``.

What it is not: when to send and what follows from a report (``rtcp_session``). Source: RFC 3550 sections 6.1 (compound
packets), 6.4.1, 6.4.2 (reports), 6.5 (SDES), 6.6 (BYE), appendix A.2 (validity). Other packet types (APP, feedback,
extended reports) are skipped by their length. A packet that does not begin with a report is read all the same:
RFC 5506 allows it, and nothing is gained by refusing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bridge.errors import LocalError, RemoteError
from bridge.sip.rtp import VERSION

MAX_DATAGRAM_BYTES = 2048
MAX_REPORTS = 31
"""What five bits count."""
MAX_TEXT_BYTES = 255
NTP_UNIX_OFFSET_S = 2_208_988_800
"""1900 to 1970."""

_SR, _RR, _SDES, _BYE = 200, 201, 202, 203
_CNAME = 1
_PADDING = 0x20
_COUNT = 0x1F
_HEADER = struct.Struct("!BBH")
_SENDER = struct.Struct("!IQIII")
_REPORT = struct.Struct("!IB3sIIII")
_WORD = struct.Struct("!I")
_MASK_32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """What one side heard of the other's stream."""

    ssrc: int
    """Of the stream that is reported on."""
    fraction_lost: int
    """Since the last report, in 256ths."""
    cumulative_lost: int
    """Since the beginning; signed, 24 bits."""
    extended_highest: int
    jitter: int
    """In samples."""
    last_sr: int = 0
    """Middle 32 bits of the NTP timestamp of the last sender report heard; 0 = none."""
    delay_since_last_sr: int = 0
    """In 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """From one who sends."""

    ssrc: int
    ntp: int
    """64 bits: seconds since 1900 and their fraction."""
    rtp_timestamp: int
    """The same moment on the media clock."""
    packets: int
    octets: int
    reports: tuple[ReceptionReport, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """From one who only listens."""

    ssrc: int
    reports: tuple[ReceptionReport, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The canonical name of a source; other items are not kept."""

    ssrc: int
    cname: str


@dataclass(frozen=True, slots=True)
class Bye:
    """Streams have ended."""

    ssrcs: tuple[int, ...]
    reason: str = ""


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Bye


def ntp_timestamp(unix_s: float) -> int:
    """Wall-clock time as 64 bits of NTP."""
    seconds = int(unix_s)
    return ((seconds + NTP_UNIX_OFFSET_S) & _MASK_32) << 32 | int((unix_s - seconds) * 2**32) & _MASK_32


# --- reading ---


def parse_rtcp(datagram: bytes) -> list[RtcpPacket]:
    """Read a compound packet. Raises ``RemoteError`` if it is none; nothing else, whatever the bytes are."""
    if len(datagram) > MAX_DATAGRAM_BYTES:
        raise RemoteError(f"RTCP: a datagram of {len(datagram)} bytes is more than {MAX_DATAGRAM_BYTES}")
    packets: list[RtcpPacket] = []
    start = 0
    while start < len(datagram):
        if start + _HEADER.size > len(datagram):
            raise RemoteError("RTCP: a header is cut off")
        first, kind, words = _HEADER.unpack_from(datagram, start)
        end = start + 4 + 4 * words
        if first >> 6 != VERSION or end > len(datagram):
            raise RemoteError(f"RTCP: version {first >> 6}, {words} words at {start} of {len(datagram)} bytes")
        body = datagram[start + 4 : end]
        if first & _PADDING:
            body = _unpadded(body)
        packets += _parse_one(kind, first & _COUNT, body)
        start = end
    if not datagram:
        raise RemoteError("RTCP: the datagram is empty")
    return packets


def _unpadded(body: bytes) -> bytes:
    if not body or not 0 < body[-1] <= len(body):
        raise RemoteError("RTCP: the padding does not fit")
    return body[: -body[-1]]


def _parse_one(kind: int, count: int, body: bytes) -> list[RtcpPacket]:
    try:
        if kind == _SR:
            ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(body)
            return [SenderReport(ssrc, ntp, timestamp, packets, octets, _reports(body, _SENDER.size, count))]
        if kind == _RR:
            return [ReceiverReport(_WORD.unpack_from(body)[0], _reports(body, _WORD.size, count))]
        if kind == _SDES:
            return list(_descriptions(body, count))
        if kind == _BYE:
            return [_bye(body, count)]
    except struct.error as error:
        raise RemoteError(f"RTCP: a packet of type {kind} is cut off") from error
    return []


def _reports(body: bytes, start: int, count: int) -> tuple[ReceptionReport, ...]:
    reports = []
    for number in range(count):
        ssrc, fraction, lost, highest, jitter, last_sr, delay = _REPORT.unpack_from(body, start + number * _REPORT.size)
        reports.append(
            ReceptionReport(ssrc, fraction, int.from_bytes(lost, "big", signed=True), highest, jitter, last_sr, delay)
        )
    return tuple(reports)


def _descriptions(body: bytes, count: int) -> list[SourceDescription]:
    """The chunks of an SDES; each is a list of items that ends in a zero byte and is filled up to whole words."""
    descriptions = []
    position = 0
    for _ in range(count):
        (ssrc,) = _WORD.unpack_from(body, position)
        start = position
        position += _WORD.size
        cname = ""
        while position < len(body) and body[position]:
            length = body[position + 1] if position + 1 < len(body) else MAX_TEXT_BYTES
            text = body[position + 2 : position + 2 + length]
            if len(text) < length:
                raise RemoteError("RTCP: an item of a source description is cut off")
            if body[position] == _CNAME:
                cname = text.decode("utf-8", "replace")
            position += 2 + length
        position += 4 - (position - start) % 4  # at least one zero byte
        descriptions.append(SourceDescription(ssrc, cname))
    return descriptions


def _bye(body: bytes, count: int) -> Bye:
    ssrcs = struct.unpack_from(f"!{count}I", body)
    rest = body[4 * count :]
    return Bye(ssrcs, rest[1 : 1 + rest[0]].decode("utf-8", "replace") if rest else "")


# --- writing ---


def build_rtcp(packets: list[RtcpPacket]) -> bytes:
    """Serialise a compound packet. Raises ``LocalError`` if a field does not fit."""
    try:
        return b"".join(_build_one(packet) for packet in packets)
    except (struct.error, OverflowError) as error:
        raise LocalError(f"RTCP: a field does not fit: {error}") from error


def _build_one(packet: RtcpPacket) -> bytes:
    if isinstance(packet, SenderReport):
        fields = (packet.ssrc, packet.ntp, packet.rtp_timestamp, packet.packets & _MASK_32, packet.octets & _MASK_32)
        return _framed(_SR, len(packet.reports), _SENDER.pack(*fields) + _packed(packet.reports))
    if isinstance(packet, ReceiverReport):
        return _framed(_RR, len(packet.reports), _WORD.pack(packet.ssrc) + _packed(packet.reports))
    if isinstance(packet, SourceDescription):
        chunk = _WORD.pack(packet.ssrc) + bytes((_CNAME,)) + _text(packet.cname)
        return _framed(_SDES, 1, chunk + bytes(4 - len(chunk) % 4))
    body = struct.pack(f"!{len(packet.ssrcs)}I", *packet.ssrcs)
    if packet.reason:
        text = _text(packet.reason)
        body += text + bytes(-len(text) % 4)
    return _framed(_BYE, len(packet.ssrcs), body)


def _framed(kind: int, count: int, body: bytes) -> bytes:
    if count > MAX_REPORTS:
        raise LocalError(f"RTCP: {count} entries are more than {MAX_REPORTS}")
    return _HEADER.pack(VERSION << 6 | count, kind, len(body) // 4) + body


def _packed(reports: tuple[ReceptionReport, ...]) -> bytes:
    return b"".join(
        _REPORT.pack(
            report.ssrc,
            report.fraction_lost,
            report.cumulative_lost.to_bytes(3, "big", signed=True),
            report.extended_highest & _MASK_32,
            report.jitter & _MASK_32,
            report.last_sr,
            report.delay_since_last_sr & _MASK_32,
        )
        for report in reports
    )


def _text(text: str) -> bytes:
    """A text with its length before it, cut to what fits without cutting a character."""
    encoded = text.encode("utf-8")[:MAX_TEXT_BYTES].decode("utf-8", "ignore").encode("utf-8")
    return bytes((len(encoded),)) + encoded
