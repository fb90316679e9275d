"""What one call's media is set up with: the operator's choices, and the numbers that must be drawn at random.

Public: ``MediaOptions``, ``MediaSeeds``, ``KeyWay``. Plain data; what it means is said in ``media``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from bridge.errors import LocalError
from bridge.sip.jitter import JitterOptions
from bridge.sip.rtp_source import LatchOptions
from bridge.sip.telephone_event import SenderOptions

MAX_QUEUE_BYTES = 80_000
"""10 s of G.711 that wait to be sent. The bridge keeps 1 to 2 s ahead of the caller; the rest is for the audio that
waits while some forty keys are sent, which take its place."""


class KeyWay(enum.Enum):
    """How keys are sent to the peer."""

    AUTO = "auto"
    """As telephone-events (RFC 4733) where the peer takes them, otherwise as tones in the audio."""
    INFO = "info"
    """In SIP INFO requests, which the owner sends; audio goes on meanwhile."""
    INBAND = "inband"
    """As tones in the audio, even where the peer takes telephone-events."""


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """The operator's choices; of a trunk, or of all."""

    jitter: JitterOptions = field(default_factory=JitterOptions)
    latch: LatchOptions = field(default_factory=LatchOptions)
    keys: SenderOptions = field(default_factory=SenderOptions)
    """Length, pause and loudness of keys that are sent, whichever way."""
    key_way: KeyWay = KeyWay.AUTO
    has_inband_detection: bool = False
    """Whether keys are looked for in the caller's audio. Not any more once the peer has sent a telephone-event: such
    peers often leave the tone in the audio as well."""
    first_media_timeout_s: float = 30.0
    """From the answer until the first packet."""
    media_timeout_s: float = 30.0
    """Without any packet later on; 15 to 60 are usual."""
    max_queue_bytes: int = MAX_QUEUE_BYTES

    def __post_init__(self) -> None:
        if self.first_media_timeout_s <= 0 or self.media_timeout_s <= 0:
            raise LocalError("media: time-outs are more than 0 s")
        if self.max_queue_bytes < 160:
            raise LocalError("media: the queue holds at least a frame of 160 bytes")


@dataclass(frozen=True, slots=True)
class MediaSeeds:
    """Random numbers of one call (RFC 3550 section 5.1, RFC 7022), and the wall clock."""

    ssrc: int
    """32 bits."""
    sequence: int
    """16 bits."""
    timestamp: int
    """32 bits."""
    cname: str
    """Canonical name in RTCP: random, no name of this machine."""
    draw: float
    """In [0, 1): spreads the first RTCP report."""
    unix_offset_s: float
    """Wall-clock time less monotonic time, for the times in RTCP. A wall clock that is set in mid-call would only
    spoil the round trip that is measured."""
    noise_start: int = 0
    """Where in the table of comfort noise to begin; any number."""
