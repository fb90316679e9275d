"""What came of a simulated Vonage call over one media socket, as its caller and Vonage saw it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.media.format import ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import DtmfDetector, dominant_frequencies
from bridge.simulators.call_result import MAX_TIMELINE
from bridge.simulators.twilio_playout import Gap
from bridge.simulators.vonage_playout import LONG_GAP_MS
from bridge.simulators.vonage_wire import Violation

MAX_TONES, TONE_MS = 50, 200
"""How many utterances are looked at for their pitch, and how much of each."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Between the arrivals of frames of the same talkspurt, in ms; all zero without any."""

    count: int = 0
    mean_ms: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


def intervals(values_ms: Iterable[float]) -> Intervals:
    """Sum up intervals, of any order; percentiles are nearest-rank."""
    ordered = sorted(values_ms)
    if not ordered:
        return Intervals()

    def rank(fraction: float) -> float:
        return round(ordered[math.ceil(fraction * len(ordered)) - 1], 3)

    mean_ms = round(math.fsum(ordered) / len(ordered), 3)
    return Intervals(len(ordered), mean_ms, rank(0.5), rank(0.99), round(ordered[-1], 3))


@dataclass(slots=True)
class VonageResult:
    """One call. Times are ms since the socket was opened."""

    rate_hz: int = 16000
    ended_by: str = ""
    """``caller``, ``bridge`` (it closed the socket), ``lost`` (no close frame), ``violation`` (the bridge broke the
    protocol, and Vonage let go of the socket), ``refused`` (there was none), ``time`` (longest duration)."""
    refusal: str = ""
    http_status: int = 0
    """Of a refused upgrade; 0 = it was not refused."""
    close_code: int = 0
    close_reason: str = ""
    duration_ms: float = 0.0
    frames_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    frame_intervals: Intervals = Intervals()
    lead_max_messages: int = 0
    """Most messages that were ever waiting to be played."""
    gaps: list[Gap] = field(default_factory=list)
    """The buffer ran dry although more of the same speech was to come."""
    clear_count: int = 0
    cleared_ms: float = 0.0
    """Audio dropped by all clears."""
    unplayed_ms: float = 0.0
    """Audio that was still waiting at the end."""
    notifies_received: int = 0
    notifies_echoed: list[dict[str, Any]] = field(default_factory=list)
    reaction_ms: list[float] = field(default_factory=list)
    """From the start of each barge-in to the ``clear`` that followed."""
    response_ms: list[float] = field(default_factory=list)
    """From the end of each utterance of the caller to the agent's first audible sound."""
    utterances_ms: list[float] = field(default_factory=list)
    first_audio_ms: float | None = None
    violations: list[Violation] = field(default_factory=list)
    timeline: list[tuple[int, str]] = field(default_factory=list)
    said: bytearray = field(default_factory=bytearray, repr=False)
    """The caller's track, mu-law, 8 kHz."""
    heard: bytearray = field(default_factory=bytearray, repr=False)
    """The agent's track as heard, mu-law, 8 kHz, on the same clock."""
    heard_pcm: bytearray = field(default_factory=bytearray, repr=False)
    """The same as it came, L16 at ``rate_hz``."""

    @property
    def succeeded(self) -> bool:
        """Whether the call came about, ended in order, and broke no rule."""
        return self.ended_by in ("caller", "bridge") and not self.violations

    @property
    def long_gaps(self) -> int:
        """Gaps over 40 ms."""
        return sum(gap.length_ms > LONG_GAP_MS for gap in self.gaps)

    def note(self, at_ms: float, what: str) -> None:
        """Add to the timeline."""
        if len(self.timeline) < MAX_TIMELINE:
            self.timeline.append((round(at_ms), what))

    def heard_digits(self) -> str:
        """Keys whose tones the caller heard."""
        detector = DtmfDetector(ULAW_8K.rate_hz)
        hits = [*detector.process(ulaw_to_pcm(bytes(self.heard))), *detector.flush()]
        return "".join(hit.digit for hit in hits)

    def heard_tones_hz(self) -> list[float]:
        """The strongest frequency at the start of each of the agent's utterances."""
        tones = []
        for start_ms in self.utterances_ms[:MAX_TONES]:
            start = ULAW_8K.size_bytes(start_ms)
            piece = bytes(self.heard[start : start + ULAW_8K.size_bytes(TONE_MS)])
            tones += [round(peak.frequency_hz, 1) for peak in dominant_frequencies(ulaw_to_pcm(piece), ULAW_8K.rate_hz)]
        return tones

    def to_json(self) -> dict[str, Any]:
        """Everything but the audio, as JSON values."""
        fields = asdict(self, dict_factory=_without_audio)
        fields["heard_ms"] = ULAW_8K.duration_ms(len(self.heard))
        fields["heard_digits"] = self.heard_digits()
        fields["heard_tones_hz"] = self.heard_tones_hz()
        fields["gap_count"] = len(self.gaps)
        fields["gaps_over_40_ms"] = self.long_gaps
        fields["gap_ms"] = round(sum(gap.length_ms for gap in self.gaps), 1)
        return fields

    def to_text(self) -> str:
        """For people."""
        lines = [f"{at_ms / 1000:6.2f} s  {what}" for at_ms, what in self.timeline]
        why = f" ({self.refusal})" if self.refusal else f" with {self.close_code}" if self.close_code else ""
        lines.append(f"ended by {self.ended_by}{why} after {self.duration_ms / 1000:.1f} s")
        between = self.frame_intervals
        lines.append(
            f"{self.rate_hz} Hz: {self.frames_sent} frames sent, {self.frames_received} received, "
            f"{between.mean_ms:.1f} ms between them on average, {between.p99_ms:.1f} ms at p99"
        )
        lines.append(
            f"gaps: {len(self.gaps)}, over 40 ms: {self.long_gaps}; clears: {self.clear_count}; notifies: "
            f"{len(self.notifies_echoed)} of {self.notifies_received} came back"
        )
        lines += [f"violation at {item.at_ms / 1000:.2f} s: {item.text}" for item in self.violations]
        return "\n".join(lines)


def _without_audio(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if not isinstance(value, bytearray)}
