"""What a SIP peer's bytes can come to, short of a message: the only exceptions that parsing raises.

Broken requests that still can be answered raise nothing: they carry a ``Rejection``, the answer that they deserve.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import RemoteError


class SipError(RemoteError):
    """Base of what the parsers of this package raise."""


class NotSip(SipError):
    """Bytes that are no SIP message, or a response out of range: drop them, answer nothing."""


class HeaderError(SipError):
    """A header value or URI that does not follow its grammar. The text names the kind of value, never the value."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The final response that a request deserves instead of being handled."""

    status: int
    reason: str
    """Reason phrase; says what is wrong, for the log of whoever sent the request. Quotes nothing of the request."""
    fields: tuple[tuple[str, str], ...] = ()
    """Headers that belong to this answer: Unsupported to 420, Allow to 405, Accept to 415."""
