"""What the picture of a call shows: data only, times in milliseconds from the start of the call."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bridge.errors import LocalError
from bridge.media.format import FRAME_MS

MIN_SPAN_MS = 1000
"""Shortest time axis, so that a call that ended at once still has one."""


class MarkKind(enum.Enum):
    """What a mark says; the value is its name in the legend. In order of importance when there are too many."""

    END = "end"
    INTERRUPTION = "interruption"
    CLEAR = "clear"
    TOOL_CALL = "tool call"
    DTMF = "key (DTMF)"


@dataclass(frozen=True, slots=True)
class CallLane:
    """One side of the call."""

    label: str
    pcm: bytes
    """Mono L16 from the call's first millisecond on; may be shorter than the call, or empty."""
    rate_hz: int

    def __post_init__(self) -> None:
        if self.rate_hz * FRAME_MS < 1000:
            raise LocalError(f"rate_hz is {self.rate_hz}; a frame of {FRAME_MS} ms needs at least one sample")


@dataclass(frozen=True, slots=True)
class PictureMark:
    """Something that happened at one moment; outside the call it is drawn at the nearer edge."""

    at_ms: int
    kind: MarkKind
    label: str
    """Shown beside the mark: a few words."""
    detail: str = ""
    """Shown after the label as far as there is room, and whole when hovered: ``3 ms``, ``caller_hangup``."""


@dataclass(frozen=True, slots=True)
class StateSpan:
    """How long the call was in one state (``connecting``, ``active``, ``draining``, ``ended``, or another)."""

    from_ms: int
    to_ms: int
    name: str


@dataclass(frozen=True, slots=True)
class CallPicture:
    """One call, as it is to be drawn."""

    title: str
    subtitle: str
    duration_ms: int
    lanes: tuple[CallLane, CallLane]
    """The caller, then the agent as the caller heard it."""
    marks: tuple[PictureMark, ...] = ()
    states: tuple[StateSpan, ...] = ()

    @property
    def span_ms(self) -> int:
        """Length of the time axis."""
        return max(self.duration_ms, MIN_SPAN_MS)

    @property
    def length_ms(self) -> int:
        """Length of the call, never negative."""
        return max(self.duration_ms, 0)
