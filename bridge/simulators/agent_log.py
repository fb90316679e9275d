"""What the agent simulator remembers of a conversation, for tests, for ``--json`` and for the person at the screen.

Bounded: a simulator may run for days. Times are seconds on the driver's monotonic clock unless named ``_ms``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_AUDIO_BYTES = 4 * 1024 * 1024
"""Caller audio kept per conversation: more than 8 minutes of mu-law; later audio is counted but not kept."""

MAX_ENTRIES = 20_000
"""Entries kept in each list of a conversation: more than 6 minutes of 20 ms messages."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How the client answered a tool call."""

    tool_name: str
    tool_call_id: str
    result: str
    is_error: bool
    took_ms: float
    """From the call to its result."""


@dataclass(slots=True)
class ConversationLog:
    """One conversation as the simulated agent saw it."""

    conversation_id: str
    agent_id: str = ""
    scenario: str = ""
    started_s: float = 0.0
    path: str = ""
    """Request target of the upgrade, with its query."""
    subprotocol: str = ""
    keep_audio: bool = True
    """Whether caller audio and its arrival times are kept (switch it off for load)."""
    initiation: dict[str, Any] | None = None
    """The client's ``conversation_initiation_client_data`` without its type; None = never came."""
    received_audio: bytearray = field(default_factory=bytearray)
    """The caller's audio in the announced input format, the first ``MAX_AUDIO_BYTES``."""
    received_audio_bytes: int = 0
    received_chunks: int = 0
    received_times_s: list[tuple[float, int]] = field(default_factory=list)
    """Arrival time and size in bytes of each piece of caller audio."""
    messages: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    """Time, type and fields of every other client message, except pongs."""
    sent_audio_bytes: int = 0
    sent_chunks: int = 0
    sent_audio_ms: float = 0.0
    stale_chunks: int = 0
    """Audio messages sent after the interruption of their turn."""
    talkspurts: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of every talkspurt heard from the caller."""
    interruptions: list[tuple[float, int]] = field(default_factory=list)
    """Time and event_id of every ``interruption`` sent."""
    tool_results: list[ToolOutcome] = field(default_factory=list)
    tool_timeouts: list[str] = field(default_factory=list)
    """Ids of tool calls whose results did not come in time."""
    pings_sent: int = 0
    pongs: int = 0
    round_trip_ms: list[float] = field(default_factory=list)
    """Measured by ping and pong."""
    violations: list[str] = field(default_factory=list)
    """Everything the client did against the contract."""
    closed_by: str = ""
    """``agent`` or ``client``; empty while the conversation goes on."""
    close_code: int = 0
    """As sent or received; 1006 = broken off."""
    close_reason: str = ""
    ended_s: float = 0.0

    def add_audio(self, payload: bytes, now: float) -> None:
        """Note a piece of caller audio."""
        self.received_chunks += 1
        self.received_audio_bytes += len(payload)
        if self.keep_audio and len(self.received_audio) + len(payload) <= MAX_AUDIO_BYTES:
            self.received_audio += payload
        if self.keep_audio and len(self.received_times_s) < MAX_ENTRIES:
            self.received_times_s.append((now, len(payload)))

    def add_message(self, kind: str, fields: dict[str, Any], now: float) -> None:
        """Note a client message."""
        if len(self.messages) < MAX_ENTRIES:
            self.messages.append((now, kind, fields))

    def violate(self, text: str) -> None:
        """Note a breach of the contract."""
        if len(self.violations) < MAX_ENTRIES:
            self.violations.append(text)

    def close(self, closed_by: str, code: int, reason: str, now: float) -> None:
        """Note the end; the first to end it is the one who is noted."""
        if not self.closed_by:
            self.closed_by, self.close_code, self.close_reason, self.ended_s = closed_by, code, reason, now

    def to_json(self) -> dict[str, Any]:
        """Everything but the audio, as JSON values; times in ms since the start of the conversation."""

        def since_start_ms(moment_s: float) -> float:
            return round((moment_s - self.started_s) * 1000, 1)

        return {
            "conversation_id": self.conversation_id,
            "agent_id": self.agent_id,
            "scenario": self.scenario,
            "initiation": self.initiation,
            "received_audio_bytes": self.received_audio_bytes,
            "received_chunks": self.received_chunks,
            "messages": [{"at_ms": since_start_ms(at), "type": kind, **fields} for at, kind, fields in self.messages],
            "sent_audio_bytes": self.sent_audio_bytes,
            "sent_audio_ms": round(self.sent_audio_ms, 1),
            "sent_chunks": self.sent_chunks,
            "stale_chunks": self.stale_chunks,
            "talkspurts_ms": [[since_start_ms(start), since_start_ms(end)] for start, end in self.talkspurts],
            "interruptions": [{"at_ms": since_start_ms(at), "event_id": event} for at, event in self.interruptions],
            "tool_results": [
                {"tool_name": tool.tool_name, "result": tool.result, "is_error": tool.is_error, "took_ms": tool.took_ms}
                for tool in self.tool_results
            ],
            "tool_timeouts": self.tool_timeouts,
            "pings_sent": self.pings_sent,
            "pongs": self.pongs,
            "round_trip_ms": [round(ms, 2) for ms in self.round_trip_ms],
            "violations": self.violations,
            "closed_by": self.closed_by,
            "close_code": self.close_code,
            "close_reason": self.close_reason,
            "duration_ms": since_start_ms(self.ended_s) if self.closed_by else None,
        }
