"""The sockets of a simulated SIP end: one UDP port, or one TCP or TLS port with the connections it has and opens.

Hands messages on as ``bridge.sip`` reads them, along with where they came from, and writes down every byte. What
cannot be read is a violation of the other side: the bridge must never send such a thing. Not for hostile networks:
nothing here is limited.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

from bridge.simulators.sip_result import Notes
from bridge.sip.errors import NotSip
from bridge.sip.flow import Flow, Transport
from bridge.sip.framing import PONG, Lost, Ping, Pong, StreamFramer, parse_datagram
from bridge.sip.message import Message, Request

CONNECT_S = 5.0
"""How long a connection may take to open."""

Hear = Callable[[Message, Flow], None]


class SipWire:
    """One listening address. ``hear`` gets every message, at once, in the order of arrival."""

    def __init__(
        self,
        transport: Transport,
        notes: Notes,
        hear: Hear,
        *,
        server_tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.transport = transport
        self.notes = notes
        self.hear = hear
        self.address = ("", 0)
        """Where it listens, once it is open."""
        self._server_tls, self._client_tls = server_tls, client_tls
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._connections: dict[tuple[str, int], _Connection] = {}
        self._connecting: dict[tuple[str, int], list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int = 0) -> None:
        """Listen. Raises ``OSError`` if the port is taken."""
        loop = asyncio.get_running_loop()
        if self.transport is Transport.UDP:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(host, port))
            self.address = self._udp.get_extra_info("sockname")[:2]
        else:
            self._server = await loop.create_server(lambda: _Connection(self), host, port, ssl=self._server_tls)
            self.address = self._server.sockets[0].getsockname()[:2]

    def send(self, data: bytes, flow: Flow) -> None:
        """Send to ``flow``'s address: over the connection that is open to it, or a new one."""
        self.notes.message(data, time.monotonic(), is_ours=True)
        self.send_quietly(data, flow)

    def send_quietly(self, data: bytes, flow: Flow) -> None:
        """Send without a note."""
        peer = (flow.host, flow.port)
        if self._udp is not None:
            self._udp.sendto(data, peer)
        elif peer in self._connections:
            self._connections[peer].write(data)
        elif peer in self._connecting:
            self._connecting[peer].append(data)
        else:
            self._connecting[peer] = [data]
            task = asyncio.get_running_loop().create_task(self._connect(peer, flow.server_name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def drop_connections(self) -> None:
        """Break all connections off, as a network does that fails."""
        for connection in tuple(self._connections.values()):
            connection.abort()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def close(self) -> None:
        """Let go of everything."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._udp is not None:
            self._udp.close()
        if self._server is not None:
            self._server.close()
        self.drop_connections()
        await asyncio.sleep(0)

    # --- of the protocols --------------------------------------------------------------------------------

    def connected(self, peer: tuple[str, int], connection: _Connection) -> None:
        """Take a connection that was opened by either side."""
        self._connections[peer] = connection
        for data in self._connecting.pop(peer, ()):
            connection.write(data)

    def disconnected(self, peer: tuple[str, int]) -> None:
        """Forget a connection."""
        self._connections.pop(peer, None)

    def received(self, message: Message, peer: tuple[str, int], raw: bytes) -> None:
        """Note a message down and hand it on."""
        now = time.monotonic()
        self.notes.message(raw, now, is_ours=False)
        flow = Flow(self.transport, *peer)
        if isinstance(message, Request):
            if message.flaw is not None:
                self.notes.violate("RFC 3261 25", f"a malformed request: {message.flaw.reason}", now)
                return
            message = message.stamped(*peer)
        self.hear(message, flow)

    async def _connect(self, peer: tuple[str, int], server_name: str) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self),
                    *peer,
                    ssl=self._client_tls,
                    server_hostname=(server_name or peer[0]) if self._client_tls is not None else None,
                )
        except (OSError, TimeoutError) as error:
            self._connecting.pop(peer, None)
            self.notes.violate("RFC 3261 18.1.1", f"no connection: {type(error).__name__}", time.monotonic())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, wire: SipWire) -> None:
        self._wire = wire

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            message = parse_datagram(data)
        except NotSip as error:
            self._wire.notes.violate("RFC 3261 7", f"a datagram is no SIP: {error}", time.monotonic())
            return
        if message is not None:
            self._wire.received(message, addr[:2], data)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: time-outs tell."""


class _Connection(asyncio.Protocol):
    def __init__(self, wire: SipWire) -> None:
        self._wire = wire
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._peer = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._peer = transport.get_extra_info("peername")[:2]
        self._wire.connected(self._peer, self)

    def data_received(self, data: bytes) -> None:
        for event in self._framer.receive(data):
            if isinstance(event, Ping):
                self.write(PONG)
            elif isinstance(event, Pong):
                pass
            elif isinstance(event, Lost):
                self._wire.notes.violate("RFC 3261 18.3", f"a stream is lost: {event.reason}", time.monotonic())
                self.abort()
            else:
                self._wire.received(event, self._peer, _written(event))

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.disconnected(self._peer)

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Break off."""
        if self._transport is not None:
            self._transport.abort()


def _written(message: Message) -> bytes:
    """The message as read from a stream, for the trace."""
    if isinstance(message, Request) and message.flaw is not None:
        return b"(a request with a flaw)"
    return message.encode()
