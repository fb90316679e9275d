"""One dialog: who it is with, where its requests go, and what they must say.

What it is not: a call (``call``), which may have several early dialogs, or the way to an address (``hops``). Sources:
RFC 3261 sections 12.1 (creation), 12.2.1.1 (requests in it, loose and strict routing) and 12.2.2 (numbers, target).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.sip.envelope import Envelope
from bridge.sip.errors import Rejection
from bridge.sip.offer_answer import AudioSession
from bridge.sip.uri import SipUri, Uri
from bridge.sip.values import Address

DialogId = tuple[str, str, str]
"""Call-ID, our tag, the peer's tag (empty for peers of RFC 2543)."""

NO_CONTACT = Rejection(400, "Missing Contact")
BAD_CONTACT = Rejection(400, "Contact Is No SIP URI")
BAD_RECORD_ROUTE = Rejection(400, "Record-Route Is No SIP URI")


@dataclass(slots=True)
class Dialog:
    """The state of a dialog."""

    call_id: str
    local: Address
    """Our address, with our tag."""
    remote: Address
    """The peer's, with its tag if it gave one."""
    target: SipUri
    """Where the peer wants requests (its Contact)."""
    routes: tuple[Address, ...]
    """The way there, first hop first; each a SIP URI."""
    is_secure: bool
    """Whether our Contact must be ``sips``."""
    local_cseq: int
    """Of our last request; 0 = none yet."""
    remote_cseq: int
    """Of the peer's last request; -1 = none yet."""
    session: AudioSession | None = None
    """Our side of its media; None = there is none yet."""
    is_settled: bool = False
    """Whether offer and answer of the INVITE are exchanged for good, so that new offers may be made."""

    @property
    def id(self) -> DialogId:
        """What requests of the peer find it by."""
        return self.call_id, self.local.tag, self.remote.tag

    @property
    def next_hop(self) -> SipUri:
        """Where our requests go first."""
        hop = self.routes[0].uri if self.routes else self.target
        assert isinstance(hop, SipUri)  # checked when the dialog was made
        return hop

    def next_cseq(self) -> int:
        """The number of our next request, which is counted with that. An ACK takes its INVITE's number instead."""
        self.local_cseq += 1
        return self.local_cseq

    def is_in_order(self, number: int) -> bool:
        """Whether a request of the peer comes in order; if so it is noted. A lower number is answered 500."""
        if number < self.remote_cseq:
            return False
        self.remote_cseq = number
        return True

    def refresh_target(self, contact: Address | None) -> bool:
        """Take the Contact of a target refresh request or its response; whether it is a new one."""
        if contact is None or not isinstance(contact.uri, SipUri) or contact.uri == self.target:
            return False
        self.target = contact.uri
        return True

    def request_uri(self) -> str:
        """The Request-URI of a request in this dialog."""
        hop = self.next_hop
        if self.routes and not hop.loose:  # a strict router: its URI instead of the target's
            return str(replace(hop, raw_headers=""))
        return str(replace(self.target, raw_headers="") if self.target.raw_headers else self.target)

    def request_fields(self, cseq: int, method: str) -> tuple[tuple[str, str], ...]:
        """Route, From, To, Call-ID and CSeq of a request in this dialog."""
        routes = [str(route) for route in self.routes]
        if self.routes and not self.next_hop.loose:
            routes = [*routes[1:], f"<{self.target}>"]
        return (
            *[("Route", route) for route in routes],
            ("From", str(self.local)),
            ("To", str(self.remote)),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
        )


def accept_dialog(envelope: Envelope, tag: str) -> Dialog | Rejection:
    """The dialog that an INVITE of the peer begins; ``tag`` is ours. A rejection if there is no way back."""
    if envelope.contact is None:
        return NO_CONTACT
    if not isinstance(envelope.contact.uri, SipUri):
        return BAD_CONTACT
    if not _are_sip(envelope.record_routes):
        return BAD_RECORD_ROUTE
    first = envelope.record_routes[0].uri if envelope.record_routes else envelope.contact.uri
    return Dialog(
        call_id=envelope.call_id,
        local=envelope.to.tagged(tag),
        remote=envelope.from_,
        target=envelope.contact.uri,
        routes=envelope.record_routes,
        is_secure=_is_sips(envelope.uri) or _is_sips(first),
        local_cseq=0,
        remote_cseq=envelope.cseq.number,
    )


def found_dialog(envelope: Envelope, request_uri: SipUri, cseq: int) -> Dialog:
    """The dialog that a response to our INVITE founds; ``cseq`` is the INVITE's.

    A response without a usable Contact (a provisional one needs none) leaves the Request-URI as the target, and a
    Record-Route that cannot be followed counts as none.
    """
    contact = envelope.contact.uri if envelope.contact else None
    routes = envelope.record_routes if _are_sip(envelope.record_routes) else ()
    return Dialog(
        call_id=envelope.call_id,
        local=envelope.from_,
        remote=envelope.to,
        target=contact if isinstance(contact, SipUri) else request_uri,
        routes=routes[::-1],
        is_secure=_is_sips(request_uri),
        local_cseq=cseq,
        remote_cseq=-1,
    )


def _are_sip(addresses: tuple[Address, ...]) -> bool:
    return all(isinstance(address.uri, SipUri) for address in addresses)


def _is_sips(uri: Uri | None) -> bool:
    return isinstance(uri, SipUri) and uri.scheme == "sips"
