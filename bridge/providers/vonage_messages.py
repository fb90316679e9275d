"""The text messages of Vonage's WebSocket as types: one decoder in, one text or function per message out.

Sources: Vonage "WebSockets in the Vonage Voice API" (2020 and now) and "Audio Connector" of the Video API, read
2026-11-21; what public servers of it report (``websocket:dtmf`` nested in one more object, ``websocket:hangup``). Audio
is binary and never comes here.

Texts are rare (a key, a mark), so they are decoded into a plain object first: the headers of ``websocket:connected``
stand beside its own fields, and whoever wrote the NCCO chose their names and types.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from bridge.errors import RemoteError

MAX_HEADERS = 64
"""Of ``websocket:connected``. Vonage takes 512 bytes of them, so real ones have a handful."""
MAX_DURATION_MS = 60_000
"""Of a key press; nobody holds a key for longer."""
KEYS = frozenset("0123456789*#ABCD")

CLEAR = '{"action":"clear"}'
"""Empty the playback buffer; ``websocket:cleared`` comes back."""
VIDEO_CLEAR = '{"event":"websocket:cleared"}'
"""The same for the Video API, as its own server library (0.1.1) writes it."""

CONNECTED = "websocket:connected"
_MARK = "mark"
_GONE = frozenset({"websocket:disconnected", "websocket:hangup"})
_NAME_CHARS = 64


class Connected(msgspec.Struct, frozen=True):
    """The first message: what audio there will be, and the headers of the endpoint in our NCCO."""

    content_type: str
    headers: dict[str, str]
    """Everything else at the top level; what is no text is written as JSON, null is left out."""


class Dtmf(msgspec.Struct, frozen=True):
    """Somebody on the call pressed a key."""

    digit: str
    duration_ms: int


class Cleared(msgspec.Struct, frozen=True):
    """The playback buffer was emptied."""


class Notified(msgspec.Struct, frozen=True):
    """Everything before our ``notify`` has played."""

    mark: str
    """Empty where the payload is none of ours."""


class Gone(msgspec.Struct, frozen=True):
    """The leg is over: the Video API and one telephony platform say so in a text, the Voice API just closes."""

    name: str


class Unknown(msgspec.Struct, frozen=True):
    """An event that this version does not know, or none at all; Vonage may send such at any time."""

    name: str


FromVonage = Connected | Dtmf | Cleared | Notified | Gone | Unknown


class Malformed(Exception):
    """A known event that cannot be read. It is let pass, because a caller is on the line."""


_decoder = msgspec.json.Decoder(dict[str, Any])


def decode(message: str) -> FromVonage:
    """Read one text message.

    Raises ``RemoteError`` for what is no JSON object, and ``Malformed`` for a known event without its content.
    """
    try:
        fields = _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RemoteError(f"text that is no JSON object: {error}") from None
    name = fields.pop("event", "")
    match name:
        case "websocket:connected":
            return _connected(fields)
        case "websocket:dtmf":
            return _dtmf(fields)
        case "websocket:cleared":
            return Cleared()
        case "websocket:notify":
            return _notified(fields)
        case _:
            text = name if isinstance(name, str) else ""
            return Gone(text) if text in _GONE else Unknown(text[:_NAME_CHARS])


def _connected(fields: dict[str, Any]) -> Connected:
    content_type = fields.pop("content-type", "")
    if not isinstance(content_type, str):
        raise RemoteError("websocket:connected: content-type is no text")
    if len(fields) > MAX_HEADERS:
        raise RemoteError(f"websocket:connected: more than {MAX_HEADERS} headers")
    return Connected(content_type, {name: _text(value) for name, value in fields.items() if value is not None})


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _dtmf(fields: dict[str, Any]) -> Dtmf:
    """Flat as Vonage documents it, or in an object ``dtmf`` as others have seen it."""
    inner = fields.get("dtmf")
    source = inner if isinstance(inner, dict) else fields
    digit = str(source.get("digit", "")).upper()
    if digit not in KEYS:
        raise Malformed("websocket:dtmf: digit is not one of 0-9 * # A-D")
    return Dtmf(digit, _milliseconds(source.get("duration", fields.get("duration"))))


def _milliseconds(value: object) -> int:
    """0 for what is none: no key may be lost for its duration."""
    try:
        milliseconds = int(float(value))  # type: ignore[arg-type]  # what cannot be converted raises
    except (TypeError, ValueError, OverflowError):
        return 0
    return min(max(milliseconds, 0), MAX_DURATION_MS)


def _notified(fields: dict[str, Any]) -> Notified:
    payload = fields.get("payload")
    mark = payload.get(_MARK) if isinstance(payload, dict) else None
    return Notified(mark if isinstance(mark, str) else "")


def notify(mark: str) -> str:
    """Ask for ``websocket:notify`` with this name once everything before it has played."""
    return f'{{"action":"notify","payload":{{"{_MARK}":{json.dumps(mark)}}}}}'


def rate_of(content_type: str) -> int:
    """The sampling rate of ``audio/l16;rate=16000``. Raises ``ValueError`` with what is wrong."""
    kind, *parameters = (part.strip() for part in content_type.lower().split(";"))
    if kind != "audio/l16":
        raise ValueError(f"{ascii(kind[:40])} is not audio/l16")
    values: dict[str, str] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        values[name.strip()] = value.strip()
    rate, channels = values.get("rate", ""), values.get("channels", "1")
    if rate not in ("8000", "16000", "24000") or channels != "1":
        raise ValueError(
            f"rate {ascii(rate[:10])} with {ascii(channels[:5])} channels is not 8000, 16000 or 24000, mono"
        )
    return int(rate)
