"""The receiver of one call's RTP: from a datagram to a packet worth playing, with everything doubtful kept out.

Public: ``RtpReceiver``, ``ReceiverOptions``, ``Totals``.

Order of the checks: form (``rtp``), payload type as negotiated, source (``rtp_source``), SSRC, sequence number
(``rtp_statistics``). What it is not: the jitter buffer; when ``generation`` has changed, the owner resets that one.

A new SSRC from the right source counts at once if the old one has been silent for ``SSRC_SILENCE_S``, otherwise with
its second packet in a row: two streams that overlap (early media of one machine and the answer of another, which
RFC 3264 section 5.1 allows after forking) do not tear each other apart. RFC 3550 section 8.2 for why it may change.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import RemoteError
from bridge.sip.rtp import RtpPacket, parse_rtp
from bridge.sip.rtp_source import Address, SourceLatch, Verdict
from bridge.sip.rtp_statistics import Place, StreamStatistics

SSRC_SILENCE_S = 0.1
"""Five packets: longer than ordinary jitter."""


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """What was negotiated."""

    audio_types: frozenset[int]
    """Payload types of audio and comfort noise."""
    event_types: frozenset[int] = frozenset()
    """Payload types of telephone-events. Their doubles are passed on: senders repeat the end of a key, and some
    repeat its sequence number with it."""
    clock_hz: int = 8000


@dataclass(frozen=True, slots=True)
class Totals:
    """Packets of a whole call, over all its streams."""

    expected: int = 0
    received: int = 0
    """Without duplicates."""
    duplicates: int = 0
    reordered: int = 0

    @property
    def loss(self) -> float:
        """The part that did not come, 0 to 1."""
        return max(0.0, 1 - self.received / self.expected) if self.expected else 0.0


class RtpReceiver:
    """One call's receiving side."""

    __slots__ = (
        "_accepted",
        "_candidate",
        "_heard_at",
        "_options",
        "_past",
        "generation",
        "last_arrival",
        "latch",
        "malformed",
        "ssrc",
        "statistics",
        "unexpected",
    )

    def __init__(self, options: ReceiverOptions, latch: SourceLatch) -> None:
        self.latch = latch
        self.generation = 0
        """Rises when what follows has nothing to do with what was before: reset the jitter buffer then."""
        self.malformed = 0
        """Datagrams that are no RTP."""
        self.unexpected = 0
        """Packets of a payload type that was not negotiated."""
        self.ssrc: int | None = None
        """Of the stream in use."""
        self.statistics: StreamStatistics | None = None
        """Of the stream in use; ``None`` until its first packet."""
        self.last_arrival: float | None = None
        """When the last good packet came: what the RTP time-out looks at."""
        self._past = Totals()
        self._heard_at = 0.0
        self._candidate: int | None = None
        self.renegotiated(options)

    @property
    def totals(self) -> Totals:
        """What the call's record says."""
        past, present = self._past, self.statistics
        if present is None:
            return past
        return Totals(
            past.expected + present.past_expected + present.expected,
            past.received + present.past_received + present.received,
            past.duplicates + present.duplicates,
            past.reordered + present.reordered,
        )

    @property
    def last_heard(self) -> tuple[int, int] | None:
        """SSRC and last sequence number: what the port's next call is to take for stale."""
        return None if self.ssrc is None or self.statistics is None else (self.ssrc, self.statistics.highest)

    def renegotiated(self, options: ReceiverOptions) -> None:
        """Other payload types hold from now on."""
        self._options = options
        self._accepted = options.audio_types | options.event_types

    def receive(self, datagram: bytes, source: Address, now: float) -> RtpPacket | None:
        """Take a datagram; returns the packet if it is to be used. Never raises on what comes."""
        try:
            packet = parse_rtp(datagram)
        except RemoteError:
            self.malformed += 1
            return None
        payload_type = packet.payload_type
        if payload_type not in self._accepted:
            self.unexpected += 1
            return None
        verdict = self.latch.judge(source, packet.ssrc, packet.sequence, now)
        if verdict is not Verdict.KNOWN and verdict is not Verdict.LEARNT:
            return None
        if packet.ssrc != self.ssrc or verdict is Verdict.LEARNT:
            return self._begin(packet, now) if self._may_begin(packet.ssrc, verdict, now) else None
        return packet if self._is_new(packet, now) else None

    # --- private ---

    def _is_new(self, packet: RtpPacket, now: float) -> bool:
        statistics = self.statistics
        assert statistics is not None  # set with the SSRC
        self._candidate = None
        is_event = packet.payload_type in self._options.event_types
        if is_event and not statistics.is_near(packet.sequence):
            # Keys played from a recording into a stream (SIPp does) have numbers of their own: audio goes on as before.
            self.last_arrival = self._heard_at = now
            return True
        place = statistics.place(packet.sequence)
        if place is Place.JUMP:
            return False
        if place is Place.RESTART:
            self.generation += 1
        self.last_arrival = self._heard_at = now
        if is_event:
            return True
        if place is Place.DUPLICATE:
            return False
        statistics.arrived(packet.timestamp, now)
        return True

    def _may_begin(self, ssrc: int, verdict: Verdict, now: float) -> bool:
        if self.ssrc is None or verdict is Verdict.LEARNT or now - self._heard_at >= SSRC_SILENCE_S:
            return True
        if ssrc == self._candidate:
            return True
        self._candidate = ssrc
        return False

    def _begin(self, packet: RtpPacket, now: float) -> RtpPacket:
        """A stream begins."""
        if self.ssrc is not None:
            self.generation += 1
            self._past = self.totals
        self.ssrc = packet.ssrc
        self._candidate = None
        self.statistics = StreamStatistics(packet.sequence, self._options.clock_hz)
        if packet.payload_type not in self._options.event_types:
            self.statistics.arrived(packet.timestamp, now)
        self.last_arrival = self._heard_at = now
        return packet
