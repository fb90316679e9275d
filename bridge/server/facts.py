"""What the server knows of a call besides the call itself: when, by which rule, on whose account. And its record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bridge.auth.tokens import CallClaims, TokenProblem
from bridge.calls.call import Call
from bridge.calls.record import CallRecord, LatencySummary, Recording
from bridge.calls.routing import Resolved
from bridge.calls.state import State
from bridge.calls.tap import Tap
from bridge.convai.messages import InitiationData
from bridge.outcome import EndReason
from bridge.server.metrics import HopHistogram
from bridge.server.recording.manager import CallTape
from bridge.server.said_posts import SaidPosts


@dataclass(slots=True)
class CallFacts:
    """Filled in as the call goes on. Times are Unix seconds."""

    instance_id: str
    provider: str
    created_at: float
    caller_to_agent: HopHistogram
    """Carrier's message in -> agent's message out."""
    agent_to_caller: HopHistogram
    """Agent's message in -> first audio of it out; audio that must wait for its time is not counted."""
    route: Resolved | None = None
    """How numbers were turned into an agent and its rules; None before the offer."""
    admission: str = ""
    """``granted``, ``burst``, ``queued``, or the reason of a refusal."""
    is_burst: bool = False
    queue_wait_ms: int = 0
    answered_at: float | None = None
    ended_at: float | None = None
    end: EndReason | None = None
    end_detail: str = ""
    initiation: InitiationData = InitiationData()
    media_of: Callable[[], dict[str, int | float | None]] | None = None
    """The figures of the media stream as they stand; None where the carrier has it."""
    tape: CallTape | None = None
    """The call's recording while it grows."""
    recording: Recording | None = None
    events_sent: int = 0
    entries_typed: int = 0
    """Entries of keys that went to the operator's webhook."""
    spoke_to_caller: bool = False
    """Whether the caller was told, by a voice of ours, what the agent wanted told."""
    redeeming: asyncio.Future[CallClaims | TokenProblem] | None = None
    """What the call's one-time token stands for, known or soon to be; None = it was not looked at."""
    posts: SaidPosts | None = None
    """Posts of what is said, for those who asked for them."""
    taps: tuple[Tap, ...] = ()
    """Who hears both sides of the call; see ``bridge.server.listening``."""


def record_of(call_id: str, call: Call, facts: CallFacts) -> CallRecord:
    """The record of the call as it stands now. It shares its journal with the call: encode it before that goes on."""
    info, route, end = call.info, facts.route, facts.end
    record = CallRecord(
        id=call_id,
        instance_id=facts.instance_id,
        provider=facts.provider,
        state=State.ENDED.value if end is not None else call.state.value,
        created_at=facts.created_at,
        admission=facts.admission,
        is_burst=facts.is_burst,
        queue_wait_ms=facts.queue_wait_ms,
        answered_at=facts.answered_at,
        ended_at=facts.ended_at,
        conversation_ids=list(call.conversation_ids),
        outputs=dict(call.outputs),
        stats=call.current_stats().as_dict(),
        journal=call.journal,
        recording=facts.recording,
        events_sent=facts.events_sent,
        turns=call.turns.turns,
        turn_summary=call.turns.summary(),
    )
    if info is not None:
        record.direction, record.caller, record.called = info.direction, info.caller, info.called
        record.call_sid, record.stream_id, record.account_id = info.call_sid, info.stream_id, info.account_id
    if route is not None:
        record.agent_id, record.route = route.agent_id, route.route
        record.environment, record.branch = route.environment, route.branch
    if end is not None:
        record.result, record.reason, record.detail = end.result.value, end.reason, facts.end_detail
    if facts.media_of is not None:
        record.media = facts.media_of()
    _add_formats(record, call)
    _add_initiation(record, facts.initiation)
    for hop, histogram in (("caller_to_agent", facts.caller_to_agent), ("agent_to_caller", facts.agent_to_caller)):
        if histogram.count:
            record.latency[hop] = _summary(histogram)
    return record


def _add_formats(record: CallRecord, call: Call) -> None:
    if call.downlink is not None:
        record.carrier_format = call.downlink.media.name
    if call.agent_formats is not None:
        record.agent_input_format, record.agent_output_format = (media.name for media in call.agent_formats)


def _add_initiation(record: CallRecord, data: InitiationData) -> None:
    record.variables = dict(data.dynamic_variables)
    rest = {
        "conversation_config_override": data.conversation_config_override,
        "custom_llm_extra_body": data.custom_llm_extra_body,
        "user_id": data.user_id,
    }
    record.initiation = {name: value for name, value in rest.items() if value}


def _summary(histogram: HopHistogram) -> LatencySummary:
    return LatencySummary(
        count=histogram.count,
        mean_ms=round(histogram.total_s / histogram.count * 1000, 3),
        p50_ms=round(histogram.quantile_s(0.5) * 1000, 3),
        p99_ms=round(histogram.quantile_s(0.99) * 1000, 3),
    )
