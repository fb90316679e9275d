"""What came of a simulated Audio Connector call, as its caller and Genesys Cloud saw it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.media.format import ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import DtmfDetector, dominant_frequencies
from bridge.simulators.call_result import MAX_TIMELINE
from bridge.simulators.genesys_record import BargeIn, Counts, Disconnect
from bridge.simulators.genesys_wire import Breach
from bridge.simulators.twilio_playout import Gap

TONE_MS = 400
"""Length of the piece of each utterance in which its tone is looked for: 10 Hz apart is told apart."""

MAX_TONES = 50
"""Utterances looked at."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection of the call; there are several only with retries."""

    ended_by: str
    """As in ``GenesysResult``."""
    http_status: int = 0
    opened_ms: float | None = None
    waited_s: float = 0.0
    """Back-off before it."""


@dataclass(slots=True)
class GenesysResult:
    """One call: its last attempt, and the breaches of all. Times are ms since the attempt's ``open``."""

    session_id: str = ""
    conversation_id: str = ""
    ended_by: str = ""
    """``caller`` (hung up), ``server`` (``disconnect``), ``breach`` (ended for a breach of the server), ``lost`` (the
    socket broke or the server closed it), ``refused`` (no socket: HTTP status or no connection), ``time`` (longest
    duration), ``probe`` (a connection probe that went well)."""
    attempts: list[Attempt] = field(default_factory=list)
    close_code: int = 0
    """Close code of the socket, where the server closed it."""
    http_status: int = 0
    """Status of a refused upgrade; 0 = it was not refused with one."""
    refusal: str = ""
    """What went wrong with the connection, without addresses."""
    opened_ms: float | None = None
    """From ``open`` to ``opened``."""
    open_timed_out: bool = False
    media: str = ""
    """What the server chose, e.g. ``PCMU external``; empty = no audio."""
    disconnect: Disconnect | None = None
    duration_ms: float = 0.0
    """Of the audio, from ``opened`` on."""
    frames_sent: int = 0
    counts: Counts = field(default_factory=Counts)
    barge_ins: list[BargeIn] = field(default_factory=list)
    reaction_ms: list[float] = field(default_factory=list)
    """From the start of each barge-in of the caller to the ``barge_in`` that followed."""
    response_ms: list[float] = field(default_factory=list)
    """From the end of each utterance of the caller to the agent's first audible sound."""
    first_audio_ms: float | None = None
    """To the agent's first audible sound."""
    rtt_ms: list[float] = field(default_factory=list)
    """Of the pings."""
    playback_events: list[str] = field(default_factory=list)
    unplayed_ms: float = 0.0
    """Audio that was still waiting at the end: the caller never heard it."""
    gaps: list[Gap] = field(default_factory=list)
    lead_max_ms: float = 0.0
    least_binary_tokens: float = 0.0
    """How near the server came to the rate limit of binary messages; 0 = it used it up."""
    least_text_tokens: float = 0.0
    breaches: list[Breach] = field(default_factory=list)
    utterances_ms: list[float] = field(default_factory=list)
    """When the agent became audible, since ``opened``."""
    timeline: list[tuple[int, str]] = field(default_factory=list)
    said: bytearray = field(default_factory=bytearray, repr=False)
    """The caller's track from ``opened`` on, mu-law; empty if audio is not kept."""
    heard: bytearray = field(default_factory=bytearray, repr=False)
    """The agent's track as heard, mu-law, on the same clock."""

    @property
    def output_variables(self) -> dict[str, str]:
        """What Architect assigns: only after a successful end, and nothing when the caller left first."""
        if self.disconnect is None or self.architect_path != "success":
            return {}
        return self.disconnect.output_variables

    @property
    def architect_path(self) -> str:
        """How the Architect flow goes on: ``success`` or ``failure`` of the action, ``none`` = nobody is left."""
        if self.ended_by in ("caller", "time", "probe"):
            return "none"
        completed = self.disconnect is not None and self.disconnect.reason == "completed"
        return "success" if self.ended_by == "server" and completed else "failure"

    @property
    def succeeded(self) -> bool:
        """Whether the call came about and ended without a breach, on the good path if the server ended it."""
        return not self.breaches and self.opened_ms is not None and self.architect_path != "failure"

    def note(self, at_ms: float, what: str) -> None:
        """Add to the timeline."""
        if len(self.timeline) < MAX_TIMELINE:
            self.timeline.append((round(at_ms), what))

    def heard_digits(self) -> str:
        """Keypad tones in what the caller heard."""
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
        fields["output_variables"] = self.output_variables
        fields["architect_path"] = self.architect_path
        fields["heard_ms"] = ULAW_8K.duration_ms(len(self.heard))
        fields["heard_digits"] = self.heard_digits()
        fields["heard_tones_hz"] = self.heard_tones_hz()
        fields["gap_ms"] = round(sum(gap.length_ms for gap in self.gaps), 1)
        return fields

    def to_text(self) -> str:
        """For people."""
        lines = [f"{at_ms / 1000:6.2f} s  {what}" for at_ms, what in self.timeline]
        opened = "never opened" if self.opened_ms is None else f"opened after {self.opened_ms:.1f} ms"
        why = f" ({self.refusal})" if self.refusal else ""
        lines.append(f"ended by {self.ended_by}{why} after {self.duration_ms / 1000:.1f} s, {opened}")
        lines.append(f"flow goes on: {self.architect_path}; attempts: {len(self.attempts)}; gaps: {len(self.gaps)}")
        if self.disconnect is not None:
            lines.append(f"disconnect {self.disconnect.reason} {self.disconnect.info}".rstrip())
        lines += [f"output {name} = {value}" for name, value in self.output_variables.items()]
        lines += [f"breach {breach.code}: {breach.text}" for breach in self.breaches]
        return "\n".join(lines)


def _without_audio(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if not isinstance(value, bytearray)}
