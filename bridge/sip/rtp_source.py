"""Which source a call's RTP comes from: symmetric RTP with a bounded relearn, and strangers kept out.

Public: ``SourceLatch``, ``LatchOptions``, ``Address``, ``Verdict``.

Peers behind NAT send from another address than their SDP names, so packets go to where packets come from ("latching",
RFC 4961 and RFC 7362 section 4). Whoever sends to our port first would get the call's audio ("RTP bleed"), and so
would a caller of the port's last call that still sends. Theory of operation:

* While nothing is learnt, the first valid packet is (``LEARN``): carriers wait for our first packet as we for theirs.
* Within ``learn_s`` of the first packet, a better source wins at once: the very address of the SDP over all others, and
  kin (the SDP's host, or a host that the caller names, such as signalling's) over strangers.
* Any other source takes over only after ``CHALLENGE_PACKETS`` packets in a row of its own and while the one in use has
  been silent: ``switch_s`` inside the learning time, unless it fits the SDP worse (a flood drowns the one in use);
  else and later ``kin_silence_s`` for kin and for the host of the one in use
  (as after a NAT rebinding), and ``stranger_silence_s`` for anybody else.
* At most ``MAX_RELEARNS`` times; a new SDP (``expect``) begins anew.
* A stream of the port's previous call that goes on where it was is not listened to (``stale``). The same SSRC with
  other sequence numbers is: players of recordings (SIPp) use one SSRC for all calls.

What it is not: proof of identity; that takes SRTP. Pure: time is an argument.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.sip.rtp import SEQUENCE_MASK

Address = tuple[str, int]
"""Host (a literal IP address as the socket reports it) and port."""

CHALLENGE_PACKETS = 5
"""100 ms of audio: a stray packet or two move nothing."""
STALE_SPAN = 3000
"""A minute of packets: how far a left-over stream may have gone on since it was last heard."""
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
        "_kin",
        "_learn_until",
        "_options",
        "_stale",
        "relearns",
        "source",
        "strangers",
    )

    def __init__(
        self,
        options: LatchOptions,
        expected: Address | None = None,
        stale: Mapping[int, int] | None = None,
        kin: frozenset[str] = frozenset(),
    ) -> None:
        """``expected`` is the SDP's address if it is one to send to.

        ``stale`` has the SSRCs of the port's last call with their last sequence numbers; ``kin`` are hosts that may
        well send for the peer (where its signalling comes from).
        """
        self._options = options
        self._kin = kin
        self._stale = dict(stale or {})
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

    def judge(self, source: Address, ssrc: int, sequence: int, now: float) -> Verdict:
        """Say what to do with a valid packet (version, payload type) that has just come from ``source``."""
        if self._stale and self._is_stale(ssrc, sequence):
            self.strangers += 1
            return Verdict.STALE
        if source == self.source:
            self._heard_at = now
            self._challenger = None
            return Verdict.KNOWN
        if self.source is None:
            self._learn_until = now + self._options.learn_s
            return self._learn(source, now)
        is_better = now <= self._learn_until and self._rank(source) > self._rank(self.source)
        if self.relearns < MAX_RELEARNS and (is_better or self._has_won(source, now)):
            self.relearns += 1
            return self._learn(source, now)
        self.strangers += 1
        return Verdict.STRANGER

    # --- private ---

    def _is_stale(self, ssrc: int, sequence: int) -> bool:
        last = self._stale.get(ssrc)
        if last is None or sequence - last & SEQUENCE_MASK >= STALE_SPAN:
            return False
        self._stale[ssrc] = sequence
        return True

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
        is_worse = self.source is not None and self._rank(source) < self._rank(self.source)
        if now <= self._learn_until and not is_worse:
            return self._options.switch_s
        is_kin = self._rank(source) > 0 or (self.source is not None and source[0] == self.source[0])
        return self._options.kin_silence_s if is_kin else self._options.stranger_silence_s

    def _rank(self, source: Address) -> int:
        """How well a source fits the description: 2 = its very address, 1 = kin, 0 = a stranger."""
        if self._expected is not None and source[0] == self._expected[0]:
            return 2 if source == self._expected else 1
        return int(source[0] in self._kin)
