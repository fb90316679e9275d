"""Outbound calls with everything around them faked: a carrier that only writes down, limits in memory, a clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from bridge.calls.admission import AgentLimits, Limits
from bridge.calls.machine import MachineAction
from bridge.calls.orders import TransferOrder
from bridge.calls.outbound import RequestRules, StatusReport
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.routing import Resolved
from bridge.calls.webhook_vendor import InitiationFailure
from bridge.calls.webhooks import WebhookOptions, on_initiation_failure
from bridge.events import CallInfo
from bridge.leg import ToneWay, TransferKind
from bridge.outcome import EndReason
from bridge.server.admission import Admission
from bridge.server.api.ports import PlacedCall
from bridge.server.call_tokens import CallTokens, MemoryTokens
from bridge.server.carrier_control import CarrierControl, Comeback, Line, OutboundOrder, Whisper
from bridge.server.idempotency import IdempotencyKeys
from bridge.server.live_calls import LiveCalls
from bridge.server.outbound import Outbound
from bridge.server.outbound_parts import OutboundOptions, OutboundParts
from bridge.server.shared_state import SharedState
from tests.kit.clock import FakeClock
from tests.kit.offline import Records

OURS, THEIRS = "+15551234567", "+4930123456"
SID = "CA0123456789abcdef0123456789abcdef"
UNIX_S = 1_700_000_000.0

Hook = Callable[[OutboundOrder], Awaitable[None]]


class FakeControl:
    """A carrier's interface that takes everything, or fails as told."""

    def __init__(self) -> None:
        self.placed: list[OutboundOrder] = []
        self.hung_up: list[str] = []
        self.error: Exception | None = None
        """Raised instead of the answer."""
        self.hang_up_error: Exception | None = None
        self.meanwhile: Hook | None = None
        """Runs while the request is on its way: the webhooks that are quicker than its answer."""
        self.go_on = asyncio.Event()
        self.go_on.set()

    @property
    def transfers_keep_stream(self) -> bool:
        """See ``CarrierControl``."""
        return False

    @property
    def transfers(self) -> frozenset[TransferKind]:
        """See ``CarrierControl``."""
        return frozenset()

    @property
    def tones(self) -> ToneWay:
        """See ``CarrierControl``."""
        return ToneWay.NONE

    async def place(self, order: OutboundOrder) -> str:
        """See ``CarrierControl``; ids count up from ``SID``."""
        self.placed.append(order)
        number = len(self.placed)
        if self.meanwhile is not None:
            await self.meanwhile(order)
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return SID if number == 1 else f"CA{number:032x}"

    async def hang_up(self, line: Line) -> None:
        """See ``CarrierControl``."""
        self.hung_up.append(line.call_sid)
        if self.hang_up_error is not None:
            raise self.hang_up_error

    async def play_tones(self, line: Line, digits: str, comeback: Comeback | None) -> None:
        """See ``CarrierControl``."""
        raise NotImplementedError

    async def transfer(self, line: Line, order: TransferOrder, whisper: Whisper) -> None:
        """See ``CarrierControl``."""
        raise NotImplementedError

    async def ring_human(self, line: Line, order: TransferOrder, whisper: Whisper) -> str:
        """See ``CarrierControl``."""
        raise NotImplementedError

    async def join(self, line: Line, human_sid: str, order: TransferOrder, whisper: Whisper, words: str) -> None:
        """See ``CarrierControl``."""
        raise NotImplementedError

    async def drop_human(self, line: Line, human_sid: str) -> None:
        """See ``CarrierControl``."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """See ``CarrierControl``."""


class FakeLines:
    """The sessions of a process: ids of calls and lines that have their media here."""

    def __init__(self) -> None:
        self.call_ids: set[str] = set()
        self.call_sids: set[str] = set()
        self.over: list[str] = []
        self.detected: list[tuple[str, str, MachineAction, str]] = []
        self.remarks: list[tuple[str, str]] = []

    def line_over(self, call_sid: str) -> bool:
        """See ``Lines``."""
        self.over.append(call_sid)
        return call_sid in self.call_sids

    def machine_detected(self, call_id: str, verdict: str, action: MachineAction, message: str) -> bool:
        """See ``Lines``."""
        if call_id not in self.call_ids:
            return False
        self.detected.append((call_id, verdict, action, message))
        return True

    def remark(self, call_sid: str, event: str) -> bool:
        """See ``Lines``."""
        self.remarks.append((call_sid, event))
        return call_sid in self.call_sids


class SharedByTwo(SharedState):
    """One memory that says it is Redis."""

    @property
    def state(self) -> Literal["memory", "redis", "redis_down"]:
        """See ``SharedState``."""
        return "redis"


class Events:
    """The real events of calls that failed."""

    def on_initiation_failure(
        self, record: CallRecord, now: float, failure: InitiationFailure
    ) -> tuple[OutboxEvent, ...]:
        """See ``FailureEvents``."""
        return on_initiation_failure(record, now, WebhookOptions(), failure)


class Office:
    """The outbound calls of one process, and all that they touch. ``other`` makes a second process beside it."""

    def __init__(
        self,
        options: OutboundOptions | None = None,
        *,
        max_calls: int = 10,
        shared: SharedState | None = None,
        tokens: CallTokens | None = None,
        admission: Admission | None = None,
        clock: FakeClock | None = None,
        token_ttl_s: float = 60.0,
    ) -> None:
        self.clock = clock or FakeClock()
        self.control = FakeControl()
        self.controls: dict[str, CarrierControl] = {"twilio": self.control}
        self.lines, self.records = FakeLines(), Records()
        self.shared = shared or SharedState(monotonic=self._now)
        self.tokens: CallTokens = tokens or MemoryTokens(token_ttl_s, 100, monotonic=self._now)
        self.admission = admission or Admission(Limits(max_calls), monotonic=self._now, unix=lambda: UNIX_S)
        self.live = LiveCalls("instance1")
        self.counted: list[str] = []
        self.personalized: list[CallInfo] = []
        self.resolved = Resolved("agent_1", environment="staging", route=OURS, limits=AgentLimits())
        self.asked_routes: list[tuple[str, str, str]] = []
        parts = OutboundParts(
            "instance1",
            self.shared,
            self.admission,
            self.tokens,
            self.records,
            self.live,
            Events(),
            self.lines,
            control=self.controls.get,
            route=self._route,
            personalize=lambda info, route, call_id: self.personalized.append(info),
            count=lambda provider, end: self.counted.append(f"{provider} {end}"),
        )
        self.options = options or OutboundOptions(RequestRules(owned_numbers={"twilio": (OURS,)}), unknown_wait_s=0.0)
        self.outbound = Outbound(
            self.options,
            parts,
            monotonic=self._now,
            unix=lambda: UNIX_S,
            keys=IdempotencyKeys(self.shared, wait_s=0.2),
        )

    def _now(self) -> float:
        return self.clock.now

    def _route(self, provider: str, number: str, agent_id: str) -> Resolved:
        self.asked_routes.append((provider, number, agent_id))
        return self.resolved

    def other(self) -> Office:
        """Another process, with the same Redis."""
        return Office(self.options, shared=self.shared, tokens=self.tokens, clock=self.clock)

    # --- what happens ---

    async def place(self, key: str = "", **members: Any) -> PlacedCall:
        """Place a call to ``THEIRS``."""
        return await self.outbound.place(json.dumps({"to_number": THEIRS, **members}).encode(), key)

    async def status(self, call_id: str, status: str, sequence: int = -1, sid: str = SID, **fields: str) -> bool:
        """A status callback."""
        form = {"CallSid": sid, "CallStatus": status, "To": THEIRS, **fields}
        code = int(fields.get("SipResponseCode", "0"))
        report = StatusReport(
            call_sid=sid, status=status, sequence=sequence, sip_code=code, account_id="AC1", fields=form
        )
        return await self.outbound.status(call_id, report)

    # --- what came of it ---

    @property
    def slots(self) -> int:
        """Slots that this process holds."""
        return self.admission.active

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The data of all failure events, in order."""
        events = [event for _, events in self.records.puts for event in events]
        assert all(event.type == "call_initiation_failure" for event in events)
        return [json.loads(event.body)["data"] for event in events]

    @property
    def ends(self) -> list[str]:
        """The reasons of all records that were written as ended, in order."""
        return [record.reason for record, _ in self.records.puts if record.state == "ended"]


def answer_info(sid: str = SID, **parameters: str) -> CallInfo:
    """What the answer webhook of a placed call says."""
    return CallInfo(
        provider="twilio",
        call_sid=sid,
        account_id="AC1",
        caller=OURS,
        called=THEIRS,
        direction="outbound",
        parameters=parameters,
    )


def end_name(end: EndReason) -> str:
    """As ``Office.counted`` has it."""
    return f"twilio {end}"
