"""The SIP user agent of a bridge: calls in both directions over all transports, sans-I/O.

The way of a message: ``receive`` reads the envelope (and rejects what has none), the transaction layer absorbs repeats
and matches responses, requests within a dialog go to its call, others are judged by the gate once and begin a call, or
are answered on the spot. What comes of it are events for the server and messages for the transports.

The server's duty after each call of a method here, and after each command on a call: write ``drain()``, take
``drain_events()`` (methods that return events return the pending ones too), and ask ``next_timer()`` again.

What it is not: a registrar, a proxy, a presence agent. Sources: RFC 3261 sections 8.2 (order of checks), 11 (OPTIONS)
and 12.2.2 (481).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from bridge.sip.abilities import find_objection
from bridge.sip.call import SipCall
from bridge.sip.call_incoming import IncomingSetup
from bridge.sip.call_outgoing import OutgoingSetup
from bridge.sip.dialog import accept_dialog
from bridge.sip.envelope import Dropped, Envelope, read_request, read_response
from bridge.sip.errors import Rejection
from bridge.sip.flow import Flow, Outgoing, Transport
from bridge.sip.ids import NewId
from bridge.sip.message import REASONS, Request, Response, is_answerable
from bridge.sip.transactions import (
    Cancelled,
    Gone,
    NewRequest,
    NewResponse,
    SendFailed,
    TimedOut,
    TransactionEvent,
    TransactionLayer,
)
from bridge.sip.ua_core import AgentCore
from bridge.sip.ua_events import CallOffered, UaEvent
from bridge.sip.ua_options import Admit, AgentOptions, CallOrder, Deny, Drop, Gate

_GONE = Rejection(481, REASONS[481])
_DIALOG_METHODS = frozenset({"BYE", "INFO", "NOTIFY", "PRACK", "UPDATE"})
"""Methods that are allowed, and make sense within a dialog only."""


class UserAgent:
    """Takes messages, gives messages and events. Not thread-safe; every method returns at once and none raises for
    what a peer sends."""

    def __init__(self, options: AgentOptions, gate: Gate, new_id: NewId) -> None:
        """``new_id`` gives random letters and digits, at least 80 bits each time."""
        self._gate = gate
        self._core = AgentCore(options, new_id, TransactionLayer(options.timers, may_answer=gate.may_answer))
        self.draining = False
        """Whether new calls are refused (503) because this process is about to end."""
        self.full = False
        """Whether no more calls fit, as OPTIONS shall say; a call that is offered is for the server to refuse."""

    @property
    def calls(self) -> Mapping[str, SipCall]:
        """By ``SipCall.id``: those without ``CallOver`` so far."""
        return self._core.calls

    @property
    def open_dialogs(self) -> int:
        """Dialogs, those included whose last requests are under way; for metrics and tests."""
        return len(self._core.dialogs)

    @property
    def open_transactions(self) -> int:
        """Transactions of both roles."""
        return len(self._core.layer)

    def receive(self, message: Request | Response, flow: Flow, now: float) -> list[UaEvent]:
        """Take a message; a request is ``stamped`` already."""
        if self._core.identity.serves(flow.transport):
            if isinstance(message, Request):
                self._receive_request(message, flow, now)
            else:
                self._receive_response(message, flow, now)
        return self._core.take_events()

    def send_failed(self, key: str, now: float) -> list[UaEvent]:
        """The transport could not send what carried this ``Outgoing.key``."""
        self._take(self._core.layer.send_failed(key, now), now)
        return self._core.take_events()

    def targets_found(self, lookup_id: str, flows: tuple[Flow, ...], now: float) -> list[UaEvent]:
        """The answer to ``NeedTargets``: the ways there, best first; none = the name has no address."""
        self._core.targets_found(lookup_id, flows, now)
        return self._core.take_events()

    def place(self, order: CallOrder, now: float) -> SipCall:
        """Begin an outgoing call. Raises ``LocalError`` for URIs that are none."""
        setup = OutgoingSetup(self._core, order)
        self._core.calls[setup.call.id] = setup.call
        setup.start(now)
        return setup.call

    def serves(self, transport: Transport) -> bool:
        """Whether we can be reached over it, and so can call over it."""
        return self._core.identity.serves(transport)

    def next_timer(self) -> float:
        """When ``handle_timer`` is due; ``math.inf`` = not at all."""
        return min(self._core.layer.next_timer(), self._core.next_alarm())

    def handle_timer(self, now: float) -> list[UaEvent]:
        """Do what is due."""
        self._take(self._core.layer.handle_timer(now), now)
        self._core.run_alarms(now)
        return self._core.take_events()

    def drain(self) -> list[Outgoing]:
        """Messages to be sent, in order; each once."""
        return self._core.layer.drain()

    def drain_events(self) -> list[UaEvent]:
        """What commands on calls have led to, in order; each once."""
        return self._core.take_events()

    # Requests

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        envelope = read_request(request)
        if isinstance(envelope, Envelope):
            self._take(self._core.layer.receive_request(request, envelope, flow, now), now)
        elif is_answerable(request) and self._gate.may_answer(flow, now):
            self._core.layer.send(self._core.identity.reject(request, envelope, self._core.new_id()), flow)

    def _take(self, events: list[TransactionEvent], now: float) -> None:
        for event in events:
            match event:
                case NewRequest(key, request, envelope, flow):
                    self._new_request(key, request, envelope, flow, now)
                case NewResponse():
                    self._new_response(event, now)
                case Cancelled(key, cancel):
                    self._core.invites[key].cancelled(cancel.headers.get("Reason") or "", now)
                case TimedOut(key) | SendFailed(key):
                    user = self._core.clients.pop(key, None)
                    if user is not None:
                        user.on_no_response(is_timeout=isinstance(event, TimedOut), now=now)
                case Gone(key):
                    self._core.clients.pop(key, None)
                case _:
                    assert_never(event)

    def _new_request(self, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> None:
        if envelope.to.tag:
            found = self._core.dialogs.get((envelope.call_id, envelope.to.tag, envelope.from_.tag))
            if request.method == "ACK":
                if found is not None:
                    found[0].receive_ack(request, envelope, now)
            elif found is not None:
                call, dialog = found
                call.inside.receive(dialog, key, request, envelope, flow, now)
            elif self._overtakes_answer(envelope) or not self._gate.may_answer(flow, now):
                self._core.layer.forget(key)
            else:
                self._reject(key, request, _GONE, now)
        elif request.method != "ACK":
            self._judge(key, request, envelope, flow, now)

    def _overtakes_answer(self, envelope: Envelope) -> bool:
        """Whether a request of an unknown dialog may be one of a callee whose 2xx is lost or still on its way: 481
        would end that call, and a repeat finds the dialog (such races: RFC 5407)."""
        setup = self._core.placed.get((envelope.call_id, envelope.to.tag))
        return setup is not None and setup.may_be_answered

    def _judge(self, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> None:
        verdict = self._gate.judge(request, envelope, flow, now)
        if isinstance(verdict, Drop):
            self._core.layer.forget(key)
        elif isinstance(verdict, Deny):
            self._reject(key, request, verdict.rejection, now)
        else:
            self._begin(verdict, key, request, envelope, flow, now)

    def _begin(self, admission: Admit, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> None:
        core = self._core
        objection = find_objection(request, envelope, core.identity.abilities)
        if objection is None and request.method in _DIALOG_METHODS:
            objection = _GONE
        is_busy = self.draining or (self.full if request.method == "OPTIONS" else len(core.calls) >= self._max_calls)
        if objection is None and is_busy:
            objection = Rejection(503, REASONS[503], (("Retry-After", str(core.options.retry_after_s)),))
        if objection is not None:
            self._reject(key, request, objection, now)
        elif request.method == "OPTIONS":
            abilities = core.identity.abilities
            fields = (
                core.identity.contact(flow.transport, is_secure=False),
                abilities.allow,
                abilities.accept,
                abilities.supported,
            )
            core.layer.respond(key, core.identity.respond(request, 200, core.new_id(), fields=fields), now)
        else:
            self._offer(admission, key, request, envelope, flow, now)

    def _offer(self, admission: Admit, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> None:
        core = self._core
        dialog = accept_dialog(envelope, core.new_id())
        if isinstance(dialog, Rejection):
            self._reject(key, request, dialog, now)
            return
        call = SipCall(
            core,
            is_outbound=False,
            trunk=admission.trunk,
            request=request,
            from_=envelope.from_,
            to=envelope.to,
            call_id=envelope.call_id,
            peer=flow,
        )
        too_short = call.timer.judge(request)
        if too_short is not None:
            self._reject(key, request, too_short, now)
            return
        core.calls[call.id] = call
        call.setup = IncomingSetup(call, dialog, key, request, envelope, flow, now)
        core.emit(CallOffered(call))

    def _reject(self, key: str, request: Request, rejection: Rejection, now: float) -> None:
        core = self._core
        core.layer.respond(key, core.identity.reject(request, rejection, core.new_id()), now)

    @property
    def _max_calls(self) -> int:
        return self._core.options.max_calls

    # Responses

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        envelope = read_response(response)
        if not isinstance(envelope, Dropped):
            self._take(self._core.layer.receive_response(response, envelope, flow, now), now)

    def _new_response(self, event: NewResponse, now: float) -> None:
        envelope = event.envelope
        user = self._core.clients.get(event.key)
        if user is None:
            user = self._core.placed.get((envelope.call_id, envelope.from_.tag))
        if user is not None:
            user.on_response(event.response, envelope, event.flow, now)
