"""What came of a simulated SIP call, as one of its ends saw it: signalling, audio, keys, and the rules broken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.media.format import ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import DtmfDetector
from bridge.simulators.call_result import MAX_TIMELINE
from bridge.simulators.twilio_playout import Gap

MAX_TRACE = 2000
"""Messages kept of a trace: a call has ten to thirty."""

MAX_VIOLATIONS = 200
"""Violations kept; one that is repeated with every packet says nothing new."""

LONG_GAP_MS = 60.0
"""Three packets of 20 ms: what a receiver's jitter buffer bridges before somebody hears it."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that the other side broke."""

    rule: str
    """Where it stands, e.g. ``RFC 3261 8.2.6.2``."""
    text: str
    at_ms: float

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class TracedMessage:
    """One message of the trace."""

    at_ms: float
    is_ours: bool
    text: str

    @property
    def first_line(self) -> str:
        """The start line."""
        return self.text.partition("\r\n")[0]


class Notes:
    """What an end writes down while its calls go on: messages and violations, on one clock."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self.trace: list[TracedMessage] = []
        self.violations: list[Violation] = []

    def at_ms(self, now: float) -> float:
        """Milliseconds since the beginning."""
        return round((now - self._started_s) * 1000, 1)

    def message(self, data: bytes, now: float, *, is_ours: bool) -> None:
        """Write down a message as it was on the wire."""
        if len(self.trace) < MAX_TRACE:
            self.trace.append(TracedMessage(self.at_ms(now), is_ours, data.decode("utf-8", "replace")))

    def violate(self, rule: str, text: str, now: float) -> None:
        """Write down a violation, once for each text."""
        known = len(self.violations) >= MAX_VIOLATIONS or any(
            one.rule == rule and one.text == text for one in self.violations
        )
        if not known:
            self.violations.append(Violation(rule, text, self.at_ms(now)))

    def trace_text(self) -> str:
        """All messages, for people."""
        return "\n".join(
            f"{'>>>' if one.is_ours else '<<<'} {one.at_ms / 1000:.3f} s\n{one.text}" for one in self.trace
        )


@dataclass(frozen=True, slots=True)
class Pacing:
    """How regularly packets came: the distance between two of them against that of their timestamps, in ms."""

    count: int = 0
    error_p50_ms: float = 0.0
    error_p99_ms: float = 0.0
    error_max_ms: float = 0.0


def pacing(errors_ms: Iterable[float]) -> Pacing:
    """Sum up, nearest rank."""
    ordered = sorted(errors_ms)
    if not ordered:
        return Pacing()

    def rank(percent: int) -> float:
        return round(ordered[-(-percent * len(ordered) // 100) - 1], 3)

    return Pacing(len(ordered), rank(50), rank(99), round(ordered[-1], 3))


@dataclass(slots=True)
class RtpFigures:
    """What came as RTP and RTCP, and what was sent."""

    sent: int = 0
    received: int = 0
    """Audio packets that were no duplicates."""
    event_packets: int = 0
    lost: int = 0
    """By sequence number."""
    duplicates: int = 0
    reordered: int = 0
    early_received: int = 0
    """Audio that came before the call was answered."""
    held_received: int = 0
    """Audio that came while we did not want any, half a second of grace not counted."""
    sources: int = 0
    """SSRCs."""
    rtcp_received: int = 0
    first_ms: float | None = None
    """From the answer to the first packet of audio."""
    gaps: list[Gap] = field(default_factory=list)
    """More than 60 ms without a packet, while there should have been some; since the answer."""
    longest_gap_ms: float = 0.0
    pacing: Pacing = Pacing()


@dataclass(slots=True)
class SipResult:
    """One call. Times are ms: since INVITE where it says so, since the answer for media."""

    call_id: str = ""
    number: str = ""
    """The called number, as in the Request-URI."""
    ended_by: str = ""
    """``caller`` (we hung up or cancelled; on the trunk's side: the person there), ``bridge`` (its BYE or CANCEL),
    ``refused`` (a final response of 300 or more), ``lost`` (no answer, or none to our ACK), ``time``."""
    status: int = 0
    """The final response to INVITE; 0 = there was none."""
    reason: str = ""
    statuses: list[int] = field(default_factory=list)
    """Responses to INVITE, in order, repetitions not counted."""
    trying_ms: float | None = None
    """From INVITE to the first response of any kind."""
    ringing_ms: float | None = None
    answered_ms: float | None = None
    duration_ms: float = 0.0
    """From the answer to the end."""
    invite: dict[str, str] = field(default_factory=dict)
    """Headers of the INVITE of the other side (trunk), or of its 2xx (phone)."""
    offer: str = ""
    answer: str = ""
    encoding: str = ""
    retransmissions: int = 0
    """Messages that the other side sent again."""
    challenges: int = 0
    holds: int = 0
    media_changes: int = 0
    """Re-INVITEs and UPDATEs of the other side."""
    referred_to: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    """Content types of INFO requests."""
    bye_reason: str = ""
    """The Reason header of the other side's BYE or CANCEL."""
    digits: str = ""
    """Keys of the other side, by telephone-event and INFO."""
    rtp: RtpFigures = field(default_factory=RtpFigures)
    utterances_ms: list[float] = field(default_factory=list)
    response_ms: list[float] = field(default_factory=list)
    violations: tuple[Violation, ...] = ()
    timeline: list[tuple[int, str]] = field(default_factory=list)
    trace: str = field(default="", repr=False)
    said: bytearray = field(default_factory=bytearray, repr=False)
    """Our track, mu-law."""
    heard: bytearray = field(default_factory=bytearray, repr=False)
    """The other side's track as heard, mu-law, on the same clock."""

    @property
    def succeeded(self) -> bool:
        """Whether the call was answered, ended in order, and no rule was broken."""
        return 200 <= self.status < 300 and self.ended_by in ("caller", "bridge") and not self.violations

    def note(self, at_ms: float, what: str) -> None:
        """Add to the timeline."""
        if len(self.timeline) < MAX_TIMELINE:
            self.timeline.append((round(at_ms), what))

    def heard_digits(self) -> str:
        """Keys whose tones are in what was heard."""
        detector = DtmfDetector(ULAW_8K.rate_hz)
        hits = [*detector.process(ulaw_to_pcm(bytes(self.heard))), *detector.flush()]
        return "".join(hit.digit for hit in hits)

    def to_json(self) -> dict[str, Any]:
        """Everything but audio and trace, as JSON values."""
        fields = asdict(self, dict_factory=_without_audio)
        fields["heard_ms"] = ULAW_8K.duration_ms(len(self.heard))
        fields["gap_count"] = len(self.rtp.gaps)
        return fields

    def to_text(self) -> str:
        """For people."""
        lines = [f"{at_ms / 1000:6.2f} s  {what}" for at_ms, what in self.timeline]
        why = f" ({self.status} {self.reason})" if self.status >= 300 else ""
        lines.append(f"ended by {self.ended_by or 'nobody'}{why} after {self.duration_ms / 1000:.1f} s")
        rtp = self.rtp
        lines.append(
            f"{self.encoding or 'no audio'}: {rtp.sent} packets sent, {rtp.received} received, {rtp.lost} lost; "
            f"pacing error {rtp.pacing.error_p99_ms:.1f} ms at p99; {len(rtp.gaps)} gaps over {LONG_GAP_MS:.0f} ms"
        )
        lines += [f"breach {violation}" for violation in self.violations]
        return "\n".join(lines)


def _without_audio(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if name not in ("said", "heard", "trace")}
