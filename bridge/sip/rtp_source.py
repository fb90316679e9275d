"""Which source a call's RTP comes from: symmetric RTP with a bounded relearn, and strangers kept out.

Public: ``SourceLatch``, ``LatchOptions``, ``Address``, ``Verdict``.

Peers behind NAT send from another address than their SDP names, so packets go to where packets come from ("latching",
RFC 4961 and RFC 7362 section 4). Whoever sends to our port first would get the call's audio ("RTP bleed"), and so
would a caller of the port's last call that still sends. Theory of operation:

* While nothing is learnt, the first valid packet is (``LEARN``): carriers wait for our first packet as we for theirs.
* A packet from the very address of the SDP wins over any other that was learnt, within ``learn_s`` of the first packet.
* Any other source takes over only after ``CHALLENGE_PACKETS`` packets in a row of its own and while the one in use has
  been silent: ``switch_s`` inside the learning time; later ``kin_silence_s`` for kin (same host as the SDP's or as the
  one in use, as after a NAT rebinding) and ``stranger_silence_s`` for anybody else.
* At most ``MAX_RELEARNS`` times; a new SDP (``expect``) begins anew.
* An SSRC of the port's previous call is never listened to (``stale``).

What it is not: proof of identity; that takes SRTP. Pure: time is an argument.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

Address = tuple[str, int]
"""Host (a literal IP address as the socket reports it) and port."""

CHALLENGE_PACKETS = 5
"""100 ms of audio: a stray packet or two move nothing."""
MAX_RELEARNS = 10
"""Of one description: NAT rebinding is rare, two sources that take turns are no call."""


class Verdict(enum.Enum):
    """What a packet's source is."""

    KNOWN = "known"
    """The one in use."""
    LEARNT = "learnt"
    """The one in use from now on: audio goes there too, and the jitter buffer begins anew."""
    STRANGER = "stranger"
    """Not the one in use: the packet must be dropped."""
    STALE = "stale"
    """A left-over of the port's previous call: drop."""


@dataclass(frozen=True, slots=True)
class LatchOptions:
    """How sources are learnt."""

    is_symmetric: bool = True
    """Whether packets go to where packets come from; otherwise always to the SDP's address."""
    learn_s: float = 5.0
    """After the first packet of a description: early media of one machine, then the answer of another."""
    switch_s: float = 0.1
    """Silence of the source in use that suffices in that time: five packets."""
    kin_silence_s: float = 0.5
    """Silence that lets kin take over later."""
    stranger_silence_s: float = 10.0
    """Silence that lets anybody else take over later: longer than pauses of peers that send none in silence."""


class SourceLatch:
    """The source of one call's RTP."""

    __slots__ = (
        "_challenger",
        "_challenger_packets",
        "_expected",
        "_heard_at",
        "_learn_until",
        "_options",
        "_stale",
        "relearns",
        "source",
        "strangers",
    )

    def __init__(
        self, options: LatchOptions, expected: Address | None = None, stale: frozenset[int] = frozenset()
    ) -> None:
        """``expected`` is the SDP's address if it is one to send to; ``stale`` are SSRCs of the port's last call."""
        self._options = options
        self._stale = stale
        self.source: Address | None = None
        """Where packets come from; ``None`` until the first."""
        self.relearns = 0
        """How often the source changed under the present description."""
        self.strangers = 0
        """Packets refused so far, of strangers and of the port's past."""
        self._expected = expected
        self._challenger: Address | None = None
        self._challenger_packets = 0
        self._heard_at = -math.inf
        self._learn_until = -math.inf

    @property
    def destination(self) -> Address | None:
        """Where our packets go; ``None`` = nowhere yet."""
        return self.source if self._options.is_symmetric and self.source else self._expected

    def expect(self, expected: Address | None) -> None:
        """A new description has come. With a new address in it, all is learnt anew."""
        if expected != self._expected:
            self._expected = expected
            self.source = None
            self.relearns = 0
            self._challenger = None

    def judge(self, source: Address, ssrc: int, now: float) -> Verdict:
        """Say what to do with a valid packet (version, payload type) that has just come from ``source``."""
        if ssrc in self._stale:
            self.strangers += 1
            return Verdict.STALE
        if source == self.source:
            self._heard_at = now
            self._challenger = None
            return Verdict.KNOWN
        if self.source is None:
            self._learn_until = now + self._options.learn_s
            return self._learn(source, now)
        is_the_sdp_s = source == self._expected and now <= self._learn_until
        if self.relearns < MAX_RELEARNS and (is_the_sdp_s or self._has_won(source, now)):
            self.relearns += 1
            return self._learn(source, now)
        self.strangers += 1
        return Verdict.STRANGER

    # --- private ---

    def _learn(self, source: Address, now: float) -> Verdict:
        self.source = source
        self._heard_at = now
        self._challenger = None
        return Verdict.LEARNT

    def _has_won(self, source: Address, now: float) -> bool:
        if source != self._challenger:
            self._challenger, self._challenger_packets = source, 0
        self._challenger_packets += 1
        return self._challenger_packets >= CHALLENGE_PACKETS and now - self._heard_at >= self._silence_s(source, now)

    def _silence_s(self, source: Address, now: float) -> float:
        """How long the source in use must have been silent for this one to take over."""
        if now <= self._learn_until:
            return self._options.switch_s
        hosts = {known[0] for known in (self.source, self._expected) if known}
        return self._options.kin_silence_s if source[0] in hosts else self._options.stranger_silence_s
