"""The ways that messages take: where one came from, and where one is to go.

Plain data between the sans-I/O user agent and the sockets in ``bridge.server.sip``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Transport(enum.Enum):
    """What carries SIP; the value stands in Via."""

    UDP = "UDP"
    TCP = "TCP"
    TLS = "TLS"

    @property
    def is_reliable(self) -> bool:
        """Whether nothing gets lost on the way, so that nothing is sent again (RFC 3261 section 17)."""
        return self is not Transport.UDP

    @property
    def default_port(self) -> int:
        """RFC 3261 section 19.1.2."""
        return 5061 if self is Transport.TLS else 5060


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to one peer."""

    transport: Transport
    host: str
    """The peer's address, numeric, IPv6 without brackets."""
    port: int
    connection: int = 0
    """Which stream connection; 0 = datagrams, or whichever connection to this address is open or can be opened."""
    server_name: str = ""
    """The name that the peer's certificate must be good for, where we open the connection; empty = its address."""


class Outgoing(NamedTuple):
    """A message to be sent."""

    data: bytes
    flow: Flow
    key: str = ""
    """Names the client transaction that must be told when this cannot be sent; empty = nobody."""
    fallback: Flow | None = None
    """For responses: where to go on a new connection when ``flow``'s is gone (RFC 3261 section 18.2.2)."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What this user agent writes into Via and Contact for one transport: where peers reach it from outside."""

    host: str
    """Address or name, IPv6 in brackets."""
    port: int
