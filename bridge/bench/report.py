"""What the bench found: figures per target, the table for people and the JSON for programs.

The headline figures of a target are those of its last round; losses are summed over all rounds, so that none is
hidden. No host names, no addresses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from bridge.bench.call import FRAME_MS
from bridge.bench.carriers import CARRIERS, GENESYS, SIP, TWILIO
from bridge.bench.figures import NOTHING, PathTally, Spread

SCHEMA_VERSION = 1
"""Raised when a field of the JSON changes its meaning or goes away."""

SATURATED_PERCENT = 90.0
"""Above this a server's latency is that of its queue."""

LATE_P99_MS = 5.0
"""A load whose own schedule is later than this at p99 measures itself."""

LOAD_BUSY_PERCENT = 90.0

OTHERS_BUSY_PERCENT = 10.0
"""Above this, other work on the server's core makes its latencies and (by cold caches) its CPU worse."""

OPENED_AIM_MS = 20.0
"""What this bridge aims at; Genesys waits for five seconds."""

BARGE_IN_AIM_MS = 5.0
"""What this bridge aims at from an interruption to the flush on the wire."""

CPU_ROUGH_PERCENT = 2.0
"""Below this share of a core, the 10 ms ticks of /proc make the CPU figure rough."""


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """One round of one target."""

    calls: int
    seconds: float
    """Length of the window."""
    server_cpu_percent: float
    """Of one core."""
    other_cpu_percent: float
    """What others used of the server's core meanwhile."""
    rss_idle_bytes: int
    """Before the first call of the first round."""
    rss_calls_bytes: int
    """With all calls up, at the end of the window."""
    rss_after_bytes: int
    """After all calls have gone."""
    cpu_after_percent: float
    """Of one core, after all calls have gone."""
    up: PathTally
    down: PathTally
    latency_up_ms: Spread
    latency_down_ms: Spread
    barge_in_ms: Spread
    interruptions: int
    missed_clears: int
    bad_messages: int
    complaints: list[str]
    leaked_connections: int
    unexpected_connections: int
    gaps: int
    gap_ms: float
    longest_gap_ms: float
    frames_per_call_s: float
    """Offered: messages a second from each caller."""
    speech_per_call_s: float
    """Offered: messages a second from each agent."""
    load_cpu_percent: float
    load_lateness_ms: Spread
    opens_per_s: float = 0.0
    """Calls placed a second."""
    opened_ms: Spread = NOTHING
    """From the offer of a session to its acceptance, of all calls; Genesys only."""
    first_audio_ms: Spread = NOTHING
    """From the first message of each turn of the agent to its arrival at the carrier; pass-through only."""
    long_gaps: int = 0
    """Gaps over 40 ms."""
    pong_ms: Spread = NOTHING
    """From the carrier's pings to their answers; Genesys only."""
    answered_ms: Spread = NOTHING
    """From INVITE to 200, of all calls; SIP only."""
    pacing_ms: Spread = NOTHING
    """Error of the distance between two RTP packets; SIP only."""
    rtp_packets: int = 0
    rtp_lost: int = 0
    """By sequence number."""
    rtp_gaps: int = 0
    """More than 60 ms between two packets."""
    rtp_longest_ms: float = 0.0
    """Longest distance between two packets."""

    @property
    def cpu_percent_per_call(self) -> float:
        """CPU of one core per call, in percent."""
        return self.server_cpu_percent / self.calls

    @property
    def memory_per_call_bytes(self) -> float:
        """Growth of resident memory per call."""
        return (self.rss_calls_bytes - self.rss_idle_bytes) / self.calls


@dataclass(frozen=True, slots=True)
class TargetReport:
    """All rounds of one target."""

    name: str
    what: str
    """What it is, in one line."""
    rounds: list[RoundFigures]

    @property
    def last(self) -> RoundFigures:
        """The round of the headline figures."""
        return self.rounds[-1]

    def total(self, direction: str) -> PathTally:
        """What became of the audio ``up`` or ``down``, over all rounds."""
        total = PathTally()
        for figures in self.rounds:
            total.add(figures.up if direction == "up" else figures.down)
        return total

    def is_clean(self) -> bool:
        """Whether no round lost, changed or delayed beyond a ``clear`` any audio, or leaked anything."""
        return all(
            figures.up.is_clean()
            and figures.down.is_clean()
            and not (
                figures.missed_clears
                or figures.bad_messages
                or figures.leaked_connections
                or figures.unexpected_connections
            )
            for figures in self.rounds
        )


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything one run of the bench found."""

    mode: str
    duration_s: float
    warmup_s: float
    machine: dict[str, str | int]
    targets: list[TargetReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the reader must know to read the figures: one core, skipped targets."""
    carrier: str = TWILIO.name

    def target(self, name: str) -> TargetReport | None:
        """The report of a target, or None when it was not measured."""
        return next((target for target in self.targets if target.name == name), None)

    def ratio(self, name: str, to: str) -> float | None:
        """CPU per call of one target as a multiple of another's; None when either is missing."""
        target, base = self.target(name), self.target(to)
        if target is None or base is None or not base.last.cpu_percent_per_call:
            return None
        return target.last.cpu_percent_per_call / base.last.cpu_percent_per_call

    def warnings(self) -> list[str]:
        """Reasons not to trust a figure, and what went wrong."""
        return [text for target in self.targets for text in _warnings_of(target)]

    def to_json(self) -> str:
        """All figures, indented."""
        document: dict[str, object] = {"schema": SCHEMA_VERSION, **asdict(self)}
        document["targets"] = [self._target_document(target) for target in self.targets]
        document["warnings"] = self.warnings()
        return json.dumps(document, indent=2)

    def render_text(self) -> str:
        """A table with one column per target, then notes and warnings."""
        what = self.mode if self.carrier == TWILIO.name else f"{self.carrier}, {self.mode}"
        lines = [
            f"{what}: {self.duration_s:g} s measured after {self.warmup_s:g} s warm-up; "
            + ", ".join(f"{key} {value}" for key, value in self.machine.items()),
            "",
        ]
        if self.targets:
            lines += _table(["", *(target.name for target in self.targets)], self._rows())
            lines.append("")
        lines += [f"{target.name}: {target.what}" for target in self.targets]
        lines += [f"note: {text}" for text in self.notes]
        lines += [f"warning: {text}" for text in self.warnings()]
        return "\n".join(lines) + "\n"

    def _target_document(self, target: TargetReport) -> dict[str, object]:
        last = target.last
        return {
            "name": target.name,
            "what": target.what,
            "cpu_percent_of_core_per_call": last.cpu_percent_per_call,
            "ratio_to_floor": self.ratio(target.name, "floor"),
            "ratio_to_plain": self.ratio(target.name, "plain"),
            "memory_per_call_bytes": last.memory_per_call_bytes,
            "clean": target.is_clean(),
            "total_up": asdict(target.total("up")),
            "total_down": asdict(target.total("down")),
            "rounds": [asdict(figures) for figures in target.rounds],
        }

    def _rows(self) -> list[list[str]]:
        table = [*_ROWS, *_MORE_ROWS.get(self.carrier, [])]
        flush = CARRIERS[self.carrier].flush
        rows = [[label.format(flush=flush), *(text(target) for target in self.targets)] for label, text in table]
        rows[2:2] = [
            [f"  against {base}", *(_times(self.ratio(target.name, base)) for target in self.targets)]
            for base in ("floor", "plain")
            if self.target(base) is not None
        ]
        if any(len(target.rounds) > 1 for target in self.targets):
            rows += [
                ["memory after each round", *(_memory_by_round(target) for target in self.targets)],
                ["CPU after each round", *(_idle_by_round(target) for target in self.targets)],
            ]
        return rows


def _ms(spread: Spread) -> str:
    if not spread.count:
        return "-"
    return f"{spread.p50:.2f} / {spread.p99:.2f} / {spread.max:.1f} ms"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"


def _loss(target: TargetReport, direction: str) -> str:
    tally = target.total(direction)
    markers = f", {tally.lost_markers} bursts" if tally.lost_markers else ""
    return f"{tally.lost_ms:.0f} ms{markers} of {tally.sent_ms / 1000:.0f} s"


def _disorder(target: TargetReport) -> str:
    up, down = target.total("up"), target.total("down")
    both = [
        up.duplicated + down.duplicated,
        up.reordered + down.reordered,
        up.corrupt + down.corrupt,
        up.crosstalk + down.crosstalk,
    ]
    return " / ".join(map(str, both))


def _stale(target: TargetReport) -> str:
    return f"{target.total('down').stale_bytes} bytes"


def _clears(target: TargetReport) -> str:
    missed = sum(figures.missed_clears for figures in target.rounds)
    return f"{missed} of {sum(figures.interruptions for figures in target.rounds)}"


def _gaps(target: TargetReport) -> str:
    gaps = sum(figures.gaps for figures in target.rounds)
    if not gaps:
        return "0"
    longest = max(figures.longest_gap_ms for figures in target.rounds)
    return f"{gaps}, longest {longest:.0f} ms"


def _long_gaps(target: TargetReport) -> str:
    return str(sum(figures.long_gaps for figures in target.rounds))


def _load(target: TargetReport) -> str:
    last = target.last
    return f"{last.load_cpu_percent:.0f} %, {last.load_lateness_ms.p99:.1f} ms"


def _memory_by_round(target: TargetReport) -> str:
    first = target.rounds[0].rss_idle_bytes
    return " ".join(f"{(figures.rss_after_bytes - first) / 2**20:+.1f}" for figures in target.rounds) + " MiB"


def _idle_by_round(target: TargetReport) -> str:
    return " ".join(f"{figures.cpu_after_percent:.1f}" for figures in target.rounds) + " %"


_ROWS: list[tuple[str, Callable[[TargetReport], str]]] = [
    ("calls at once", lambda target: str(target.last.calls)),
    ("CPU of one core per call", lambda target: f"{target.last.cpu_percent_per_call:.3f} %"),
    ("CPU of the server", lambda target: f"{target.last.server_cpu_percent:.1f} %"),
    ("added latency up, p50/p99/max", lambda target: _ms(target.last.latency_up_ms)),
    ("added latency down, p50/p99/max", lambda target: _ms(target.last.latency_down_ms)),
    ("barge-in to {flush}, p50/p99/max", lambda target: _ms(target.last.barge_in_ms)),
    ("interruptions without {flush}", _clears),
    ("old audio after {flush}", _stale),
    ("lost up", lambda target: _loss(target, "up")),
    ("lost down", lambda target: _loss(target, "down")),
    ("repeated/disordered/changed/crossed", _disorder),
    ("gaps heard by callers", _gaps),
    ("  over 40 ms", _long_gaps),
    ("memory per call", lambda target: f"{target.last.memory_per_call_bytes / 1024:.0f} KiB"),
    ("memory idle", lambda target: f"{target.last.rss_idle_bytes / 2**20:.0f} MiB"),
    ("other work on its core", lambda target: f"{target.last.other_cpu_percent:.0f} %"),
    ("load: CPU, lateness p99", _load),
]
_SESSION_ROWS: list[tuple[str, Callable[[TargetReport], str]]] = [
    ("open to opened, p50/p99/max", lambda target: _ms(target.last.opened_ms)),
    ("  at opens a second", lambda target: f"{target.last.opens_per_s:.1f}"),
    ("first audio of a turn, p50/p99/max", lambda target: _ms(target.last.first_audio_ms)),
    ("ping to pong, p50/p99/max", lambda target: _ms(target.last.pong_ms)),
]
_RTP_ROWS: list[tuple[str, Callable[[TargetReport], str]]] = [
    ("pacing error, p50/p99/max", lambda target: _ms(target.last.pacing_ms)),
    ("RTP gaps over 60 ms, longest", lambda target: f"{target.last.rtp_gaps}, {target.last.rtp_longest_ms:.0f} ms"),
    ("RTP packets lost", lambda target: f"{target.last.rtp_lost} of {target.last.rtp_packets}"),
    ("INVITE to 200, p50/p99/max", lambda target: _ms(target.last.answered_ms)),
]
_MORE_ROWS = {GENESYS.name: _SESSION_ROWS, SIP.name: _RTP_ROWS}


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def _warnings_of(target: TargetReport) -> list[str]:
    last = target.last
    found: list[tuple[bool, str]] = [
        (
            last.server_cpu_percent > SATURATED_PERCENT,
            f"the server used {last.server_cpu_percent:.0f} % of its core: latencies are those of a queue; "
            "measure it with fewer calls",
        ),
        (
            last.server_cpu_percent < CPU_ROUGH_PERCENT,
            f"the server used {last.server_cpu_percent:.1f} % of its core: too little to be exact; "
            "measure it with more calls",
        ),
        (
            last.other_cpu_percent > OTHERS_BUSY_PERCENT,
            f"other work used {last.other_cpu_percent:.0f} % of the server's core: measure on a quiet machine",
        ),
        (
            last.load_lateness_ms.p99 > LATE_P99_MS,
            f"the load was {last.load_lateness_ms.p99:.1f} ms late at p99: latencies include its own",
        ),
        (
            last.load_cpu_percent > LOAD_BUSY_PERCENT,
            f"the load used {last.load_cpu_percent:.0f} % of its core: it may be the bottleneck",
        ),
        (
            last.opened_ms.p99 > OPENED_AIM_MS,
            f"opened took {last.opened_ms.p99:.1f} ms at p99; the aim is {OPENED_AIM_MS:g} ms",
        ),
        (
            last.barge_in_ms.p99 > (aim_ms := BARGE_IN_AIM_MS + (FRAME_MS if last.rtp_packets else 0)),
            f"the reaction to an interruption took {last.barge_in_ms.p99:.1f} ms at p99; the aim is {aim_ms:g} ms",
        ),
    ]
    for name in ("missed_clears", "bad_messages", "leaked_connections", "unexpected_connections"):
        count = sum(getattr(figures, name) for figures in target.rounds)
        found.append((bool(count), f"{count} {name.replace('_', ' ')}"))
    long_gaps = sum(figures.long_gaps for figures in target.rounds)
    found.append((bool(long_gaps), f"{long_gaps} gaps over 40 ms"))
    for direction in ("up", "down"):
        tally = target.total(direction)
        found.append((not tally.is_clean(), f"audio {direction} was not clean: {_unclean(tally)}"))
    found += [(True, f"the server's peer says: {text}") for figures in target.rounds for text in figures.complaints]
    return [f"{target.name}: {text}" for wrong, text in found if wrong]


def _unclean(tally: PathTally) -> str:
    expected = ("sent_ms", "received_ms", "discarded_ms")
    return ", ".join(f"{name} {value:g}" for name, value in asdict(tally).items() if value and name not in expected)
