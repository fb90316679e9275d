"""The operator's settings that a call needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.calls.hold import HoldAudio
from bridge.calls.keypad import KeypadOptions
from bridge.calls.machine import MachineOptions
from bridge.calls.tools import Abilities, ToolOptions


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The operator's settings that a call needs; those of its route, once there is one."""

    caller_buffer_ms: int
    """Caller audio held while the agent connects; the oldest goes first."""
    playout_queue_ms: int
    """Agent audio held at most."""
    keypad: KeypadOptions = field(default_factory=KeypadOptions)
    """What becomes of pressed keys."""
    results_wait_s: float = 0.0
    """How long the conversation's results may take, for carriers that take them; 0 = do not ask."""
    hold_audio: HoldAudio | None = None
    """What a waiting caller hears; None = a soft tone."""
    tools: ToolOptions = field(default_factory=ToolOptions)
    """Names, targets and tools of the operator's own."""
    abilities: Abilities = field(default_factory=Abilities)
    """What the carrier can do with the credentials that there are."""
    tool_timeout_s: float = 20.0
    """A tool that was not done by then has failed; HTTP tools with a longer time-out of their own have that."""
    transfer_timeout_s: float = 119.0
    """The same for transfers. Beyond what ringing and asking the human may take, so that it counts only where whoever
    makes the transfer has failed to answer; below the vendor's longest wait of 120 s."""
    tones_timeout_s: float = 59.0
    """The same for keypad tones: the vendor waits for 60 s (``bridge.calls.tool_definitions.TONES_S``)."""
    machine: MachineOptions = field(default_factory=MachineOptions)
    """What is done about answering machines."""
    reconnect_s: float = 0.0
    """How long a second connection to the agent may take after the first broke; 0 = none is tried."""
    patience_s: float = 1.5
    """A caller hears a tone when the agent takes longer than this to be ready: silence is taken for a dead line."""
    apologise: bool = False
    """Whether there are words for callers whose agent failed for good."""
