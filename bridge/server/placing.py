"""Places calls: key, slot, book, carrier; in this order, so that at no moment two calls or a lost slot can come of it.

What it is not: what happens to the call from then on (``bridge.server.outbound``). A request that places a call is
never repeated: where the carrier does not answer, its first webhook may still tell that the call was placed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge import outcome
from bridge.calls.admission import CallKind, Granted, SlotRequest
from bridge.calls.outbound import Failure, OutboundCall, OutboundRequest, actions_for, request_digest
from bridge.calls.routing import Resolved
from bridge.server.api.ports import PlacedCall, PlacementRefused
from bridge.server.carrier_control import CarrierControl, ControlError, ControlFault, OutboundOrder
from bridge.server.idempotency import IdempotencyKeys
from bridge.server.logs import get_logger
from bridge.server.outbound_book import OutboundBook
from bridge.server.outbound_parts import (
    CUT_SHORT,
    NO_CONTROL,
    OutboundOptions,
    OutboundParts,
    no_agent,
    no_slot,
    refused_by_carrier,
)
from bridge.server.outbound_ringing import Ringing, RingingCalls, report_words


class Placing:
    """See the module. One per process."""

    def __init__(
        self,
        options: OutboundOptions,
        parts: OutboundParts,
        book: OutboundBook,
        ringing: RingingCalls,
        keys: IdempotencyKeys,
        *,
        monotonic: Callable[[], float],
        unix: Callable[[], float],
    ) -> None:
        self.options = options
        """May be replaced at any time."""
        self._parts = parts
        self._book = book
        self._ringing = ringing
        self._keys = keys
        self._monotonic = monotonic
        self._unix = unix
        self._log = get_logger()

    async def place(self, request: OutboundRequest, key: str, call_id: str) -> PlacedCall:
        """Place a call under this id of ours, or tell what came of the first request with this key (empty = none).

        Raises ``PlacementRefused``. Must not be cancelled in the middle: the carrier may have placed the call. A bug
        leaves the key unsettled, as nobody knows then what has happened.
        """
        if not key:
            return await self._admit(request, call_id)
        known = await self._keys.claim(key, request_digest(request), call_id)
        if known is not None:
            return known
        try:
            placed = await self._admit(request, call_id)
        except PlacementRefused as refused:
            if refused.refusal.stays:
                await self._keys.settle(key, None, refused.refusal)
            else:
                await self._keys.release(key)
            raise
        await self._keys.settle(key, placed)
        return placed

    async def _admit(self, request: OutboundRequest, call_id: str) -> PlacedCall:
        """Take a slot, then place the call; whatever happens in between frees it."""
        parts = self._parts
        control = parts.control(request.provider)
        if control is None:
            raise PlacementRefused(NO_CONTROL)
        route = parts.route(request.provider, request.from_number, request.agent_id)
        if not route.agent_id:
            raise PlacementRefused(no_agent(route.problem))
        verdict = await parts.admission.take(
            SlotRequest(call_id=call_id, agent_id=route.agent_id, kind=CallKind.OUTBOUND, agent=route.limits)
        )
        if not isinstance(verdict, Granted):
            refusal, reason = no_slot(verdict)
            parts.count(request.provider, reason)
            self._log.warning("call_refused", provider=request.provider, call_id=call_id, reason=str(reason))
            raise PlacementRefused(refusal)
        entry = self._entry(request, call_id, route, verdict)
        try:
            return await self._dial(entry, control, request)
        except PlacementRefused:
            raise
        except asyncio.CancelledError:
            self._ringing.drop(call_id)
            raise
        except Exception:
            failure = Failure(outcome.BUG, "unknown")
            await self._ringing.finish(entry.call, failure, report_words(entry.call, "", "failed"), "", ours=True)
            raise

    def _entry(self, request: OutboundRequest, call_id: str, route: Resolved, verdict: Granted) -> Ringing:
        rules, detection = self.options.rules, request.machine_detection
        call = OutboundCall(
            call_id=call_id,
            provider=request.provider,
            to_number=request.to_number,
            from_number=request.from_number,
            agent_id=route.agent_id,
            created_at=self._unix(),
            ring_s=request.ring_timeout_s,
            initiation=request.conversation_initiation_client_data,
            route=route.route,
            environment=route.environment,
            branch=route.branch,
            admission="burst" if verdict.is_burst else "granted",
            is_burst=verdict.is_burst,
            detection=detection.mode if detection is not None else rules.detection,
            actions=actions_for(detection, rules),
            message=detection.message if detection is not None else "",
        )
        return Ringing(call)

    async def _dial(self, entry: Ringing, control: CarrierControl, request: OutboundRequest) -> PlacedCall:
        call = entry.call
        await self._book.enter(call)  # before the carrier knows of it: its webhooks may come before its answer
        self._ringing.put(entry)
        order = OutboundOrder(
            call_id=call.call_id,
            to_number=call.to_number,
            from_number=call.from_number,
            ring_s=call.ring_s,
            send_digits=request.send_digits,
            detect_machine=call.detection,
            max_duration_s=request.max_duration_s or None,
        )
        try:
            call_sid = await control.place(order)
        except ControlError as error:
            call_sid = await self._after_error(call, error)
        entry.call_sid = call_sid
        if not await self._book.is_line(call.call_id, call_sid):
            self._log.warning("outbound_line_differs", call_id=call.call_id, call_sid=call_sid)
        over = await self._book.over(call.call_id)
        if over is not None and over.ours:  # taken back while the carrier was being asked
            await self._ringing.hang_up(call, call_sid)
            raise PlacementRefused(CUT_SHORT)
        if not entry.was_answered:
            entry.gives_up_s = self._monotonic() + call.ring_s + self.options.ring_margin_s
        self._log.info("call_placed", call_id=call.call_id, provider=call.provider, call_sid=call_sid)
        if call.call_id in self._ringing.here:  # its end or its media may have been quicker than the carrier's answer
            self._ringing.put(entry)
        return PlacedCall(call_id=call.call_id, call_sid=call_sid, status=entry.status)

    async def _after_error(self, call: OutboundCall, error: ControlError) -> str:
        """The request failed; returns the carrier's id where a webhook tells that the call was placed all the same."""
        self._log.warning(
            "control_failed", call_id=call.call_id, order="place", fault=error.fault.value, detail=str(error)
        )
        if error.fault is ControlFault.DOWN:
            call_sid = await self._book.line(call.call_id, self.options.unknown_wait_s)
            if call_sid:
                return call_sid
        code = "" if error.code is None else str(error.code)
        body = {**report_words(call, "", "failed"), "ErrorCode": code, "ErrorMessage": error.fault.value}
        failure = Failure(outcome.CONTROL_FAILED, "unknown")
        await self._ringing.finish(call, failure, body, f"{error.fault.value} {code}".strip(), ours=True)
        raise PlacementRefused(refused_by_carrier(error))
