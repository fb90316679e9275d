"""The session description in a message, alone or as a part of a multipart body.

What it is not: a reader of MIME in general. Trunks send SDP together with ISUP (RFC 3204) or a location (RFC 6442);
of such bodies only the first part of type application/sdp counts (RFC 5621). Source: RFC 2046 section 5.1.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError
from bridge.sip.grammar import parse_params
from bridge.sip.message import Message
from bridge.sip.values import parse_media_type

SDP_TYPE = "application/sdp"

MAX_PARTS = 16
"""Parts of a body that are looked at; trunks send two or three."""
MAX_BOUNDARY_CHARS = 70
"""RFC 2046 section 5.1.1."""


def find_sdp(message: Message, envelope: Envelope) -> bytes | None:
    """The session description in a message; None = there is none."""
    kind = envelope.content_type
    if not message.body or kind is None:
        return None
    if kind.essence == SDP_TYPE:
        return message.body
    return next((content for head, content in _parts(message, envelope) if _is_sdp(head)), None)


def has_unread_part(message: Message, envelope: Envelope) -> bool:
    """Whether a part of a multipart body is marked as not to be left unread, and is no session description.

    RFC 3261 section 20.11 takes that for granted of parts that say nothing. Trunks send such (ISUP, locations) to
    everybody and mean nothing by it, so the mark must be there.
    """
    return any(
        handling(_field(head, "content-disposition")) == "required" and not _is_sdp(head)
        for head, _ in _parts(message, envelope)
    )


def handling(disposition: str) -> str:
    """What a Content-Disposition says of bodies that are not understood: ``required``, ``optional`` or nothing."""
    _, semicolon, params = disposition.partition(";")
    try:
        return (parse_params(semicolon + params).get("handling") or "").lower()
    except HeaderError:
        return ""


def _parts(message: Message, envelope: Envelope) -> Iterator[tuple[str, bytes]]:
    """Headers and content of each part that has both."""
    kind = envelope.content_type
    boundary = (kind.params.get("boundary") or "") if kind is not None and kind.main == "multipart" else ""
    if not boundary or len(boundary) > MAX_BOUNDARY_CHARS:
        return
    delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    # What stands before the first delimiter is no part, and neither is what follows the closing one.
    for part in (b"\r\n" + message.body).split(delimiter, MAX_PARTS)[1:]:
        if part.startswith(b"--"):
            return
        head, empty_line, content = part.partition(b"\r\n\r\n")
        if empty_line:
            yield head.decode("utf-8", "surrogateescape"), content


def _is_sdp(head: str) -> bool:
    try:
        return parse_media_type(_field(head, "content-type", "c")).essence == SDP_TYPE
    except HeaderError:
        return False


def _field(head: str, *names: str) -> str:
    """The value of a part's first header of one of these names; empty = there is none."""
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() in names:
            return value
    return ""
