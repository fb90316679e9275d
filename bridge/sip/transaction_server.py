"""Server transactions: a request of a peer, its repeats absorbed, our response repeated; and the way back to the peer.

Public: ``InviteServer``, ``NonInviteServer``, ``ServerState``, ``server_key``, ``way_back``.

Theory of operation. A transaction writes what is to be sent into the list that it was given, and tells by return
values and ``state`` what its layer must report. It has two timers: ``repeats_at`` (the automatic 100, then G) and
``ends_at`` (H, I, J or L).

    INVITE   PROCEEDING -2xx-> ACCEPTED -L-> TERMINATED
                        -3xx+-> COMPLETED -ACK-> CONFIRMED -I-> TERMINATED
                                          -H-> TERMINATED (no ACK)
    others   PROCEEDING -final-> COMPLETED -J-> TERMINATED     (RFC 3261 calls it "Trying" until a 1xx is sent)

Sources: RFC 3261 sections 17.2 and 18.2.2, RFC 3581 section 4, RFC 4320, RFC 6026 section 7.1. Pure: ``now`` is
monotonic seconds.
"""

from __future__ import annotations

import enum

from bridge.errors import LocalError
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError
from bridge.sip.flow import Flow, Outgoing
from bridge.sip.message import Request, Response, make_response
from bridge.sip.timers import NEVER, TRYING_AFTER_S, Timers
from bridge.sip.values import Via, parse_address


class ServerState(enum.Enum):
    """How far a server transaction is."""

    PROCEEDING = enum.auto()
    """No final response yet."""
    ACCEPTED = enum.auto()
    """A 2xx to INVITE was sent; its ACK and its repeats are the user's (RFC 6026)."""
    COMPLETED = enum.auto()
    """Another final response was sent; that of an INVITE waits for its ACK."""
    CONFIRMED = enum.auto()
    """The ACK came; it may come again."""
    TERMINATED = enum.auto()
    """Over."""


def server_key(envelope: Envelope, method: str) -> str:
    """What the requests of one server transaction have in common (RFC 3261 section 17.2.3).

    ``method`` is that of the request, but INVITE for an ACK, and for the INVITE that a CANCEL means. The Call-ID
    counts as well: a peer that uses one branch for two calls (a counter that starts anew) does not lose the second.
    Parts are joined by what no header value can hold.
    """
    via = envelope.via
    call_id = envelope.call_id
    if via.branch_is_unique:
        return f"{via.branch}\n{via.host}:{via.port}\n{call_id}\n{method}"
    return (
        f"{envelope.from_.tag}\n{call_id}\n{envelope.cseq.number}\n{envelope.uri}\n"
        f"{via.transport} {via.host}:{via.port} {via.branch}\n{method}"
    )


def way_back(data: bytes, via: Via, flow: Flow) -> Outgoing:
    """A response on its way to the peer whose request had this top Via and came by ``flow`` (18.2.2, RFC 3581).

    A datagram goes to the address that the request came from, which is what ``received`` says; to the port it came
    from as well if the peer asked for that, else to that of sent-by. ``maddr`` is ignored: multicast SIP is out of
    use, and with it any peer could aim our responses at a third party. On a stream it is the same connection, or a
    new one to the port of sent-by.
    """
    port = via.port or flow.transport.default_port
    if flow.transport.is_reliable:
        name = "" if via.host.strip("[]") == flow.host else via.host  # what a certificate may say
        return Outgoing(data, flow, fallback=Flow(flow.transport, flow.host, port, server_name=name))
    return Outgoing(data, flow if via.wants_rport else Flow(flow.transport, flow.host, port))


class _ServerTransaction:
    """What both kinds share."""

    __slots__ = (
        "_last", "_out", "_timers", "_via", "ends_at", "flow", "key", "listed_at", "merge_key",
        "repeats_at", "size_bytes", "state",
    )  # fmt: skip

    def __init__(
        self, key: str, request: Request, envelope: Envelope, flow: Flow, timers: Timers, out: list[Outgoing]
    ) -> None:
        self.key = key
        self.flow = flow
        self.state = ServerState.PROCEEDING
        self.merge_key: tuple[str, str, int, str] | None = None
        """What merged requests have in common; kept by the layer."""
        self.size_bytes = len(request.body) + sum([len(value) for _, value in request.headers])
        """What is kept for it at most, roughly: its headers, of which our response repeats some."""
        self.listed_at = NEVER
        self.repeats_at = self.ends_at = NEVER
        self._timers = timers
        self._out = out
        self._via = envelope.via
        self._last: Outgoing | None = None

    @property
    def wakes_at(self) -> float:
        """When ``handle_timer`` is due; ``NEVER`` = not at all."""
        return min(self.repeats_at, self.ends_at)

    def repeat(self) -> None:
        """The request came again: so does the latest response, if there is one that may."""
        if self._last is not None:
            self._out.append(self._last)

    def forget(self) -> bool:
        """Be gone without an answer. False if there was a final response already, which then stands."""
        if self.state is not ServerState.PROCEEDING:
            return False
        self._terminate()
        return True

    def _send(self, response: Response) -> None:
        if self.state is not ServerState.PROCEEDING:
            raise LocalError("a response after the final one")
        self._last = way_back(response.encode(), self._via, self.flow)
        self._out.append(self._last)

    def _terminate(self) -> None:
        self.state = ServerState.TERMINATED
        self.repeats_at = self.ends_at = NEVER


class InviteServer(_ServerTransaction):
    """An INVITE of a peer."""

    __slots__ = ("_interval_s", "_is_cancelled", "_request", "_to", "call_key")

    def __init__(
        self, key: str, request: Request, envelope: Envelope, flow: Flow, timers: Timers, out: list[Outgoing],
        now: float,
    ) -> None:  # fmt: skip
        super().__init__(key, request, envelope, flow, timers, out)
        self._is_cancelled = False
        self.call_key = envelope.from_.tag, envelope.call_id, envelope.cseq.number, "INVITE"
        """What its ACK has in common with it, whatever the branch of that."""
        self.repeats_at = now + TRYING_AFTER_S
        self._request: Request | None = request  # until there is a response
        self._to = ""
        self._interval_s = timers.first_repeat_s(flow.transport)

    @property
    def local_tag(self) -> str:
        """The tag of To in our latest response; empty = none yet."""
        try:
            return parse_address(self._to).tag
        except HeaderError:
            return ""

    def respond(self, response: Response, now: float) -> None:
        """Send a response. Raises ``LocalError`` after a final one."""
        self._send(response)
        self._request = None
        self._to = response.headers.get("To") or ""
        self.repeats_at = NEVER
        if 200 <= response.status < 300:
            self.state = ServerState.ACCEPTED
            self._last = None  # repeats of the INVITE are absorbed; the user repeats the 2xx (RFC 6026 section 7.1)
            self.ends_at = now + self._timers.give_up_s  # L
        elif response.status >= 300:
            self.state = ServerState.COMPLETED
            self.repeats_at = now + self._interval_s  # G
            self.ends_at = now + self._timers.give_up_s  # H

    def cancel(self) -> bool:
        """The peer cancels it. True if that has an effect: the first time, before a final response (section 9.2)."""
        if self._is_cancelled or self.state is not ServerState.PROCEEDING:
            return False
        self._is_cancelled = True
        return True

    def owns_ack(self, envelope: Envelope) -> bool:
        """Whether an ACK with this transaction's key belongs to it: without a unique branch, the tags decide."""
        return envelope.via.branch_is_unique or envelope.to.tag == self.local_tag

    def acknowledge(self, now: float) -> bool:
        """An ACK came. True if it is for the user."""
        if self.state is ServerState.COMPLETED:
            self.state = ServerState.CONFIRMED
            self._last = None
            self.repeats_at = NEVER
            linger_s = self._timers.acknowledged_s(self.flow.transport)  # I
            self.ends_at = now + linger_s
            if linger_s <= 0:
                self._terminate()
        return self.state is ServerState.ACCEPTED

    def handle_timer(self, now: float) -> bool:
        """Send the automatic 100, repeat a rejection, or end. True if its ACK never came."""
        if now >= self.ends_at:
            is_unacknowledged = self.state is ServerState.COMPLETED
            self._terminate()
            return is_unacknowledged
        if now >= self.repeats_at:
            if self._request is not None:
                self.respond(make_response(self._request, 100), now)
            else:
                self._interval_s = self._timers.next_repeat_s(self._interval_s)
                self.repeats_at = now + self._interval_s
                self.repeat()
        return False


class NonInviteServer(_ServerTransaction):
    """Any other request of a peer but ACK."""

    __slots__ = ()

    def __init__(
        self, key: str, request: Request, envelope: Envelope, flow: Flow, timers: Timers, out: list[Outgoing],
        now: float,
    ) -> None:  # fmt: skip
        super().__init__(key, request, envelope, flow, timers, out)
        self.ends_at = now + timers.give_up_s  # then the peer has given up: nothing may be sent (RFC 4320 section 4.2)

    def respond(self, response: Response, now: float) -> None:
        """Send a response. Raises ``LocalError`` after a final one."""
        self._send(response)
        if response.status >= 200:
            self.state = ServerState.COMPLETED
            linger_s = self._timers.answered_s(self.flow.transport)  # J
            self.ends_at = now + linger_s
            if linger_s <= 0:
                self._terminate()

    def handle_timer(self, now: float) -> bool:
        """End, when it is time. Always False: that no response is acknowledged is as it should be."""
        if now >= self.ends_at:
            self._terminate()
        return False


ServerTransaction = InviteServer | NonInviteServer
