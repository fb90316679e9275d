"""The text messages of Vonage's media socket, both ways, and what is wrong with those of a server.

Independent of ``bridge.providers`` on purpose: each is a check on the other. It knows no time and no audio.

Sources: Vonage "WebSockets in the Vonage Voice API" (first message, ``websocket:dtmf``, ``clear``, ``notify``), read
2026-11-21; ``websocket:dtmf`` nested in one more object as public servers have seen it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

RATES_HZ: Final = (8000, 16000, 24000)
"""What ``audio/l16`` is offered at."""

FRAME_MS: Final = 20
"""Audio in one binary message, both ways, never more and never less."""

MAX_TEXT_BYTES = 64 * 1024
"""Longest text that is read; real ones have some hundred bytes."""

MAX_VIOLATIONS = 1000
"""Violations kept of a socket: enough for any test, little enough for a peer gone mad."""

DTMF_MS = 260
"""Duration that is reported of a key."""

_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Violation:
    """Something against the protocol."""

    text: str
    at_ms: float
    """Since the socket was opened, or of the cloud since it started."""
    fatal: bool = False
    """Whether Vonage ends the socket for it."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Empty the playback buffer."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Send ``payload`` back once everything before has played."""

    payload: dict[str, Any]


class WireError(Exception):
    """A text message that Vonage does not understand; the text says why."""


_decoder = msgspec.json.Decoder(dict[str, Any])


def frame_bytes(rate_hz: int) -> int:
    """Size of a binary message: 320, 640 or 960 bytes."""
    return rate_hz * FRAME_MS // 1000 * 2


def content_type(rate_hz: int) -> str:
    """How NCCO and first message name the audio."""
    return f"audio/l16;rate={rate_hz}"


def connected(rate_hz: int, headers: Mapping[str, Any]) -> str:
    """The first message: the endpoint's headers stand beside the content type, not in an object of their own."""
    return _text({"event": "websocket:connected", "content-type": content_type(rate_hz), **headers})


def dtmf(digit: str, *, nested: bool = False) -> str:
    """Somebody on the call pressed a key."""
    pressed = {"digit": digit, "duration": DTMF_MS}
    return _text({"event": "websocket:dtmf", "dtmf": pressed} if nested else {"event": "websocket:dtmf", **pressed})


def cleared() -> str:
    """The buffer is empty."""
    return _text({"event": "websocket:cleared"})


def notified(payload: Mapping[str, Any]) -> str:
    """Everything before that ``notify`` has played."""
    return _text({"event": "websocket:notify", "payload": payload})


def read_command(text: str) -> Clear | Notify:
    """A server's text message. Raises ``WireError``."""
    if len(text) > MAX_TEXT_BYTES:
        raise WireError(f"a text of more than {MAX_TEXT_BYTES} characters")
    try:
        fields = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise WireError("a text that is no JSON object") from None
    action = fields.pop("action", None)
    if action == "clear":
        _no_more(fields, "clear")
        return Clear()
    if action == "notify":
        payload = fields.pop("payload", None)
        if not isinstance(payload, dict):
            raise WireError("notify without an object as its payload")
        _no_more(fields, "notify")
        return Notify(payload)
    raise WireError(f"action is {repr(action)[:_SHOWN_CHARS]}; a server sends clear and notify")


def _no_more(fields: Mapping[str, Any], action: str) -> None:
    if fields:
        raise WireError(f"{action} has the unexpected field {next(iter(fields))[:_SHOWN_CHARS]}")


def _text(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))
