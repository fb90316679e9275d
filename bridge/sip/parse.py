"""From the bytes of a header section to a start line and headers; tolerant where it is safe, and bounded.

Tolerated as the RFC wants: folded lines, blanks before the colon, compact names, any case. Tolerated beyond it:
nothing that two readers could take differently. Anything else leaves a flaw, so that the request can be answered,
or raises ``NotSip`` where no answer is due. Sources: RFC 3261 sections 7 and 25, RFC 4475.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.sip.errors import HeaderError, NotSip, Rejection
from bridge.sip.grammar import LWS, UNFIT_IN_URI, is_token
from bridge.sip.headers import Headers, canonical_name
from bridge.sip.message import Message, Request, Response
from bridge.sip.values import parse_number

MALFORMED_LINE = Rejection(400, "Malformed Request-Line")
MALFORMED_HEADER = Rejection(400, "Malformed Header Line")
BARE_LINE_END = Rejection(400, "Bare CR or LF in Header Section")
URI_TOO_LONG = Rejection(414, "Request-URI Too Long")
TOO_LARGE = Rejection(513, "Message Too Large")
BAD_LENGTH = Rejection(400, "Malformed Content-Length")
WRONG_VERSION = Rejection(505, "Version Not Supported")

_FOLD = re.compile(r"\r\n[ \t]++")
_STATUS_LINE = re.compile(r"SIP/2\.0 ([0-9]{3})(?: (.*))?", re.IGNORECASE | re.DOTALL)
_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE)
_HIGHEST_LENGTH = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a message is read; the longest of RFC 4475 has 3.5 kB in 45 fields."""

    header_bytes: int = 32 * 1024
    """Start line and headers together; half of what fits a datagram."""
    fields: int = 256
    """Header lines, a folded one counting once."""
    line_chars: int = 8 * 1024
    """One unfolded line."""
    uri_chars: int = 2048
    """Request-URI."""
    body_bytes: int = 64 * 1024
    """SDP has 1 to 3 kB; multipart bodies with geolocation or ISUP stay below 20."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class RequestLine:
    """Method and Request-URI."""

    method: str
    uri: str


@dataclass(frozen=True, slots=True)
class StatusLine:
    """Status and reason phrase."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before the body."""

    start: RequestLine | StatusLine
    headers: Headers
    length: int | None
    """Content-Length; None = absent, or broken (then ``flaw`` says so)."""
    flaw: Rejection | None

    def with_body(self, body: bytes, flaw: Rejection | None = None) -> Message:
        """The message; ``flaw`` is what is wrong with its body. Raises ``NotSip`` for a response with a flaw."""
        flaw = self.flaw or flaw
        if isinstance(self.start, RequestLine):
            return Request(self.start.method, self.start.uri, self.headers, body, flaw)
        if flaw is not None:
            raise NotSip(f"a response is broken: {flaw.reason}")
        return Response(self.start.status, self.start.reason, self.headers, body)


def parse_head(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Head:
    """Read start line and headers; ``data`` ends before the empty line. Raises ``NotSip``."""
    text = data.decode("utf-8", "surrogateescape")
    # A folded line is the same as one with a single space there (RFC 3261 section 7.3.1).
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    start_line, *lines = text.split("\r\n")
    start, start_flaw = _parse_start(start_line, limits)
    headers, lengths, header_flaw = _parse_fields(lines, limits)
    length, length_flaw = _parse_length(lengths)
    return Head(start, headers, length, start_flaw or header_flaw or length_flaw)


def _parse_start(line: str, limits: Limits) -> tuple[RequestLine | StatusLine, Rejection | None]:
    if "\r" in line or "\n" in line:
        raise NotSip("no start line")
    if line[:4].upper() == "SIP/":
        match = _STATUS_LINE.fullmatch(line)
        if match is None or not 100 <= int(match[1]) <= 699:
            raise NotSip("a status line is malformed")
        return StatusLine(int(match[1]), match[2] or ""), None
    method, _, rest = line.partition(" ")
    uri, _, version = rest.rstrip(LWS).rpartition(" ")
    if not is_token(method) or not _VERSION.fullmatch(version):
        raise NotSip("no start line")
    start = RequestLine(method, uri)
    if version[4:] != "2.0":
        return start, WRONG_VERSION
    if len(uri) > limits.uri_chars:
        return start, URI_TOO_LONG
    # More than one space between the parts may be taken or refused (RFC 4475 sections 3.1.2.7 to 3.1.2.10).
    if not uri or rest[-1] in LWS or UNFIT_IN_URI.search(uri):
        return start, MALFORMED_LINE
    return start, None


def _parse_fields(lines: list[str], limits: Limits) -> tuple[Headers, list[str], Rejection | None]:
    """The headers, the values of Content-Length apart from them, and what is wrong."""
    fields: list[tuple[str, str]] = []
    lengths: list[str] = []
    flaw: Rejection | None = TOO_LARGE if len(lines) > limits.fields else None
    for line in lines[: limits.fields]:
        if len(line) > limits.line_chars:
            flaw = flaw or TOO_LARGE
        if "\r" in line or "\n" in line:
            # Blanks instead, because responses copy headers and may carry no line end.
            line = line.replace("\r", " ").replace("\n", " ")
            flaw = flaw or BARE_LINE_END
        name, colon, value = line.partition(":")
        name = name.rstrip(LWS)
        if not colon or not is_token(name):
            flaw = flaw or MALFORMED_HEADER
            continue
        name = canonical_name(name)
        if name == "Content-Length":
            lengths.append(value.strip(LWS))
        else:
            fields.append((name, value.strip(LWS)))
    return Headers(fields), lengths, flaw


def _parse_length(values: list[str]) -> tuple[int | None, Rejection | None]:
    if not values:
        return None, None
    if len(values) > 1:  # RFC 4475 section 3.3.9: nobody can know how long the body is
        return None, BAD_LENGTH
    try:
        return parse_number(values[0], _HIGHEST_LENGTH), None
    except HeaderError:
        return None, BAD_LENGTH
