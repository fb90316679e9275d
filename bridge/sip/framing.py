"""Where a message begins and ends: in a datagram, and in a stream of bytes (TCP, TLS).

Theory of operation: a datagram holds one message; a Content-Length shorter than it cuts the rest off, a longer one
is a flaw. A stream is cut at the empty line and by Content-Length, which it therefore must have; once that cannot be
trusted the stream is lost, because whatever follows could be body or message: the connection has to be closed.
Line ends between messages are keep-alives (RFC 5626 sections 3.5.1 and 4.4.1).

It holds at most one header section and one body of a stream, and every byte is looked at a bounded number of times.
The caller closes connections on which ``unfinished`` stays true for too long. Source: RFC 3261 sections 7.5 and 18.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.errors import NotSip, Rejection
from bridge.sip.grammar import is_token
from bridge.sip.message import Message
from bridge.sip.parse import DEFAULT_LIMITS, Head, Limits, StatusLine, parse_head

BODY_TOO_SHORT = Rejection(400, "Content-Length Exceeds Message")
NO_END_OF_HEADERS = Rejection(400, "No End of Header Section")
NO_LENGTH = Rejection(400, "Content-Length Required")
BODY_TOO_LARGE = Rejection(413, "Request Entity Too Large")
_EMPTY_LINE = b"\r\n\r\n"
_LINE_ENDS = b"\r\n"


def parse_datagram(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Message | None:
    """The message in a datagram; None = a keep-alive, to be ignored. Raises ``NotSip``.

    What follows the end of the body is dropped (RFC 4475 section 3.1.1.8 has a second request there).
    """
    data = data.lstrip(_LINE_ENDS)
    if not data:
        return None
    head_bytes, empty_line, rest = data.partition(_EMPTY_LINE)
    if len(head_bytes) > limits.header_bytes:
        raise NotSip("the header section is too long")
    if not empty_line:
        return parse_head(head_bytes.removesuffix(_LINE_ENDS), limits).with_body(b"", NO_END_OF_HEADERS)
    head = parse_head(head_bytes, limits)
    length = len(rest) if head.length is None else head.length
    if length > limits.body_bytes:
        return head.with_body(b"", BODY_TOO_LARGE)
    if length > len(rest):
        return head.with_body(rest, BODY_TOO_SHORT)
    return head.with_body(rest[:length])


@dataclass(frozen=True, slots=True)
class Ping:
    """A keep-alive that wants an answer: send ``PONG``."""


@dataclass(frozen=True, slots=True)
class Pong:
    """A single line end: the answer to our keep-alive, or a stray one."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream makes no sense from here on: send what is to be sent, then close the connection."""

    reason: str


PING = b"\r\n\r\n"
PONG = b"\r\n"

StreamEvent = Message | Ping | Pong | Lost


class StreamFramer:
    """Cuts one direction of one connection into messages."""

    __slots__ = ("_buffer", "_fresh_line_end", "_head", "_limits", "_lost", "_searched")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which no empty line begins
        self._head: Head | None = None  # of the message whose body is awaited
        self._fresh_line_end = False  # a line end came just now, so that another one makes it a ping
        self._lost = False

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer) or self._head is not None

    def receive(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes and return what they complete. ``Lost`` comes last and only once; then all is ignored."""
        events: list[StreamEvent] = []
        if self._lost:
            return events
        self._buffer += data
        try:
            while self._step(events):
                pass
        except NotSip as error:
            self._lose(str(error), events)
        return events

    def _step(self, events: list[StreamEvent]) -> bool:
        """Go one message further; False = more bytes are needed."""
        if self._head is None:
            self._take_line_ends(events)
            self._head = self._take_head()
            if self._head is None:
                return False
        return self._take_body(self._head, events)

    def _take_line_ends(self, events: list[StreamEvent]) -> None:
        """Keep-alives before a message; a run of them makes one ping, so that answers are no amplification."""
        pairs = 0
        while self._buffer[pairs * 2 : pairs * 2 + 2] == _LINE_ENDS:
            pairs += 1
        if pairs:
            del self._buffer[: pairs * 2]
            is_ping = pairs + self._fresh_line_end > 1
            events.append(Ping() if is_ping else Pong())
            self._fresh_line_end = not is_ping
        if self._buffer and self._buffer != b"\r":
            self._fresh_line_end = False

    def _take_head(self) -> Head | None:
        buffer, limits = self._buffer, self._limits
        if buffer and buffer != b"\r" and not is_token(chr(buffer[0])):
            raise NotSip("no start line")  # TLS on a plain port, or noise: no need to wait for more of it
        end = buffer.find(_EMPTY_LINE, self._searched)
        if (end if end >= 0 else len(buffer)) > limits.header_bytes:
            raise NotSip("the header section is too long")
        if end < 0:
            self._searched = max(0, len(buffer) - len(_EMPTY_LINE) + 1)
            return None
        head = parse_head(bytes(buffer[:end]), limits)
        del buffer[: end + len(_EMPTY_LINE)]
        self._searched = 0
        return head

    def _take_body(self, head: Head, events: list[StreamEvent]) -> bool:
        length = head.length
        if length is None and head.flaw is None and head.headers.get("Content-Type") is None:
            length = 0  # scenarios that were written for UDP leave it out; who names no type has no body
        if length is None or length > self._limits.body_bytes:
            events.append(head.with_body(b"", NO_LENGTH if length is None else BODY_TOO_LARGE))
            self._lose("the length of a body is missing, malformed or too high", events)
            return False
        if len(self._buffer) < length:
            return False
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        if isinstance(head.start, StatusLine) and head.flaw is not None:
            return True  # its length was good, so that the stream goes on behind it
        events.append(head.with_body(body))
        return True

    def _lose(self, reason: str, events: list[StreamEvent]) -> None:
        self._lost = True
        self._head = None
        self._buffer.clear()
        events.append(Lost(reason))
