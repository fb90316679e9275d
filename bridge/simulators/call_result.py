"""What came of a simulated call, as its caller and carrier saw it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.media.format import ULAW_8K
from bridge.simulators.twilio_playout import Gap
from bridge.simulators.twilio_protocol import Violation

MAX_TIMELINE = 5000
"""Entries kept in a timeline."""


@dataclass(slots=True)
class CallResult:
    """One call, with all streams it had in turn. Times are ms since the first stream started."""

    call_sid: str = ""
    stream_sids: list[str] = field(default_factory=list)
    ended_by: str = ""
    """``caller``, ``bridge`` (it closed the stream or answered with a hang-up), ``lost`` (no close frame), ``refused``
    (no stream came about), ``time`` (longest duration)."""
    close_code: int = 0
    """Of the last stream, as received; 1000 when the caller hung up."""
    close_reason: str = ""
    http_status: int = 0
    """Status of a refused upgrade or webhook; 0 = none was refused."""
    duration_ms: float = 0.0
    frames_sent: int = 0
    media_messages: int = 0
    media_bytes: int = 0
    marks_received: int = 0
    marks_echoed: list[str] = field(default_factory=list)
    clear_count: int = 0
    cleared_ms: float = 0.0
    """Audio dropped by all clears."""
    unplayed_ms: float = 0.0
    """Audio that was still waiting when the streams ended: the caller never heard it."""
    reaction_ms: list[float] = field(default_factory=list)
    """From the start of each barge-in to the ``clear`` that followed."""
    response_ms: list[float] = field(default_factory=list)
    """From the end of each utterance of the caller to the agent's first audible sound."""
    first_audio_ms: float | None = None
    """From the start of the stream to the agent's first audible sound."""
    gaps: list[Gap] = field(default_factory=list)
    lead_max_ms: float = 0.0
    violations: list[Violation] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    """TwiML verbs carried out, in order, with what matters of them, e.g. ``Hangup`` or ``Say Sorry...``."""
    requests: list[str] = field(default_factory=list)
    """Webhooks requested, with the status of the answer."""
    timeline: list[tuple[int, str]] = field(default_factory=list)
    said: bytearray = field(default_factory=bytearray, repr=False)
    """The caller's track, mu-law."""
    heard: bytearray = field(default_factory=bytearray, repr=False)
    """The agent's track as heard, mu-law, on the same clock."""

    def note(self, at_ms: float, what: str) -> None:
        """Add to the timeline."""
        if len(self.timeline) < MAX_TIMELINE:
            self.timeline.append((round(at_ms), what))

    def to_json(self) -> dict[str, Any]:
        """Everything but the audio, as JSON values."""
        fields = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("said", "heard", "gaps", "violations")
        }
        fields["heard_ms"] = ULAW_8K.duration_ms(len(self.heard))
        fields["gap_count"] = len(self.gaps)
        fields["gap_ms"] = round(sum(gap.length_ms for gap in self.gaps), 1)
        fields["gaps"] = [asdict(gap) for gap in self.gaps]
        fields["violations"] = [asdict(violation) for violation in self.violations]
        return fields
