"""The operator's settings that a call needs."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.calls.hold import HoldAudio
from bridge.calls.keypad import KeypadMode


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The operator's settings that a call needs."""

    caller_buffer_ms: int
    """Caller audio held while the agent connects; the oldest goes first."""
    playout_queue_ms: int
    """Agent audio held at most."""
    redact_digits: bool = False
    """Keep pressed keys out of the journal, and from the agent, whose transcripts the vendor keeps."""
    keypad: KeypadMode = KeypadMode.MESSAGE
    """What the agent is told of pressed keys."""
    keypad_pause_s: float = 2.0
    """A pause of so long ends what the caller types."""
    results_wait_s: float = 0.0
    """How long the conversation's results may take, for carriers that take them; 0 = do not ask."""
    transfer_allow: tuple[str, ...] = ()
    """Patterns of the targets that an agent may transfer to; see ``tools.allowed_patterns``."""
    hold_audio: HoldAudio | None = None
    """What a waiting caller hears; None = a soft tone."""
