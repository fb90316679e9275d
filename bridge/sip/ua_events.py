"""What a user agent tells the server about its calls; each event names its call.

Order: ``CallOver`` comes once for every call that was offered or placed, and is the last event of it; only
``NeedTargets`` may follow, for the BYE or ACK that is still to be sent.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.sip.flow import Transport
from bridge.sip.offer_answer import Agreement

if TYPE_CHECKING:
    from bridge.sip.call import SipCall


class SipEnd(enum.Enum):
    """How a call ended."""

    BYE = "bye"
    """The peer hung up a call that was answered, or an outgoing one that rang."""
    CANCELLED = "cancelled"
    """The caller gave up before there was an answer."""
    REJECTED = "rejected"
    """We refused it: ``SipCall.reject``, or ``hang_up`` before the answer."""
    FAILED = "failed"
    """The peer refused our call: ``status`` is its final response, 300 or more."""
    NO_ANSWER = "no_answer"
    """Our call rang for as long as it may; it is cancelled."""
    NO_ACK = "no_ack"
    """Our 200 was never acknowledged."""
    TIMEOUT = "timeout"
    """The peer does not respond any more, or nobody did anything about a call that was offered."""
    TRANSPORT = "transport"
    """Nothing could be sent to the peer, or its name has no address."""
    NOT_ACCEPTABLE = "not_acceptable"
    """No media that both can do, or a description that cannot be read."""
    LOCAL = "local"
    """We hung up."""


@dataclass(frozen=True, slots=True)
class CallOffered:
    """An INVITE was admitted. Give it media (``use_media``) at once; then ``ring``, ``answer`` or ``reject``."""

    call: SipCall


@dataclass(frozen=True, slots=True)
class CallRinging:
    """Outgoing: a provisional response of 180 to 199 without a description."""

    call: SipCall
    status: int


@dataclass(frozen=True, slots=True)
class EarlyMedia:
    """Outgoing: what comes before the answer (ring-back, announcements) can be heard; do not talk to it."""

    call: SipCall
    agreement: Agreement
    status: int


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """Media flow both ways from now on. Incoming: our 200 is sent and (where we offered) the answer is here."""

    call: SipCall
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class CallConfirmed:
    """Incoming: the ACK has come."""

    call: SipCall


@dataclass(frozen=True, slots=True)
class MediaChanged:
    """A new offer and answer, in a call that goes on: hold, resume, another address or codec."""

    call: SipCall
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class InfoDigit:
    """A key that came in an INFO."""

    call: SipCall
    digit: str = field(repr=False)
    """One of ``0-9 * # A-D``; a secret."""
    duration_ms: int


@dataclass(frozen=True, slots=True)
class InfoAnswered:
    """The final response to our INFO; 408 = none came."""

    call: SipCall
    status: int


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How our REFER goes: its own response, then what the peer's NOTIFYs say."""

    call: SipCall
    status: int
    """202 = taken; later the status that the transferred call has, as the peer tells it."""
    reason: str
    is_final: bool
    """Nothing follows. With a status of 200 to 299 the transfer is done, or (202) was taken without further news."""


@dataclass(frozen=True, slots=True)
class CallOver:
    """The call has ended; all that is still under way for it (the BYE, say) needs nobody any more."""

    call: SipCall
    how: SipEnd
    status: int
    """The final response that ended it, whoever sent it; 0 = none did."""
    reason: str
    """Reason phrase, or the Reason header of a BYE or CANCEL; readable, at most ``MAX_REASON_CHARS``."""
    by_peer: bool


@dataclass(frozen=True, slots=True)
class NeedTargets:
    """The next hop is a name: find its addresses and call ``UserAgent.targets_found`` with ``lookup_id``."""

    call: SipCall
    lookup_id: str
    host: str
    """A name, or an address without brackets."""
    port: int | None
    """None = by SRV, or the default."""
    transport: Transport | None
    """None = by SRV, or UDP."""
    is_secure: bool
    """Whether nothing but TLS will do (``sips``)."""


MAX_REASON_CHARS = 200
"""Longest reason that is passed on; real ones stay below 100."""

UaEvent = (
    CallOffered
    | CallRinging
    | EarlyMedia
    | CallAnswered
    | CallConfirmed
    | MediaChanged
    | InfoDigit
    | InfoAnswered
    | TransferProgress
    | CallOver
    | NeedTargets
)
