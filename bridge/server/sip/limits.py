"""What a single address may ask of the SIP sockets: messages in a time, and connections.

It bounds what a stranger costs before anything is known about it; bans and credentials belong to the gate behind it.
The source of a datagram can be forged, so an address that is trusted is never held back here: nobody can silence a
carrier by sending in its name. The book of addresses is bounded, and an address that falls out of it starts afresh.
IPv6 addresses count by their /64, since whoever has one of those has all of them. Times are arguments.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """How much one address that is not trusted may ask for."""

    messages_per_s: float = 500.0
    """Fifty calls a second of nine messages each, which a busy PBX behind a password may bring; some 5 % of a core."""
    burst: int = 1000
    """Messages at once: two seconds' worth."""
    max_addresses: int = 10_000
    """Addresses that are remembered; 2 MB."""
    max_connections_per_address: int = 16
    """Stream connections of one address, handshakes included; a PBX has one or two."""
    max_stranger_connections: int = 512
    """Stream connections of all addresses that are not trusted."""
    max_connections: int = 4096
    """Stream connections of all, so that file descriptors are left for calls; some 20 kB each with TLS."""


def counted_as(host: str) -> str:
    """What an address is counted by: itself, or its network of 64 bits (IPv6)."""
    if ":" not in host:
        return host
    try:
        return ipaddress.IPv6Address(host).packed[:8].hex()
    except ValueError:
        return host


class MessageLimit:
    """A token bucket for each address. A full book forgets whoever was quiet for longest."""

    __slots__ = ("_buckets", "_burst", "_is_trusted", "_max_addresses", "_rate_per_s")

    def __init__(self, options: LimitOptions, is_trusted: Callable[[str], bool]) -> None:
        """``is_trusted`` is asked only about an address that has used up its share."""
        self._rate_per_s = options.messages_per_s
        self._burst = float(options.burst)
        self._max_addresses = options.max_addresses
        self._is_trusted = is_trusted
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> tokens, as of when

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, host: str, now: float) -> bool:
        """Whether a message that came by itself, a datagram, is to be read."""
        key = counted_as(host)
        tokens = self._tokens(key, now)
        if tokens < 1.0:
            if not self._is_trusted(host):
                self._note(key, tokens, now)
                return False
            tokens = self._burst
        self._note(key, tokens - 1.0, now)
        return True

    def delay_s(self, host: str, messages: int, now: float) -> float:
        """How long to wait before more is read from a connection that has just brought so many messages.

        A stream can wait in the peer's own buffers, so nothing is lost: its messages count, and it pays afterwards.
        """
        key = counted_as(host)
        tokens = self._tokens(key, now) - messages
        if tokens < 0.0 and self._is_trusted(host):
            tokens = self._burst
        self._note(key, tokens, now)
        return max(0.0, -tokens / self._rate_per_s)

    def _tokens(self, key: str, now: float) -> float:
        tokens, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._rate_per_s)

    def _note(self, key: str, tokens: float, now: float) -> None:
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_addresses:
            self._buckets.popitem(last=False)


class ConnectionLimit:
    """Counts the connections that peers have opened, from the first packet on and not only after a handshake."""

    __slots__ = ("_by_address", "_is_trusted", "_options", "_strangers", "_total")

    def __init__(self, options: LimitOptions, is_trusted: Callable[[str], bool]) -> None:
        self._options = options
        self._is_trusted = is_trusted
        self._by_address: dict[str, int] = {}
        self._total = 0
        self._strangers = 0

    def __len__(self) -> int:
        return self._total

    def admit(self, host: str) -> str | None:
        """Take one connection in: the ticket to give back when it is gone; None = refuse it."""
        if self._total >= self._options.max_connections:
            return None
        if self._is_trusted(host):
            self._total += 1
            return ""
        key = counted_as(host)
        mine = self._by_address.get(key, 0)
        if (
            mine >= self._options.max_connections_per_address
            or self._strangers >= self._options.max_stranger_connections
        ):
            return None
        self._by_address[key] = mine + 1
        self._strangers += 1
        self._total += 1
        return key

    def release(self, ticket: str) -> None:
        """Give the ticket of a connection back, once."""
        self._total -= 1
        if not ticket:  # of a trusted address, whatever that is trusted now
            return
        self._strangers -= 1
        left = self._by_address[ticket] - 1
        if left:
            self._by_address[ticket] = left
        else:
            del self._by_address[ticket]
