"""RTP packets: parse, build, and the sender's side of one stream.

Public: ``RtpPacket``, ``parse_rtp``, ``build_rtp``, ``RtpSender``, ``looks_like_rtcp``, ``PayloadType``.

What it is not: the receiver (``rtp_receiver``), the jitter buffer (``jitter``), or anything about sockets, clocks or
chance: sequence numbers, timestamps and SSRCs to begin with are arguments.

Sources: RFC 3550 section 5.1 (fixed header), 5.3.1 (extension), appendix A.1 (validity); RFC 3551 table 4 (static
payload types); RFC 5761 section 4 (telling RTCP from RTP on one port).
"""

from __future__ import annotations

import enum
import struct

import msgspec

from bridge.errors import LocalError, RemoteError

VERSION = 2
HEADER_BYTES = 12
MAX_DATAGRAM_BYTES = 2048
"""Longer than any Ethernet frame; audio packets here have 92 to 492 bytes."""
SEQUENCE_MASK = 0xFFFF
TIMESTAMP_MASK = 0xFFFFFFFF
FIRST_DYNAMIC_TYPE = 96
LAST_TYPE = 127

_PLAIN = VERSION << 6
"""First byte of a packet without padding, extension and contributing sources: nearly all of them."""
_PADDING = 0x20
_EXTENSION = 0x10
_SOURCES = 0x0F
_MARKER = 0x80
_HEADER = struct.Struct("!BBHII")
_EXTENSION_HEADER = struct.Struct("!HH")
_RTCP_TYPES = range(192, 224)
"""Second byte of an RTCP packet (RFC 5761): as RTP these would be payload types 64-95, which nobody may use then."""


class PayloadType(enum.IntEnum):
    """The static payload types that the bridge knows."""

    PCMU = 0
    PCMA = 8
    COMFORT_NOISE = 13


class RtpPacket(msgspec.Struct, frozen=True, gc=False):
    """One packet. ``extension`` is profile, then data: what a peer sent, not looked at."""

    payload_type: int
    sequence: int
    timestamp: int
    """In samples of the payload's clock (8000 Hz for all audio here), modulo 2**32."""
    ssrc: int
    payload: bytes
    """Without padding."""
    marker: bool = False
    """First packet of a talkspurt (audio) or of a key (telephone-event)."""
    sources: tuple[int, ...] = ()
    """Contributing sources, at most 15."""
    extension: tuple[int, bytes] | None = None


def looks_like_rtcp(datagram: bytes) -> bool:
    """Whether a datagram on a port shared by both (``a=rtcp-mux``) is RTCP."""
    return len(datagram) > 1 and datagram[1] in _RTCP_TYPES


def parse_rtp(datagram: bytes) -> RtpPacket:
    """Read one datagram. Raises ``RemoteError`` that names what is wrong; nothing else, whatever the bytes are."""
    size = len(datagram)
    if size < HEADER_BYTES or size > MAX_DATAGRAM_BYTES:
        raise RemoteError(f"RTP: a datagram of {size} bytes is not between {HEADER_BYTES} and {MAX_DATAGRAM_BYTES}")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    if first == _PLAIN:
        return RtpPacket(second & LAST_TYPE, sequence, timestamp, ssrc, datagram[HEADER_BYTES:], second >= _MARKER)
    if first >> 6 != VERSION:
        raise RemoteError(f"RTP: version {first >> 6} is not {VERSION}")
    start, sources, extension = _optional_headers(datagram, first)
    end = _end_of_payload(datagram, start) if first & _PADDING else size
    payload = datagram[start:end]
    return RtpPacket(second & LAST_TYPE, sequence, timestamp, ssrc, payload, second >= _MARKER, sources, extension)


def build_rtp(packet: RtpPacket, padding_bytes: int = 0) -> bytes:
    """Serialise, with ``padding_bytes`` (0-255) of padding. Raises ``LocalError`` if a field does not fit."""
    if len(packet.sources) > _SOURCES or not 0 <= padding_bytes <= 255:
        raise LocalError(f"RTP: {len(packet.sources)} sources or {padding_bytes} bytes of padding do not fit")
    first = _PLAIN | len(packet.sources) | (_PADDING if padding_bytes else 0)
    extension = b""
    if packet.extension is not None:
        first |= _EXTENSION
        profile, data = packet.extension
        if len(data) % 4:
            raise LocalError(f"RTP: an extension of {len(data)} bytes is not a whole number of words")
        extension = _EXTENSION_HEADER.pack(profile, len(data) // 4) + data
    second = packet.payload_type | (_MARKER if packet.marker else 0)
    try:
        header = _HEADER.pack(first, second, packet.sequence, packet.timestamp, packet.ssrc)
        sources = struct.pack(f"!{len(packet.sources)}I", *packet.sources)
    except struct.error as error:
        raise LocalError(f"RTP: a field does not fit: {error}") from error
    padding = bytes(padding_bytes - 1) + bytes((padding_bytes,)) if padding_bytes else b""
    return b"".join((header, sources, extension, packet.payload, padding))


class RtpSender:
    """Numbers the packets of one stream that goes out, and counts them for the sender reports.

    All three numbers to begin with should be random (RFC 3550 section 5.1); the caller draws them.
    """

    __slots__ = ("_sequence", "octets", "packets", "ssrc", "timestamp")

    def __init__(self, ssrc: int, sequence: int, timestamp: int) -> None:
        if not (0 <= ssrc <= TIMESTAMP_MASK and 0 <= sequence <= SEQUENCE_MASK and 0 <= timestamp <= TIMESTAMP_MASK):
            raise LocalError("RTP: ssrc and timestamp have 32 bits, sequence has 16")
        self.ssrc = ssrc
        self.timestamp = timestamp
        """Of the next audio packet. It follows the media clock also while nothing is sent (``skip``)."""
        self.packets = 0
        """Sent so far; wraps at 32 bits in reports only."""
        self.octets = 0
        """Payload bytes sent so far."""
        self._sequence = sequence

    @property
    def sequence(self) -> int:
        """Of the next packet."""
        return self._sequence

    def audio(self, payload_type: int, payload: bytes, samples: int, marker: bool = False) -> bytes:
        """The next audio packet, ready to be sent; the clock moves on by ``samples``."""
        sequence = self._sequence
        self._sequence = (sequence + 1) & SEQUENCE_MASK
        self.packets += 1
        self.octets += len(payload)
        timestamp = self.timestamp
        self.timestamp = (timestamp + samples) & TIMESTAMP_MASK
        second = payload_type | _MARKER if marker else payload_type
        return _HEADER.pack(_PLAIN, second, sequence, timestamp, self.ssrc) + payload

    def event(self, payload_type: int, payload: bytes, timestamp: int, marker: bool = False) -> bytes:
        """The next packet of a telephone-event, with the time of its beginning; the clock stays (``skip`` moves it)."""
        sequence = self._sequence
        self._sequence = (sequence + 1) & SEQUENCE_MASK
        self.packets += 1
        self.octets += len(payload)
        second = payload_type | _MARKER if marker else payload_type
        return _HEADER.pack(_PLAIN, second, sequence, timestamp & TIMESTAMP_MASK, self.ssrc) + payload

    def skip(self, samples: int) -> None:
        """Let time pass without audio: on hold, or while a telephone-event takes its place."""
        self.timestamp = (self.timestamp + samples) & TIMESTAMP_MASK


# --- private ---


def _optional_headers(datagram: bytes, first: int) -> tuple[int, tuple[int, ...], tuple[int, bytes] | None]:
    """Where the payload starts, the contributing sources and the extension."""
    count = first & _SOURCES
    start = HEADER_BYTES + 4 * count
    if start > len(datagram):
        raise RemoteError(f"RTP: {count} contributing sources do not fit into {len(datagram)} bytes")
    sources = struct.unpack_from(f"!{count}I", datagram, HEADER_BYTES)
    if not first & _EXTENSION:
        return start, sources, None
    data_start = start + _EXTENSION_HEADER.size
    if data_start > len(datagram):
        raise RemoteError("RTP: the header extension is cut off")
    profile, words = _EXTENSION_HEADER.unpack_from(datagram, start)
    end = data_start + 4 * words
    if end > len(datagram):
        raise RemoteError(f"RTP: a header extension of {words} words does not fit into {len(datagram)} bytes")
    return end, sources, (profile, datagram[data_start:end])


def _end_of_payload(datagram: bytes, start: int) -> int:
    """Where the payload ends: the last byte says how much padding there is, itself included."""
    padding = datagram[-1]
    end = len(datagram) - padding
    if padding == 0 or end < start:
        raise RemoteError(f"RTP: {padding} bytes of padding do not fit into {len(datagram)} bytes")
    return end
