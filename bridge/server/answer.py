"""What a carrier's answer webhook is told: connect the call to us, tell it busy, or send it elsewhere.

The same decision for every carrier that asks before it connects its media. The slot is taken here already, so that a
caller who must be told busy is never answered and billed; it is held for the seconds until the media socket comes.
Carriers repeat webhooks whose answer got lost: the repetition finds the first one's token, call id and slot.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.admission import Refused
from bridge.calls.record import CallRecord
from bridge.calls.routing import Resolved
from bridge.calls.state import State
from bridge.events import CallInfo
from bridge.outcome import EndReason

if TYPE_CHECKING:
    from bridge.server.service import Bridge

CALL_ID_BYTES = 8
"""64 bits of chance: ids of calls must differ, not be secret."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect the call to our media socket with this one-time token."""

    token: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Refuse the call before it is answered."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class Divert:
    """Send the caller to this number or SIP URI."""

    target: str


Answer = Connect | Busy | Divert


async def answer(bridge: Bridge, info: CallInfo) -> Answer:
    """Decide about a call that its carrier asks for. ``info.parameters`` are what the webhook said besides."""
    if bridge.admission.draining:
        _log_refusal(bridge, info, outcome.DRAINING)
        bridge.count_refusal(info.provider, outcome.DRAINING)
        return Busy(outcome.DRAINING)
    wanted = CallClaims(
        caller=info.caller,
        called=info.called,
        direction=info.direction,
        call_id=secrets.token_hex(CALL_ID_BYTES),
        control_url=info.control_url,
        parameters=info.parameters,
    )
    issued = await bridge.tokens.issue(info.call_sid, wanted)
    claims = issued.claims
    route = bridge.route_for(info, claims)
    bridge.begin_personalization(info, route, claims.call_id)
    verdict = await bridge.take_slot(claims.call_id, info.caller, route, info.direction, hold=True)
    if not isinstance(verdict, Refused):
        return Connect(issued.token)
    _log_refusal(bridge, info, verdict.reason)
    divert = route.overflow.divert_to
    _write_down(bridge, info, route, outcome.DIVERTED if divert else verdict.reason, verdict)
    return Divert(divert) if divert else Busy(verdict.reason)


def _log_refusal(bridge: Bridge, info: CallInfo, reason: EndReason) -> None:
    bridge.log.warning("call_refused", provider=info.provider, call_sid=info.call_sid, reason=str(reason))


def _write_down(bridge: Bridge, info: CallInfo, route: Resolved, end: EndReason, verdict: Refused) -> None:
    """A call that never reached us is kept for the operator's eyes all the same.

    Under an id of its own: the carrier may ask again for the same call, and then it may be let in.
    """
    now = time.time()
    bridge.count_refusal(info.provider, end)
    bridge.chronicle.turned_away(
        CallRecord(
            id=secrets.token_hex(CALL_ID_BYTES),
            instance_id=bridge.instance_id,
            provider=info.provider,
            direction=info.direction,
            caller=info.caller,
            called=info.called,
            call_sid=info.call_sid,
            account_id=info.account_id,
            agent_id=route.agent_id,
            route=route.route,
            state=State.ENDED.value,
            admission=verdict.reason.reason,
            created_at=now,
            ended_at=now,
            result=end.result.value,
            reason=end.reason,
            detail=verdict.detail,
        )
    )
