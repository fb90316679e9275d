"""The messages of the agent WebSocket as types: one decoder in, one function per message out.

Source: the vendor's AsyncAPI document of the Agents WebSocket (npm @elevenlabs/types 0.23.0) and its Python SDK
2.78.0, read 2026-11-21. Only fields that the bridge uses are declared; others are skipped by the decoder.
Fields that old servers leave out have a default, because a call must not die of a missing detail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from pybase64 import b64encode_as_string

from bridge.errors import RemoteError


class _ServerMessage(msgspec.Struct, tag_field="type", frozen=True, gc=False):
    """Base of the server's messages: the JSON field ``type`` selects the class."""


class MetadataBody(msgspec.Struct, frozen=True):
    """Body of the server's first message."""

    conversation_id: str
    agent_output_audio_format: str = "pcm_16000"
    user_input_audio_format: str = "pcm_16000"


class Metadata(_ServerMessage, tag="conversation_initiation_metadata", frozen=True):
    """The conversation has begun; the audio formats are the agent's settings and must be obeyed."""

    conversation_initiation_metadata_event: MetadataBody


class AudioBody(msgspec.Struct, frozen=True, gc=False):
    """Body of ``audio``. The decoder turns base64 into bytes and refuses what is not base64."""

    audio_base_64: bytes
    event_id: int | None = None


class Audio(_ServerMessage, tag="audio", frozen=True):
    """Agent speech; any size, faster than real time, not cut at frames or even samples."""

    audio_event: AudioBody


class InterruptionBody(msgspec.Struct, frozen=True, gc=False):
    """Body of ``interruption``."""

    event_id: int


class Interruption(_ServerMessage, tag="interruption", frozen=True):
    """The caller talks over the agent: audio with an event_id up to this one is void."""

    interruption_event: InterruptionBody


class PingBody(msgspec.Struct, frozen=True, gc=False):
    """Body of ``ping``; ``ping_ms`` is the server's own estimate of the round trip, absent at first."""

    event_id: int
    ping_ms: float | None = None


class Ping(_ServerMessage, tag="ping", frozen=True):
    """Liveness; to be answered at once."""

    ping_event: PingBody


class UserTranscriptBody(msgspec.Struct, frozen=True):
    """Body of ``user_transcript``."""

    user_transcript: str
    event_id: int | None = None


class UserTranscript(_ServerMessage, tag="user_transcript", frozen=True):
    """What the caller said, final."""

    user_transcription_event: UserTranscriptBody


class AgentResponseBody(msgspec.Struct, frozen=True):
    """Body of ``agent_response``."""

    agent_response: str
    event_id: int | None = None


class AgentResponse(_ServerMessage, tag="agent_response", frozen=True):
    """What the agent is about to say."""

    agent_response_event: AgentResponseBody


class CorrectionBody(msgspec.Struct, frozen=True):
    """Body of ``agent_response_correction``."""

    original_agent_response: str
    corrected_agent_response: str
    event_id: int | None = None


class Correction(_ServerMessage, tag="agent_response_correction", frozen=True):
    """What the agent really got to say before it was interrupted."""

    agent_response_correction_event: CorrectionBody


class ClientToolCallBody(msgspec.Struct, frozen=True):
    """Body of ``client_tool_call``."""

    tool_name: str
    tool_call_id: str
    parameters: dict[str, Any] = {}
    event_id: int | None = None


class ClientToolCall(_ServerMessage, tag="client_tool_call", frozen=True):
    """The agent wants us to do something and waits for the result."""

    client_tool_call: ClientToolCallBody


class ToolResponseBody(msgspec.Struct, frozen=True):
    """Body of ``agent_tool_response``."""

    tool_name: str
    tool_call_id: str = ""
    tool_type: str = ""
    is_error: bool = False


class ToolResponse(_ServerMessage, tag="agent_tool_response", frozen=True):
    """A tool of the agent's own ran, e.g. the system tool ``end_call``."""

    agent_tool_response: ToolResponseBody


class ErrorBody(msgspec.Struct, frozen=True):
    """Body of the nested shape of ``error``."""

    code: int | None = None
    message: str | None = None
    error_type: str | None = None
    reason: str | None = None


class Error(_ServerMessage, tag="error", frozen=True):
    """Something failed; a close usually follows. Two shapes are in the field: nested, and a flat ``message``."""

    error_event: ErrorBody | None = None
    message: str | None = None
    code: int | None = None


ServerMessage = (
    Metadata
    | Audio
    | Interruption
    | Ping
    | UserTranscript
    | AgentResponse
    | Correction
    | ClientToolCall
    | ToolResponse
    | Error
)


class _Envelope(msgspec.Struct):
    type: str


decode_fast: Callable[[str | bytes], ServerMessage] = msgspec.json.Decoder(ServerMessage).decode
"""Decode a good message; ``DECODE_ERRORS`` are raised for all others, and ``decode`` says what is wrong with them."""
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_KNOWN_TYPES = frozenset(str(cls.__struct_config__.tag) for cls in _ServerMessage.__subclasses__())

IGNORED_TYPES = frozenset(
    {
        "tentative_user_transcript",
        "agent_chat_response_part",
        "agent_reasoning_response_part",
        "agent_tool_request",
        "agent_tool_response_full_payload",
        "mcp_tool_call",
        "mcp_connection_status",
        "vad_score",
        "context_usage",
        "asr_initiation_metadata",
        "guardrail_triggered",
        "rich_content",
        "internal_turn_probability",
        "internal_tentative_agent_response",
        "agent_typing",
        "external_agent_connected",
        "external_agent_disconnected",
        "agent_response_metadata",
        "agent_response_complete",
    }
)
"""Types that the vendor documents and a phone call has no use for: skipped, and not counted as unknown."""


class UnknownType(Exception):
    """The message is well formed but of a type that this version does not know; ``args[0]`` names it."""


class Malformed(RemoteError):
    """A message of a known type lacks a field or has one of the wrong type; the text names it."""


def decode(message: str | bytes) -> ServerMessage:
    """Read one text message of the server.

    Raises ``UnknownType`` for types to ignore, ``Malformed`` for a broken message of a known type, and
    ``RemoteError`` for what is no message of this protocol at all.
    """
    try:
        return decode_fast(message)
    except DECODE_ERRORS as error:
        problem = str(error)
    try:
        name = _envelope_decoder.decode(message).type
    except DECODE_ERRORS:
        raise RemoteError(f"not a message of the agent protocol: {problem}") from None
    if name not in _KNOWN_TYPES:
        raise UnknownType(name[:64])
    raise Malformed(f"{name}: {problem}")


AUDIO_HEAD, AUDIO_TAIL = '{"user_audio_chunk":"', '"}'
"""What stands around the base64 text of caller audio; the media path puts it together without a call."""


def user_audio_chunk(payload: bytes) -> str:
    """The message that carries caller audio; the one message without a ``type``."""
    return AUDIO_HEAD + b64encode_as_string(payload) + AUDIO_TAIL


def pong(event_id: int) -> str:
    """The answer to a ``ping``."""
    return f'{{"type":"pong","event_id":{event_id}}}'


def _text(message: dict[str, object]) -> str:
    return msgspec.json.encode(message).decode()


def client_tool_result(tool_call_id: str, result: str, is_error: bool) -> str:
    """The answer to a ``client_tool_call``; all three fields are required and ``result`` is a string."""
    return _text({"type": "client_tool_result", "tool_call_id": tool_call_id, "result": result, "is_error": is_error})


def contextual_update(text: str) -> str:
    """Tell the agent something without taking a turn."""
    return _text({"type": "contextual_update", "text": text})


def user_message(text: str) -> str:
    """Say something in the caller's place; takes a turn."""
    return _text({"type": "user_message", "text": text})


def user_activity() -> str:
    """Keep the agent from re-engaging while the caller is busy."""
    return '{"type":"user_activity"}'


class InitiationData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What we tell the agent before the conversation; empty members are left out, never sent as null.

    Names that begin with ``system__`` are reserved by the vendor.
    """

    conversation_config_override: dict[str, Any] = {}
    custom_llm_extra_body: dict[str, Any] = {}
    dynamic_variables: dict[str, str | int | float | bool] = {}
    user_id: str = ""
    source_info: dict[str, str] = {}


class _Initiation(InitiationData, tag_field="type", tag="conversation_initiation_client_data", frozen=True):
    pass


def initiation(data: InitiationData) -> str:
    """The client's first message."""
    fields = {name: getattr(data, name) for name in data.__struct_fields__}
    return msgspec.json.encode(_Initiation(**fields)).decode()
