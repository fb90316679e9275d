"""The SIP messages of each call as they were sent and received, with what is secret left out. Pure.

Theory of operation: an INVITE with a Call-ID that is not known opens a log, and every message with that Call-ID goes
into it. A log that no call claims (a challenge that nobody answered, a scanner) is dropped after a while. Messages are
kept as they are and cost nothing but memory; they are read and cleaned only when somebody wants to see them.

What is left out: credentials but for scheme and user, keys of SRTP, passwords in URIs, headers whose names sound of
secrets, the bodies of INFO and of keypad notifications (which are pressed keys), and bodies that are no text.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from bridge.auth.sip_digest_header import parse_credentials
from bridge.sip.errors import NotSip
from bridge.sip.flow import Flow
from bridge.sip.framing import parse_datagram
from bridge.sip.grammar import readable
from bridge.sip.message import Message, Request

MAX_FIRST = 40
"""Messages of a call's beginning that are kept: setup with challenges, early media and a failed attempt or two."""
MAX_LATEST = 80
"""Messages kept besides, the latest: a call of hours with session timers has hundreds in between."""
MAX_LOG_BYTES = 128 * 1024
"""Of one call; some hundred messages."""
MAX_TEXT_CHARS = 16 * 1024
"""Of one message as it is shown."""
MAX_SHOWN_BODY_BYTES = 4096
"""A description has some 300 bytes."""

ELIDED = "(left out)"
_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
_SECRET_NAMES = re.compile(r"(?i)cookie|token|secret|passw|pwd|credential|api-?key|signature|session-?key|private-?key")
_URI_PASSWORD = re.compile(r"(?i)(\bsips?:[^\s:@<>;,\"]{1,256}):[^\s@<>\"]{0,256}@")
_SDP_KEY = re.compile(r"(?im)^((?:a=crypto:[^\r\n]*?inline:)|(?:a=key-mgmt:)|(?:k=))[^\r\n]*")
_TEXT_BODIES = ("application/sdp", "message/sipfrag", "text/plain", "application/media_control+xml")
"""Bodies that are shown; all others only by their length."""
_KNOWN_NAMES = 512
"""Names of headers of which it is remembered whether they sound of secrets."""
_CALL_ID = re.compile(rb"(?i)\r\n(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r\n")


class SipMessageEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a call."""

    at: float
    """When it was sent or received, Unix seconds."""
    sent: bool
    """True = by the bridge."""
    transport: str
    """`UDP`, `TCP` or `TLS`."""
    peer: str
    """Address and port of the other side."""
    summary: str
    """Method and CSeq, or status, reason and the method answered."""
    text: str
    """The message; secrets are replaced by `(left out)`."""


class SipTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The SIP messages of one call, in the order in which they were sent and received."""

    call_id: str
    """Call-ID of the dialog."""
    messages: list[SipMessageEntry]
    left_out: int = 0
    """Messages in the middle of a long call that are not kept: they stood after the first `first`."""
    first: int = 0
    """How many of the messages stand before the gap; 0 = there is none."""


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    sent: bool
    flow: Flow
    message: Message | bytes
    size: int


@dataclass(slots=True)
class MessageLog:
    """The messages of one call."""

    call_id: str
    opened_at: float
    is_claimed: bool = False
    _first: list[_Kept] = field(default_factory=list)
    _latest: deque[_Kept] = field(default_factory=deque)
    _bytes: int = 0
    _left_out: int = 0

    def add(self, message: Message | bytes, flow: Flow, at: float, *, sent: bool) -> None:
        """Note a message that was sent to, or received from, the end of this flow. ``at`` is Unix seconds."""
        size = len(message) if isinstance(message, bytes) else _size(message)
        kept = _Kept(at, sent, flow, message, size)
        if not self._latest and len(self._first) < MAX_FIRST and self._bytes + size <= MAX_LOG_BYTES // 2:
            self._first.append(kept)
        else:
            self._latest.append(kept)
        self._bytes += size
        while self._latest and (len(self._latest) > MAX_LATEST or self._bytes > MAX_LOG_BYTES):
            self._bytes -= self._latest.popleft().size
            self._left_out += 1

    def __len__(self) -> int:
        return len(self._first) + len(self._latest)

    def trace(self) -> SipTrace:
        """What there is so far, with secrets left out."""
        messages = [_entry(kept) for kept in (*self._first, *self._latest)]
        return SipTrace(
            call_id=readable(self.call_id),
            messages=messages,
            left_out=self._left_out,
            first=len(self._first) if self._left_out else 0,
        )


class MessageLogs:
    """The logs of all calls of one process. Times are Unix seconds."""

    def __init__(self, *, max_logs: int = 4000, max_unclaimed: int = 500, unclaimed_s: float = 40.0) -> None:
        """``max_logs`` bounds the claimed ones, of calls that are on; ``unclaimed_s`` is longer than timer B."""
        self._max_logs = max_logs
        self._max_unclaimed = max_unclaimed
        self._unclaimed_s = unclaimed_s
        self._claimed: dict[str, MessageLog] = {}
        self._unclaimed: OrderedDict[str, MessageLog] = OrderedDict()

    def note(self, message: Message, flow: Flow, at: float, *, sent: bool) -> None:
        """Note a message."""
        call_id = message.headers.get("Call-ID") or ""
        is_opening = isinstance(message, Request) and message.method == "INVITE"
        self._note(call_id, is_opening, message, flow, at, sent=sent)

    def note_bytes(self, data: bytes, flow: Flow, at: float, *, sent: bool) -> None:
        """Note a message that is there only as it goes onto the wire."""
        match = _CALL_ID.search(data)
        call_id = match[1].decode("utf-8", "surrogateescape") if match else ""
        self._note(call_id, data.startswith(b"INVITE "), data, flow, at, sent=sent)

    def claim(self, call_id: str) -> None:
        """There is a call with this Call-ID: keep its log until it is taken."""
        log = self._unclaimed.pop(call_id, None)
        if log is not None and len(self._claimed) < self._max_logs:
            log.is_claimed = True
            self._claimed[call_id] = log

    def find(self, call_id: str) -> MessageLog | None:
        """The log so far."""
        return self._claimed.get(call_id) or self._unclaimed.get(call_id)

    def take(self, call_id: str) -> MessageLog | None:
        """The log, which gets no more messages: some seconds after the end, lest the last answers are missing."""
        return self._claimed.pop(call_id, None) or self._unclaimed.pop(call_id, None)

    def __len__(self) -> int:
        return len(self._claimed) + len(self._unclaimed)

    def _note(
        self, call_id: str, is_opening: bool, message: Message | bytes, flow: Flow, at: float, *, sent: bool
    ) -> None:
        log = self._claimed.get(call_id) or self._unclaimed.get(call_id)
        if log is None:
            if not (is_opening and call_id):
                return
            self._forget(at)
            log = self._unclaimed[call_id] = MessageLog(call_id, at)
        log.add(message, flow, at, sent=sent)

    def _forget(self, at: float) -> None:
        """Drop what nobody claimed in time, and the oldest where there are too many."""
        while self._unclaimed:
            oldest = next(iter(self._unclaimed.values()))
            if len(self._unclaimed) < self._max_unclaimed and at - oldest.opened_at < self._unclaimed_s:
                break
            self._unclaimed.popitem(last=False)


# --- as it is shown --------------------------------------------------------------------------------------


def show_message(message: Message) -> str:
    """A message as text with ``\\n`` at line ends, secrets left out, not longer than ``MAX_TEXT_CHARS``."""
    if isinstance(message, Request):
        start = f"{message.method} {message.uri} SIP/2.0"
    else:
        start = f"SIP/2.0 {message.status} {message.reason}"
    lines = [start, *[f"{name}: {_value(name, value)}" for name, value in message.headers]]
    head = "\n".join([_clean(line) for line in lines])
    body = _body(message)
    text = f"{head}\n\n{body}" if body else head
    return text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + "…"


def summarize(message: Message) -> str:
    """A message in a few words: ``INVITE``, ``200 OK (INVITE)``."""
    if isinstance(message, Request):
        return readable(message.method[:40])
    method = (message.headers.get("CSeq") or "").rpartition(" ")[2]
    return readable(f"{message.status} {message.reason[:60]}" + (f" ({method[:40]})" if method else ""))


def _entry(kept: _Kept) -> SipMessageEntry:
    message, flow = _read(kept.message), kept.flow
    host = f"[{flow.host}]" if ":" in flow.host else flow.host
    return SipMessageEntry(
        at=kept.at,
        sent=kept.sent,
        transport=flow.transport.value,
        peer=f"{host}:{flow.port}",
        summary=summarize(message) if message else "?",
        text=show_message(message) if message else f"({kept.size} bytes left out)",
    )


def _read(message: Message | bytes) -> Message | None:
    if not isinstance(message, bytes):
        return message
    try:
        return parse_datagram(message)
    except NotSip:
        return None


def _size(message: Message) -> int:
    return len(message.body) + 100 + sum(len(name) + len(value) + 4 for name, value in message.headers)


def _value(name: str, value: str) -> str:
    lowered = name.lower()
    if lowered in _CREDENTIALS:
        credentials = parse_credentials(value)
        scheme = value.partition(" ")[0][:16]
        shown = f'Digest username="{credentials.username}", ' if credentials else f"{scheme} "
        return shown + ELIDED
    return ELIDED if _is_secret(lowered) else value


@lru_cache(_KNOWN_NAMES)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def _clean(line: str) -> str:
    """One line without control characters, and without passwords in URIs."""
    text = line if line.isprintable() else readable(line)
    return _URI_PASSWORD.sub(rf"\1:{ELIDED}@", text) if "@" in text and ":" in text else text


def _body(message: Message) -> str:
    if not message.body:
        return ""
    kind = (message.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    is_keys = isinstance(message, Request) and message.method == "INFO" and kind != "application/media_control+xml"
    if is_keys or kind not in _TEXT_BODIES or len(message.body) > MAX_SHOWN_BODY_BYTES:
        return f"({len(message.body)} bytes left out)"
    text = message.body.decode("utf-8", "surrogateescape").replace("\r\n", "\n").rstrip("\n")
    text = _SDP_KEY.sub(rf"\1{ELIDED}", text)
    return "\n".join([line if line.isprintable() else readable(line) for line in text.split("\n")])


def trace_text(trace: SipTrace, lines: Iterable[str] = ()) -> str:
    """The whole trace as text: a line with time, direction and peer above each message."""
    parts = list(lines)
    began = trace.messages[0].at if trace.messages else 0.0
    for number, message in enumerate(trace.messages):
        if trace.left_out and number == trace.first:
            parts.append(f"--- {trace.left_out} messages are not kept ---\n")
        way = "sent to" if message.sent else "received from"
        parts.append(f"--- {message.at - began:.3f} s {way} {message.peer} over {message.transport} ---")
        parts.append(message.text + "\n")
    return "\n".join(parts)
