"""The placed calls of this process that ring, and how one ends before its media came: once, by whoever sees it first.

The end of a call is decided in the shared book, then held against the one-time token of its media socket, which can be
used up only once: either the socket has used it, then the call is its session's and nothing has ended here, or the end
has, and no socket can use it any more. That order matters: who answers a call looks for an end after it has left the
token, so one of the two always sees the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.auth.tokens import CallClaims, TokenProblem
from bridge.calls.journal import Journal
from bridge.calls.outbound import Failure, OutboundCall, StatusReport
from bridge.calls.record import CallRecord
from bridge.calls.state import State
from bridge.calls.webhook_vendor import InitiationFailure, sip_failure_body
from bridge.outcome import EndReason, Result
from bridge.server.carrier_control import ControlError, Line
from bridge.server.live_calls import LiveCall
from bridge.server.logs import get_logger
from bridge.server.outbound_book import OutboundBook, Over
from bridge.server.outbound_parts import OutboundParts
from bridge.sip import leg as sip


@dataclass(slots=True)
class Ringing:
    """A call that this process has placed and whose media has not come."""

    call: OutboundCall
    gives_up_s: float = math.inf
    """When it is given up, on the monotonic clock: set when the carrier has placed it, and again when the other side
    has answered. Before that its request has a time-out of its own."""
    call_sid: str = ""
    account_id: str = ""
    status: str = "queued"
    """The carrier's latest word; its reports arrive in any order."""
    sequence: int = -1
    """Of the report that it is from."""
    was_reported: bool = False
    was_answered: bool = False
    journal: Journal = field(default_factory=Journal)

    def note_report(self, report: StatusReport, at_s: float) -> None:
        """The carrier says where the call stands; a word that was overtaken changes nothing."""
        self.was_reported = True
        self.call_sid = self.call_sid or report.call_sid
        self.account_id = self.account_id or report.account_id
        if report.sequence > self.sequence or (report.sequence < 0 and report.status != self.status):
            self.sequence, self.status = max(report.sequence, self.sequence), report.status
            self.journal.step(f"carrier_{report.status}", "", at_s)

    def note_answer(self, gives_up_s: float) -> None:
        """The other side has answered: from now on the media is waited for."""
        if not self.was_answered:
            self.was_answered, self.gives_up_s = True, gives_up_s


class RingingCalls:
    """See the module. Used inside the event loop."""

    def __init__(self, parts: OutboundParts, book: OutboundBook, unix: Callable[[], float]) -> None:
        self.here: dict[str, Ringing] = {}
        """Those of this process, by our id."""
        self._parts = parts
        self._book = book
        self._unix = unix
        self._log = get_logger()

    def put(self, entry: Ringing) -> None:
        """The call rings, or more is known of it: record and register."""
        self.here[entry.call.call_id] = entry
        record = self._record(entry)
        self._parts.records.put(record, ())
        self._parts.live.put(_live_call(record))

    def drop(self, call_id: str) -> None:
        """Something broke before the call's end could be written: free its slot at least."""
        self.here.pop(call_id, None)
        self._parts.live.remove(call_id)
        self._parts.admission.dismiss(call_id)

    def let_go(self, call_id: str) -> None:
        """Another process has the call, or has written its end."""
        if self.here.pop(call_id, None) is None or self._parts.shared.state == "memory":
            return  # without other processes, slot and entry are those of the session that runs here
        self._parts.live.remove(call_id)
        self._parts.admission.give_back(call_id)

    # --- ends ---

    async def give_up(self, call: OutboundCall, failure: Failure, status: str, detail: str) -> bool:
        """End a call of our own accord, and hang up on whoever it rings for. False = it goes on, its media came."""
        call_sid = await self._book.line(call.call_id)
        body = report_words(call, call_sid, status)
        if not await self.finish(call, failure, body, detail, call_sid=call_sid, ours=True):
            return False
        await self.hang_up(call, call_sid)
        return True

    async def finish(
        self,
        call: OutboundCall,
        failure: Failure,
        body: Mapping[str, object],
        detail: str,
        *,
        call_sid: str = "",
        ours: bool = False,
    ) -> bool:
        """Nothing came of the call: slot, record, webhook event, log line. False = it goes on, its media came.

        ``body`` is the carrier's report for the webhook; ``ours``: the carrier may still think that it rings.
        """
        call_id, end = call.call_id, failure.end
        if not await self._book.end(call_id, Over(end.reason, ours)):
            return True
        call_sid = call_sid or await self._book.line(call_id)
        if await self.media_came(call_id, call_sid):
            await self._book.reopen(call_id)
            return False
        parts, now = self._parts, self._unix()
        entry = self.here.pop(call_id, None) or Ringing(call)
        entry.call_sid = call_sid or entry.call_sid
        record = self._record(entry)
        record.state, record.ended_at = State.ENDED.value, now
        record.result, record.reason, record.detail = end.result.value, end.reason, detail
        told = InitiationFailure(failure.reason, call.provider, dict(body))
        parts.records.put(record, parts.events.on_initiation_failure(record, now, told))
        parts.live.remove(call_id)
        parts.admission.dismiss(call_id)
        parts.count(call.provider, end)
        self._log_end(record, end)
        return True

    async def media_came(self, call_id: str, call_sid: str) -> bool:
        """Whether the media socket has used the call's token up; if not, it never will: it is used up here."""
        if await self._book.has_joined(call_id):
            return True
        token = await self._book.token(call_id)
        if not token:
            return False
        found = await self._parts.tokens.redeem(token, call_sid)
        return not isinstance(found, CallClaims) and found is not TokenProblem.EXPIRED

    async def hang_up(self, call: OutboundCall, call_sid: str) -> None:
        """Have the carrier end the call; what fails is logged."""
        control = self._parts.control(call.provider)
        if control is None or not call_sid:
            return
        try:
            await control.hang_up(Line(call_sid, caller=call.from_number, called=call.to_number, direction="outbound"))
        except ControlError as error:
            self._log.warning(
                "control_failed", call_id=call.call_id, order="hang_up", fault=error.fault.value, detail=str(error)
            )

    # --- inside ---

    def _record(self, entry: Ringing) -> CallRecord:
        """The record of a call without media; then its session writes it."""
        call = entry.call
        record = CallRecord(
            id=call.call_id,
            instance_id=self._parts.instance_id,
            provider=call.provider,
            direction="outbound",
            caller=call.from_number,
            called=call.to_number,
            call_sid=entry.call_sid,
            account_id=entry.account_id,
            agent_id=call.agent_id,
            route=call.route,
            environment=call.environment,
            branch=call.branch,
            state=State.WAITING.value,
            admission=call.admission,
            is_burst=call.is_burst,
            created_at=call.created_at,
            journal=entry.journal,
        )
        if call.initiation is not None:
            record.variables = dict(call.initiation.dynamic_variables)
        return record

    def _log_end(self, record: CallRecord, end: EndReason) -> None:
        log = self._log.info if end.result is Result.SUCCESS else self._log.warning
        log(
            "call_ended",
            call_id=record.id,
            provider=record.provider,
            call_sid=record.call_sid,
            result=end.result.value,
            reason=end.reason,
            detail=record.detail,
            advice=end.advice,
        )


def report_words(call: OutboundCall, call_sid: str, status: str) -> dict[str, object]:
    """What a status report would have said, for failures that the carrier has not reported."""
    if call.provider == sip.NAME:  # we end it ourselves: by CANCEL, or it never began
        code, phrase = (487, "Request Terminated") if status in ("canceled", "no-answer") else (500, "Not Placed")
        return dict(sip_failure_body(code, phrase, call_sid))
    return {
        "CallSid": call_sid,
        "CallStatus": status,
        "Direction": "outbound-api",
        "From": call.from_number,
        "To": call.to_number,
    }


def _live_call(record: CallRecord) -> LiveCall:
    return LiveCall(
        call_id=record.id,
        instance_id=record.instance_id,
        provider=record.provider,
        direction=record.direction,
        caller=record.caller,
        called=record.called,
        agent_id=record.agent_id,
        state=record.state,
        is_burst=record.is_burst,
        started_at=record.created_at,
    )
