"""Requests and responses, how they are written, and how a response is made from its request.

Written messages cannot be split by what is put into them: a line end in any part is refused (``LocalError``), whoever
it came from. Sources: RFC 3261 sections 7, 8.2.6 and 21.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from bridge.errors import LocalError
from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.grammar import UNFIT_IN_URI, is_token, split_list
from bridge.sip.headers import Headers, canonical_name
from bridge.sip.values import parse_address, parse_via

NO_HEADERS = Headers()

REASONS = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
    200: "OK", 202: "Accepted", 204: "No Notification",
    300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily", 305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout",
    410: "Gone", 412: "Conditional Request Failed", 413: "Request Entity Too Large", 414: "Request-URI Too Long",
    415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension", 421: "Extension Required",
    422: "Session Interval Too Small", 423: "Interval Too Brief", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete",
    485: "Ambiguous", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here", 489: "Bad Event",
    491: "Request Pending", 493: "Undecipherable",
    500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Server Time-out", 505: "Version Not Supported", 513: "Message Too Large",
    600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}  # fmt: skip
"""Reason phrases of RFC 3261 section 21, RFC 3311, RFC 3515, RFC 4028, RFC 6665 and RFC 5839."""

_COPIED = ("Via", "From", "To", "Call-ID", "CSeq")
"""What a response repeats of its request (RFC 3261 section 8.2.6.2)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request. Content-Length is not among the headers, see ``bridge.sip.headers``."""

    method: str
    uri: str
    """Request-URI as written."""
    headers: Headers = NO_HEADERS
    body: bytes = b""
    flaw: Rejection | None = field(default=None, compare=False)
    """Set by the parser: what was wrong with the bytes, and the answer to it. A request with a flaw is never sent."""

    def encode(self) -> bytes:
        """The request as bytes. Raises ``LocalError`` where a part of it could not be read back."""
        if not is_token(self.method) or not self.uri or UNFIT_IN_URI.search(self.uri):
            raise LocalError("a request line needs a method and a URI without blanks")
        return _encode(f"{self.method} {self.uri} SIP/2.0", self.headers, self.body)

    def stamped(self, source_host: str, source_port: int) -> Request:
        """This request with its top Via noted down as ``Via.stamped`` says; do it at once upon receipt.

        A request whose top Via cannot be read comes back as it is: it is going to be rejected anyway.
        """
        value = self.headers.get("Via")
        try:
            top, *others = split_list(value or "")
            stamped = str(parse_via(top).stamped(source_host, source_port))
        except HeaderError:
            return self
        return replace(self, headers=self.headers.replacing_first("Via", ", ".join([stamped, *others])))


@dataclass(frozen=True, slots=True)
class Response:
    """A response. Content-Length is not among the headers, see ``bridge.sip.headers``."""

    status: int
    """100 to 699."""
    reason: str
    headers: Headers = NO_HEADERS
    body: bytes = b""

    def encode(self) -> bytes:
        """The response as bytes. Raises ``LocalError`` where a part of it could not be read back."""
        if not 100 <= self.status <= 699:
            raise LocalError(f"{self.status} is no SIP status")
        return _encode(f"SIP/2.0 {self.status} {self.reason}", self.headers, self.body)


Message = Request | Response


def make_response(
    request: Request,
    status: int,
    reason: str = "",
    *,
    to_tag: str = "",
    fields: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """The response to a request, with everything copied that RFC 3261 section 8.2.6.2 and 12.1.1 wants copied.

    Works for requests with a flaw and for those that lack headers: what is there is copied. ``to_tag`` goes into To
    where that has none; leave it empty for 100 only. ``fields`` are further headers.
    """
    copied = [(name, value) for name in _COPIED for value in request.headers.all(name)]
    if to_tag:
        copied = [(name, _tagged(value, to_tag) if name == "To" else value) for name, value in copied]
    if request.method == "INVITE" and 100 < status < 300:  # it may found a dialog
        copied += [("Record-Route", value) for value in request.headers.all("Record-Route")]
    if status == 100:
        copied += [("Timestamp", value) for value in request.headers.all("Timestamp")]
    return Response(status, reason or REASONS.get(status, "Unknown"), Headers((*copied, *fields)), body)


def reject(request: Request, rejection: Rejection, to_tag: str) -> Response:
    """The response that says what is wrong with a request."""
    return make_response(request, rejection.status, rejection.reason, to_tag=to_tag, fields=rejection.fields)


def is_answerable(request: Request) -> bool:
    """Whether a rejection of this request may be sent: never of an ACK, and only where a Via leads it back."""
    return request.method != "ACK" and "Via" in request.headers


def _tagged(value: str, to_tag: str) -> str:
    try:
        tagged = bool(parse_address(value).tag)
    except HeaderError:
        return value
    return value if tagged else f"{value};tag={to_tag}"


def _encode(start: str, headers: Headers, body: bytes) -> bytes:
    lines = [start, *[f"{name}: {value}" for name, value in headers], f"Content-Length: {len(body)}"]
    text = "\r\n".join(lines)
    line_ends = len(lines) - 1
    if text.count("\r") != line_ends or text.count("\n") != line_ends:
        raise LocalError(f"a line end in {_culprit(start, headers)}")
    for name, _ in headers:
        if not is_token(name) or canonical_name(name) == "Content-Length":
            raise LocalError("a header name is no token, or Content-Length was set by hand")
    try:
        return b"%b\r\n\r\n%b" % (text.encode("utf-8", "surrogateescape"), body)
    except UnicodeEncodeError:
        raise LocalError("a header value holds half a character") from None


def _culprit(start: str, headers: Headers) -> str:
    for name, value in headers:
        if "\r" in value or "\n" in value:
            return f"the value of {name}" if is_token(name) else "a header"
    return "the start line" if "\r" in start or "\n" in start else "the name of a header"
