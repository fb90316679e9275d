"""The headers that every message needs, read once: what transactions and dialogs work with.

``read_request`` gives an ``Envelope`` or the ``Rejection`` that the request deserves, ``read_response`` an
``Envelope`` or the reason to drop the response: a response is never answered. Headers that nobody here reads (Date,
Subject, Warning) cannot make a message fail (RFC 4475 section 3.1.2.12 leaves that to the reader).

Required are To, From, CSeq, Call-ID and Via (RFC 3261 section 8.1.1). Max-Forwards, the tag of From and the branch
may be missing, as in RFC 2543 (RFC 4475 section 3.4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.headers import Headers
from bridge.sip.message import Message, Request, Response
from bridge.sip.uri import SipUri, Uri, parse_uri
from bridge.sip.values import (
    Address,
    CSeq,
    MediaType,
    Via,
    parse_address,
    parse_addresses,
    parse_cseq,
    parse_media_type,
    parse_number,
    parse_vias,
)

HIGHEST_MAX_FORWARDS = 255
"""RFC 3261 section 20.22."""
DEFAULT_MAX_FORWARDS = 70
"""What a missing Max-Forwards counts as: the value that a proxy would put in (RFC 3261 section 16.6 item 3)."""

_ONCE = ("To", "From", "CSeq", "Call-ID", "Max-Forwards", "Content-Type")
"""Headers with one value: two readers could take different ones (RFC 4475 section 3.3.8)."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Envelope:
    """The readable outside of a message."""

    via: Via
    """The top one. The sender's own in a request, ours in a response."""
    vias: int
    """How many there are."""
    from_: Address
    to: Address
    call_id: str
    cseq: CSeq
    max_forwards: int
    contact: Address | None
    """The first Contact; None = none, or ``*``."""
    contacts: tuple[Address, ...]
    routes: tuple[Address, ...]
    """Route, topmost first."""
    record_routes: tuple[Address, ...]
    """Record-Route, topmost first: the route set of a UAS as it stands, of a UAC in reverse."""
    content_type: MediaType | None
    """None = absent."""
    uri: Uri | None
    """The Request-URI; None in a response."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A response that is to be ignored, and why, for the count of such things."""

    reason: str


def read_request(request: Request) -> Envelope | Rejection:
    """The envelope of a request, or the answer that it deserves instead (send none to an ACK)."""
    if request.flaw is not None:
        return request.flaw
    try:
        uri = parse_uri(request.uri)
        envelope = _read(request, uri)
    except HeaderError as error:
        return Rejection(400, _phrase(str(error)))
    if envelope.cseq.method != request.method:
        return Rejection(400, "CSeq Method Differs from Request")
    if isinstance(uri, SipUri) and uri.raw_headers:  # RFC 4475 section 3.1.2.11
        return Rejection(400, "Headers in Request-URI")
    return envelope


def read_response(response: Response) -> Envelope | Dropped:
    """The envelope of a response, or why it is to be ignored."""
    try:
        envelope = _read(response, None)
    except HeaderError as error:
        return Dropped(str(error))
    if envelope.vias != 1:  # RFC 3261 section 8.1.3.3: it was not meant for us
        return Dropped("a response has more than one Via")
    return envelope


def _read(message: Message, uri: Uri | None) -> Envelope:
    headers = message.headers
    for name in _ONCE:
        if len(headers.all(name)) > 1:
            raise HeaderError(f"more than one {name}")
    vias = _named(headers, "Via", lambda _: parse_vias(headers.all("Via")))
    from_ = _named(headers, "From", parse_address)
    to = _named(headers, "To", parse_address)
    cseq = _named(headers, "CSeq", parse_cseq)
    call_id = headers.get("Call-ID")
    if not call_id:
        raise HeaderError("missing Call-ID")
    contacts = _several(headers, "Contact")
    return Envelope(
        via=vias[0],
        vias=len(vias),
        from_=from_,
        to=to,
        call_id=call_id,
        cseq=cseq,
        max_forwards=_max_forwards(headers),
        contact=contacts[0] if contacts else None,
        contacts=contacts,
        routes=_several(headers, "Route"),
        record_routes=_several(headers, "Record-Route"),
        content_type=_named(headers, "Content-Type", parse_media_type) if "Content-Type" in headers else None,
        uri=uri,
    )


def _named(headers: Headers, name: str, parse: Callable[[str], _T]) -> _T:
    value = headers.get(name)
    if value is None:
        raise HeaderError(f"missing {name}")
    try:
        return parse(value)
    except HeaderError as error:
        raise HeaderError(f"malformed {name}: {error}") from None


def _several(headers: Headers, name: str) -> tuple[Address, ...]:
    values = headers.all(name)
    if not values or (name == "Contact" and values == ("*",)):
        return ()
    return _named(headers, name, lambda _: parse_addresses(values))


def _max_forwards(headers: Headers) -> int:
    if "Max-Forwards" not in headers:
        return DEFAULT_MAX_FORWARDS
    return _named(headers, "Max-Forwards", lambda value: parse_number(value, HIGHEST_MAX_FORWARDS))


def _phrase(problem: str) -> str:
    return problem[:1].upper() + problem[1:]
