"""The figures of one call's media, for its record, the metrics and the log.

Public: ``MediaStats``.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.quality import estimate_mos

FRAME_DELAY_MS = 20.0
"""What filling a packet takes before it can be sent."""


@dataclass(frozen=True, slots=True)
class MediaStats:
    """As it stands at one moment. Packets are RTP packets; frames are 20 ms."""

    packets_received: int
    """Without duplicates."""
    packets_expected: int
    """By the sequence numbers."""
    packets_late: int
    """Came after their turn, and so were as good as lost."""
    packets_reordered: int
    packets_duplicate: int
    packets_refused: int
    """From a source that is not the call's, or left over from the port's call before."""
    packets_unexpected: int
    """Of a payload type that was not agreed."""
    packets_malformed: int
    """Datagrams that were no RTP."""
    frames_concealed: int
    """Made up in place of lost ones."""
    jitter_ms: float
    """Interarrival jitter (RFC 3550 section 6.4.1) of the stream in use."""
    buffer_ms: float
    """The delay that the jitter buffer aims at."""
    relearns: int
    """How often the source of the packets changed under the present description."""
    packets_sent: int
    bytes_sent: int
    """Of payload."""
    queue_dropped_bytes: int
    """Agent audio for which the queue had no room."""
    round_trip_ms: float | None
    """As last measured by RTCP; ``None`` = the peer sends no reports."""
    peer_loss: float | None
    """0 to 1: what the peer lost of ours between its last two reports."""
    peer_jitter_ms: float | None

    @property
    def packets_lost(self) -> int:
        """What never came."""
        return max(0, self.packets_expected - self.packets_received)

    @property
    def loss(self) -> float:
        """The part that never came, 0 to 1."""
        return self.packets_lost / self.packets_expected if self.packets_expected else 0.0

    @property
    def mos(self) -> float | None:
        """How good the caller sounded, 1 to 4.5, estimated from loss and delay; ``None`` if nothing came."""
        if not self.packets_expected:
            return None
        spoilt = (self.packets_lost + self.packets_late) / self.packets_expected
        one_way_ms = (self.round_trip_ms or 0.0) / 2 + self.buffer_ms + FRAME_DELAY_MS
        return estimate_mos(spoilt, one_way_ms)
