"""What a call's trace consists of, and the names by which all processes know it. No OpenTelemetry in here.

Theory of operation: ids are derived from the call's id. So whoever speaks for a call, the process that has it, the one
that delivers its webhooks tomorrow, or a webhook's receiver, means the same trace without anything being handed from
one to the other. The spans of a call are made once, of its record, when it is over: nothing is done per frame, and a
bridge without tracing does nothing at all.

Spans hold times, names and counts; never numbers, keys or words of the call. Source: W3C Trace Context (Recommendation
of 23 November 2021), section 3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from bridge.calls.record import CallRecord
from bridge.calls.state import State

MAX_SPANS = 500
"""Of one call: an hour of talk has some 300 turns. What is beyond is left out, and said to be."""
MAX_EVENTS = 128
"""Steps noted in the call's own span: the SDK's own limit."""

Attribute = str | int | float | bool

STATE_SPANS = {
    State.ADMITTING.value: "admission",
    State.QUEUED.value: "queue",
    State.CONNECTING.value: "agent connect",
    State.ACTIVE.value: "conversation",
    State.RECONNECTING.value: "agent reconnect",
    State.DRAINING.value: "play out",
}
"""The span of each state of a call that lasts."""

FAULTS = ("server_error", "upstream_error")
"""Results whose trace is marked as an error."""


def trace_id(call_id: str) -> int:
    """128 bits, the same in every process; never 0."""
    return int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:16], "big") or 1


def span_id(call_id: str, *key: str) -> int:
    """64 bits, likewise; without ``key`` the call's own span."""
    return int.from_bytes(hashlib.sha256("\0".join((call_id, *key, "span")).encode()).digest()[:8], "big") or 1


def traceparent(call_id: str, *key: str, sampled: bool = True) -> str:
    """The header that makes a receiver's spans children of this one: version, trace, parent, flags."""
    return f"00-{trace_id(call_id):032x}-{span_id(call_id, *key):016x}-{sampled:02x}"


class RequestTraces(Protocol):
    """Who is told of requests that are made for calls; ``name`` and ``key`` name one of the call's."""

    def headers(self, call_id: str, name: str, key: str = "") -> dict[str, str]:
        """Headers that tell the receiver of the request's place in the call's trace."""
        ...

    def requested(
        self, call_id: str, name: str, key: str = "", *, began_s: float, ended_s: float, problem: str = ""
    ) -> None:
        """The request is over. Times are Unix seconds; ``problem`` is empty where it went well."""
        ...


@dataclass(frozen=True, slots=True)
class SpanPlan:
    """A span to be made. Times are Unix seconds."""

    name: str
    span_id: int
    start_s: float
    end_s: float
    attributes: dict[str, Attribute] = field(default_factory=dict)
    error: str = ""
    """What went wrong; empty = nothing."""
    events: tuple[tuple[float, str], ...] = ()
    """Moments within it, by their names."""


def spans_of(record: CallRecord) -> tuple[SpanPlan, list[SpanPlan]]:
    """The span of a call that is over, and those below it."""
    children = [*_states(record), *_turns(record), *_tools(record)]
    return _root(record, max(0, len(children) - MAX_SPANS)), children[:MAX_SPANS]


def _root(record: CallRecord, left_out: int) -> SpanPlan:
    steps = [step for step in record.journal.steps if step.event not in STATE_SPANS and step.event != State.ENDED.value]
    attributes: dict[str, Attribute] = {
        "bridge.call_id": record.id,
        "bridge.provider": record.provider,
        "bridge.direction": record.direction,
        "bridge.agent_id": record.agent_id,
        "bridge.conversation_id": record.conversation_id,
        "bridge.admission": record.admission,
        "bridge.is_burst": record.is_burst,
        "bridge.result": record.result,
        "bridge.reason": record.reason,
        "bridge.gaps": record.stats.get("gaps") or 0,
        "bridge.interruptions": record.stats.get("interruptions") or 0,
        "bridge.spans_left_out": left_out,
    }
    return SpanPlan(
        "call",
        span_id(record.id),
        record.created_at,
        _end(record),
        attributes,
        record.reason if record.result in FAULTS else "",
        tuple((record.created_at + step.at_s, step.event) for step in steps[:MAX_EVENTS]),
    )


def _end(record: CallRecord) -> float:
    return record.created_at if record.ended_at is None else max(record.ended_at, record.created_at)


def _states(record: CallRecord) -> Iterator[SpanPlan]:
    began = [(step.event, record.created_at + step.at_s) for step in record.journal.steps if step.event in STATE_SPANS]
    ends = [start_s for _, start_s in began[1:]] + [_end(record)]
    for number, ((state, start_s), end_s) in enumerate(zip(began, ends, strict=False)):  # of none there is no end
        yield _child(record, STATE_SPANS[state], str(number), start_s, end_s)


def _turns(record: CallRecord) -> Iterator[SpanPlan]:
    for number, turn in enumerate(record.turns):
        took_ms = turn.silence_ms if turn.response_ms is None else turn.response_ms
        start_s = record.created_at + turn.at_s
        attributes: dict[str, Attribute] = {
            "bridge.answered": turn.response_ms is not None,
            "bridge.barged_in": turn.barged_in,
            **{f"bridge.owner.{owner}_ms": spent_ms for owner, spent_ms in turn.owners.items()},
        }
        yield _child(record, "turn", str(number), start_s, start_s + took_ms / 1000, attributes)


def _tools(record: CallRecord) -> Iterator[SpanPlan]:
    """Client tools, transfers among them."""
    for number, use in enumerate(record.journal.tools):
        start_s = record.created_at + use.at_s
        end_s = _end(record) if use.took_ms is None else start_s + use.took_ms / 1000
        attributes: dict[str, Attribute] = {"bridge.tool": use.name[:64]}
        yield _child(record, "tool", str(number), start_s, end_s, attributes, "it failed" if use.is_error else "")


def _child(
    record: CallRecord,
    name: str,
    key: str,
    start_s: float,
    end_s: float,
    attributes: dict[str, Attribute] | None = None,
    error: str = "",
) -> SpanPlan:
    return SpanPlan(name, span_id(record.id, name, key), start_s, max(start_s, end_s), attributes or {}, error)
