"""Offers and answers as they arrive in messages: what they come to, or the rejection they deserve.

What it is not: the negotiation itself (``offer_answer``). Sources: RFC 3261 sections 13.3.1.1 and 14.2 (400, 488, 491),
20.43 (Warning).
"""

from __future__ import annotations

from bridge.errors import RemoteError
from bridge.sip.errors import Rejection
from bridge.sip.offer_answer import Agreement, AudioSession, NotAcceptable

GLARE = Rejection(491, "Request Pending")
MALFORMED = Rejection(400, "Malformed Session Description")
_WARNING_CODE = 399
"""Miscellaneous (RFC 3261 section 20.43)."""


def busy_rejection(seconds: int) -> Rejection:
    """What a request gets that comes while one of the peer's own is open (RFC 3261 section 14.2, RFC 3311 5.2)."""
    return Rejection(500, "Server Internal Error", (("Retry-After", str(seconds)),))


def answer_offer(session: AudioSession, body: bytes) -> bytes | Rejection:
    """Our answer to an offer, while none of ours is open; from now on it holds. A rejection leaves all as it was."""
    try:
        return session.answer(body).encode()
    except NotAcceptable as error:
        return Rejection(488, "Not Acceptable Here", (("Warning", f'{_WARNING_CODE} bridge "{error}"'),))
    except RemoteError:
        return MALFORMED


def accept_answer(session: AudioSession, body: bytes) -> Agreement | None:
    """What the peer's answer to our offer comes to; None = it cannot be read, or takes nothing of it."""
    try:
        return session.accept(body)
    except RemoteError:
        return None
