"""For tests of a call's media: agreements, and a peer that makes packets."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.media.format import Encoding
from bridge.sip.jitter import JitterOptions
from bridge.sip.media_clock import Tick
from bridge.sip.media_options import MediaOptions, MediaSeeds
from bridge.sip.offer_answer import Agreement, AudioOptions, AudioSession
from bridge.sip.rtp import RtpPacket, RtpSender, parse_rtp
from bridge.sip.rtp_source import Address
from bridge.sip.sdp import Direction

PEER: Address = ("203.0.113.5", 4000)
PEER_RTCP: Address = ("203.0.113.5", 4001)
BRIDGE: Address = ("198.51.100.7", 20000)
UNIX_OFFSET_S = 1_000_000_000.0
QUICK = MediaOptions(jitter=JitterOptions(min_ms=20, start_ms=20))
"""The shortest delay that there is."""


def agreed(
    *,
    codecs: tuple[Encoding, ...] = (Encoding.ULAW,),
    remote: Address = PEER,
    direction: Direction = Direction.SENDRECV,
    has_events: bool = True,
    is_muxed: bool = False,
    session: AudioSession | None = None,
) -> Agreement:
    """What the bridge has after it answered this peer's offer; ``direction`` is the peer's."""
    peer = AudioSession(AudioOptions(codecs, has_events=has_events, has_rtcp_mux=is_muxed), remote, 1)
    bridge = session or AudioSession(AudioOptions(), BRIDGE, 2)
    bridge.answer(peer.offer(direction).encode())
    assert bridge.agreement is not None
    return bridge.agreement


def seeds() -> MediaSeeds:
    return MediaSeeds(0xABCD, 65_534, 2**32 - 320, "cname", 0.5, UNIX_OFFSET_S)


def tick(number: int) -> Tick:
    """Tick ``number`` of a clock that begins at 0."""
    return Tick(0, number, number * 0.02)


def read(datagram: bytes | None) -> RtpPacket:
    """A packet that must be there."""
    assert datagram is not None
    return parse_rtp(datagram)


@dataclass
class Peer:
    """Sends audio: every frame is filled with one code, which rises from 0x40."""

    payload_type: int = 0
    sender: RtpSender = field(default_factory=lambda: RtpSender(7, 100, 8000))
    frames: int = 0

    def audio(self, frame: bytes | None = None) -> bytes:
        if frame is None:
            frame = bytes((0x40 + self.frames % 32,)) * 160
        self.frames += 1
        return self.sender.audio(self.payload_type, frame, 160, marker=self.frames == 1)
