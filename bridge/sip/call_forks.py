"""The dialogs that one INVITE of ours has begun: several may ring, one is answered, the others get ACK and BYE.

Sources: RFC 3261 sections 13.2.2 (dialogs of an INVITE) and 13.2.2.4 (2xx), RFC 3262 section 4 (PRACK by the UAC),
RFC 3264 and RFC 6337 section 3.1 (which answer counts).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.sip.bodies import find_sdp
from bridge.sip.call_offers import accept_answer
from bridge.sip.call_sender import Ack, Exchange
from bridge.sip.dialog import Dialog, found_dialog
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError
from bridge.sip.message import Request, Response
from bridge.sip.offer_answer import Agreement, AudioSession
from bridge.sip.option_tags import requires
from bridge.sip.uri import SipUri
from bridge.sip.values import MAX_CSEQ, parse_number

if TYPE_CHECKING:
    from bridge.sip.call import SipCall

MAX_FORKS = 16
"""Dialogs of one INVITE; a callee with more phones than that is no callee of a trunk."""


@dataclass(slots=True)
class Fork:
    """One dialog that an INVITE of ours has begun."""

    dialog: Dialog
    agreement: Agreement | None = None
    """By an answer in a provisional response."""
    rseq: int = 0
    """Of the last reliable provisional response; 0 = none yet."""
    ack: Ack | None = None
    """Set once it was answered."""


class Forks:
    """The dialogs of the INVITEs of one call."""

    def __init__(self, call: SipCall, session: AudioSession) -> None:
        self._call = call
        self._session = session  # with our offer in it, that each dialog answers for itself
        self._by_tag: dict[str, Fork] = {}

    def find(self, response: Response, envelope: Envelope, uri: SipUri, cseq: int) -> Fork | None:
        """The dialog of a response of 101 to 299, new or known; None = it begins none, or there are too many."""
        tag = envelope.to.tag
        fork = self._by_tag.get(tag)
        if fork is None:
            if len(self._by_tag) >= MAX_FORKS or not (tag or response.status >= 200):
                return None
            fork = self._by_tag[tag] = Fork(found_dialog(envelope, uri, cseq))
            fork.dialog.session = copy.copy(self._session)
            self._call.add_dialog(fork.dialog)
        elif fork.ack is None and response.status >= 200:
            # The 2xx has the last word on the way there (RFC 3261 section 13.2.2.4).
            newer = found_dialog(envelope, uri, cseq)
            fork.dialog.routes, fork.dialog.target = newer.routes, newer.target
        return fork

    def drop(self, *, but: Dialog | None = None) -> None:
        """Forget them all, ``but`` the one that holds."""
        for fork in self._by_tag.values():
            if fork.dialog is not but:
                self._call.drop_dialog(fork.dialog)
        self._by_tag.clear()

    def hear(self, fork: Fork, response: Response, envelope: Envelope, now: float) -> Agreement | None:
        """Take a provisional response: answer it if it is reliable; gives what its description comes to, if new."""
        is_reliable, is_new = self._acknowledge_reliable(fork, response, envelope, now)
        body = find_sdp(response, envelope)
        if body is None or not is_new or fork.dialog.is_settled:
            return None
        session = copy.copy(self._session)
        agreement = accept_answer(session, body)
        if agreement is None:
            return None
        is_known = agreement == fork.agreement
        fork.dialog.session = session
        fork.dialog.is_settled = is_reliable
        fork.agreement = agreement
        return None if is_known else agreement

    def agree(self, fork: Fork, response: Response, envelope: Envelope) -> Agreement | None:
        """What the description of a 2xx comes to; where it has none, or an answer stands already, that counts."""
        body = find_sdp(response, envelope)
        if body is not None and not fork.dialog.is_settled:
            session = copy.copy(self._session)
            fork.agreement = accept_answer(session, body)
            fork.dialog.session = session
        elif fork.dialog.is_settled and fork.dialog.session is not None:
            fork.agreement = fork.dialog.session.agreement  # an UPDATE may have changed it since
        fork.dialog.is_settled = fork.agreement is not None
        return fork.agreement

    def acknowledge(self, fork: Fork, invite: Request, cseq: int, now: float) -> bool:
        """Send the ACK of a 2xx; whether it is the first 2xx of this dialog."""
        is_first = fork.ack is None
        if fork.ack is None:
            fork.ack = Ack(self._call, fork.dialog, invite, cseq)
        fork.ack.send(now)
        return is_first

    def _acknowledge_reliable(
        self, fork: Fork, response: Response, envelope: Envelope, now: float
    ) -> tuple[bool, bool]:
        """Send a PRACK if the response wants one; whether it is reliable, and whether it was not seen before."""
        if not (requires(response.headers, "100rel") and "RSeq" in response.headers):
            return False, True
        try:
            rseq = parse_number(response.headers.get("RSeq") or "", MAX_CSEQ)
        except HeaderError:
            return False, False
        if fork.rseq and rseq != fork.rseq + 1:
            return True, False  # a repeat, or one that overtook another: that comes again
        fork.rseq = rseq
        fields = (("RAck", f"{rseq} {envelope.cseq}"),)
        Exchange(self._call, fork.dialog, "PRACK", fields=fields, ends_call=False).start(now)
        return True, True
