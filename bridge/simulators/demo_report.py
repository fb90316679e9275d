"""What the demo shows of its call: the figures, the table, the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.table import Table

from bridge import outcome
from bridge.calls.picture import CallLane, CallPicture, MarkKind, PictureMark, StateSpan, render_svg
from bridge.calls.stats import CallStats
from bridge.media.g711 import ulaw_to_pcm
from bridge.simulators.call_result import CallResult
from bridge.simulators.demo_watch import KeptHistogram, Watch

_MARKED = {
    "interrupted": (MarkKind.INTERRUPTION, "interruption"),
    "tool_refused": (MarkKind.TOOL_CALL, "tool call"),
    "agent_tool_ran": (MarkKind.TOOL_CALL, "agent's tool"),
}
"""Steps of the call that the picture marks."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Durations in milliseconds; all 0 where nothing was measured."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, kept: KeptHistogram) -> Percentiles:
        """Exact percentiles of every value kept."""
        if not kept.values_s:
            return cls(0, 0.0, 0.0, 0.0)
        p50, p99, top = (float(np.percentile(kept.values_s, q)) * 1000 for q in (50, 99, 100))
        return cls(len(kept.values_s), round(p50, 3), round(p99, 3), round(top, 3))


@dataclass(frozen=True, slots=True)
class DemoReport:
    """One demo call."""

    result: CallResult
    """As the caller and its carrier saw it."""
    stats: CallStats
    """As the bridge counted it."""
    end: outcome.EndReason
    caller_to_agent: Percentiles
    agent_to_caller: Percentiles
    clear: Percentiles
    formats: str
    """What was converted, in the words of the log."""
    marks: tuple[PictureMark, ...]
    states: tuple[StateSpan, ...]
    recording: Path
    picture: Path

    @classmethod
    def build(cls, result: CallResult, watch: Watch, folder: Path) -> DemoReport:
        """Put together what the caller and the bridge saw."""
        session = watch.session
        end = watch.reason or outcome.AGENT_UNREACHABLE
        return cls(
            result=result,
            stats=session.call.stats if session is not None else CallStats(),
            end=end,
            caller_to_agent=Percentiles.of(watch.caller_to_agent),
            agent_to_caller=Percentiles.of(watch.agent_to_caller),
            clear=Percentiles.of(watch.clear),
            formats=next((detail for _, event, detail in watch.notes if event == "agent_ready"), ""),
            marks=_marks(watch, result, end),
            states=_states(watch, result),
            recording=folder / "call.wav",
            picture=folder / "call.svg",
        )

    @property
    def succeeded(self) -> bool:
        """Whether the call went as calls should, on the wire too."""
        return self.end.result is outcome.Result.SUCCESS and not self.result.violations

    def figures(self) -> dict[str, Any]:
        """The figures, for ``--json``."""
        result = self.result
        return {
            "end": {"result": self.end.result.value, "reason": self.end.reason},
            "duration_ms": result.duration_ms,
            "frames": {"caller_to_agent": self.stats.caller_frames, "agent_to_caller": self.stats.agent_frames},
            "gaps": {"count": len(result.gaps), "ms": round(sum(gap.length_ms for gap in result.gaps), 1)},
            "added_latency_ms": {
                "caller_to_agent": _as_json(self.caller_to_agent),
                "agent_to_caller": _as_json(self.agent_to_caller),
            },
            "clear_reaction_ms": _as_json(self.clear),
            "formats": self.formats,
            "counters": {name: value for name, value in self.stats.as_dict().items() if value},
            "caller": result.to_json(),
            "recording": str(self.recording),
            "picture": str(self.picture),
        }

    def to_json(self) -> str:
        """``figures`` as text."""
        return msgspec.json.format(msgspec.json.encode(self.figures()).decode(), indent=2)

    def table(self) -> Table:
        """The figures for people."""
        table = Table("", "caller to agent", "agent to caller", title="The call", title_justify="left")
        stats, result = self.stats, self.result
        table.add_row("frames of 20 ms", str(stats.caller_frames), str(stats.agent_frames))
        table.add_row("gaps the caller could hear", "", f"{len(result.gaps)}")
        for name, part in (("p50", "p50_ms"), ("p99", "p99_ms")):
            up, down = getattr(self.caller_to_agent, part), getattr(self.agent_to_caller, part)
            table.add_row(f"added in the bridge, {name}", f"{up:.2f} ms", f"{down:.2f} ms")
        table.add_row("interruption to clear, in the bridge", "", f"{self.clear.max_ms:.2f} ms")
        table.add_row("caller speaks to clear, at the carrier", "", _listed(result.reaction_ms))
        table.add_row("caller stops to agent speaks", "", _listed(result.response_ms))
        table.add_row("breaches of the carrier's protocol", "", str(len(result.violations)))
        table.add_row("end", "", str(self.end))
        return table


def draw(report: DemoReport) -> str:
    """The picture of the call as SVG."""
    result = report.result
    picture = CallPicture(
        title="Demo call",
        subtitle=f"Twilio and agent as the caller heard them; {report.formats or 'the agent was not reached'}",
        duration_ms=round(result.duration_ms),
        lanes=(
            CallLane("Caller", ulaw_to_pcm(bytes(result.said)), 8000),
            CallLane("Agent", ulaw_to_pcm(bytes(result.heard)), 8000),
        ),
        marks=report.marks,
        states=report.states,
    )
    return render_svg(picture)


def _as_json(percentiles: Percentiles) -> dict[str, float]:
    return {
        "count": percentiles.count,
        "p50": percentiles.p50_ms,
        "p99": percentiles.p99_ms,
        "max": percentiles.max_ms,
    }


def _listed(values_ms: list[float]) -> str:
    return ", ".join(f"{value:.0f} ms" for value in values_ms) or "-"


def _marks(watch: Watch, result: CallResult, end: outcome.EndReason) -> tuple[PictureMark, ...]:
    marks = [
        PictureMark(round(at_s * 1000), *_MARKED[event], detail)
        for at_s, event, detail in watch.notes
        if event in _MARKED
    ]
    marks += [
        PictureMark(at_ms, MarkKind.CLEAR, "clear", what.removeprefix("clear, "))
        for at_ms, what in result.timeline
        if what.startswith("clear, ")
    ]
    marks.append(PictureMark(round(result.duration_ms), MarkKind.END, "end", end.reason))
    return tuple(marks)


def _states(watch: Watch, result: CallResult) -> tuple[StateSpan, ...]:
    if watch.session is None:
        return ()
    session, end_ms = watch.session, round(result.duration_ms)
    starts = [(round((at_s - session.started_s) * 1000), state.value) for at_s, state in session.call.history]
    following = [at_ms for at_ms, _ in starts[1:]] + [end_ms]
    return tuple(
        StateSpan(from_ms, to_ms, name)
        for (from_ms, name), to_ms in zip(starts, following, strict=True)
        if to_ms > from_ms and name not in ("admitting", "ended")
    )
