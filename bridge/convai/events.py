"""What the agent's side tells the call. Immutable; see ``bridge.events`` for why they are structs."""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.media.format import MediaFormat
from bridge.outcome import EndReason


class AgentReady(msgspec.Struct, frozen=True):
    """The conversation has begun; these formats must be obeyed."""

    conversation_id: str
    input_format: MediaFormat
    """What the agent wants to hear."""
    output_format: MediaFormat
    """What the agent speaks."""


class AgentAudio(msgspec.Struct, frozen=True, gc=False):
    """Agent speech in the agent's output format; any size, also an odd number of bytes."""

    payload: bytes
    event_id: int | None


class Interrupted(msgspec.Struct, frozen=True):
    """The caller talks over the agent: drop what has not been played. Later stale audio is dropped already."""

    event_id: int


class CallerSaid(msgspec.Struct, frozen=True):
    """Final transcript of a caller's turn."""

    text: str


class AgentSaid(msgspec.Struct, frozen=True):
    """Text of an agent's turn, sent before its audio was played."""

    text: str


class AgentCorrected(msgspec.Struct, frozen=True):
    """The agent's last turn, cut to what it got to say."""

    text: str


class ToolCalled(msgspec.Struct, frozen=True):
    """The agent called a client tool; answer it once with ``Conversation.send_tool_result``."""

    name: str
    call_id: str
    parameters: dict[str, Any]


class SystemToolRan(msgspec.Struct, frozen=True):
    """A tool of the agent's own ran on its side."""

    name: str
    is_error: bool


class Pinged(msgspec.Struct, frozen=True):
    """A ping arrived and was answered."""

    round_trip_ms: float | None
    """The server's estimate of the round trip, once it has one."""


class AgentFault(msgspec.Struct, frozen=True):
    """The agent's side reported an error; an end usually follows. For the log."""

    detail: str


class AgentEnded(msgspec.Struct, frozen=True):
    """The conversation is over; no event follows. ``detail`` is for the log and holds no secret."""

    reason: EndReason
    detail: str


AgentEvent = (
    AgentReady
    | AgentAudio
    | Interrupted
    | CallerSaid
    | AgentSaid
    | AgentCorrected
    | ToolCalled
    | SystemToolRan
    | Pinged
    | AgentFault
    | AgentEnded
)
