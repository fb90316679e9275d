"""One UDP socket for SIP: reads datagrams into messages, and sends them.

It reads the socket itself instead of through an asyncio transport: several datagrams for each wake-up, a bound on
them, and a send whose failure is known at once and belongs to one message. A full send buffer drops the datagram,
as the network would: whatever matters is sent again by its transaction. Sources: RFC 3261 section 18, RFC 3581.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from bridge.server.sip.limits import MessageLimit
from bridge.server.sip.options import TransportCounts
from bridge.sip.errors import NotSip
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.framing import parse_datagram
from bridge.sip.message import Message, Request
from bridge.sip.parse import Limits

MAX_DATAGRAM_BYTES = 65_535
READS_PER_WAKE_UP = 32
"""Datagrams that are read before the loop goes on: 3 ms of work, so that audio is not kept waiting by a flood."""

_UDP = Transport.UDP.value
_NOT_NOW = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})


class UdpSocket:
    """A socket and its reader. ``sock`` is bound and belongs to it from now on."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Message, Flow], None],
        limit: MessageLimit,
        limits: Limits,
        counts: TransportCounts,
        monotonic: Callable[[], float],
    ) -> None:
        self.is_ipv6 = sock.family == socket.AF_INET6
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._on_message = on_message
        self._limit = limit
        self._limits = limits
        self._counts = counts
        self._monotonic = monotonic
        self._is_open = True
        asyncio.get_running_loop().add_reader(sock, self._read)

    def send(self, out: Outgoing) -> bool:
        """Send a message to the flow's address; False = that cannot be done."""
        if not self._is_open:
            return False
        flow = out.flow
        try:
            socket.inet_pton(self._sock.family, flow.host)  # a name would be looked up, and block
            self._sock.sendto(out.data, (flow.host, flow.port))
        except (OSError, OverflowError) as error:
            self._counts.dropped += 1
            return isinstance(error, OSError) and error.errno in _NOT_NOW
        self._counts.sent[_UDP] += 1
        return True

    def close(self) -> None:
        """Stop reading and let go of the port."""
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _read(self) -> None:
        now = self._monotonic()
        for _ in range(READS_PER_WAKE_UP):
            try:
                data, address = self._sock.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:  # nothing more for now, or the notice of some earlier datagram's failure
                return
            if self._limit.admit(address[0], now):
                self._take(data, address[0], address[1])
            else:
                self._counts.limited += 1
            if not self._is_open:
                return

    def _take(self, data: bytes, host: str, port: int) -> None:
        try:
            message = parse_datagram(data, self._limits)
        except NotSip:
            self._counts.not_sip += 1
            return
        if message is None:  # a keep-alive
            return
        self._counts.received[_UDP] += 1
        if isinstance(message, Request):
            message = message.stamped(host, port)
        self._on_message(message, Flow(Transport.UDP, host, port))
