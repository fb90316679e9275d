"""Twilio's messages as Twilio writes them, and ours to it, read back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

STREAM_SID = "MZ18ad3ab5a668481ce02b83e7395059f0"
CALL_SID = "CAcbe9bbb9d4c24cb1a7d5ab1c4e8e2ac7"
ACCOUNT_SID = "AC00000000000000000000000000000001"

CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
STOP = (
    '{"event":"stop","sequenceNumber":"5","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","stop":{"accountSid":'
    '"AC00000000000000000000000000000001","callSid":"CAcbe9bbb9d4c24cb1a7d5ab1c4e8e2ac7"}}'
)

ULAW = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
L16_16K = {"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 1}


def start(parameters: Mapping[str, str] | None = None, media_format: Mapping[str, object] = ULAW) -> str:
    """The message with which a stream begins."""
    body = {
        "accountSid": ACCOUNT_SID,
        "streamSid": STREAM_SID,
        "callSid": CALL_SID,
        "tracks": ["inbound"],
        "mediaFormat": media_format,
        "customParameters": parameters or {},
    }
    return json.dumps({"event": "start", "sequenceNumber": "1", "start": body, "streamSid": STREAM_SID})


def media(payload: bytes, timestamp_ms: int = 0, *, track: str = "inbound", stream_sid: str = STREAM_SID) -> str:
    """Caller audio."""
    body = {
        "track": track,
        "chunk": "1",
        "timestamp": str(timestamp_ms),
        "payload": base64.b64encode(payload).decode(),
    }
    return json.dumps({"event": "media", "sequenceNumber": "2", "media": body, "streamSid": stream_sid})


def dtmf(digit: str, *, stream_sid: str = STREAM_SID) -> str:
    """A key that the caller pressed."""
    body = {"track": "inbound_track", "digit": digit}
    return json.dumps({"event": "dtmf", "streamSid": stream_sid, "sequenceNumber": "5", "dtmf": body})


def mark(name: str, *, stream_sid: str = STREAM_SID) -> str:
    """A mark of ours that comes back."""
    return json.dumps({"event": "mark", "sequenceNumber": "4", "streamSid": stream_sid, "mark": {"name": name}})


def sent(items: Iterable[object]) -> list[Any]:
    """Our messages to Twilio, parsed; what is no text stays as it is."""
    return [json.loads(item) if isinstance(item, str) else item for item in items]


def played(items: Iterable[object]) -> bytes:
    """The audio in our messages to Twilio, joined."""
    messages = [json.loads(item) for item in items if isinstance(item, str)]
    return b"".join(base64.b64decode(m["media"]["payload"]) for m in messages if m["event"] == "media")


def clears(items: Iterable[object]) -> int:
    """How often Twilio was told to empty its buffer."""
    return sum(json.loads(item)["event"] == "clear" for item in items if isinstance(item, str))


def marks(items: Iterable[object]) -> list[str]:
    """Names of the marks in our messages to Twilio."""
    messages = [json.loads(item) for item in items if isinstance(item, str)]
    return [m["mark"]["name"] for m in messages if m["event"] == "mark"]
