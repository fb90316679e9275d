"""One call: an INVITE with its dialog or dialogs, from the first message to the last, in either direction.

Theory of operation. The set-up of a call is a machine of its own for each direction (``call_incoming``,
``call_outgoing``); what happens within a dialog is the same for both (``call_inside`` for the peer's requests,
``call_sender`` for ours). Each thing that is still under way (a BYE without response, a 2xx without ACK) holds the
call: once it is over for the server (``CallOver``) and nothing holds it any more, the user agent forgets it.

What it is not: media. Sources: RFC 3261 sections 12 to 15, RFC 3515 (REFER), RFC 6086 (INFO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bridge.auth.sip_digest_client import DigestClient, SipAccount
from bridge.errors import LocalError
from bridge.sip.call_answers import Answer
from bridge.sip.call_inside import InsideRequests
from bridge.sip.call_sender import Exchange
from bridge.sip.call_timer import SessionTimer
from bridge.sip.call_transfer import Transfer
from bridge.sip.dialog import Dialog, DialogId
from bridge.sip.envelope import Envelope
from bridge.sip.flow import Flow
from bridge.sip.grammar import readable
from bridge.sip.headers import Headers
from bridge.sip.hops import known_flows
from bridge.sip.message import REASONS, Request, Response
from bridge.sip.offer_answer import Agreement, AudioSession
from bridge.sip.outline import Fields
from bridge.sip.sdp import Direction
from bridge.sip.ua_core import AgentCore, FoundFlows
from bridge.sip.ua_events import MAX_REASON_CHARS, CallOver, InfoAnswered, MediaChanged, SipEnd
from bridge.sip.values import Address

if TYPE_CHECKING:
    from bridge.sip.trunks import Trunk

PEER_GONE = 408
"""Status where nobody answered us."""


MAX_HOPS = 8
"""Names whose ways one call remembers; a peer that moves more often has them looked up again."""


class Setup(Protocol):
    """The way of a call to its answer."""

    def use_media(self, session: AudioSession, now: float) -> None:
        """Incoming: take our side of the media."""
        ...

    def trying(self, now: float) -> None:
        """Incoming: say that the INVITE has come."""
        ...

    def ring(self, now: float, status: int) -> None:
        """Incoming: send a provisional response."""
        ...

    def answer(self, now: float) -> None:
        """Incoming: send the 200."""
        ...

    def reject(self, status: int, now: float, reason: str, fields: Fields) -> None:
        """Incoming: send another final response."""
        ...

    def hang_up(self, now: float, fields: Fields) -> None:
        """End the call, answered or not, for reasons of ours."""
        ...

    def peer_hung_up(self, dialog: Dialog, now: float, reason: str) -> None:
        """A BYE has come, and was answered."""
        ...

    def receive_prack(self, key: str, request: Request, envelope: Envelope, dialog: Dialog, now: float) -> None:
        """Take a PRACK."""
        ...

    def invite_is_open(self) -> bool:
        """Whether the INVITE has no final response yet."""
        ...


class SipCall:
    """A call. Commands on a call that is over do nothing, so they cannot come too late."""

    id: str
    """Ours; not on the wire."""
    call_id: str
    """Call-ID."""
    request: Request
    """The INVITE: the peer's, or ours as last sent."""
    headers: Headers
    """Of the INVITE; outgoing, once it is answered: of the 2xx."""
    peer: Flow
    """The way that the INVITE came or went, or the peer's last request came."""
    is_answered: bool
    """Whether a 2xx to the INVITE was sent or came."""
    is_over: bool
    """Whether ``CallOver`` was told."""
    digest: DigestClient | None
    """Answers challenges to our requests; None = they stand."""
    dialog: Dialog | None
    """The one that holds: incoming from the start, outgoing from the answer on."""
    offered_session: AudioSession | None
    """Ours, before there is a dialog."""
    answers: dict[int, Answer]
    """2xx of ours that wait for their ACK, by the number of their INVITE."""
    setup: Setup
    """Set right after the call was made."""

    def __init__(
        self,
        core: AgentCore,
        *,
        is_outbound: bool,
        trunk: Trunk,
        request: Request,
        from_: Address,
        to: Address,
        call_id: str,
        peer: Flow,
        digest: DigestClient | None = None,
    ) -> None:
        """Made by ``UserAgent`` only."""
        self.core = core
        self.id = core.new_id()
        self.call_id = call_id
        self.is_outbound = is_outbound
        self.trunk = trunk
        self.request = request
        self.headers = request.headers
        self.from_ = from_
        self.to = to
        self.peer = peer
        self.digest = digest
        self.dialog = None
        self.offered_session = None
        self.is_answered = self.is_over = False
        self.answers = {}
        self.transfer = Transfer(self)
        self.timer = SessionTimer(self)
        self.inside = InsideRequests(self)
        self._holders: set[object] = set()
        self._dialog_ids: set[DialogId] = set()
        self._ways: dict[str, tuple[Flow, ...]] = {}

    @property
    def request_uri(self) -> str:
        """Request-URI of the INVITE."""
        return self.request.uri

    @property
    def session(self) -> AudioSession | None:
        """Our side of the media."""
        return self.dialog.session if self.dialog is not None else self.offered_session

    @property
    def agreement(self) -> Agreement | None:
        """What holds for the media now."""
        return None if self.session is None else self.session.agreement

    # Commands: incoming calls

    def use_media(self, session: AudioSession, now: float) -> None:
        """Give an incoming call our side of the media, once and before all else.

        An offer that cannot be met is answered 488 or 400 at once, and ``CallOver`` (NOT_ACCEPTABLE) follows.
        """
        if not self.is_over:
            self.setup.use_media(session, now)

    def trying(self, now: float) -> None:
        """Send 100 now: many test scenarios wait for it, and the caller stops repeating. Else it comes after 200 ms."""
        if not self.is_over:
            self.setup.trying(now)

    def ring(self, now: float, status: int = 180) -> None:
        """Send a provisional response, 180 to 199; with 183 our answer goes along, so that early media can flow."""
        if not self.is_over:
            self.setup.ring(now, status)

    def answer(self, now: float) -> None:
        """Send the 200. It waits where a reliable provisional response is not acknowledged yet."""
        if not self.is_over:
            self.setup.answer(now)

    def reject(
        self,
        status: int,
        now: float,
        *,
        reason: str = "",
        retry_after_s: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Refuse an incoming call that is not answered, with a status from 300."""
        if self.is_over:
            return
        if retry_after_s is not None:
            headers = (*headers, ("Retry-After", str(retry_after_s)))
        self.setup.reject(status, now, reason, headers)

    # Commands: both directions

    def use_credentials(self, account: SipAccount) -> None:
        """Answer challenges to our requests within an incoming call so; an outgoing one has those of its order."""
        self.digest = DigestClient(account)

    def hang_up(self, now: float, *, reason_header: str = "") -> None:
        """End the call as its state wants it: CANCEL, BYE, or 480. ``reason_header`` is a Reason (RFC 3326)."""
        if not self.is_over:
            self.setup.hang_up(now, (("Reason", reason_header),) if reason_header else ())

    def refer(self, target_uri: str, now: float, *, referred_by: str = "") -> None:
        """Ask the peer to call somebody else instead; ``TransferProgress`` tells how it goes.

        Raises ``LocalError`` before the answer, while another transfer is under way, and for URIs that are none.
        """
        if not self.is_over:
            self.transfer.start(self._confirmed("refer"), target_uri, referred_by, now)

    def send_info(self, content_type: str, body: bytes, now: float) -> None:
        """Send an INFO; ``InfoAnswered`` follows. Raises ``LocalError`` before the answer."""
        if self.is_over:
            return

        def tell(response: Response | None, _: Envelope | None, __: float) -> None:
            if not self.is_over:
                self.core.emit(InfoAnswered(self, PEER_GONE if response is None else response.status))

        dialog = self._confirmed("send an INFO")
        Exchange(self, dialog, "INFO", body=body, content_type=content_type, on_final=tell).start(now)

    def send_offer(self, direction: Direction, now: float) -> None:
        """Send a re-INVITE with this direction of ours; ``MediaChanged`` follows if the peer takes it.

        Raises ``LocalError`` before the answer, before the ACK of the peer's INVITE, and while an offer is open.
        """
        if not self.is_over:
            self.timer.reoffer.start(self._confirmed("send an offer"), direction, now)

    # For the parts of this package

    def hold(self, holder: object) -> None:
        """Something is under way."""
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        """It is done."""
        self._holders.discard(holder)
        self._leave()

    def begin_answer(self, cseq: int, answer: Answer) -> None:
        """Note a 2xx that waits for its ACK."""
        self.answers[cseq] = answer

    def receive_ack(self, request: Request, envelope: Envelope, now: float) -> None:
        """An ACK to a 2xx; one that nothing waits for is a repeat."""
        answer = self.answers.pop(envelope.cseq.number, None)
        if answer is not None:
            answer.acknowledge(request, envelope, now)

    def drop_answers(self) -> None:
        """The dialog is gone: wait for no ACK any more."""
        answers, self.answers = self.answers, {}
        for answer in answers.values():
            answer.stop()
            self.release(answer)

    def find_way(self, dialog: Dialog, then: FoundFlows, now: float) -> None:
        """Go on with the ways to the peer of a dialog; those are looked up once for each hop."""
        hop = dialog.next_hop
        flows = known_flows(hop, self.peer, is_direct=not dialog.routes) or self._ways.get(str(hop), ())
        if flows:
            then(flows, now)
            return

        def found(flows: tuple[Flow, ...], at: float) -> None:
            served = tuple(flow for flow in flows if self.core.identity.serves(flow.transport))
            if len(self._ways) >= MAX_HOPS:
                self._ways.clear()
            # A name without address: the way that its messages come may still be good.
            self._ways[str(hop)] = served or (self.peer,)
            then(self._ways[str(hop)], at)

        self.core.look_up(self, hop, found, now)

    def say_goodbye(self, dialog: Dialog, now: float, fields: Fields = ()) -> None:
        """Send the BYE of a dialog; what it comes to is of no consequence."""
        Exchange(self, dialog, "BYE", fields=fields, ends_call=False).start(now)
        if dialog is self.dialog:
            self.drop_answers()  # the BYE says it all

    def hang_up_for(self, how: SipEnd, status: int, reason: str, now: float) -> None:
        """End an answered call with a BYE because of this."""
        if not self.is_over and self.dialog is not None:
            self.say_goodbye(self.dialog, now)
            self.end(how, status, reason, by_peer=False)

    def lose_peer(self, response: Response | None, now: float, *, is_timeout: bool) -> None:
        """A request of ours found no dialog at the other end, or no other end (RFC 3261 section 12.2.1.2)."""
        how = SipEnd.TIMEOUT if response is not None or is_timeout else SipEnd.TRANSPORT
        status = PEER_GONE if response is None else response.status
        self.hang_up_for(how, status, REASONS[PEER_GONE] if response is None else response.reason, now)

    def media_changed(self, before: Agreement | None) -> None:
        """Tell of a new agreement, if it differs."""
        if self.agreement is not None and self.agreement != before and not self.is_over:
            self.core.emit(MediaChanged(self, self.agreement))

    def end(self, how: SipEnd, status: int, reason: str, *, by_peer: bool) -> None:
        """It is over for the server. Nothing happens the second time."""
        if self.is_over:
            return
        self.is_over = True
        self.timer.stop()
        self.transfer.stop()
        self.core.calls.pop(self.id, None)
        self.core.emit(CallOver(self, how, status, readable(reason)[:MAX_REASON_CHARS], by_peer))
        self._leave()

    def add_dialog(self, dialog: Dialog) -> None:
        """Have the requests of a dialog come here."""
        self._dialog_ids.add(dialog.id)
        self.core.dialogs[dialog.id] = (self, dialog)

    def drop_dialog(self, dialog: Dialog) -> None:
        """Answer the requests of a dialog with 481 from now on."""
        self._dialog_ids.discard(dialog.id)
        self.core.dialogs.pop(dialog.id, None)

    def _confirmed(self, what: str) -> Dialog:
        if self.dialog is None or not self.is_answered:
            raise LocalError(f"a call that is not answered cannot {what}")
        return self.dialog

    def _leave(self) -> None:
        """Forget the dialogs of a call that is over, once nothing is under way any more."""
        if self.is_over and not self._holders:
            for dialog_id in self._dialog_ids:
                self.core.dialogs.pop(dialog_id, None)
            self._dialog_ids.clear()
