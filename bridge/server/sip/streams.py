"""All stream connections of SIP: takes those that peers open, opens those that are needed, finds the right one.

A message goes over the connection that its flow names. Where that is gone, a response goes to its fallback (RFC 3261
section 18.2.2) and a request to the flow's address. Without a named connection any that leads to the address serves,
the peer's own included, because the Contact of peers behind a firewall often is the far end of their connection; but
where the flow has a name to be verified, only one that we opened to that name.

Connections are counted and refused before the TLS handshake, which is what a stranger could make expensive.
Accepting goes through our own loop for that reason, and so that each handshake uses the certificate of the moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import NamedTuple

from bridge.server.logs import get_logger
from bridge.server.sip.connection import StreamConnection
from bridge.server.sip.limits import ConnectionLimit, MessageLimit
from bridge.server.sip.options import StreamOptions, TransportCounts
from bridge.server.sip.tls import TlsContexts
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.message import Message
from bridge.sip.parse import Limits

_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_PAUSE_S = 1.0
"""How long no connection is taken when the machine has no descriptors left for one."""
ABORT_S = 1.0
"""How long aborted connections may take to report it: a few turns of the loop, and nothing of the peer."""


class StreamHandlers(NamedTuple):
    """What the connections' owner lends."""

    on_message: Callable[[Message, Flow], None]
    """Never raises."""
    on_send_failed: Callable[[str], None]
    """Never raises; called from the loop, never from within ``send``."""
    is_trusted: Callable[[str], bool]
    """Whether an address is a configured peer's."""
    is_needed: Callable[[int], bool]
    """Whether a call counts on this connection, by its number."""
    monotonic: Callable[[], float]


class Streams:
    """The connections, by number and by address; a ``ConnectionOwner``."""

    def __init__(
        self,
        options: StreamOptions,
        message_limits: Limits,
        handlers: StreamHandlers,
        tls: TlsContexts,
        limits: tuple[MessageLimit, ConnectionLimit],
        counts: TransportCounts,
    ) -> None:
        self.counts = counts
        self.deliver = handlers.on_message
        self.monotonic = handlers.monotonic
        self.is_trusted = handlers.is_trusted
        self.is_needed = handlers.is_needed
        self._options = options
        self._message_limits = message_limits
        self._handlers = handlers
        self._tls = tls
        self._message_limit, self._connection_limit = limits
        self._numbers = itertools.count(1)
        self._by_number: dict[int, StreamConnection] = {}
        self._by_address: dict[Flow, StreamConnection] = {}  # flows without number
        self._connecting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._is_empty = asyncio.Event()  # once it is closed

    def __len__(self) -> int:
        return len(self._by_number)

    # --- sending ---

    def send(self, out: Outgoing) -> bool:
        """Send a message, or begin to; False = that cannot be done (and nobody is told)."""
        if self._is_closed:
            return False
        connection = self._by_number.get(out.flow.connection)
        if connection is not None and connection.is_usable:
            return connection.send(out)
        return self._send_to_address(out, out.fallback if out.flow.connection and out.fallback else out.flow)

    def is_open(self, number: int) -> bool:
        """Whether the connection of this number can be used."""
        connection = self._by_number.get(number)
        return connection is not None and connection.is_usable

    def by_transport(self) -> dict[str, int]:
        """How many there are by transport, in lower case."""
        found = {"tcp": 0, "tls": 0}
        for connection in self._by_number.values():
            found[connection.flow.transport.value.lower()] += 1
        return found

    def peer_names(self, number: int) -> tuple[str, ...]:
        """See ``StreamConnection.peer_names``."""
        connection = self._by_number.get(number)
        return () if connection is None else connection.peer_names()

    def _send_to_address(self, out: Outgoing, target: Flow) -> bool:
        address = replace(target, connection=0)
        connection = self._by_address.get(address)
        if connection is None or not connection.is_usable:
            connection = self._open(address)
        return connection is not None and connection.send(out)

    def _open(self, address: Flow) -> StreamConnection | None:
        if self._connecting >= self._options.max_connecting:
            return None
        connection = self._new(address, None)
        self._connecting += 1
        self._run(self._connect(connection))
        return connection

    async def _connect(self, connection: StreamConnection) -> None:
        """Open a connection within the time; if that fails, tell everybody who waits for it."""
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await self._dial(connection)
        except (OSError, ValueError, OverflowError) as error:  # TLS errors and time-outs are OSErrors
            self._on_no_connection(connection, _words(error))
        finally:
            self._connecting -= 1

    async def _dial(self, connection: StreamConnection) -> None:
        loop = asyncio.get_running_loop()
        flow = connection.flow
        family = socket.AF_INET6 if ":" in flow.host else socket.AF_INET
        socket.inet_pton(family, flow.host)  # raises for names, which must not be looked up here
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            self._tune(sock)
            await loop.sock_connect(sock, (flow.host, flow.port))
        except BaseException:
            sock.close()
            raise
        if flow.transport is Transport.TLS:
            # asyncio's own time-out for the handshake would be 60 s; ours is around all of this.
            name = flow.server_name or flow.host
            await loop.create_connection(lambda: connection, sock=sock, ssl=self._tls.client, server_hostname=name)
        else:
            await loop.create_connection(lambda: connection, sock=sock)

    def _on_no_connection(self, connection: StreamConnection, words: str) -> None:
        self.counts.failed_connects += 1
        flow = connection.flow
        get_logger().warning(
            "sip_connect_failed", host=flow.host, port=flow.port, transport=flow.transport.value, problem=words
        )
        self._forget(connection)
        self._fail([*connection.take_pending(), *connection.take_unanswered(self.monotonic())])
        connection.abort()  # should it have come to be just as its time was up

    def _fail(self, messages: Iterable[Outgoing]) -> None:
        lost = list(messages)
        self.counts.dropped += len(lost)
        for key in dict.fromkeys(out.key for out in lost if out.key):
            self._handlers.on_send_failed(key)

    # --- taking connections ---

    def listen(self, sock: socket.socket, transport: Transport) -> None:
        """Take connections from a listening socket until ``close``."""
        self._run(self._accept(sock, transport))

    async def _accept(self, sock: socket.socket, transport: Transport) -> None:
        loop = asyncio.get_running_loop()
        with sock:
            while True:
                try:
                    client, address = await loop.sock_accept(sock)
                except OSError as error:
                    if error.errno in _NO_RESOURCES:
                        get_logger().error("sip_accept_failed", problem=os.strerror(error.errno or 0))
                        await asyncio.sleep(ACCEPT_PAUSE_S)
                    else:  # the peer is gone already
                        await asyncio.sleep(0)
                    continue
                self._on_accepted(client, transport, address[0], address[1])
                await asyncio.sleep(0)  # sock_accept itself does not yield while connections are waiting

    def _on_accepted(self, sock: socket.socket, transport: Transport, host: str, port: int) -> None:
        ticket = self._connection_limit.admit(host)
        if ticket is None:
            self.counts.refused_connections += 1
            sock.close()
            return
        sock.setblocking(False)
        self._tune(sock)
        self._run(self._welcome(sock, self._new(Flow(transport, host, port), ticket)))

    async def _welcome(self, sock: socket.socket, connection: StreamConnection) -> None:
        loop = asyncio.get_running_loop()
        try:
            if connection.flow.transport is Transport.TLS:
                timeout_s = self._options.handshake_timeout_s
                await loop.connect_accepted_socket(
                    lambda: connection, sock, ssl=self._tls.server, ssl_handshake_timeout=timeout_s
                )
            else:
                await loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:
            self.counts.failed_handshakes += 1
            self._forget(connection)
            self._fail(connection.take_pending())

    def _tune(self, sock: socket.socket) -> None:
        milliseconds = int(self._options.user_timeout_s * 1000)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    # --- for connections ---

    def delay_s(self, host: str, messages: int, now: float) -> float:
        """See ``ConnectionOwner``."""
        return self._message_limit.delay_s(host, messages, now)

    def on_lost(self, connection: StreamConnection) -> None:
        """See ``ConnectionOwner``. Requests that a connection took with it get one more, if this one ever worked."""
        self._forget(connection)
        unanswered = connection.take_unanswered(self.monotonic())
        if self._is_closed:
            return
        if not connection.was_answered:
            self._fail(unanswered)
            return
        self._fail(out for out in unanswered if not self.send(out))

    # --- all of them ---

    def sweep(self, now: float) -> None:
        """Close connections whose time is up, and ping."""
        for connection in list(self._by_number.values()):
            connection.sweep(now)

    async def close(self, grace_s: float) -> None:
        """Take and open no more connections, and close all that are there, cutting them after ``grace_s``."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._by_number.values()):
            if connection.is_open:
                connection.close()
            else:
                self._forget(connection)
        await self._emptied(grace_s)
        for connection in list(self._by_number.values()):
            connection.abort()
        await self._emptied(ABORT_S)

    async def _emptied(self, timeout_s: float) -> None:
        """Wait until the last connection is gone, or until the time is up."""
        if self._by_number:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_empty.wait(), timeout_s)

    # --- inside ---

    def _new(self, address: Flow, ticket: str | None) -> StreamConnection:
        flow = replace(address, connection=next(self._numbers))
        connection = StreamConnection(self, flow, self._options, self._message_limits, ticket)
        self._by_number[flow.connection] = connection
        known = self._by_address.get(address)
        if known is None or not known.is_usable:
            self._by_address[address] = connection
        return connection

    def _forget(self, connection: StreamConnection) -> None:
        if self._by_number.pop(connection.flow.connection, None) is None:
            return
        address = replace(connection.flow, connection=0)
        if self._by_address.get(address) is connection:
            del self._by_address[address]
        if connection.ticket is not None:
            self._connection_limit.release(connection.ticket)
        if self._is_closed and not self._by_number:
            self._is_empty.set()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _words(error: Exception) -> str:
    """Why a connection could not be opened, for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate does not verify ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed ({error.reason})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return f"{type(error).__name__}"
