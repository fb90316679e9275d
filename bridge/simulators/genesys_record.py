"""What one simulated Audio Connector session has noticed of its server; plain data, filled by ``genesys_protocol``."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class State(enum.Enum):
    """Where a session stands."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The server asked for the end."""

    reason: str
    """``completed``, ``error`` or ``unauthorized``."""
    info: str
    output_variables: dict[str, str]
    at_ms: float
    """Since ``open``."""
    unplayed_ms: float
    """Audio that was still waiting: the caller never hears it."""


@dataclass(slots=True)
class BargeIn:
    """A ``barge_in`` that came."""

    at_ms: float
    """Since ``open``."""
    dropped_ms: float
    """Audio that was waiting."""
    late_bytes: int = 0
    """Audio of the interrupted turn that came afterwards."""


@dataclass(slots=True)
class Counts:
    """What came from the server."""

    binary_messages: int = 0
    audio_ms: float = 0.0
    text_messages: int = 0
    longest_message_ms: float = 0.0
    """Most audio in one message."""
    messages_while_paused: int = 0
    """Audio messages during the client's own pause: they play, and no source says whether Genesys minds."""
    turn_responses: list[str] = field(default_factory=list)
    """Dispositions of the ``bot_turn_response`` events."""
