"""A simulated SIP end's transactions: requests out until they are answered, requests in answered once.

On purpose not ``bridge.sip.transactions``: plain tasks instead of a state machine, so that a mistake there is seen
from here. Retransmits over UDP (timers A, E, G), acknowledges refusals, answers repetitions with the same response,
and counts what the other side repeats: too early is a violation. Source: RFC 3261 section 17, RFC 6026.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bridge.simulators.sip_result import Notes
from bridge.simulators.sip_rules import cancel_breaches, request_breaches, response_breaches
from bridge.simulators.sip_wire import SipWire
from bridge.sip.envelope import Dropped, Envelope, read_request, read_response
from bridge.sip.flow import Flow, Transport
from bridge.sip.headers import Headers
from bridge.sip.message import Message, Request, Response
from bridge.sip.values import Via

T1_S, T2_S = 0.5, 4.0
"""RFC 3261 section 17.1.1.1 and 17.1.2.1."""
GIVE_UP = 64
"""Timers B, F and H in T1."""
EARLY_S = 0.35
"""A repetition sooner than this after the first was not waited for: T1, less what a busy machine blurs."""
RING_S = 180.0
"""How long an INVITE may go on without a final response (RFC 3261 section 16.6 item 11, timer C)."""

OnRequest = Callable[[Request, Envelope, Flow], None]
OnResponse = Callable[[Response], Awaitable[None] | None]


@dataclass(slots=True)
class _Ask:
    request: Request
    flow: Flow
    responses: asyncio.Queue[Response] = field(default_factory=asyncio.Queue)
    ack: bytes = b""
    """Sent again with every repetition of the final response."""
    final: Response | None = None


@dataclass(slots=True)
class _Answered:
    request: Request
    flow: Flow
    seen_s: float
    response: bytes = b""
    status: int = 0
    acked: asyncio.Event = field(default_factory=asyncio.Event)


class SipParty:
    """One address with its transactions. ``on_request`` gets every new request (and every ACK of a 2xx)."""

    def __init__(self, wire: SipWire, notes: Notes, on_request: OnRequest, *, t1_s: float = T1_S) -> None:
        self.wire, self.notes = wire, notes
        wire.hear = self._hear
        self.retransmissions = 0
        """What the other side sent again."""
        self.lost_acks: list[str] = []
        """Call-IDs of final responses that were never acknowledged."""
        self._on_request = on_request
        self._t1_s = t1_s
        self._asks: dict[tuple[str, str], _Ask] = {}
        self._answered: dict[tuple[str, str], _Answered] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def transport(self) -> Transport:
        """What it speaks."""
        return self.wire.transport

    def new_via(self) -> str:
        """A Via for a new request, ``rport`` included."""
        host, port = self.wire.address
        return f"SIP/2.0/{self.transport.value} {host}:{port};branch=z9hG4bK{secrets.token_hex(8)};rport"

    def contact(self, user: str) -> str:
        """A Contact at this address."""
        host, port = self.wire.address
        param = "" if self.transport is Transport.UDP else f";transport={self.transport.value.lower()}"
        return f"<sip:{user}@{host}:{port}{param}>"

    # --- out ---------------------------------------------------------------------------------------------

    async def ask(
        self, request: Request, flow: Flow, on_provisional: OnResponse | None = None, give_up_s: float = 0.0
    ) -> Response | None:
        """Send a request and wait for its final response; None = there was none. Refusals of INVITE are ACKed."""
        ask = _Ask(request, flow)
        self._asks[_key_of(request)] = ask
        data = request.encode()
        self.wire.send(data, flow)
        started_s = time.monotonic()
        is_invite = request.method == "INVITE"
        ends_s = started_s + (give_up_s or GIVE_UP * self._t1_s)
        interval_s, is_silent = self._t1_s, True
        while True:
            now = time.monotonic()
            if now >= ends_s:
                return None
            repeats = not self.transport.is_reliable and (is_silent or not is_invite)
            wait_s = min(interval_s, ends_s - now) if repeats else ends_s - now
            try:
                response = await asyncio.wait_for(ask.responses.get(), wait_s)
            except TimeoutError:
                if repeats and time.monotonic() < ends_s:
                    self.wire.send(data, flow)
                    interval_s = 2 * interval_s if is_invite else min(2 * interval_s, T2_S)
                continue
            if response.status >= 200:
                self._end(ask, response)
                return response
            if is_invite and is_silent:
                ends_s = max(ends_s, started_s + RING_S)
            is_silent = False
            if not is_invite:
                interval_s = T2_S
            if on_provisional is not None:
                waiting = on_provisional(response)
                if waiting is not None:
                    await waiting

    def acknowledge(self, invite: Request, ack: Request, flow: Flow) -> None:
        """Send an ACK for a 2xx, now and whenever that 2xx comes again."""
        data = ack.encode()
        ask = self._asks.get(_key_of(invite))
        if ask is not None:
            ask.ack, ask.flow = data, flow
        self.wire.send(data, flow)

    def _end(self, ask: _Ask, response: Response) -> None:
        ask.final = response
        if ask.request.method != "INVITE" or response.status < 300:
            return
        request = ask.request
        kept = [
            (name, value) for name, value in request.headers if name in ("From", "Call-ID", "Route", "Max-Forwards")
        ]
        number = (request.headers.get("CSeq") or "").partition(" ")[0]
        fields = [("Via", request.headers.get("Via") or ""), ("To", response.headers.get("To") or ""), *kept]
        ask.ack = Request("ACK", request.uri, Headers((*fields, ("CSeq", f"{number} ACK")))).encode()
        self.wire.send(ask.ack, ask.flow)

    # --- in ----------------------------------------------------------------------------------------------

    def respond(self, request: Request, response: Response, flow: Flow) -> None:
        """Answer a request; repetitions of it get the same. A final response to INVITE goes on until it is ACKed."""
        data = response.encode()
        answered = self._answered.get(_key_of(request))
        back = _way_back(request, flow)
        if answered is not None:
            answered.response, answered.status = data, response.status
        self.wire.send(data, back)
        if answered is not None and request.method == "INVITE" and response.status >= 200:
            self._start(self._repeat(answered, data, back))

    async def _repeat(self, answered: _Answered, data: bytes, back: Flow) -> None:
        interval_s = self._t1_s
        ends_s = time.monotonic() + GIVE_UP * self._t1_s
        repeats = answered.status < 300 or not self.transport.is_reliable
        while time.monotonic() < ends_s:
            try:
                await asyncio.wait_for(answered.acked.wait(), min(interval_s, ends_s - time.monotonic()))
            except TimeoutError:
                if repeats and time.monotonic() < ends_s:
                    self.wire.send(data, back)
                interval_s = min(2 * interval_s, T2_S)
            else:
                return
        self.lost_acks.append(answered.request.headers.get("Call-ID") or "")
        rule = "RFC 3261 13.2.2.4" if answered.status < 300 else "RFC 3261 17.1.1.3"
        self.notes.violate(rule, f"{answered.status} to INVITE was never acknowledged", time.monotonic())

    async def close(self) -> None:
        """Stop whatever goes on, and close the socket."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.wire.close()

    # --- private -----------------------------------------------------------------------------------------

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hear(self, message: Message, flow: Flow) -> None:
        if isinstance(message, Response):
            self._hear_response(message)
        else:
            self._hear_request(message, flow)

    def _hear_response(self, response: Response) -> None:
        now = time.monotonic()
        envelope = read_response(response)
        if isinstance(envelope, Dropped):
            self.notes.violate("RFC 3261 8.2.6.2", f"a response cannot be read: {envelope.reason}", now)
            return
        ask = self._asks.get((envelope.via.branch, envelope.cseq.method))
        if ask is None:
            self.notes.violate("RFC 3261 17.1.3", f"{response.status} answers no request of ours", now)
            return
        for rule, text in response_breaches(ask.request, response):
            self.notes.violate(rule, text, now)
        if ask.final is None:
            ask.responses.put_nowait(response)
            return
        self.retransmissions += 1
        if ask.ack and response.status >= 200:
            self.wire.send(ask.ack, ask.flow)

    def _hear_request(self, request: Request, flow: Flow) -> None:
        now = time.monotonic()
        for rule, text in request_breaches(request, flow, len(request.encode())):
            self.notes.violate(rule, text, now)
        envelope = read_request(request)
        if not isinstance(envelope, Envelope):
            return
        if request.method == "ACK":
            self._hear_ack(request, envelope, flow)
            return
        key = _key_of(request)
        known = self._answered.get(key)
        if known is not None:
            self._repeated(known, request, now)
            return
        self._answered[key] = _Answered(request, flow, now)
        invite = self._answered.get((key[0], "INVITE")) if request.method == "CANCEL" else None
        if invite is not None:
            for rule, text in cancel_breaches(request, invite.request):
                self.notes.violate(rule, text, now)
        self._on_request(request, envelope, flow)

    def _repeated(self, known: _Answered, request: Request, now: float) -> None:
        self.retransmissions += 1
        if known.request.headers.get("CSeq") != request.headers.get("CSeq"):
            self.notes.violate("RFC 3261 8.1.1.7", f"{request.method} reuses the branch of another request", now)
        if self.transport.is_reliable:
            self.notes.violate("RFC 3261 17.1.1.2", f"{request.method} is repeated over {self.transport.value}", now)
        elif now - known.seen_s < EARLY_S * self._t1_s / T1_S:
            self.notes.violate("RFC 3261 17.1.1.2", f"{request.method} is repeated before T1 was over", now)
        if known.response:
            self.wire.send(known.response, _way_back(known.request, known.flow))

    def _hear_ack(self, request: Request, envelope: Envelope, flow: Flow) -> None:
        for answered in self._answered.values():
            theirs = answered.request
            if theirs.method != "INVITE" or theirs.headers.get("Call-ID") != envelope.call_id:
                continue
            if (theirs.headers.get("CSeq") or "").partition(" ")[0].strip() != str(envelope.cseq.number):
                continue
            if answered.status >= 300 and _key_of(theirs)[0] != envelope.via.branch:
                continue
            if answered.status < 300 and _key_of(theirs)[0] == envelope.via.branch:
                self.notes.violate("RFC 3261 17.1.1.3", "ACK of a 2xx has the branch of its INVITE", time.monotonic())
            is_first = not answered.acked.is_set()
            answered.acked.set()
            if not is_first:
                self.retransmissions += 1
            elif answered.status < 300:
                self._on_request(request, envelope, flow)
            return
        self.notes.violate("RFC 3261 13.2.2.4", "ACK matches no INVITE", time.monotonic())


def _key_of(request: Request) -> tuple[str, str]:
    envelope = read_request(request)
    assert isinstance(envelope, Envelope)  # what cannot be read does not come here
    return envelope.via.branch, request.method


def _way_back(request: Request, flow: Flow) -> Flow:
    """Where responses go: the source, as ``rport`` and ``received`` say, or the connection."""
    envelope = read_request(request)
    if flow.transport.is_reliable or not isinstance(envelope, Envelope):
        return flow
    via: Via = envelope.via
    port = via.rport or via.port or flow.transport.default_port
    return Flow(flow.transport, via.received or via.host.strip("[]"), port)
