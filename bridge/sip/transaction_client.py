"""Client transactions: a request of ours, repeated until something comes back; and the ACK and CANCEL that it needs.

Public: ``InviteClient``, ``NonInviteClient``, ``ClientState``, ``make_ack``, ``make_cancel``, ``own_key``,
``client_key``.

Theory of operation. A transaction writes what is to be sent into the list that it was given, and tells by return
values and ``state`` what its layer must report. It has two timers: ``repeats_at`` (A or E) and ``ends_at`` (B or F
while nothing final came, then D, K or M).

    INVITE   CALLING -1xx-> PROCEEDING -2xx-> ACCEPTED -M-> TERMINATED
                                       -3xx+-> COMPLETED -D-> TERMINATED
    others   CALLING -1xx-> PROCEEDING -final-> COMPLETED -K-> TERMINATED     (RFC 3261 calls CALLING "Trying")

Sources: RFC 3261 sections 9.1, 17.1 and 17.1.1.3, RFC 6026 section 7.2. Pure: ``now`` is monotonic seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from bridge.errors import LocalError
from bridge.sip.errors import HeaderError
from bridge.sip.flow import Flow, Outgoing
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response
from bridge.sip.timers import NEVER, Timers
from bridge.sip.values import Via, parse_cseq, parse_vias


class ClientState(enum.Enum):
    """How far a client transaction is."""

    CALLING = enum.auto()
    """Sent; nothing came."""
    PROCEEDING = enum.auto()
    """A provisional response came."""
    ACCEPTED = enum.auto()
    """A 2xx to INVITE came; more may (RFC 6026)."""
    COMPLETED = enum.auto()
    """Another final response came; it may come again."""
    TERMINATED = enum.auto()
    """Over."""


UNANSWERED = frozenset({ClientState.CALLING, ClientState.PROCEEDING})


def client_key(via: Via, method: str) -> str:
    """What a request of ours and its responses have in common (RFC 3261 section 17.1.3)."""
    return f"{via.branch} {method}"


def own_key(request: Request) -> str:
    """The key of a request of ours. Raises ``LocalError`` where it is not fit to be sent."""
    headers = request.headers
    try:
        (via,) = parse_vias(headers.all("Via"))
        method = parse_cseq(headers.get("CSeq") or "").method
    except (HeaderError, ValueError):
        raise LocalError("a request needs one Via and a CSeq") from None
    if not via.branch_is_unique or method != request.method or method == "ACK":
        raise LocalError("a request needs a branch with the magic cookie and a fitting CSeq, and is no ACK")
    return client_key(via, method)


def make_ack(invite: Request, response: Response) -> Request:
    """The ACK of a final response other than 2xx (RFC 3261 section 17.1.1.3)."""
    copied = _same_hop(invite, "ACK")
    return Request("ACK", invite.uri, Headers([*copied, ("To", response.headers.get("To") or "")]))


def make_cancel(invite: Request, fields: Iterable[tuple[str, str]] = ()) -> Request:
    """The CANCEL of an INVITE (RFC 3261 section 9.1); ``fields`` are further headers."""
    copied = _same_hop(invite, "CANCEL")
    return Request("CANCEL", invite.uri, Headers([*copied, ("To", invite.headers.get("To") or ""), *fields]))


def _same_hop(invite: Request, method: str) -> list[tuple[str, str]]:
    headers = invite.headers
    number = (headers.get("CSeq") or "").split()[0]
    return [
        ("Via", headers.get("Via") or ""),
        ("Max-Forwards", headers.get("Max-Forwards") or "70"),
        *[("Route", value) for value in headers.all("Route")],
        ("From", headers.get("From") or ""),
        ("Call-ID", headers.get("Call-ID") or ""),
        ("CSeq", f"{number} {method}"),
    ]


class _ClientTransaction:
    """What both kinds share."""

    __slots__ = (
        "_interval_s", "_out", "_outgoing", "_timers", "ends_at", "flow", "has_timed_out", "is_silent", "key",
        "listed_at", "repeats_at", "request", "state",
    )  # fmt: skip

    def __init__(
        self, key: str, request: Request, flow: Flow, timers: Timers, out: list[Outgoing], now: float,
        *, is_silent: bool = False,
    ) -> None:  # fmt: skip
        """Send the request. ``is_silent``: the user does not know of it (a CANCEL)."""
        self.key = key
        self.request = request
        self.flow = flow
        self.is_silent = is_silent
        self.state = ClientState.CALLING
        self.has_timed_out = False
        self.listed_at = NEVER
        self._timers = timers
        self._out = out
        self._outgoing = Outgoing(request.encode(), flow, key)
        self._interval_s = timers.first_repeat_s(flow.transport)
        self.repeats_at = now + self._interval_s
        self.ends_at = now + timers.give_up_s
        out.append(self._outgoing)

    @property
    def wakes_at(self) -> float:
        """When ``handle_timer`` is due; ``NEVER`` = not at all."""
        return min(self.repeats_at, self.ends_at)

    def handle_timer(self, now: float) -> None:
        """Repeat the request, or end."""
        if now >= self.ends_at:
            self.has_timed_out = self.state in UNANSWERED
            self._terminate()
        elif now >= self.repeats_at:
            self._interval_s = self._next_interval_s()
            self.repeats_at = now + self._interval_s  # from now: a late clock brings one repeat, not a storm
            self._out.append(self._outgoing)

    def fail(self) -> bool:
        """The transport could not send. True if that is the end of it: nothing that tells otherwise came."""
        if self.state is not ClientState.CALLING:
            return False
        self._terminate()
        return True

    def _next_interval_s(self) -> float:
        raise NotImplementedError

    def _linger(self, state: ClientState, seconds: float, now: float) -> None:
        """Go to a state that only waits for repeats of the response."""
        self.state = state
        self.repeats_at = NEVER
        self.ends_at = now + seconds
        if seconds <= 0:
            self._terminate()

    def _terminate(self) -> None:
        self.state = ClientState.TERMINATED
        self.repeats_at = self.ends_at = NEVER


class InviteClient(_ClientTransaction):
    """An INVITE of ours."""

    __slots__ = ("_ack", "_is_cancelled", "cancel_fields", "wants_cancel")

    def __init__(self, key: str, request: Request, flow: Flow, timers: Timers, out: list[Outgoing], now: float) -> None:
        super().__init__(key, request, flow, timers, out, now)
        self.wants_cancel = False
        """Set when the layer must send a CANCEL, which resets it."""
        self.cancel_fields: tuple[tuple[str, str], ...] = ()
        self._is_cancelled = False
        self._ack: Outgoing | None = None

    def receive(self, response: Response, now: float) -> bool:
        """Take a response. True if it is for the user."""
        status = response.status
        if self.state in UNANSWERED:
            if status < 200:
                self._proceed(now)
            elif status < 300:
                self._linger(ClientState.ACCEPTED, self._timers.give_up_s, now)  # M
            else:
                self._ack = Outgoing(make_ack(self.request, response).encode(), self.flow)
                self._out.append(self._ack)
                self._linger(ClientState.COMPLETED, self._timers.rejected_invite_s(self.flow.transport), now)  # D
            return True
        if self.state is ClientState.ACCEPTED:
            return 200 <= status < 300
        if self._ack is not None and status >= 300:
            self._out.append(self._ack)
        return False

    def cancel(self, now: float, fields: Iterable[tuple[str, str]]) -> None:
        """Give the INVITE up, once a provisional response is there; nothing if there is a final one."""
        if self._is_cancelled or self.state not in UNANSWERED:
            return
        self._is_cancelled = True
        self.cancel_fields = tuple(fields)
        if self.state is ClientState.PROCEEDING:
            self._start_cancel(now)

    def _proceed(self, now: float) -> None:
        if self.state is ClientState.PROCEEDING:
            return
        self.state = ClientState.PROCEEDING
        self.repeats_at = self.ends_at = NEVER  # how long it may ring is the user's business (17.1.1.2)
        if self._is_cancelled:  # it had to wait for this (9.1)
            self._start_cancel(now)

    def _start_cancel(self, now: float) -> None:
        self.wants_cancel = True
        self.ends_at = now + self._timers.give_up_s  # 9.1: then it counts as cancelled

    def _next_interval_s(self) -> float:
        return 2 * self._interval_s  # A has no upper bound but B (17.1.1.2)


class NonInviteClient(_ClientTransaction):
    """Any other request of ours but ACK."""

    __slots__ = ()

    def receive(self, response: Response, now: float) -> bool:
        """Take a response. True if it is for the user."""
        if self.state not in UNANSWERED:
            return False
        if response.status >= 200:
            self._linger(ClientState.COMPLETED, self._timers.completed_s(self.flow.transport), now)  # K
        else:
            self.state = ClientState.PROCEEDING
        return True

    def _next_interval_s(self) -> float:
        if self.state is ClientState.PROCEEDING:
            return self._timers.t2_s  # 17.1.2.2
        return self._timers.next_repeat_s(self._interval_s)


ClientTransaction = InviteClient | NonInviteClient
