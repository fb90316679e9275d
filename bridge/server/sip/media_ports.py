"""The UDP ports of calls' media: pairs from a configured range, with a rest after each call.

Public: ``RtpPorts``, ``PortOptions``, ``PortPair``, ``NoPorts``.

A pair is an even port for RTP and the odd one after it for RTCP (RFC 3550 section 11). Free pairs are used in turn, in
an order that is shuffled at the start: the one that was free for the longest time is next, so a port comes back as
late as possible, and nobody outside knows which is next. After a call its pair rests for ``rest_s``, because peers go
on sending for a while. Only when nothing else is free, a pair that has rested for ``least_rest_s`` is used early; then
and always, the SSRC of the call before goes to the next user (``PortPair.stale``), which is deaf to that stream.

Sockets are bound when a pair is taken and closed when it is given back. Pairs of which another process has a port are
passed over. Memory: a number a pair, and one more with what was last heard on it while it rests.
"""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random, SystemRandom

from bridge.errors import BridgeError, ConfigError
from bridge.sip.rtp_source import Address

MAX_ATTEMPTS = 32
"""Pairs that are tried for one call before it is refused: those of other processes come in rows."""
EXPEDITED = 46
"""DSCP of voice (RFC 4594 section 4.1)."""
MAX_ANCILLARY_BYTES = 64
"""Room for the kernel's time of arrival."""
SO_TIMESTAMPNS = 35
"""Linux: the kernel notes when each datagram came, so that jitter is the network's and not ours."""
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


class NoPorts(BridgeError):
    """No pair of ports is to be had now: refuse the call with 503."""


@dataclass(frozen=True, slots=True)
class PortOptions:
    """Which ports, and what peers are told."""

    bind_host: str
    """Literal address of one of our interfaces, or 0.0.0.0 or ``::`` for all."""
    announced_host: str
    """Literal address that stands in descriptions: where peers reach us."""
    port_min: int = 10_000
    port_max: int = 20_000
    """Inclusive; odd ports belong to the even ones before them."""
    rest_s: float = 30.0
    """After a call, before a pair is used again: peers that missed the BYE send on for about as long."""
    least_rest_s: float = 2.0
    """The same when no other pair is free."""
    dscp: int = EXPEDITED
    """Marks packets for routers; 0 = not at all."""

    def __post_init__(self) -> None:
        if not 1024 <= self.port_min < self.port_max <= 65_535 or not self.count:
            raise ConfigError(
                f"RTP ports {self.port_min}-{self.port_max}: the range must lie in 1024-65535 and hold an even port and"
                " the odd one after it (SIP_RTP_PORT_MIN, SIP_RTP_PORT_MAX)"
            )

    @property
    def first_port(self) -> int:
        """The first even port."""
        return self.port_min + self.port_min % 2

    @property
    def count(self) -> int:
        """Pairs in the range: the greatest number of calls."""
        return (self.port_max + 1 - self.first_port) // 2


@dataclass(frozen=True, slots=True)
class PortPair:
    """What one call has of it."""

    rtp: socket.socket
    rtcp: socket.socket
    announced: Address
    """For the description (``AudioSession``)."""
    stale: Mapping[int, int]
    """For ``CallMedia``: SSRC and last sequence number of the stream that came here before."""

    @property
    def port(self) -> int:
        """RTP's."""
        return self.announced[1]


@dataclass(frozen=True, slots=True)
class _Resting:
    port: int
    since_s: float
    stale: Mapping[int, int]


@dataclass(slots=True)
class RtpPorts:
    """The range. Not for threads."""

    options: PortOptions
    monotonic: Callable[[], float] = time.monotonic
    random: Random = field(default_factory=SystemRandom)
    in_use: int = field(default=0, init=False)
    """Pairs that calls have."""
    refused: int = field(default=0, init=False)
    """Times that there was none."""
    _free: deque[_Resting] = field(default_factory=deque, init=False)
    _resting: deque[_Resting] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        ports = [self.options.first_port + 2 * number for number in range(self.options.count)]
        self.random.shuffle(ports)
        self._free = deque(_Resting(port, 0.0, {}) for port in ports)

    @property
    def available(self) -> int:
        """Pairs that a call could have now, if no other process has them."""
        now = self.monotonic()
        rested = sum(now - one.since_s >= self.options.least_rest_s for one in self._resting)
        return len(self._free) + rested

    def take(self) -> PortPair:
        """A pair, bound. Raises ``NoPorts`` that says why there is none."""
        self._wake_rested()
        foreign: list[_Resting] = []
        try:
            for _ in range(MAX_ATTEMPTS):
                candidate = self._next()
                if candidate is None:
                    break
                try:
                    rtp, rtcp = self._bound(candidate.port)
                except OSError as error:
                    foreign.append(candidate)
                    if error.errno in _OUT_OF_FILES:
                        raise NoPorts("RTP: the process has no more file descriptors (ulimit -n)") from error
                    continue
                self.in_use += 1
                return PortPair(rtp, rtcp, (self.options.announced_host, candidate.port), candidate.stale)
            words = f"{self.in_use} of {self.options.count} pairs in use, {len(self._resting)} resting"
            raise NoPorts(f"RTP: no free port in {self.options.port_min}-{self.options.port_max}: {words}")
        except NoPorts:
            self.refused += 1
            raise
        finally:
            self._free.extend(foreign)

    def give_back(self, pair: PortPair, last_heard: Mapping[int, int] | None = None) -> None:
        """The call is over: close its sockets and let the pair rest. Once per pair."""
        pair.rtp.close()
        pair.rtcp.close()
        self.in_use -= 1
        self._resting.append(_Resting(pair.port, self.monotonic(), dict(last_heard or {})))

    # --- private ---

    def _wake_rested(self) -> None:
        now = self.monotonic()
        while self._resting and now - self._resting[0].since_s >= self.options.rest_s:
            self._free.append(self._resting.popleft())

    def _next(self) -> _Resting | None:
        if self._free:
            return self._free.popleft()
        if self._resting and self.monotonic() - self._resting[0].since_s >= self.options.least_rest_s:
            return self._resting.popleft()
        return None

    def _bound(self, port: int) -> tuple[socket.socket, socket.socket]:
        rtp = self._socket(port)
        try:
            return rtp, self._socket(port + 1)
        except OSError:
            rtp.close()
            raise

    def _socket(self, port: int) -> socket.socket:
        host = self.options.bind_host
        is_ipv6 = ":" in host
        one = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            one.setblocking(False)
            if is_ipv6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, self.options.dscp << 2)
            else:
                one.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, self.options.dscp << 2)
            if sys.platform == "linux":
                one.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            one.bind((host, port))
        except OSError:
            one.close()
            raise
        return one
