"""Twilio's side of a bidirectional Media Stream, sans-I/O, stricter than Twilio itself.

Twilio logs a warning once per stream and ignores a wrong message; this one notes every violation with the code that
Twilio would log. Independent of ``bridge.providers.twilio`` on purpose: each is a check on the other.

Sources: Twilio docs "Media Streams - WebSocket Messages"; errors 31950 "Malformed Message" (binary) and 31951
"Invalid Message" (not JSON, unsupported event, missing or unexpected fields, wrong structure, other streamSid), read
2026-11-21. A WAV header in the audio is noted under 31951 too: Twilio plays it as noise without any word.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.media.format import ULAW_8K, MediaFormat
from bridge.simulators.twilio_playout import Playout

MALFORMED, INVALID = 31950, 31951

MAX_VIOLATIONS = 1000
"""Violations noted per stream: enough for any test, little enough for a peer gone mad."""

_SHOWN_CHARS = 80
"""How much of a wrong value is repeated in a violation."""

_BODY_FIELDS = {"media": "payload", "mark": "name", "clear": ""}
"""The messages a server may send, each with the one field of its body; ``clear`` has no body."""

_WAV_HEADER = b"RIFF"

_ENCODINGS = {"ulaw": "audio/x-mulaw", "alaw": "audio/x-alaw", "pcm": "audio/x-l16"}

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Violation:
    """Something the server did that Twilio would log."""

    code: int
    """Twilio's error code."""
    text: str
    at_ms: float = 0.0
    """Since the start of the stream."""


@dataclass(frozen=True, slots=True)
class Clear:
    """A ``clear`` that came."""

    at_s: float
    dropped_ms: float
    """Audio that was waiting."""
    marks: int
    """Pending marks that came back with it."""


class TwilioStream:
    """One stream. Call the ``send_`` methods and ``receive``; then write what ``drain`` gives, as text messages."""

    def __init__(
        self,
        call_sid: str,
        stream_sid: str,
        account_sid: str,
        custom_parameters: Mapping[str, str] | None = None,
        media_format: MediaFormat = ULAW_8K,
    ) -> None:
        """``media_format`` is what ``start`` announces; the play buffer is mu-law in any case."""
        self.call_sid, self.stream_sid, self.account_sid = call_sid, stream_sid, account_sid
        self.custom_parameters = dict(custom_parameters or {})
        self.media_format = media_format
        self.violations: list[Violation] = []
        self.marks_echoed: list[str] = []
        self.clears: list[Clear] = []
        self.media_messages = self.media_bytes = self.marks_received = 0
        self.playout: Playout | None = None
        """The play buffer; None before ``start``."""
        self._out: list[str] = []
        self._sequence = self._chunk = self._position = 0
        self._started_s = 0.0
        self._stopped = False

    # --- what Twilio sends -------------------------------------------------------------------------------

    def drain(self) -> list[str]:
        """Take the messages that must go out, in order."""
        out, self._out = self._out, []
        return out

    def send_connected(self) -> None:
        """First message on the socket."""
        self._push({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def send_start(self, now: float) -> None:
        """Second message; the play clock starts with it."""
        self._started_s, self.playout = now, Playout(now)
        start = {
            "accountSid": self.account_sid,
            "streamSid": self.stream_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {
                "encoding": _ENCODINGS[self.media_format.encoding.value],
                "sampleRate": self.media_format.rate_hz,
                "channels": self.media_format.channels,
            },
            "customParameters": self.custom_parameters,
        }
        self._push_numbered({"event": "start", "start": start, "streamSid": self.stream_sid})

    def send_media(self, payload: bytes) -> None:
        """A piece of the caller's audio."""
        self._chunk += 1
        media = {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str(self._position * 1000 // self.media_format.rate_hz),
            "payload": base64.b64encode(payload).decode("ascii"),
        }
        self._position += self.media_format.samples(len(payload))
        self._push_numbered({"event": "media", "media": media, "streamSid": self.stream_sid})

    def skip_media(self, size_bytes: int) -> None:
        """Lose a piece of the caller's audio, as Twilio does when we read too slowly (warning 31930)."""
        self._chunk += 1
        self._position += self.media_format.samples(size_bytes)
        self._sequence += 1

    def send_dtmf(self, digit: str) -> None:
        """The caller pressed a key. The track is "inbound_track" here, unlike in ``media``: so it is on the wire."""
        dtmf = {"track": "inbound_track", "digit": digit}
        self._push_numbered({"event": "dtmf", "streamSid": self.stream_sid, "dtmf": dtmf})

    def send_stop(self) -> None:
        """The call is over; what the server sends from now on is ignored."""
        self._stopped = True
        stop = {"accountSid": self.account_sid, "callSid": self.call_sid}
        self._push_numbered({"event": "stop", "streamSid": self.stream_sid, "stop": stop})

    def _push(self, message: dict[str, object]) -> None:
        self._out.append(msgspec.json.encode(message).decode())

    def _push_numbered(self, message: dict[str, object]) -> None:
        self._sequence += 1
        self._push({"sequenceNumber": str(self._sequence), **message})

    def _echo(self, names: list[str]) -> None:
        for name in names:
            self.marks_echoed.append(name)
            self._push_numbered({"event": "mark", "streamSid": self.stream_sid, "mark": {"name": name}})

    # --- what Twilio receives ----------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> None:
        """Feed one message of the server. Wrong ones are noted and ignored."""
        if self._stopped:
            return
        if isinstance(message, bytes):
            self._violate(MALFORMED, f"binary message of {len(message)} bytes; Twilio takes JSON text only", now)
            return
        try:
            body = _decoder.decode(message)
        except msgspec.DecodeError:
            self._violate(INVALID, f"not JSON: {message[:_SHOWN_CHARS]!r}", now)
            return
        problem = _wrong_shape(body, self.stream_sid)
        if problem:
            self._violate(INVALID, problem, now)
        elif self.playout is None:
            self._violate(INVALID, f"{body['event']} before start", now)
        else:
            self._obey(body, self.playout, now)

    def advance(self, now: float) -> None:
        """Let the caller hear up to ``now``; marks that are reached go out."""
        if self.playout is not None and not self._stopped:
            self._echo(self.playout.advance(now))

    def next_timer(self) -> float:
        """When ``advance`` is to be called for the next mark; inf = none is pending."""
        return float("inf") if self.playout is None or self._stopped else self.playout.next_mark_s()

    def _obey(self, body: dict[str, Any], playout: Playout, now: float) -> None:
        if body["event"] == "media":
            try:
                payload = binascii.a2b_base64(body["media"]["payload"], strict_mode=True)
            except ValueError:  # binascii.Error, and non-ASCII characters
                self._violate(INVALID, "media.payload is not base64", now)
                return
            if payload.startswith(_WAV_HEADER):
                self._violate(INVALID, "media.payload starts with a WAV header", now)
                return
            self.media_messages += 1
            self.media_bytes += len(payload)
            self._echo(playout.push(payload, now))
        elif body["event"] == "mark":
            self.marks_received += 1
            self._echo(playout.mark(body["mark"]["name"], now))
        else:
            before = len(self.marks_echoed)
            dropped_ms, names = playout.clear(now)
            self._echo(names)
            self.clears.append(Clear(now, dropped_ms, len(self.marks_echoed) - before))

    def _violate(self, code: int, text: str, now: float) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            at_ms = (now - self._started_s) * 1000 if self.playout is not None else 0.0
            self.violations.append(Violation(code, text, round(at_ms, 1)))


def _wrong_shape(body: object, stream_sid: str) -> str:
    """What is wrong with the shape of a server's message; empty = nothing."""
    if not isinstance(body, dict):
        return f"not a JSON object: {str(body)[:_SHOWN_CHARS]}"
    event = body.get("event")
    if not isinstance(event, str) or event not in _BODY_FIELDS:
        return f"event is {str(event)[:_SHOWN_CHARS]!r}; Twilio takes media, mark and clear"
    field = _BODY_FIELDS[event]
    expected = ("event", "streamSid", event) if field else ("event", "streamSid")
    problem = _wrong_fields(body, expected, event)
    if problem:
        return problem
    if body["streamSid"] != stream_sid:
        return f"{event}.streamSid is {str(body['streamSid'])[:_SHOWN_CHARS]!r}, not this stream's"
    if not field:
        return ""
    inner = body[event]
    if not isinstance(inner, dict):
        return f"{event}.{event} is {type(inner).__name__}, not an object"
    problem = _wrong_fields(inner, (field,), f"{event}.{event}")
    if problem:
        return problem
    value = inner[field]
    return "" if isinstance(value, str) else f"{event}.{field} is {type(value).__name__}, not a string"


def _wrong_fields(body: dict[str, Any], expected: tuple[str, ...], where: str) -> str:
    missing = [name for name in expected if name not in body]
    if missing:
        return f"{where} lacks {missing[0]}"
    unexpected = sorted(body.keys() - set(expected))
    return f"{where} has the unexpected field {unexpected[0][:_SHOWN_CHARS]}" if unexpected else ""
