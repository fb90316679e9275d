"""An incoming call up to its answer: the server side of an INVITE, and its 2xx until the ACK.

Theory of operation. OPEN: the INVITE waits for our final response; provisional ones may go, reliable ones if the peer
requires them. A rejection, a CANCEL or a BYE closes it, and the call is over. Our 200 closes it too; then ``Answer``
repeats it until the ACK. A call that is hung up meanwhile sends its BYE after the ACK only (RFC 3261 section 15).

Sources: RFC 3261 sections 13.3.1 (INVITE), 9.2 (CANCEL) and 15.1.2 (BYE), RFC 3262 section 3 (100rel), RFC 3264.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.errors import LocalError
from bridge.sip.bodies import find_sdp
from bridge.sip.call_answers import Answer
from bridge.sip.call_offers import accept_answer, answer_offer
from bridge.sip.call_reliable import ReliableRings
from bridge.sip.dialog import Dialog
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.flow import Flow
from bridge.sip.message import REASONS, Request, make_response
from bridge.sip.offer_answer import AudioSession
from bridge.sip.option_tags import requires
from bridge.sip.outline import Fields
from bridge.sip.timers import NEVER
from bridge.sip.ua_events import CallAnswered, CallConfirmed, SipEnd
from bridge.sip.values import parse_seconds

if TYPE_CHECKING:
    from bridge.sip.call import SipCall

WITH_ANSWER = 183
"""The provisional status that our description goes along with."""

_TRYING = 100
_NOT_NOW = 480
_CANCELLED = 487
_NO_PRACK = 504
_NO_ACK = 408


class IncomingSetup:
    """The server side of the INVITE of one call. See ``call.Setup``."""

    def __init__(
        self, call: SipCall, dialog: Dialog, key: str, request: Request, envelope: Envelope, flow: Flow, now: float
    ) -> None:
        core = call.core
        self._call = call
        self._dialog = dialog
        self._key = key
        self._request = request
        self._flow = flow
        self._cseq = envelope.cseq.number
        self._offer = find_sdp(request, envelope)
        self._answer = b""  # our answer to the offer
        self._is_open = True
        self._awaits_answer = False  # in the ACK: the 200 had an offer of ours
        self._has_described = False  # an answer or offer of ours was taken note of by the peer
        self._last_ring = 0
        self._wants_answer = False  # as soon as a PRACK comes
        self._goodbye: Fields | None = None  # of the BYE that waits for the ACK
        self._rings = (
            ReliableRings(call, key, self._cseq, on_no_prack=self._no_prack)
            if requires(request.headers, "100rel")
            else None
        )
        self._waiting_rings: list[int] = []
        self._limit = core.set_alarm(now + core.options.max_setup_s, self._set_up_too_long)
        self._expiry = core.set_alarm(now + _expires_s(request), self._expired)
        self._again = core.set_alarm(NEVER, self._ring_again)
        call.dialog = dialog
        call.add_dialog(dialog)
        core.invites[key] = self

    # Commands

    def use_media(self, session: AudioSession, now: float) -> None:
        """See ``SipCall``."""
        if self._dialog.session is not None:
            raise LocalError("the call has its media already")
        if self._offer is not None:
            answer = answer_offer(session, self._offer)
            if isinstance(answer, Rejection):
                self._refuse(answer, SipEnd.NOT_ACCEPTABLE, now)
                return
            self._answer = answer
        self._dialog.session = session

    def trying(self, now: float) -> None:
        """See ``SipCall``."""
        if self._is_open and not self._last_ring:
            self._call.core.layer.respond(self._key, make_response(self._request, _TRYING), now)

    def ring(self, now: float, status: int) -> None:
        """See ``SipCall``."""
        if not 180 <= status <= 199:
            raise LocalError(f"{status} is no status to ring with")
        if not self._is_open or self._wants_answer:
            return
        self._last_ring = status
        self._again.call_off()
        self._again = self._call.core.set_alarm(now + self._call.core.options.ring_again_s, self._ring_again)
        if self._rings is not None and self._rings.is_pending:
            self._waiting_rings = [status]  # the last one counts
        else:
            self._send_ring(status, now)

    def answer(self, now: float) -> None:
        """See ``SipCall``."""
        if self._dialog.session is None:
            raise LocalError("a call cannot be answered without media")
        if not self._is_open:
            return
        if self._rings is not None and self._rings.is_pending:
            self._wants_answer = True
            return
        body = self._description()
        call, core = self._call, self._call.core
        fields = (
            core.identity.contact(self._flow.transport, self._dialog.is_secure),
            core.identity.abilities.allow,
            core.identity.abilities.supported,
            *call.timer.answer(self._request, now),
        )
        response = core.identity.respond(self._request, 200, self._dialog.local.tag, fields=fields, body=body)
        self._close()
        call.is_answered = True
        core.layer.respond(self._key, response, now)
        answer = Answer(call, response, self._flow, on_ack=self._acknowledged, on_no_ack=self._no_ack, now=now)
        call.begin_answer(self._cseq, answer)
        self._awaits_answer = self._dialog.session.has_offered
        if not self._awaits_answer:
            self._settle()

    def reject(self, status: int, now: float, reason: str, fields: Fields) -> None:
        """See ``SipCall``."""
        if not 300 <= status <= 699:
            raise LocalError(f"{status} is no status to reject with")
        if not self._is_open:
            raise LocalError("a call that is answered cannot be rejected")
        self._refuse(Rejection(status, reason or REASONS.get(status, "Rejected"), fields), SipEnd.REJECTED, now)

    def hang_up(self, now: float, fields: Fields) -> None:
        """See ``SipCall``."""
        if self._is_open:
            self._refuse(Rejection(_NOT_NOW, REASONS[_NOT_NOW], fields), SipEnd.REJECTED, now)
            return
        if self._cseq in self._call.answers:
            self._goodbye = fields
        else:
            self._call.say_goodbye(self._dialog, now, fields)
        self._call.end(SipEnd.LOCAL, 0, "", by_peer=False)

    # From the peer

    def invite_is_open(self) -> bool:
        """See ``call.Setup``."""
        return self._is_open

    def cancelled(self, reason: str, now: float) -> None:
        """A CANCEL has come before our final response, and was answered; or the INVITE has expired."""
        self._refuse(Rejection(_CANCELLED, REASONS[_CANCELLED]), SipEnd.CANCELLED, now, reason=reason)

    def peer_hung_up(self, dialog: Dialog, now: float, reason: str) -> None:
        """See ``call.Setup``."""
        if self._is_open:
            self._refuse(Rejection(_CANCELLED, REASONS[_CANCELLED]), SipEnd.CANCELLED, now, reason=reason)
            return
        self._goodbye = None
        self._call.end(SipEnd.BYE, 0, reason, by_peer=True)
        self._call.drop_answers()

    def receive_prack(self, key: str, request: Request, envelope: Envelope, dialog: Dialog, now: float) -> None:
        """See ``call.Setup``."""
        core, tag = self._call.core, dialog.local.tag
        had_description = self._rings is not None and self._rings.has_description
        if self._rings is None or not self._rings.acknowledge(request):
            core.layer.respond(key, core.identity.respond(request, 481, tag), now)
            return
        body = self._described(had_description, find_sdp(request, envelope))
        if isinstance(body, Rejection):
            core.layer.respond(key, core.identity.reject(request, body, tag), now)
            if not self._dialog.is_settled:  # it was the answer to our offer
                self._refuse(body, SipEnd.NOT_ACCEPTABLE, now)
                return
        else:
            core.layer.respond(key, core.identity.respond(request, 200, tag, body=body), now)
        if self._wants_answer:
            self.answer(now)
        elif self._waiting_rings:
            self._send_ring(self._waiting_rings.pop(), now)

    def _described(self, had_description: bool, body: bytes | None) -> bytes | Rejection:
        """What a description in a PRACK comes to: it answers our offer, or is a new offer (RFC 3262 section 5)."""
        session = self._dialog.session
        if session is None:
            return b""
        if session.has_offered:
            if body is None or accept_answer(session, body) is None:
                return Rejection(488, REASONS[488])
            self._has_described = self._dialog.is_settled = True
            return b""
        if had_description:
            self._has_described = self._dialog.is_settled = True
        if body is None or not self._dialog.is_settled:
            return b""
        before = session.agreement
        answer = answer_offer(session, body)
        self._call.media_changed(before)
        return answer

    # Inside

    def _send_ring(self, status: int, now: float) -> None:
        call, core, session = self._call, self._call.core, self._dialog.session
        body = b""
        # A first reliable response to an INVITE without offer has to carry ours (RFC 3262 section 5).
        must_offer = self._rings is not None and self._offer is None
        if session is not None and not self._has_described and (status == WITH_ANSWER or must_offer):
            body = self._description() if self._offer is not None or must_offer else b""
        fields = (
            core.identity.contact(self._flow.transport, self._dialog.is_secure),
            core.identity.abilities.allow,
        )
        response = core.identity.respond(self._request, status, self._dialog.local.tag, fields=fields, body=body)
        if self._rings is not None:
            self._rings.send(response, now)
        else:
            call.core.layer.respond(self._key, response, now)

    def _description(self) -> bytes:
        """Our answer, or our offer where the INVITE had none; nothing once the peer has it for sure."""
        session = self._dialog.session
        assert session is not None  # checked by the callers
        if self._has_described:
            return b""
        return session.offer().encode() if self._offer is None else self._answer

    def _settle(self) -> None:
        session = self._dialog.session
        assert session is not None and session.agreement is not None
        self._dialog.is_settled = True
        self._call.core.emit(CallAnswered(self._call, session.agreement))

    def _acknowledged(self, request: Request, envelope: Envelope, now: float) -> None:
        call, session = self._call, self._dialog.session
        assert session is not None  # there was an answer
        if self._goodbye is not None:
            call.say_goodbye(self._dialog, now, self._goodbye)
            return
        if self._awaits_answer:
            body = find_sdp(request, envelope)
            if body is None or accept_answer(session, body) is None:
                call.hang_up_for(SipEnd.NOT_ACCEPTABLE, 0, "No usable answer in ACK", now)
                return
            self._settle()
        call.core.emit(CallConfirmed(call))

    def _no_ack(self, now: float) -> None:
        call = self._call
        call.answers.pop(self._cseq, None)
        if self._goodbye is not None:
            call.say_goodbye(self._dialog, now, self._goodbye)
        else:
            call.hang_up_for(SipEnd.NO_ACK, _NO_ACK, "No ACK", now)

    def _no_prack(self, now: float) -> None:
        self._refuse(Rejection(_NO_PRACK, REASONS[_NO_PRACK]), SipEnd.TIMEOUT, now)

    def _set_up_too_long(self, now: float) -> None:
        self._refuse(Rejection(_NOT_NOW, REASONS[_NOT_NOW]), SipEnd.TIMEOUT, now)

    def _expired(self, now: float) -> None:
        """The caller said for how long it asks (RFC 3261 section 13.3.1)."""
        self.cancelled("", now)

    def _ring_again(self, now: float) -> None:
        self.ring(now, self._last_ring)

    def _refuse(self, rejection: Rejection, how: SipEnd, now: float, *, reason: str = "") -> None:
        call, core = self._call, self._call.core
        core.layer.respond(self._key, core.identity.reject(self._request, rejection, self._dialog.local.tag), now)
        self._close()
        by_peer = how is SipEnd.CANCELLED
        call.end(how, rejection.status, reason or rejection.reason, by_peer=by_peer)

    def _close(self) -> None:
        self._is_open = False
        self._limit.call_off()
        self._expiry.call_off()
        self._again.call_off()
        if self._rings is not None:
            self._rings.stop()
        self._call.core.invites.pop(self._key, None)


def _expires_s(invite: Request) -> float:
    """How long an INVITE is good for, in seconds."""
    try:
        return parse_seconds(invite.headers.get("Expires") or "")
    except HeaderError:
        return NEVER
