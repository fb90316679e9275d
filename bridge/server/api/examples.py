"""Examples for the OpenAPI document: one call, told from its first moment to its last."""

from __future__ import annotations

from typing import Any

import msgspec

from bridge import outcome
from bridge.calls.journal import Journal, KeyPress, Step, ToolUse, Turn
from bridge.calls.outbound import MachineDetection, OutboundRequest
from bridge.calls.record import CallRecord, LatencySummary, Recording
from bridge.calls.rules import Overflow, Route
from bridge.convai.messages import InitiationData
from bridge.server.api.errors import ErrorBody, ErrorInfo
from bridge.server.api.ports import PlacedCall
from bridge.server.api.schemas import (
    CallDetail,
    CallList,
    ControlDone,
    DeliveryList,
    LiveList,
    ReplayOrder,
    ReplayResult,
    RouteEntry,
    RouteList,
    Timeline,
    Transcript,
    UsageInfo,
)
from bridge.server.api.views import Views, usage_info
from bridge.server.live_calls import LiveCall
from bridge.server.slot_store import Usage
from bridge.server.store.delivery import Delivery

_BEGAN = 1_774_949_400.25

RECORD = CallRecord(
    id="9f86d081884c7d65",
    instance_id="bridge-1-4b2c",
    provider="twilio",
    caller="+4930123456",
    called="+15550100",
    call_sid="CA0123456789abcdef0123456789abcdef",
    stream_id="MZ0123456789abcdef0123456789abcdef",
    account_id="AC0123456789abcdef0123456789abcdef",
    agent_id="agent_support",
    conversation_ids=["conv_01"],
    state="ended",
    admission="granted",
    created_at=_BEGAN,
    answered_at=_BEGAN + 0.75,
    ended_at=_BEGAN + 42.5,
    result=outcome.CALLER_HANGUP.result.value,
    reason=outcome.CALLER_HANGUP.reason,
    carrier_format="ulaw_8000",
    agent_input_format="ulaw_8000",
    agent_output_format="ulaw_8000",
    variables={"language": "en"},
    stats={"caller_frames": 2087, "agent_frames": 810, "interruptions": 1},
    latency={"caller_to_agent": LatencySummary(count=278, mean_ms=0.06, p50_ms=0.05, p99_ms=0.25)},
    journal=Journal(
        turns=[
            Turn(role="agent", text="Hello, how", original="Hello, how can I help?", interrupted=True, at_s=1.0),
            Turn(role="user", text="When do you open?", at_s=2.5),
            Turn(role="agent", text="At nine.", at_s=4.0),
        ],
        tools=[
            ToolUse(name="hours", call_id="tool_1", at_s=3.0, parameters={"day": "today"}, result="9-17", took_ms=120.0)
        ],
        digits=[KeyPress(at_s=10.0, digit="1", duration_ms=100)],
        steps=[Step(at_s=0.0, event="admitting"), Step(at_s=0.75, event="active", detail="audio passes unchanged")],
    ),
    recording=Recording(
        location="9f86d081884c7d65.wav",
        format="wav",
        duration_ms=41_750,
        size_bytes=1_336_044,
        pauses=[(12.0, 18.5)],
        complete=True,
    ),
)  # fmt: skip

_VIEWS = Views(redact_numbers=False)
LIVE_CALL = LiveCall(
    call_id="b7e23ec29af22b0b",
    instance_id="bridge-2-9d1e",
    provider="twilio",
    direction="inbound",
    caller="+4930123456",
    called="+15550100",
    agent_id="agent_support",
    conversation_id="conv_02",
    state="active",
    started_at=_BEGAN + 60,
)
_ROUTE = Route(number="+4930*", agent="agent_support", overflow=Overflow.QUEUE, recording=True)
DEAD_EVENT = Delivery(
    id="evt_9f86d081884c7d65_call.ended",
    call_id=RECORD.id,
    sequence=3,
    type="call.ended",
    state="dead",
    attempts=19,
    created_at=_BEGAN + 42.5,
    next_attempt_at=None,
    delivered_at=None,
    last_error="HTTP 500",
)
_USAGE = Usage(store="redis", active=4, max_calls=1000, calls=6, limit=30, instances=2, agents={"agent_support": 6})

EXAMPLES: dict[Any, msgspec.Struct] = {
    CallList: CallList(calls=[_VIEWS.summary(RECORD)], next_cursor="MTc3NDk0OTQwMC4yNV85Zjg2"),
    CallDetail: _VIEWS.detail(RECORD),
    Timeline: _VIEWS.timeline(RECORD),
    Transcript: _VIEWS.transcript(RECORD),
    LiveList: LiveList(calls=[_VIEWS.live(LIVE_CALL)], count=1, store="redis"),
    UsageInfo: usage_info(_USAGE),
    DeliveryList: DeliveryList(events=[DEAD_EVENT]),
    Route: _ROUTE,
    RouteList: RouteList(
        routes=[RouteEntry(number=_ROUTE.number, provider=_ROUTE.provider, source="database", route=_ROUTE)]
    ),
    ReplayOrder: ReplayOrder(ids=[DEAD_EVENT.id]),
    ReplayResult: ReplayResult(replayed=1),
    ControlDone: ControlDone(call_id=LIVE_CALL.call_id, done="hangup"),
    OutboundRequest: OutboundRequest(
        to_number="+4930123456",
        from_number="+15550100",
        agent_id="agent_support",
        conversation_initiation_client_data=InitiationData(dynamic_variables={"customer": "Ann"}),
        ring_timeout_s=45,
        machine_detection=MachineDetection(rules={"machine": "leave_message", "fax": "hang_up"}),
    ),
    PlacedCall: PlacedCall(call_id=LIVE_CALL.call_id, call_sid="CA0123456789abcdef0123456789abcdef", status="queued"),
    ErrorBody: ErrorBody(ErrorInfo("invalid_parameter", "limit: is no whole number from 1 to 200", "limit")),
}
"""By type of body."""
