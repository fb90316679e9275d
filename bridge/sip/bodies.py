"""The session description in a message, alone or as a part of a multipart body.

What it is not: a reader of MIME in general. Trunks send SDP together with ISUP (RFC 3204) or a location (RFC 6442);
of such bodies only the first part of type application/sdp counts (RFC 5621). Source: RFC 2046 section 5.1.1.
"""

from __future__ import annotations

from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError
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
    boundary = kind.params.get("boundary") or ""
    if kind.main != "multipart" or not boundary or len(boundary) > MAX_BOUNDARY_CHARS:
        return None
    return _first_sdp(message.body, b"--" + boundary.encode("utf-8", "surrogateescape"))


def _first_sdp(body: bytes, delimiter: bytes) -> bytes | None:
    # What stands before the first delimiter is no part, and neither is what follows the closing one.
    for part in (b"\r\n" + body).split(b"\r\n" + delimiter, MAX_PARTS)[1:]:
        if part.startswith(b"--"):
            return None
        head, empty_line, content = part.partition(b"\r\n\r\n")
        if empty_line and _is_sdp(head):
            return content
    return None


def _is_sdp(head: bytes) -> bool:
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("content-type", "c"):
            try:
                return parse_media_type(value).essence == SDP_TYPE
            except HeaderError:
                return False
    return False
