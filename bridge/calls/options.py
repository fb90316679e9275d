"""The operator's settings that a call needs."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.calls.hold import HoldAudio


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The operator's settings that a call needs."""

    caller_buffer_ms: int
    """Caller audio held while the agent connects; the oldest goes first."""
    playout_queue_ms: int
    """Agent audio held at most."""
    redact_digits: bool = False
    """Keep pressed keys out of the journal."""
    results_wait_s: float = 0.0
    """How long the conversation's results may take, for carriers that take them; 0 = do not ask."""
    transfer_allow: tuple[str, ...] = ()
    """Patterns of the targets that an agent may transfer to; see ``tools.allowed_patterns``."""
    hold_audio: HoldAudio | None = None
    """What a waiting caller hears; None = a soft tone."""
