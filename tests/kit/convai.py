"""The agent side's messages as the vendor's server writes them, and ours to it, read back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

CONVERSATION_ID = "conv_01jz8k2m3n4p5q6r7s8t9v0w1x"

FLAT_ERROR = '{"type":"error","message":"received 1002 (protocol error) This request exceeds your quota limit."}'
"""The flat shape of ``error``, word for word as seen in the field."""


def metadata(output_format: str = "ulaw_8000", input_format: str = "ulaw_8000") -> str:
    """The server's first message."""
    return (
        '{"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":'
        f'{{"conversation_id":"{CONVERSATION_ID}","agent_output_audio_format":"{output_format}",'
        f'"user_input_audio_format":"{input_format}"}}}}'
    )


def audio(payload: bytes, event_id: int | None = 1) -> str:
    """Agent speech; without ``event_id`` as from old servers."""
    body: dict[str, object] = {"audio_base_64": base64.b64encode(payload).decode()}
    if event_id is not None:
        body["event_id"] = event_id
    return json.dumps({"audio_event": body, "type": "audio"})


def interruption(event_id: int) -> str:
    """The caller talks over the agent."""
    return f'{{"interruption_event":{{"event_id":{event_id}}},"type":"interruption"}}'


def ping(event_id: int, ping_ms: float | None = None) -> str:
    """A ping; the first one carries no estimate of the round trip."""
    return json.dumps({"ping_event": {"event_id": event_id, "ping_ms": ping_ms}, "type": "ping"})


def agent_response(text: str) -> str:
    """What the agent is about to say."""
    return json.dumps({"type": "agent_response", "agent_response_event": {"agent_response": text}})


def user_transcript(text: str) -> str:
    """What the caller said."""
    return json.dumps({"type": "user_transcript", "user_transcription_event": {"user_transcript": text}})


def correction(text: str) -> str:
    """What the agent got to say."""
    body = {"original_agent_response": "", "corrected_agent_response": text}
    return json.dumps({"type": "agent_response_correction", "agent_response_correction_event": body})


def tool_call(name: str, call_id: str) -> str:
    """A call of a client tool."""
    body = {"tool_name": name, "tool_call_id": call_id, "parameters": {"destination": "sales"}, "event_id": 7}
    return json.dumps({"type": "client_tool_call", "client_tool_call": body})


def error(code: int, error_type: str, message: str) -> str:
    """The nested shape of ``error``."""
    return json.dumps({"type": "error", "error_event": {"code": code, "error_type": error_type, "message": message}})


def uploaded(items: Iterable[object]) -> list[bytes]:
    """The caller audio in our messages to the agent, one payload a message."""
    messages = [json.loads(item) for item in items if isinstance(item, str)]
    return [base64.b64decode(m["user_audio_chunk"]) for m in messages if "user_audio_chunk" in m]
