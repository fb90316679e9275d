"""Vonage's side of a media socket, message by message."""

from __future__ import annotations

import json

UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
"""Of the caller's leg."""
TOKEN = "t1"


def connected(rate_hz: int = 16000, **headers: object) -> str:
    """The first message, with the headers that our NCCO sets; others take their place, None takes one out."""
    flattened = {"uuid": UUID, "token": TOKEN, **headers}
    content = {"event": "websocket:connected", "content-type": f"audio/l16;rate={rate_hz}"}
    return json.dumps(content | {name: value for name, value in flattened.items() if value is not None})


def frame(value: int = 1, rate_hz: int = 16000) -> bytes:
    """20 ms of one sample value, little-endian."""
    return value.to_bytes(2, "little", signed=True) * (rate_hz // 50)
