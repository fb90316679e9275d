"""The answers of the API as structs: what a client may rely on, apart from how calls are stored.

The OpenAPI document is derived from these types and from the texts below their fields (``openapi.py``), so the
two cannot disagree. Members are added, never renamed or removed, while the path begins with ``/v1``. Times are
Unix seconds, ``_s`` and ``_ms`` are lengths; texts are empty where there is nothing to say.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bridge.calls.journal import KeyPress, Step, ToolUse, Turn
from bridge.calls.record import LatencySummary
from bridge.calls.rules import Route
from bridge.calls.turns import TurnSummary, TurnTiming
from bridge.server.store.delivery import Delivery


class CallSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it stands in lists."""

    id: str
    """The bridge's own id of the call."""
    instance_id: str
    """The process that carries or carried it."""
    provider: str
    """The carrier, e.g. `twilio`."""
    direction: str
    """`inbound` or `outbound`."""
    caller: str
    """As the carrier wrote it; masked with REDACT_NUMBERS."""
    called: str
    """As the carrier wrote it; masked with REDACT_NUMBERS."""
    call_sid: str
    """The carrier's id of the call."""
    agent_id: str
    """The agent that took it."""
    conversation_id: str
    """The vendor's id of the latest conversation; empty before there was one."""
    state: str
    """Where it stands: a state of the README's diagram; `ended` when it is over."""
    live: bool
    """Whether it is still going on."""
    admission: str
    """`granted`, `burst`, `queued`, or the reason of a refusal."""
    is_burst: bool
    """Whether it took a slot over the limit."""
    queue_wait_ms: int
    """How long the caller waited for a slot."""
    created_at: float
    """When the carrier offered it."""
    answered_at: float | None
    """When the agent was ready; null if it never was."""
    ended_at: float | None
    """Null while it goes on."""
    duration_s: float
    """From the offer to the end; 0 while it goes on."""
    result: str
    """Who answers for the end; empty while it goes on."""
    reason: str
    """What ended it: a reason of the README's table; empty while it goes on."""
    recorded: bool
    """Whether there is a recording."""


class CallList(msgspec.Struct, frozen=True, kw_only=True):
    """One page of calls, newest first."""

    calls: list[CallSummary]
    """As many as `limit` says, fewer on the last page."""
    next_cursor: str | None
    """Give it back as `cursor` for the next page; null on the last."""


class RecordingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The recording of a call."""

    url: str
    """Path of the audio below this server."""
    location: str
    """Where it is stored: a path below the recordings' folder, or `s3://bucket/key`."""
    format: str
    """`wav` or `mp3`; the caller is on the left channel, the agent on the right."""
    duration_ms: int
    """0 while it is written."""
    size_bytes: int
    """0 while it is written."""
    pauses: list[tuple[float, float]]
    """Stretches, in seconds of the recording, in which silence was written on request."""
    complete: bool
    """False while it is written, and for ever when its process died."""


class CallDetail(CallSummary, frozen=True, kw_only=True):
    """All that is kept of a call."""

    detail: str
    """More words on the end."""
    advice: str
    """What the operator should do about this end; empty while the call goes on."""
    stream_id: str
    """The carrier's id of the last media stream."""
    account_id: str
    """The carrier's account."""
    route: str
    """The number pattern of the route that chose the agent; empty = the default agent."""
    environment: str
    """The agent's environment; empty = the vendor's default."""
    branch: str
    """The agent's branch; empty = its main branch."""
    conversation_ids: list[str]
    """All of the vendor's ids, in order; more than one after a reconnect."""
    carrier_format: str
    """Audio format of the carrier's side."""
    agent_input_format: str
    """Audio format in which the agent hears."""
    agent_output_format: str
    """Audio format in which the agent speaks."""
    variables: dict[str, str | int | float | bool]
    """Dynamic variables that the agent was given."""
    initiation: dict[str, Any]
    """The rest of what the conversation was begun with: overrides, user id, extra body."""
    analysis: dict[str, Any]
    """What the vendor made of the conversation: summary, verdict, criteria and results; empty before it has said so."""
    outputs: dict[str, str]
    """Results that the carrier was given."""
    stats: dict[str, int | float | None]
    """Counters: frames, drops, interruptions, turns."""
    latency: dict[str, LatencySummary]
    """Per hop of the media path."""
    transcript: list[Turn]
    """What was said; empty once its retention is over."""
    tools: list[ToolUse]
    """Client tools that the agent called."""
    keys: list[KeyPress]
    """Keys that the caller pressed."""
    steps: list[Step]
    """States, interruptions, transfers, pauses."""
    entries_lost: int
    """Entries of these four lists that did not fit."""
    turns: list[TurnTiming]
    """When the caller's turns ended, and how soon and by whose time they were answered."""
    turn_summary: TurnSummary | None
    """All turns together; null while the call goes on."""
    media: dict[str, int | float | None]
    """How the carrier's media stream was, for calls over SIP: packets, loss, jitter, round trip and an estimate of the
    quality (`mos`, 1 to 4.5)."""
    recording: RecordingInfo | None
    """Null when there is none."""


class StepEvent(msgspec.Struct, frozen=True, kw_only=True, tag="step", tag_field="type"):
    """A step of the call: a new state, an interruption, a transfer, a pause."""

    at: float
    """Unix seconds."""
    at_s: float
    """Seconds since the call was offered."""
    event: str
    """What happened."""
    detail: str
    """More words on it."""


class TurnEvent(msgspec.Struct, frozen=True, kw_only=True, tag="turn", tag_field="type"):
    """One turn of the conversation."""

    at: float
    """Unix seconds."""
    at_s: float
    """Seconds since the call was offered."""
    role: Literal["user", "agent"]
    """Who spoke."""
    text: str
    """What was said; for an agent that was interrupted, what it got to say."""
    original: str
    """What the agent was about to say, where a correction cut it; else empty."""
    interrupted: bool
    """Whether the caller cut it short."""


class ToolEvent(msgspec.Struct, frozen=True, kw_only=True, tag="tool", tag_field="type"):
    """A client tool that the agent called."""

    at: float
    """Unix seconds of the call of the tool."""
    at_s: float
    """Seconds since the call was offered."""
    name: str
    """The tool."""
    tool_call_id: str
    """The agent's id of this use."""
    parameters: dict[str, Any]
    """What the agent gave it."""
    result: str
    """What it answered; empty while it runs."""
    is_error: bool
    """Whether it failed."""
    took_ms: float | None
    """Null while it runs."""


class KeyEvent(msgspec.Struct, frozen=True, kw_only=True, tag="key", tag_field="type"):
    """A key that the caller pressed."""

    at: float
    """Unix seconds."""
    at_s: float
    """Seconds since the call was offered."""
    digit: str
    """Empty when digits are redacted."""
    duration_ms: int
    """0 where the carrier does not say."""


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that happened in a call, in order of time."""

    call_id: str
    """The call."""
    live: bool
    """Whether more may come."""
    events: list[StepEvent | TurnEvent | ToolEvent | KeyEvent]
    """Oldest first."""
    entries_lost: int
    """Entries that did not fit into the record."""


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What was said in a call."""

    call_id: str
    """The call."""
    conversation_id: str
    """The vendor's id of the latest conversation."""
    live: bool
    """Whether more may come."""
    turns: list[Turn]
    """Oldest first; empty once the transcript's retention is over."""


class LiveCallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A call in progress."""

    id: str
    """The bridge's own id of the call."""
    instance_id: str
    """The process that carries it."""
    provider: str
    """The carrier, e.g. `twilio`."""
    direction: str
    """`inbound` or `outbound`."""
    caller: str
    """As the carrier wrote it; masked with REDACT_NUMBERS."""
    called: str
    """As the carrier wrote it; masked with REDACT_NUMBERS."""
    agent_id: str
    """The agent that takes it; empty while that is being decided."""
    conversation_id: str
    """The vendor's id of the latest conversation; empty before there is one."""
    state: str
    """Where it stands: a state of the README's diagram."""
    is_burst: bool
    """Whether it took a slot over the limit."""
    created_at: float
    """When the carrier offered it."""


class LiveList(msgspec.Struct, frozen=True, kw_only=True):
    """The calls in progress on all instances."""

    calls: list[LiveCallInfo]
    """Oldest first."""
    count: int
    """How many there are."""
    store: Literal["memory", "redis", "redis_down"]
    """Whose calls these are: with `redis` everybody's, else those of the process that answers."""


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True):
    """Webhook events."""

    events: list[Delivery]
    """In their order."""


class ReplayOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead events to send again: `ids`, or `all`."""

    ids: list[str] = []
    """Ids as the list of dead events has them; up to 500."""
    all: bool = False
    """Every dead event."""


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the order."""

    replayed: int
    """Events that were put back into the queue; ids that are not dead are left out."""


class RouteEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A route as it is in force."""

    number: str
    """Pattern of the called number or SIP address."""
    provider: str
    """Carrier; empty = any."""
    source: Literal["file", "database"]
    """Those of the file are changed there; one of the database goes before one of the file with the same number."""
    route: Route
    """What was set for it."""


class RouteList(msgspec.Struct, frozen=True, kw_only=True):
    """The routes in force."""

    routes: list[RouteEntry]
    """In the order in which they are tried."""


class ControlDone(msgspec.Struct, frozen=True, kw_only=True):
    """The order was carried out."""

    call_id: str
    """The call."""
    done: str
    """`hangup`, `transfer`, `recording_paused` or `recording_resumed`."""


class AgentUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The slots of one agent."""

    agent_id: str
    """The agent."""
    used: int
    """Its calls that hold a slot."""


class UsageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Slots and limits at this moment, over all instances unless said otherwise."""

    store: str
    """Who counts: `memory`, `redis`, or `redis_down` while this process is on its own."""
    limit: int | None
    """WORKSPACE_CONCURRENCY; null = no limit."""
    used: int
    """Calls that hold a slot; with `redis_down` those of this process."""
    burst: int
    """Those of `used` that are over the limit."""
    batch: int
    """Those of `used` that belong to a batch."""
    waiting: int
    """Callers that wait for a slot."""
    instances: int
    """Processes that carry calls."""
    instance_limit: int
    """BRIDGE_MAX_CALLS of the process that answers."""
    instance_used: int
    """Slots that the process that answers holds."""
    burst_minutes_today: float
    """Minutes of burst calls since midnight in TIMEZONE."""
    agents: list[AgentUsage]
    """Per agent, busiest first; the list has a bound."""
