"""The SIP sockets as a whole: what the user agent sends leaves here, and what peers send comes in as messages.

Requests are stamped (received, rport) before they are handed over; bytes that are no SIP are counted and dropped;
requests that are broken come through with their ``flaw`` and are the user agent's to answer. Nothing here blocks:
connections are opened in the background, queues are bounded, and whoever must know that a message could not be sent
is told by its key, once, and never from within ``send``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Callable

from bridge.errors import ConfigError, LocalError
from bridge.server.logs import get_logger
from bridge.server.sip.binding import open_socket
from bridge.server.sip.limits import ConnectionLimit, MessageLimit
from bridge.server.sip.options import Listen, TransportCounts, TransportOptions
from bridge.server.sip.streams import StreamHandlers, Streams
from bridge.server.sip.tls import TlsContexts
from bridge.server.sip.udp import UdpSocket
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.message import Message


def _nobody(_: object) -> bool:
    return False


class Transports:
    """UDP, TCP and TLS sockets of one user agent."""

    def __init__(
        self,
        options: TransportOptions,
        on_message: Callable[[Message, Flow], None],
        on_send_failed: Callable[[str], None],
        *,
        is_trusted: Callable[[str], bool] = _nobody,
        is_needed: Callable[[int], bool] = _nobody,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the certificates; raises ``ConfigError``. No socket is opened before ``start``.

        ``is_trusted`` tells whether a numeric address is a configured peer's (no limits then); ``is_needed`` whether a
        call counts on a connection, by its number, so that it is not closed for being idle.
        """
        self.counts = TransportCounts()
        self._options = options
        self._on_message = on_message
        self._on_send_failed = on_send_failed
        self._monotonic = monotonic
        self._tls = TlsContexts(options.tls)
        self._check(options)
        self._message_limit = MessageLimit(options.limits, is_trusted)
        self._udp: dict[bool, UdpSocket] = {}  # by whether it is IPv6
        self._ports: dict[Transport, int] = {}
        self._streams = Streams(
            options.streams,
            options.message_limits,
            StreamHandlers(self._deliver, self._tell, is_trusted, is_needed, monotonic),
            self._tls,
            (self._message_limit, ConnectionLimit(options.limits, is_trusted)),
            self.counts,
        )
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---

    async def start(self) -> None:
        """Listen everywhere, or nowhere: raises ``ConfigError`` naming setting, host and port."""
        sockets = []
        try:
            for listen in self._options.listen:
                sockets.append((listen, open_socket(listen)))
        except ConfigError:
            for _, sock in sockets:
                sock.close()
            raise
        for listen, sock in sockets:
            self._ports.setdefault(listen.transport, sock.getsockname()[1])
            if listen.transport is Transport.UDP:
                self._udp[":" in listen.host] = UdpSocket(
                    sock, self._deliver, self._message_limit, self._options.message_limits, self.counts, self._monotonic
                )
            else:
                self._streams.listen(sock, listen.transport)
        self._tasks.append(asyncio.create_task(self._sweep_on()))
        if self._options.certificate_poll_s and self._tls.is_configured:
            self._tasks.append(asyncio.create_task(self._poll_certificate()))

    async def close(self) -> None:
        """Let go of the ports, send what is left on connections, and close them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._streams.close(self._options.close_grace_s)
        for udp in self._udp.values():
            udp.close()

    # --- messages ---

    def send(self, out: Outgoing) -> None:
        """Send a message. Never blocks and never raises; a failure is told later by ``out.key``."""
        if out.flow.transport is Transport.UDP:
            udp = self._udp.get(":" in out.flow.host)
            is_sent = udp is not None and udp.send(out)
        else:
            is_sent = self._streams.send(out)
            self.counts.dropped += not is_sent
        if not is_sent and out.key:
            asyncio.get_running_loop().call_soon(self._tell, out.key)

    def is_open(self, flow: Flow) -> bool:
        """Whether this flow's own connection is still there; always so for datagrams."""
        return flow.transport is Transport.UDP or self._streams.is_open(flow.connection)

    def peer_names(self, flow: Flow) -> tuple[str, ...]:
        """Names and addresses in the verified certificate of this flow's peer, lower case; empty where there is none.

        ``ssl`` gives a certificate's contents only where it was verified, so whatever stands here was.
        """
        return self._streams.peer_names(flow.connection) if flow.transport is Transport.TLS else ()

    # --- for the operator ---

    def port(self, transport: Transport) -> int:
        """The port that is listened to, the first one where there are several. Raises ``LocalError`` for none."""
        try:
            return self._ports[transport]
        except KeyError:
            raise LocalError(f"nothing listens for {transport.value}") from None

    @property
    def open_connections(self) -> dict[str, int]:
        """Stream connections by transport, in lower case."""
        return self._streams.by_transport()

    @property
    def connections(self) -> int:
        """Stream connections, those being opened included."""
        return len(self._streams)

    def reload_certificate(self) -> bool:
        """Read the certificate files anew for the handshakes to come; False = they do not work, the old ones stay."""
        return self._tls.reload()

    def certificate_expires_at(self) -> float | None:
        """When our certificate ends, in seconds since 1970; None = there is none."""
        return self._tls.expires_at

    def sweep(self, now: float) -> None:
        """Close connections whose time is up. Done by itself once started."""
        self._streams.sweep(now)

    # --- inside ---

    def _check(self, options: TransportOptions) -> None:
        families: set[bool] = set()
        for listen in options.listen:
            _check_listen(listen, has_certificate=self._tls.server is not None)
            if listen.transport is Transport.UDP:
                is_ipv6 = ":" in listen.host
                if is_ipv6 in families:
                    raise ConfigError(f"{listen.setting}: one UDP address of each family can be listened to, not more")
                families.add(is_ipv6)

    def _deliver(self, message: Message, flow: Flow) -> None:
        # One message that somebody trips over must not end the connection of a whole trunk.
        try:
            self._on_message(message, flow)
        except Exception:
            get_logger().exception("sip_message_failed", transport=flow.transport.value)

    def _tell(self, key: str) -> None:
        try:
            self._on_send_failed(key)
        except Exception:
            get_logger().exception("sip_send_failure_failed")

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(self._options.sweep_s)
            self.sweep(self._monotonic())

    async def _poll_certificate(self) -> None:
        while True:
            await asyncio.sleep(self._options.certificate_poll_s)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._tls.reload_if_changed)


def _check_listen(listen: Listen, *, has_certificate: bool) -> None:
    try:
        ipaddress.ip_address(listen.host)
    except ValueError:
        raise ConfigError(f"{listen.setting}: the address to listen on is not a numeric IP address") from None
    if listen.transport is Transport.TLS and not has_certificate:
        raise ConfigError(f"{listen.setting}: listening for TLS needs a certificate file")
