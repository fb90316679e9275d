"""One stream connection of SIP, TCP or TLS: bytes in, messages out, and the manners that keep it cheap.

Theory of operation. While it is being opened it queues what is to be sent. Open, it hands messages to its owner,
answers pings, and remembers requests that were sent and followed by no sign of life: when the connection breaks,
those may never have arrived, and the owner decides whether another one shall carry them. What has to be closed for
lack of time is found by ``sweep``, so that a connection needs no timer of its own. One buffer serves all connections,
and its size bounds how much work one wake-up makes.

Not here: whether a peer may connect, and which connection a message takes; see ``streams``.
Sources: RFC 3261 section 18, RFC 5626 sections 3.5.1 and 4.4.1.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, cast

from bridge.server.sip.options import StreamOptions, TransportCounts
from bridge.sip.flow import Flow, Outgoing
from bridge.sip.framing import PING, PONG, Lost, Ping, Pong, StreamFramer
from bridge.sip.message import Message, Request
from bridge.sip.parse import Limits

READ_BYTES = 16 * 1024
"""Most that is read at once: some 300 of the smallest messages, 10 ms of work."""
LAST_WORDS_S = 0.5
"""How long a connection stays after its bytes stopped making sense, for the answer that says so. Closing it at once
while more bytes come in would make the kernel throw the answer away."""
UNANSWERED = 64
"""Requests without a sign of life that are remembered."""
UNANSWERED_S = 32.0
"""64*T1: for how long a request matters (RFC 3261 section 17.1.2.2)."""

_BUFFER = memoryview(bytearray(READ_BYTES))
"""What is read lands here first and is copied at once, so all connections of the loop share it."""


class ConnectionOwner(Protocol):
    """Whom connections report to, from the event loop's thread."""

    counts: TransportCounts

    def monotonic(self) -> float:
        """Seconds on the clock that all times here are of."""

    def deliver(self, message: Message, flow: Flow) -> None:
        """A message; never raises."""

    def delay_s(self, host: str, messages: int, now: float) -> float:
        """How long to read no more after so many messages."""

    def is_trusted(self, host: str) -> bool:
        """Whether this is a configured peer's address."""

    def is_needed(self, number: int) -> bool:
        """Whether a call counts on the connection of this number."""

    def on_lost(self, connection: StreamConnection) -> None:
        """The connection is gone; called once, and only after it had been open."""


class StreamConnection(asyncio.BufferedProtocol):
    """A connection, being opened or open."""

    __slots__ = (
        "_bytes_in",
        "_has_message",
        "_is_closing",
        "_options",
        "_owner",
        "_peer_pongs",
        "_pending",
        "_ping_open",
        "_pinged_at",
        "_transport",
        "_unanswered",
        "_unfinished_since",
        "flow",
        "framer",
        "is_inbound",
        "opened_at",
        "ticket",
        "used_at",
    )

    def __init__(
        self, owner: ConnectionOwner, flow: Flow, options: StreamOptions, limits: Limits, ticket: str | None = None
    ) -> None:
        """``ticket`` is what ``ConnectionLimit`` gave for a connection that the peer opens; None = we open it."""
        now = owner.monotonic()
        self.flow = flow
        """Its address, with its own number as ``connection``."""
        self.is_inbound = ticket is not None
        self.ticket = ticket
        self.framer = StreamFramer(limits)
        self.opened_at = now
        self.used_at = now
        """When a message or the peer's ping last passed."""
        self._owner = owner
        self._options = options
        self._transport: asyncio.Transport | None = None
        self._pending: deque[Outgoing] = deque()
        self._unanswered: deque[tuple[float, Outgoing]] = deque(maxlen=UNANSWERED)
        self._unfinished_since: float | None = None
        self._bytes_in = 0
        self._has_message = False
        self._is_closing = False
        self._pinged_at = now
        self._ping_open = False
        self._peer_pongs = False

    # --- for its owner ---

    @property
    def is_usable(self) -> bool:
        """Whether messages may be given to it, now or in a queue."""
        return not self._is_closing

    @property
    def is_open(self) -> bool:
        """Whether its handshakes are done."""
        return self._transport is not None

    @property
    def was_answered(self) -> bool:
        """Whether the peer ever sent anything."""
        return self._bytes_in > 0

    def send(self, out: Outgoing) -> bool:
        """Write or queue a message; False = it cannot be taken."""
        if self._is_closing:
            return False
        if self._transport is None:
            if len(self._pending) >= self._options.max_pending:
                return False
            self._pending.append(out)
            return True
        if self._transport.get_write_buffer_size() + len(out.data) > self._options.max_write_bytes:
            self.abort()
            return False
        self._write(self._transport, out, self._owner.monotonic())
        return True

    def take_pending(self) -> list[Outgoing]:
        """What was queued for a connection that does not come to be."""
        self._is_closing = True
        pending = list(self._pending)
        self._pending.clear()
        return pending

    def take_unanswered(self, now: float) -> list[Outgoing]:
        """Requests that may never have arrived and still matter."""
        lost = [out for at, out in self._unanswered if now - at < UNANSWERED_S]
        self._unanswered.clear()
        return lost

    def close(self) -> None:
        """Send what is left, then close."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Close it if its time is up, or ping."""
        options = self._options
        if self._transport is None or self._is_closing:
            return
        if self._is_slow(now):
            self._owner.counts.slow_connections += 1
            self.abort()
        elif now - self.used_at > options.idle_s and not self._owner.is_needed(self.flow.connection):
            self.close()
        elif not self.is_inbound and options.keepalive_s and now - self._pinged_at >= options.keepalive_s:
            self._ping(self._transport, now)

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: all handshakes are done."""
        self._transport = cast(asyncio.Transport, transport)
        if self._is_closing:
            self._transport.abort()
            return
        now = self._owner.monotonic()
        self.opened_at = self.used_at = self._pinged_at = now
        while self._pending:
            self._write(self._transport, self._pending.popleft(), now)

    def peer_names(self) -> tuple[str, ...]:
        """Names and addresses in the peer's certificate, lower case, where it was verified; else empty."""
        certificate = self._transport.get_extra_info("peercert") if self._transport is not None else None
        alternatives = certificate.get("subjectAltName", ()) if certificate else ()
        return tuple(value.lower() for kind, value in alternatives if kind in ("DNS", "IP Address"))

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is gone."""
        self._is_closing = True
        self._owner.on_lost(self)

    def eof_received(self) -> bool:
        """asyncio: the peer sends no more. It has mostly closed, so nothing more is sent here either."""
        self._is_closing = True
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio: where to read to."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: so many bytes are in the buffer."""
        now = self._owner.monotonic()
        self._bytes_in += nbytes
        self._unanswered.clear()
        messages = 0
        events = self.framer.receive(bytes(_BUFFER[:nbytes]))
        for event in events:
            if isinstance(event, Ping):
                self._answer_ping(now)
            elif isinstance(event, Pong):
                self._peer_pongs = self._peer_pongs or self._ping_open
                self._ping_open = False
            elif isinstance(event, Lost):
                self._on_nonsense()
            else:
                messages += 1
                self._on_message(event, now)
        if not self.framer.unfinished:
            self._unfinished_since = None
        elif events or self._unfinished_since is None:
            self._unfinished_since = now
        if messages:
            self._pay(messages, now)

    # --- inside ---

    def _is_slow(self, now: float) -> bool:
        if self._unfinished_since is not None:
            return now - self._unfinished_since > self._options.unfinished_s
        is_awaited = self.is_inbound and not self._has_message
        return (
            is_awaited
            and now - self.opened_at > self._options.first_message_s
            and not self._owner.is_trusted(self.flow.host)
        )

    def _write(self, transport: asyncio.Transport, out: Outgoing, now: float) -> None:
        self.used_at = now
        if out.key:
            self._unanswered.append((now, out))
        self._owner.counts.sent[self.flow.transport.value] += 1
        transport.write(out.data)

    def _on_message(self, message: Message, now: float) -> None:
        self._has_message = True
        self.used_at = now
        self._owner.counts.received[self.flow.transport.value] += 1
        if isinstance(message, Request):
            message = message.stamped(self.flow.host, self.flow.port)
        self._owner.deliver(message, self.flow)

    def _on_nonsense(self) -> None:
        """Nothing more can be read. Time is left for answers to what could."""
        self._owner.counts.not_sip += 1
        if self._has_message:
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self.close)
        else:
            self.abort()

    def _answer_ping(self, now: float) -> None:
        self.used_at = now
        if self._transport is None or self._is_closing:
            return
        if self._transport.get_write_buffer_size() > self._options.max_write_bytes:
            self.abort()  # it pings and reads nothing
        else:
            self._transport.write(PONG)

    def _ping(self, transport: asyncio.Transport, now: float) -> None:
        if self._ping_open and self._peer_pongs:  # it has answered before and does not now: nobody is there
            self.abort()
            return
        self._pinged_at = now
        self._ping_open = True
        transport.write(PING)

    def _pay(self, messages: int, now: float) -> None:
        """Read no more for as long as the peer is beyond its rate."""
        delay_s = self._owner.delay_s(self.flow.host, messages, now)
        if delay_s > 0.0 and self._transport is not None and not self._is_closing:
            self._owner.counts.limited += 1
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(delay_s, self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._is_closing:
            self._transport.resume_reading()
