"""What this user agent does not do, said in the way the RFC wants it said: 405, 406, 415, 416, 420, 501.

Pure comparison of a well-formed request with a list of abilities, in the order of RFC 3261 section 8.2. What a
request means is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.bodies import handling, has_unread_part
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.grammar import split_list, tokens
from bridge.sip.message import Request
from bridge.sip.uri import OtherUri
from bridge.sip.values import parse_media_type

KNOWN_METHODS = frozenset(
    {
        "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER",
        "REGISTER", "SUBSCRIBE", "UPDATE",
    }
)  # fmt: skip
"""The IANA registry "SIP Methods": 405 for those that are not allowed here, 501 for what is not in it."""

_ANSWERS_WITH_SDP = frozenset({"INVITE"})
"""Methods whose success has a body of ours."""

MAX_NAMED_TAGS = 16
"""Option tags that an Unsupported header repeats; a request with more is no request of a phone."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this user agent understands."""

    methods: tuple[str, ...]
    """Also the value of Allow."""
    extensions: tuple[str, ...] = ()
    """Option tags that a peer may require, lower case; also the value of Supported."""
    content_types: tuple[str, ...] = ("application/sdp",)
    """Bodies that are read, lower case; also the value of Accept."""

    @property
    def allow(self) -> tuple[str, str]:
        """The Allow header."""
        return "Allow", ", ".join(self.methods)

    @property
    def accept(self) -> tuple[str, str]:
        """The Accept header."""
        return "Accept", ", ".join(self.content_types)

    @property
    def supported(self) -> tuple[str, str]:
        """The Supported header; with an empty value, which is allowed, where there is no extension."""
        return "Supported", ", ".join(self.extensions)


def find_objection(request: Request, envelope: Envelope, abilities: Abilities) -> Rejection | None:
    """The answer to a request that asks for what is not supported; None = nothing speaks against it.

    For requests that begin something. ACK and CANCEL are never objected to (RFC 3261 sections 8.2.2.3 and 9.2).
    """
    if request.method in ("ACK", "CANCEL"):
        return None
    return (
        _method(request, abilities)
        or _uri(envelope)
        or _extensions(request, abilities)
        or _body(request, envelope, abilities)
        or _accept(request)
    )


def _method(request: Request, abilities: Abilities) -> Rejection | None:
    if request.method in abilities.methods:
        return None
    if request.method in KNOWN_METHODS:
        return Rejection(405, "Method Not Allowed", (abilities.allow,))
    return Rejection(501, "Not Implemented", (abilities.allow,))


def _uri(envelope: Envelope) -> Rejection | None:
    return Rejection(416, "Unsupported URI Scheme") if isinstance(envelope.uri, OtherUri) else None


def _extensions(request: Request, abilities: Abilities) -> Rejection | None:
    """RFC 3261 section 8.2.2.3. Proxy-Require is for proxies."""
    try:
        required = tokens(request.headers.all("Require"))
    except HeaderError:
        return Rejection(400, "Malformed Require")
    unknown = [tag for tag in required if tag.lower() not in abilities.extensions]
    if not unknown:
        return None
    return Rejection(420, "Bad Extension", (("Unsupported", ", ".join(unknown[:MAX_NAMED_TAGS])),))


def _body(request: Request, envelope: Envelope, abilities: Abilities) -> Rejection | None:
    """RFC 3261 section 8.2.3. A body that is marked as optional is left unread instead."""
    if not request.body or handling(request.headers.get("Content-Disposition") or "") == "optional":
        return None
    kind = envelope.content_type
    encoding = (request.headers.get("Content-Encoding") or "identity").lower()
    if kind is None:
        return Rejection(400, "Missing Content-Type")
    if kind.essence not in abilities.content_types or has_unread_part(request, envelope):
        return Rejection(415, "Unsupported Media Type", (abilities.accept,))
    if encoding != "identity":
        return Rejection(415, "Unsupported Media Type", (("Accept-Encoding", "identity"),))
    return None


def _accept(request: Request) -> Rejection | None:
    """RFC 3261 section 20.1: an answer in SDP must be acceptable (RFC 4475 section 3.3.15)."""
    values = request.headers.all("Accept")
    if request.method not in _ANSWERS_WITH_SDP or not values:
        return None
    try:
        ranges = [parse_media_type(item) for value in values for item in split_list(value) if item]
    except HeaderError:
        return Rejection(400, "Malformed Accept")
    if any(item.covers("application/sdp") for item in ranges):
        return None
    return Rejection(406, "Not Acceptable")
