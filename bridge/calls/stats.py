"""What is counted of one call: for its last log line, the metrics and the demo's table."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class CallStats:
    """Counters of one call. Plain attributes, because the media path raises them per frame."""

    caller_frames: int = 0
    """Audio messages from the carrier."""
    agent_messages: int = 0
    """Audio messages from the agent."""
    agent_frames: int = 0
    """20 ms frames sent to the carrier."""
    caller_dropped_ms: float = 0.0
    """Caller audio that grew too old while the agent connected."""
    upload_dropped_bytes: int = 0
    """Caller audio that grew too old while the agent's socket was stuck, in the agent's format."""
    agent_dropped_ms: float = 0.0
    """Agent audio that did not fit into the queue."""
    agent_flushed_ms: float = 0.0
    """Agent audio thrown away by interruptions before it was sent."""
    stale_audio_bytes: int = 0
    """Agent audio that came after its interruption, in the agent's format."""
    heard_ms: float = 0.0
    """Agent audio that the carrier confirmed as played or flushed."""
    gaps: int = 0
    """How often the carrier ran dry in the middle of an answer."""
    interruptions: int = 0
    clears: int = 0
    """Interruptions that had to empty the carrier's buffer."""
    marks: int = 0
    """Marks that came back."""
    dtmf: int = 0
    """Keys pressed; never which."""
    caller_turns: int = 0
    agent_turns: int = 0
    tool_calls: int = 0
    unknown_messages: int = 0
    malformed_messages: int = 0
    agent_pings: int = 0
    agent_round_trip_ms: float | None = None
    """The agent side's last estimate of the round trip."""

    def as_dict(self) -> dict[str, int | float | None]:
        """Every counter by name."""
        return asdict(self)
