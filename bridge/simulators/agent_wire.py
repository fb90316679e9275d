"""The texts that the agent simulator sends, and its strict reading of what clients send.

Shapes and required fields: "ElevenLabs Agents Contract" (agent.asyncapi.yaml, npm @elevenlabs/types 0.23.0, read
2026-11-21). Independent of ``bridge.convai`` on purpose: each is a check on the other.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

_SHOWN_CHARS = 80
"""How much of a wrong message is repeated in a violation."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


# --- server -> client ------------------------------------------------------------------------------------


def _text(kind: str, key: str, body: Mapping[str, object]) -> str:
    return _encoder.encode({"type": kind, key: body}).decode()


def metadata(conversation_id: str, output_format: str, input_format: str) -> str:
    """First message of a conversation."""
    body = {
        "conversation_id": conversation_id,
        "agent_output_audio_format": output_format,
        "user_input_audio_format": input_format,
    }
    return _text("conversation_initiation_metadata", "conversation_initiation_metadata_event", body)


def audio(audio_base64: str, event_id: int, alignment: Mapping[str, Sequence[object]] | None = None) -> str:
    """A piece of the agent's speech."""
    body: dict[str, object] = {"audio_base_64": audio_base64, "event_id": event_id}
    if alignment is not None:
        body["alignment"] = alignment
    return _text("audio", "audio_event", body)


def alignment(text: str, duration_ms: float) -> dict[str, Sequence[object]]:
    """Character timings, spread evenly over ``duration_ms``; enough for a client that only has to carry them."""
    each_ms = duration_ms / max(len(text), 1)
    return {
        "chars": list(text),
        "char_start_times_ms": [int(index * each_ms) for index in range(len(text))],
        "char_durations_ms": [int(each_ms)] * len(text),
    }


def interruption(event_id: int) -> str:
    """The caller spoke into this turn: nothing of it, nor of any turn before, may be played any more."""
    return _text("interruption", "interruption_event", {"event_id": event_id})


def ping(event_id: int, ping_ms: int | None) -> str:
    """Keep-alive; ``ping_ms`` is the round trip measured last, null before the first."""
    return _text("ping", "ping_event", {"event_id": event_id, "ping_ms": ping_ms})


def user_transcript(text: str, event_id: int) -> str:
    """What the recogniser understood in the end."""
    return _text("user_transcript", "user_transcription_event", {"user_transcript": text, "event_id": event_id})


def tentative_user_transcript(text: str, event_id: int) -> str:
    """What the recogniser has understood so far."""
    body = {"user_transcript": text, "event_id": event_id}
    return _text("tentative_user_transcript", "tentative_user_transcription_event", body)


def agent_response(text: str, event_id: int) -> str:
    """The whole text of the agent's turn."""
    return _text("agent_response", "agent_response_event", {"agent_response": text, "event_id": event_id})


def agent_response_correction(original: str, corrected: str, event_id: int) -> str:
    """What of an interrupted turn the caller is believed to have heard."""
    body = {"original_agent_response": original, "corrected_agent_response": corrected, "event_id": event_id}
    return _text("agent_response_correction", "agent_response_correction_event", body)


def client_tool_call(tool_name: str, tool_call_id: str, parameters: Mapping[str, object], event_id: int) -> str:
    """A tool that the client is to run."""
    body = {
        "tool_name": tool_name,
        "tool_call_id": tool_call_id,
        "parameters": parameters,
        "event_id": event_id,
    }
    return _text("client_tool_call", "client_tool_call", body)


def agent_tool_request(tool_name: str, tool_call_id: str, tool_type: str, event_id: int) -> str:
    """The agent is about to run a tool; parameters are not told."""
    body = {"tool_name": tool_name, "tool_call_id": tool_call_id, "tool_type": tool_type, "event_id": event_id}
    return _text("agent_tool_request", "agent_tool_request", body)


def agent_tool_response(tool_name: str, tool_call_id: str, tool_type: str, event_id: int) -> str:
    """The agent ran a tool without error."""
    body = {
        "tool_name": tool_name,
        "tool_call_id": tool_call_id,
        "tool_type": tool_type,
        "is_error": False,
        "is_called": True,
        "event_id": event_id,
    }
    return _text("agent_tool_response", "agent_tool_response", body)


def error(code: int, message: str, error_type: str) -> str:
    """The conversation is about to be closed with ``code``, because of ``error_type`` (empty = untold)."""
    body: dict[str, object] = {"code": code, "message": message, "reason": message}
    if error_type:
        body["error_type"] = error_type
    return _text("error", "error_event", body)


def flat_error(message: str) -> str:
    """The error shape without ``error_event``: in no contract, but on the wire (elevenlabs/packages, 2026-07)."""
    return _encoder.encode({"type": "error", "message": message}).decode()


# --- client -> server ------------------------------------------------------------------------------------


class WireViolation(Exception):
    """A client message that the contract does not allow."""

    def __init__(self, error_type: Literal["invalid_message", "missing_fields", "override_error"], text: str) -> None:
        super().__init__(text)
        self.error_type = error_type
        """What an ``error`` message calls it."""
        self.text = text
        """Field and problem."""


class UserAudio(msgspec.Struct, frozen=True, gc=False):
    """A piece of the caller's audio: the only message without a type."""

    payload: bytes
    base64: str
    """As it came."""


class _Typed(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all messages with a type. Fields that the contract does not know are let pass, as it says so."""


class Initiation(_Typed, frozen=True, tag="conversation_initiation_client_data"):
    """The client's first message."""

    conversation_config_override: dict[str, Any] = {}
    custom_llm_extra_body: dict[str, Any] = {}
    dynamic_variables: dict[str, str | int | float | bool] = {}
    user_id: str | None = None
    source_info: dict[str, str | None] = {}
    tool_mock_config: dict[str, Any] = {}


class Pong(_Typed, frozen=True, tag="pong"):
    """Answer to a ping."""

    event_id: int


class ToolResult(_Typed, frozen=True, tag="client_tool_result"):
    """What came of a client tool."""

    tool_call_id: str
    result: str
    is_error: bool


class ContextualUpdate(_Typed, frozen=True, tag="contextual_update"):
    """Something the agent should know, without a turn of its own."""

    text: str
    context_id: str = ""


class UserMessage(_Typed, frozen=True, tag="user_message"):
    """A turn of the user in writing."""

    text: str | None = None
    rich_content_id: str = ""


class UserActivity(_Typed, frozen=True, tag="user_activity"):
    """The user is there."""


class Feedback(_Typed, frozen=True, tag="feedback"):
    """A mark for an answer of the agent."""

    event_id: int
    score: Literal["like", "dislike"] | None


class McpToolApproval(_Typed, frozen=True, tag="mcp_tool_approval_result"):
    """Whether an MCP tool may run."""

    tool_call_id: str
    is_approved: bool


class MultimodalMessage(_Typed, frozen=True, tag="multimodal_message"):
    """A turn of the user with a file."""

    text: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


TypedMessage = (
    Initiation
    | Pong
    | ToolResult
    | ContextualUpdate
    | UserMessage
    | UserActivity
    | Feedback
    | McpToolApproval
    | MultimodalMessage
)
ClientMessage = UserAudio | TypedMessage

_OVERRIDE_PARTS = frozenset({"agent", "asr", "tts", "conversation", "turn", "text_only"})
"""Parts of a conversation that a client may ask to change; audio formats are not among them. ``text_only`` belongs
into ``conversation``, but the official Python SDK 2.78 puts it here."""

_RESERVED_PREFIX = "system__"
"""Dynamic variables of this prefix belong to the agents' platform."""


def read_client_message(message: str | bytes) -> ClientMessage:
    """Read one message of a client. Raises ``WireViolation`` for all that the contract does not allow."""
    if isinstance(message, bytes):
        raise WireViolation("invalid_message", f"binary message of {len(message)} bytes; all messages are JSON text")
    try:
        body = _decoder.decode(message)
    except msgspec.DecodeError as error:
        raise WireViolation("invalid_message", f"not JSON ({error}): {message[:_SHOWN_CHARS]!r}") from error
    if not isinstance(body, dict):
        raise WireViolation("invalid_message", f"not a JSON object: {message[:_SHOWN_CHARS]!r}")
    if "user_audio_chunk" in body:
        return _read_audio(body)
    if "type" not in body:
        raise WireViolation("missing_fields", f"neither type nor user_audio_chunk: {message[:_SHOWN_CHARS]!r}")
    return _read_typed(body)


def _read_audio(body: dict[str, Any]) -> UserAudio:
    if len(body) > 1:
        others = ", ".join(sorted(key for key in body if key != "user_audio_chunk"))
        raise WireViolation("invalid_message", f"user_audio_chunk goes alone, here with {others[:_SHOWN_CHARS]}")
    base64 = body["user_audio_chunk"]
    if not isinstance(base64, str):
        raise WireViolation("invalid_message", f"user_audio_chunk is {type(base64).__name__}, not a string")
    try:
        return UserAudio(binascii.a2b_base64(base64, strict_mode=True), base64)
    except ValueError as error:  # binascii.Error, and non-ASCII characters
        raise WireViolation("invalid_message", "user_audio_chunk is not base64") from error


def _read_typed(body: dict[str, Any]) -> TypedMessage:
    try:
        message: TypedMessage = msgspec.convert(body, TypedMessage)
    except msgspec.ValidationError as error:
        missing = "missing required field" in str(error)
        kind = str(body["type"])[:_SHOWN_CHARS]
        raise WireViolation("missing_fields" if missing else "invalid_message", f"{kind}: {error}") from error
    if isinstance(message, Initiation):
        unknown = sorted(message.conversation_config_override.keys() - _OVERRIDE_PARTS)
        if unknown:
            raise WireViolation("override_error", f"conversation_config_override has no {unknown[0][:_SHOWN_CHARS]}")
        reserved = sorted(name for name in message.dynamic_variables if name.startswith(_RESERVED_PREFIX))
        if reserved:
            raise WireViolation("invalid_message", f"dynamic variable {reserved[0][:_SHOWN_CHARS]} has a reserved name")
    return message
