"""An outgoing call up to its answer: our INVITE with all that it takes, CANCEL, and 2xx that come late.

Theory of operation. TRYING: an INVITE is open. It is sent again, as the response wants it: with credentials (401,
407), to a Contact (3xx), with a longer interval (422); or on another way, as long as no phone has rung (503, nobody
there). A 2xx makes it ANSWERED; whatever else is final ends the call. CANCELLING: we have given up, and the call is
over for the server; a 2xx that crosses the CANCEL still gets its ACK and a BYE, and so does every 2xx of another phone
for 64 * T1 after the first final response. Credentials are the trunk's: they go to no host but those of the order.

Sources: RFC 3261 sections 8.1.3 (responses), 9.1 (CANCEL), 13.2 (INVITE), 22 (digest), RFC 3263 section 4.3
(failover), RFC 3325 (P-Asserted-Identity), RFC 4028 section 7.3 (422).
"""

from __future__ import annotations

import enum

from bridge.auth.sip_digest_client import ChallengeKind, DigestClient
from bridge.errors import LocalError
from bridge.sip.call import SipCall
from bridge.sip.call_forks import Fork, Forks
from bridge.sip.call_redirects import Redirects
from bridge.sip.dialog import Dialog
from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow
from bridge.sip.ids import FIRST_CSEQ
from bridge.sip.message import REASONS, Request, Response
from bridge.sip.offer_answer import AudioSession
from bridge.sip.outline import INVITE_SUPPORTED, SDP_TYPE, Fields, Outline
from bridge.sip.timers import NEVER
from bridge.sip.ua_core import AgentCore, Alarm
from bridge.sip.ua_events import CallAnswered, CallRinging, EarlyMedia, SipEnd
from bridge.sip.ua_options import CallOrder
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.values import Address

_CANCELLED = 487
_NOBODY = 408
_RETRY_ELSEWHERE = 503
_NOWHERE = 600
"""From here on a response speaks for the callee wherever he is (RFC 3261 section 21.6)."""


class _State(enum.Enum):
    TRYING = "trying"
    ANSWERED = "answered"
    CANCELLING = "cancelling"
    DONE = "done"


class OutgoingSetup:
    """The client side of the INVITE of one call. See ``call.Setup`` and ``ua_core.ResponseUser``."""

    def __init__(self, core: AgentCore, order: CallOrder) -> None:
        """Raises ``LocalError``, see ``CallOrder``."""
        uri = parse_uri(order.request_uri)
        assert isinstance(uri, SipUri)  # the order has checked it
        self._core = core
        self._order = order
        self._uri = uri
        self._redirects = Redirects(order, uri)
        self._state = _State.TRYING
        self._cseq = FIRST_CSEQ
        self._challenges = 0
        self._has_rung = False  # any response beyond 100: nobody else is to be rung then
        self._is_lingering = False
        self._key = ""
        self._flow = order.flows[0]
        self._ways: list[Flow] = []
        self._body = order.session.offer().encode()
        self.call = SipCall(
            core,
            is_outbound=True,
            trunk=order.trunk,
            request=Request("INVITE", order.request_uri),
            from_=Address(parse_uri(order.from_uri), order.from_display).tagged(core.new_id()),
            to=Address(parse_uri(order.to_uri)),
            call_id=core.new_id(),
            peer=self._flow,
            digest=None if order.credentials is None else DigestClient(order.credentials),
        )
        self.call.setup = self
        self.call.offered_session = order.session
        self._forks = Forks(self.call, order.session)
        self._limit = Alarm(NEVER, self._rang_too_long)

    def start(self, now: float) -> None:
        """Send the INVITE."""
        call = self.call
        self._core.placed[call.call_id, call.from_.tag] = self
        call.hold(self)
        self._limit = self._core.set_alarm(now + self._order.ring_timeout_s, self._rang_too_long)
        self._send(self._order.flows, now)

    # Commands

    def use_media(self, session: AudioSession, now: float) -> None:
        """See ``SipCall``."""
        raise LocalError("an outgoing call has its media from its order")

    def trying(self, now: float) -> None:
        """See ``SipCall``."""
        raise LocalError("an outgoing call is not ours to try")

    def ring(self, now: float, status: int) -> None:
        """See ``SipCall``."""
        raise LocalError("an outgoing call is not ours to ring")

    def answer(self, now: float) -> None:
        """See ``SipCall``."""
        raise LocalError("an outgoing call is not ours to answer")

    def reject(self, status: int, now: float, reason: str, fields: Fields) -> None:
        """See ``SipCall``."""
        raise LocalError("an outgoing call is not ours to reject")

    def hang_up(self, now: float, fields: Fields) -> None:
        """See ``SipCall``."""
        if self._state is _State.TRYING:
            self._give_up(SipEnd.LOCAL, now, fields)
        else:
            assert self.call.dialog is not None  # answered: a call that is over gets no commands
            self.call.say_goodbye(self.call.dialog, now, fields)
            self.call.end(SipEnd.LOCAL, 0, "", by_peer=False)

    # From the peer, within a dialog

    def invite_is_open(self) -> bool:
        """See ``call.Setup``."""
        return self._state is _State.TRYING

    @property
    def may_be_answered(self) -> bool:
        """Whether 2xx that begin dialogs are to be reckoned with."""
        return self._state is not _State.DONE

    def peer_hung_up(self, dialog: Dialog, now: float, reason: str) -> None:
        """See ``call.Setup``."""
        if dialog is self.call.dialog:
            self.call.end(SipEnd.BYE, 0, reason, by_peer=True)
            self.call.drop_answers()
        elif self._state is _State.TRYING:  # a callee must not, and means it all the same
            self._give_up(SipEnd.BYE, now, reason=reason, by_peer=True)

    def receive_prack(self, key: str, request: Request, envelope: Envelope, dialog: Dialog, now: float) -> None:
        """See ``call.Setup``: nothing of ours in an outgoing call wants one."""
        response = self._core.identity.respond(request, 481, dialog.local.tag)
        self._core.layer.respond(key, response, now)

    # Responses

    def on_response(self, response: Response, envelope: Envelope, flow: Flow, now: float) -> None:
        """See ``ResponseUser``."""
        if response.status < 200:
            if self._state is _State.TRYING:
                self._provisional(response, envelope, now)
        elif response.status < 300:
            self._success(response, envelope, now)
        elif envelope.cseq.number == self._cseq and self._state in (_State.TRYING, _State.CANCELLING):
            self._failure(response, envelope, now)

    def on_no_response(self, *, is_timeout: bool, now: float) -> None:
        """See ``ResponseUser``."""
        if self._state is _State.CANCELLING:
            self._finish()
        elif self._state is _State.TRYING and not self._try_next(now) and not self._try_elsewhere(now):
            if is_timeout:
                self._fail(SipEnd.TIMEOUT, _NOBODY, REASONS[_NOBODY], now)
            else:
                self._fail(SipEnd.TRANSPORT, 0, "The request could not be sent", now)

    def _provisional(self, response: Response, envelope: Envelope, now: float) -> None:
        if response.status == 100:
            return
        self._has_rung = True
        fork = self._forks.find(response, envelope, self._uri, self._cseq)
        agreement = None if fork is None else self._forks.hear(fork, response, envelope, now)
        if agreement is not None:
            self._core.emit(EarlyMedia(self.call, agreement, response.status))
        elif response.status >= 180:
            self._core.emit(CallRinging(self.call, response.status))

    def _success(self, response: Response, envelope: Envelope, now: float) -> None:
        fork = self._forks.find(response, envelope, self._uri, self._cseq)
        if fork is None or not self._forks.acknowledge(fork, self.call.request, envelope.cseq.number, now):
            return
        if self._state is not _State.TRYING:
            self.call.say_goodbye(fork.dialog, now)
            self._linger(now)
            return
        self._core.layer.cancel(self._key, now)  # another attempt than the one that was answered, if there is one
        self._state = _State.ANSWERED
        self._answered(fork, response, envelope, now)
        self._linger(now)

    def _answered(self, fork: Fork, response: Response, envelope: Envelope, now: float) -> None:
        call = self.call
        self._limit.call_off()
        call.dialog, call.is_answered, call.headers = fork.dialog, True, response.headers
        call.to = envelope.to
        agreement = self._forks.agree(fork, response, envelope)
        if agreement is None:
            call.hang_up_for(SipEnd.NOT_ACCEPTABLE, 0, "No usable answer", now)
            return
        call.timer.answered(response, now)
        self._core.emit(CallAnswered(call, agreement))

    def _failure(self, response: Response, envelope: Envelope, now: float) -> None:
        if self._state is _State.CANCELLING:
            self._close(now)
            return
        if response.status == _RETRY_ELSEWHERE and not self._has_rung and self._try_next(now):
            return
        if self._is_challenge(response) or (response.status == 422 and self.call.timer.was_too_small(response)):
            self._send_again((self._flow, *self._ways), now)
            return
        self._redirects.note(response, envelope)
        if response.status >= _NOWHERE or not self._try_elsewhere(now):
            self._fail(SipEnd.FAILED, response.status, response.reason, now, by_peer=True)

    # Sending

    def _send_again(self, flows: tuple[Flow, ...], now: float) -> None:
        self._cseq += 1
        self._forks.drop()
        self._send(flows, now)

    def _try_elsewhere(self, now: float) -> bool:
        uri = self._redirects.next()
        if uri is not None:
            self._redirect(uri, now)
        return uri is not None

    def _redirect(self, uri: SipUri, now: float) -> None:
        self._uri = uri
        self._key = ""
        self._has_rung = False
        account = self._order.credentials
        if not self._redirects.is_of_order(uri):
            self.call.digest = None  # a host of the callee's choice could guess the password at its leisure
        elif self.call.digest is None and account is not None:
            self.call.digest = DigestClient(account)
        flows = self._redirects.flows(uri)
        if flows:
            self._send_again(flows, now)
            return

        def found(flows: tuple[Flow, ...], at: float) -> None:
            if self._state is _State.TRYING:
                self._send_again(flows, at)

        self._core.look_up(self.call, uri, found, now)

    def _send(self, flows: tuple[Flow, ...], now: float) -> None:
        self._outline = self._outlined()
        self._ways = self._core.identity.ways(self._outline, flows)
        if not self._try_next(now) and not self._try_elsewhere(now):
            self._fail(SipEnd.TRANSPORT, 0, "No way to the callee", now)

    def _try_next(self, now: float) -> bool:
        if not self._ways:
            return False
        self._flow = self.call.peer = self._ways.pop(0)
        self._key, self.call.request = self._core.request(self._outline, self._flow, self, now)
        return True

    def _outlined(self) -> Outline:
        call, order, core = self.call, self._order, self._core
        uri = str(self._uri)
        credentials: Fields = ()
        if call.digest is not None:
            credentials = call.digest.fields("INVITE", uri, core.new_id(), self._body)
        asserted = (("P-Asserted-Identity", f"<{order.from_uri}>"),) if order.asserted_identity else ()
        fields = (
            ("From", str(call.from_)),
            ("To", str(call.to)),
            ("Call-ID", call.call_id),
            ("CSeq", f"{self._cseq} INVITE"),
        )
        more = (core.identity.abilities.allow, INVITE_SUPPORTED, *call.timer.request_fields(), *asserted)
        return Outline(
            "INVITE",
            uri,
            fields,
            (*more, *order.headers, *credentials),
            self._body,
            SDP_TYPE,
            is_secure=self._uri.scheme == "sips",
            may_grow=not order.is_transport_fixed,
        )

    def _is_challenge(self, response: Response) -> bool:
        digest = self.call.digest
        if digest is None or response.status not in (401, 407):
            return False
        kind = ChallengeKind(response.status)
        values = response.headers.all(kind.challenge_header)
        is_worth_it = digest.challenged(kind, values, self._challenges)
        self._challenges += 1
        return is_worth_it

    # The end

    def _rang_too_long(self, now: float) -> None:
        self._give_up(SipEnd.NO_ANSWER, now)

    def _give_up(
        self, how: SipEnd, now: float, fields: Fields = (), *, reason: str = "", by_peer: bool = False
    ) -> None:
        self._state = _State.CANCELLING
        self._ways.clear()
        self._limit.call_off()
        if self._key:
            self._core.layer.cancel(self._key, now, fields)
        self.call.end(how, _CANCELLED, reason or REASONS[_CANCELLED], by_peer=by_peer)
        if not self._key:
            self._finish()

    def _fail(self, how: SipEnd, status: int, reason: str, now: float, *, by_peer: bool = False) -> None:
        self._limit.call_off()
        self.call.end(how, status, reason, by_peer=by_peer)
        self._close(now)

    def _close(self, now: float) -> None:
        """No more is wanted; a 2xx may come all the same: a proxy may give up on one phone while another answers."""
        self._state = _State.DONE
        self._forks.drop()
        self._linger(now)

    def _linger(self, now: float) -> None:
        """Take 2xx of other phones, and repeats, for as long as they can come (RFC 3261 section 13.2.2.4)."""
        if not self._is_lingering:
            self._is_lingering = True
            self._core.set_alarm(now + self._core.options.timers.give_up_s, lambda _: self._finish())

    def _finish(self) -> None:
        self._core.placed.pop((self.call.call_id, self.call.from_.tag), None)
        self._forks.drop(but=self.call.dialog)
        self.call.release(self)
        if self._state is not _State.ANSWERED:
            self._state = _State.DONE
