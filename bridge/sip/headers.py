"""The header fields of a message, in their order: names without regard to case, compact forms, repeats.

Content-Length is not among them: it belongs to the framing, is used up when a message is read and written anew when
it is sent. Sources: RFC 3261 sections 7.3 and 20; compact forms from the IANA registry "SIP Header Fields".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

_COMPACT = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type", "d": "request-disposition",
    "e": "content-encoding", "f": "from", "i": "call-id", "j": "reject-contact", "k": "supported",
    "l": "content-length", "m": "contact", "n": "identity-info", "o": "event", "r": "refer-to", "s": "subject",
    "t": "to", "u": "allow-events", "v": "via", "x": "session-expires", "y": "identity",
}  # fmt: skip

_SPELLINGS = (
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events",
    "Authentication-Info", "Authorization", "Call-ID", "Call-Info", "Contact", "Content-Disposition",
    "Content-Encoding", "Content-Language", "Content-Length", "Content-Type", "CSeq", "Date", "Diversion",
    "Error-Info", "Event", "Expires", "From", "History-Info", "Identity", "Identity-Info", "In-Reply-To",
    "Max-Forwards", "MIME-Version", "Min-Expires", "Min-SE", "Organization", "P-Asserted-Identity", "P-Charging-Vector",
    "P-Preferred-Identity", "Path", "Priority", "Privacy", "Proxy-Authenticate", "Proxy-Authorization",
    "Proxy-Require", "RAck", "Reason", "Record-Route", "Refer-Sub", "Refer-To", "Referred-By", "Reject-Contact",
    "Remote-Party-ID", "Replaces", "Reply-To", "Request-Disposition", "Require", "Retry-After", "Route", "RSeq",
    "Server", "Session-Expires", "SIP-ETag", "SIP-If-Match", "Subject", "Subscription-State", "Supported",
    "Timestamp", "To", "Unsupported", "User-Agent", "Via", "Warning", "WWW-Authenticate",
)  # fmt: skip
_SPELLING_BY_KEY = {name.lower(): name for name in _SPELLINGS}
_KNOWN = {
    **{name: name for name in _SPELLINGS},
    **{key: _SPELLING_BY_KEY.get(full, full.title()) for key, full in _COMPACT.items()},
}
"""Names as peers mostly write them, to the canonical spelling: spares the slow way for nearly every line."""


def canonical_name(name: str) -> str:
    """The name as this bridge writes it: registered names in their RFC spelling, others as they are given."""
    known = _KNOWN.get(name)
    if known is not None:
        return known
    key = name.lower()
    key = _COMPACT.get(key, key)
    return _SPELLING_BY_KEY.get(key, name)


class Headers:
    """Header fields as pairs of canonical name and unfolded value. Never changes; the ``with...`` methods make copies.

    Every look-up takes a name in any case, full or compact.
    """

    __slots__ = ("_fields", "_values")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Take names in any spelling and values in any form that fits one line (``encode`` refuses others)."""
        self._fields = tuple([(canonical_name(name), value) for name, value in fields])
        values: dict[str, list[str]] = {}
        for name, value in self._fields:
            values.setdefault(name.lower(), []).append(value)
        self._values = values

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        """The same fields in the same order; names count without regard to case."""
        return isinstance(other, Headers) and self._folded() == other._folded()

    def __hash__(self) -> int:
        return hash(self._folded())

    def __repr__(self) -> str:
        return f"Headers({[name for name, _ in self._fields]})"  # values can hold credentials and numbers

    def __contains__(self, name: str) -> bool:
        return canonical_name(name).lower() in self._values

    def all(self, name: str) -> tuple[str, ...]:
        """The values of every field of this name, in order, each as it stood on its line."""
        return tuple(self._values.get(canonical_name(name).lower(), ()))

    def get(self, name: str) -> str | None:
        """The value of the first field of this name."""
        values = self._values.get(canonical_name(name).lower())
        return None if values is None else values[0]

    def starting(self, prefix: str) -> tuple[tuple[str, str], ...]:
        """The fields whose name begins so: ``starting("x-")`` are a trunk's own headers."""
        lowered = prefix.lower()
        return tuple(field for field in self._fields if field[0].lower().startswith(lowered))

    def adding(self, *fields: tuple[str, str]) -> Self:
        """These headers and more behind them."""
        return type(self)((*self._fields, *fields))

    def without(self, name: str) -> Self:
        """These headers less every field of this name."""
        gone = canonical_name(name).lower()
        return type(self)(field for field in self._fields if field[0].lower() != gone)

    def replacing_first(self, name: str, value: str) -> Self:
        """These headers with another value in the first field of this name, or with a new field at the end."""
        wanted = canonical_name(name).lower()
        fields = list(self._fields)
        for place, (key, _) in enumerate(fields):
            if key.lower() == wanted:
                fields[place] = (key, value)
                return type(self)(fields)
        return self.adding((name, value))

    def _folded(self) -> tuple[tuple[str, str], ...]:
        return tuple([(name.lower(), value) for name, value in self._fields])
