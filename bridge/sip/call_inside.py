"""What a peer asks within a dialog: re-INVITE, UPDATE, INFO, BYE, OPTIONS, NOTIFY, PRACK; and what it must not.

Theory of operation. Everything is answered at once, so no request of the peer is ever open but the first INVITE and
2xx that wait for their ACK. One offer is open at a time: a second one is refused with 491 (ours is open) or 500 (the
peer's own is). A refused offer changes nothing.

Sources: RFC 3261 sections 12.2.2 (order), 14.2 (re-INVITE), 15.1.2 (BYE); RFC 3311 section 5.2 (UPDATE); RFC 6086
section 3 (INFO, 469); RFC 3515 and 6665 (NOTIFY; 489); RFC 4028 section 9.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.errors import RemoteError
from bridge.sip.abilities import find_objection
from bridge.sip.bodies import find_sdp
from bridge.sip.call_answers import Answer
from bridge.sip.call_offers import GLARE, accept_answer, answer_offer, busy_rejection
from bridge.sip.dialog import Dialog
from bridge.sip.dtmf_info import PLAIN, RELAY, parse_info
from bridge.sip.envelope import Envelope
from bridge.sip.errors import Rejection
from bridge.sip.flow import Flow
from bridge.sip.ids import new_fraction
from bridge.sip.message import Request
from bridge.sip.outline import Fields
from bridge.sip.ua_events import InfoDigit, SipEnd

if TYPE_CHECKING:
    from bridge.sip.call import SipCall

MAX_RETRY_AFTER_S = 10
"""RFC 3261 section 14.2: a random number of seconds from 0 to this."""

INFO_TYPES = frozenset(
    {"application/media_control+xml", "application/broadsoft", "application/vnd.nortelnetworks.digits"}
)
"""Bodies of INFO that mean nothing to a call of audio (a new video picture, a flash) and are fine."""

_WITH_DESCRIPTION = frozenset({"INVITE", "UPDATE", "PRACK"})
_NO_INFO_PACKAGE = Rejection(469, "Bad Info Package", (("Recv-Info", ""),))
_BAD_INFO = Rejection(400, "Malformed INFO")
_OUT_OF_ORDER = Rejection(500, "CSeq Out of Order")
_UNKNOWN_EVENT = Rejection(489, "Bad Event", (("Allow-Events", "refer"),))
_NO_SUBSCRIPTION = Rejection(481, "Subscription Does Not Exist")
_DECLINE = Rejection(603, "Decline")
_GONE = Rejection(481, "Call/Transaction Does Not Exist")


class InsideRequests:
    """Takes the requests within the dialogs of one call."""

    def __init__(self, call: SipCall) -> None:
        self._call = call

    def receive(self, dialog: Dialog, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> None:
        """Take a request other than ACK and CANCEL."""
        if not dialog.is_in_order(envelope.cseq.number):
            self._reject(key, request, dialog, _OUT_OF_ORDER, now)
            return
        objection = self._objection(request, envelope)
        if objection is not None:
            self._reject(key, request, dialog, objection, now)
            return
        # A connection that the peer opened has no name; new ones of ours need that of the INVITE's.
        self._call.peer = replace(flow, server_name=flow.server_name or self._call.peer.server_name)
        match request.method:
            case "INVITE":
                self._invite(dialog, key, request, envelope, flow, now)
            case "UPDATE":
                self._update(dialog, key, request, envelope, flow, now)
            case "BYE":
                self._respond(key, request, dialog, now)
                self._call.setup.peer_hung_up(dialog, now, request.headers.get("Reason") or "")
            case "INFO":
                self._info(dialog, key, request, envelope, now)
            case "PRACK":
                self._call.setup.receive_prack(key, request, envelope, dialog, now)
            case "NOTIFY":
                self._notify(dialog, key, request, now)
            case _:  # OPTIONS, the only method left that is allowed
                abilities = self._call.core.identity.abilities
                fields = (abilities.allow, abilities.accept, abilities.supported)
                self._respond(key, request, dialog, now, fields)

    def _objection(self, request: Request, envelope: Envelope) -> Rejection | None:
        if request.method == "REFER":
            return _DECLINE
        # What else may have a body reads it itself, or leaves it (a BYE with ISUP).
        plain = request if request.method in _WITH_DESCRIPTION else replace(request, body=b"")
        return find_objection(plain, envelope, self._call.core.identity.abilities)

    def _invite(self, dialog: Dialog, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> None:
        call, core = self._call, self._call.core
        session = dialog.session
        rejection = self._busy(dialog) or call.timer.judge(request)
        if rejection is not None or session is None:
            self._reject(key, request, dialog, rejection or GLARE, now)
            return
        before = session.agreement
        offer = find_sdp(request, envelope)
        body = session.offer().encode() if offer is None else answer_offer(session, offer)
        if isinstance(body, Rejection):
            self._reject(key, request, dialog, body, now)
            return
        dialog.refresh_target(envelope.contact)
        abilities = core.identity.abilities
        fields = (
            core.identity.contact(flow.transport, dialog.is_secure),
            abilities.allow,
            abilities.supported,
            *call.timer.answer(request, now),
        )
        response = core.identity.respond(request, 200, dialog.local.tag, fields=fields, body=body)
        core.layer.respond(key, response, now)

        def acknowledged(ack: Request, ack_envelope: Envelope, at: float) -> None:
            if offer is None and not call.is_over:
                self._take_answer(dialog, find_sdp(ack, ack_envelope), at)

        def missed(at: float) -> None:
            call.answers.pop(envelope.cseq.number, None)
            call.hang_up_for(SipEnd.NO_ACK, 408, "No ACK", at)

        answer = Answer(call, response, flow, on_ack=acknowledged, on_no_ack=missed, now=now)
        call.begin_answer(envelope.cseq.number, answer)
        call.media_changed(before)

    def _take_answer(self, dialog: Dialog, body: bytes | None, now: float) -> None:
        """The ACK of a re-INVITE that left the offer to us."""
        session = dialog.session
        assert session is not None  # there was an offer of ours
        before = session.agreement
        if body is None:
            session.withdraw()  # forgotten, as some do that only meant to refresh the dialog
        elif accept_answer(session, body) is None:
            self._call.hang_up_for(SipEnd.NOT_ACCEPTABLE, 0, "No usable answer in ACK", now)
        else:
            self._call.media_changed(before)

    def _update(self, dialog: Dialog, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> None:
        call, core = self._call, self._call.core
        session, offer = dialog.session, find_sdp(request, envelope)
        rejection = (self._early(dialog) if offer is not None else None) or call.timer.judge(request)
        if rejection is not None:
            self._reject(key, request, dialog, rejection, now)
            return
        body: bytes | Rejection = b""
        before = None if session is None else session.agreement
        if offer is not None and session is not None:
            body = answer_offer(session, offer)
        if isinstance(body, Rejection):
            self._reject(key, request, dialog, body, now)
            return
        dialog.refresh_target(envelope.contact)
        fields = (
            core.identity.contact(flow.transport, dialog.is_secure),
            core.identity.abilities.supported,
            # An early dialog has no session timer: that begins with the 2xx to the INVITE.
            *(call.timer.answer(request, now) if call.is_answered and dialog is call.dialog else ()),
        )
        self._respond(key, request, dialog, now, fields, body)
        if dialog is call.dialog:
            call.media_changed(before)

    def _busy(self, dialog: Dialog) -> Rejection | None:
        """What speaks against a re-INVITE now."""
        if self._call.is_over or (self._call.is_answered and dialog is not self._call.dialog):
            return _GONE  # another phone than the one that answered
        if self._call.setup.invite_is_open() or not self._call.is_answered:
            return GLARE if self._call.is_outbound else self._busy_rejection()
        if self._call.timer.reoffer.is_open or (dialog.session is not None and dialog.session.has_offered):
            return GLARE
        return None

    def _early(self, dialog: Dialog) -> Rejection | None:
        """What speaks against an offer in an UPDATE now (RFC 3311 section 5.2)."""
        if self._call.is_over:
            return _GONE
        if self._call.timer.reoffer.is_open or (dialog.session is not None and dialog.session.has_offered):
            return GLARE
        if not dialog.is_settled:
            return GLARE if self._call.is_outbound else self._busy_rejection()
        return None

    def _busy_rejection(self) -> Rejection:
        return busy_rejection(int(new_fraction(self._call.core.new_id) * (MAX_RETRY_AFTER_S + 1)))

    def _info(self, dialog: Dialog, key: str, request: Request, envelope: Envelope, now: float) -> None:
        if request.headers.get("Info-Package"):
            self._reject(key, request, dialog, _NO_INFO_PACKAGE, now)
            return
        kind = "" if envelope.content_type is None else envelope.content_type.essence
        if kind in (RELAY, PLAIN):
            try:
                digit = parse_info(kind, request.body)
            except RemoteError:
                self._reject(key, request, dialog, _BAD_INFO, now)
                return
            if digit is not None and not self._call.is_over:
                self._call.core.emit(InfoDigit(self._call, digit.key, digit.duration_ms))
        elif request.body and kind not in INFO_TYPES:
            accept = ("Accept", f"{RELAY}, {PLAIN}")
            self._reject(key, request, dialog, Rejection(415, "Unsupported Media Type", (accept,)), now)
            return
        self._respond(key, request, dialog, now)

    def _notify(self, dialog: Dialog, key: str, request: Request, now: float) -> None:
        event, _, params = (request.headers.get("Event") or "").partition(";")
        if event.strip().lower() != "refer":
            self._reject(key, request, dialog, _UNKNOWN_EVENT, now)
        elif not self._call.transfer.expects(params):
            self._reject(key, request, dialog, _NO_SUBSCRIPTION, now)
        else:
            self._respond(key, request, dialog, now)
            self._call.transfer.notified(request, now)

    def _respond(
        self, key: str, request: Request, dialog: Dialog, now: float, fields: Fields = (), body: bytes = b""
    ) -> None:
        core = self._call.core
        core.layer.respond(key, core.identity.respond(request, 200, dialog.local.tag, fields=fields, body=body), now)

    def _reject(self, key: str, request: Request, dialog: Dialog, rejection: Rejection, now: float) -> None:
        core = self._call.core
        core.layer.respond(key, core.identity.reject(request, rejection, dialog.local.tag), now)
