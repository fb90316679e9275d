"""Vonage's webhooks: the answer that brings a call to our media socket, and reports on legs.

Every request is verified first (``vonage_hooks``). Reports come in any order, and to any process: every handler may be
asked again, and answers a call that it does not know without acting.

The addresses tell what a report is about: ``?call=`` is a call that the bridge has placed (``bridge.server.outbound``),
``?leg=`` the media socket of the caller's leg of this id; the application's own address, without either, gets the rest.

Who comes from the connector that the agents' vendor recommends may have its parameters in the answer webhook's address:
``webhook_url`` (where VONAGE_WEBHOOK_ALLOW lets it point) and ``peer_uuid`` (the id under which it is told of the call)
go on with the call, ``bridge.server.said_posts`` takes them from there; all others become variables of the agent.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response

from bridge.auth.tokens import CallClaims
from bridge.events import CallInfo
from bridge.providers.vonage_call import PARAM_PEER, PARAM_WEBHOOK
from bridge.providers.vonage_ncco import HANG_UP, divert
from bridge.server.answer import Connect, Divert, answer
from bridge.server.outbound import Outbound
from bridge.server.service import Bridge
from bridge.server.sip_headers import one_line
from bridge.server.vonage_control import busy_document
from bridge.server.vonage_fallback import after_leg_apart, after_socket
from bridge.server.vonage_fields import (
    MACHINE_STATUSES,
    VonageReport,
    call_info,
    is_id,
    machine_verdict,
    status_report,
)
from bridge.server.vonage_hooks import METHODS, Hook, VonageHooks, document, nothing, plain
from bridge.server.vonage_media import AnsweredCall, connect, recall

MAX_SHOWN_CHARS = 64
"""Of a report's status in the log."""

_KNOWN_PARAMETERS = (PARAM_WEBHOOK, PARAM_PEER, "participant")
"""Of the old connector, as they may stand in the answer webhook's address."""


class VonageWebhooks:
    """The routes ``/vonage/answer`` and ``/vonage/events``."""

    def __init__(self, bridge: Bridge, hooks: VonageHooks, outbound: Outbound) -> None:
        self._bridge = bridge
        self._outbound = outbound
        self.router = APIRouter(prefix="/vonage", tags=["vonage"])
        for path, handler in (("/answer", self._answer), ("/events", self._events)):
            self.router.add_api_route(path, hooks.endpoint(handler), methods=list(METHODS), response_model=None)

    # --- the answer ---

    async def _answer(self, hook: Hook) -> Response:
        """Answer a call: connect it to our media socket, tell it busy, or send it elsewhere."""
        info = call_info(hook.report)
        if not info.call_sid:
            return plain("uuid is missing", 400)
        given = {name: one_line(hook.query[name]) for name in _KNOWN_PARAMETERS if hook.query.get(name)}
        info = msgspec.structs.replace(info, parameters={**info.parameters, **given})
        call_id = hook.query.get("call", "")
        if call_id:
            return await self._answer_of_placed(call_id, info)
        decided = await answer(self._bridge, info)
        if isinstance(decided, Connect):
            return document(await connect(self._bridge, info, decided.token))
        if isinstance(decided, Divert):
            events_url = f"{self._bridge.settings.public_base_url}/vonage/events"
            return document(divert(decided.target, from_number=info.called, event_url=events_url))
        return document(busy_document(self._bridge.route_for(info, None).language))

    async def _answer_of_placed(self, call_id: str, info: CallInfo) -> Response:
        """A call of ours was answered. One that is none, or was given up, is hung up on: it is being paid for."""
        decided = await self._outbound.answered(call_id, info)
        if not isinstance(decided, Connect):
            return document(HANG_UP)
        outbound = msgspec.structs.replace(info, direction="outbound")
        return document(await connect(self._bridge, outbound, decided.token))

    # --- reports ---

    async def _events(self, hook: Hook) -> Response:
        """A report on a leg; where it asks what to do for the caller, the answer says so."""
        report, call_id, leg = hook.report, hook.query.get("call", ""), hook.query.get("leg", "")
        if report.status in MACHINE_STATUSES:
            await self._who_answered(call_id, report)
            return nothing()
        if leg and is_id(leg):
            return await self._socket_reported(leg, report, apart=hook.query.get("apart") == "1")
        if report.status:
            await self._leg_reported(call_id, report)
        return nothing()

    async def _socket_reported(self, leg: str, report: VonageReport, *, apart: bool) -> Response:
        """The leg of our media socket. Its socket tells us all but one thing: that it is over, and what then."""
        self._log(leg, report, "media socket")
        if not report.is_gone:
            return nothing()
        known = await recall(self._bridge, leg)
        if known is None:
            return nothing()
        if apart:
            if await self._bridge.shared.first_time(f"vonage-apart:{leg}:{report.uuid}", 3600.0):
                await after_leg_apart(self._bridge, known)
            return nothing()
        if report.status == "completed":  # told beside: nobody is asked what to do
            return nothing()
        following = await after_socket(self._bridge, known)
        return document(following) if following else nothing()

    async def _leg_reported(self, call_id: str, report: VonageReport) -> None:
        """The leg of a caller, or of whom we have called."""
        told = status_report(report)
        if told is None or not report.uuid:
            self._log(report.uuid, report, "")
            return
        placed = bool(call_id) and await self._outbound.status(call_id, told)
        self._log(report.uuid, report, "of no call that is known" if call_id and not placed else "")
        if told.is_final and not placed:
            await self._line_over(report.uuid)

    async def _line_over(self, leg: str) -> None:
        """A caller's leg is over: its session is told, or the slot that waits for it is freed."""
        if not self._outbound.line_over(leg):
            known = await recall(self._bridge, leg)
            if known is not None:
                await self._free_reserved(known)

    async def _free_reserved(self, known: AnsweredCall) -> None:
        """Free the slot of a call that was answered and whose media has not come, and never will.

        The one-time token decides whether it has: it is used up by the media socket, or here.
        """
        bridge, leg = self._bridge, known.info.call_sid
        claims = await bridge.tokens.redeem(known.token, leg)
        if isinstance(claims, CallClaims) and not claims.comeback:
            bridge.admission.dismiss(claims.call_id)
            bridge.parts.personalizer.forget(leg)
            bridge.log.info("call_gone_before_media", call_sid=leg, call_id=claims.call_id)

    async def _who_answered(self, call_id: str, report: VonageReport) -> None:
        """Who answered a call that we have placed, by Vonage's ear."""
        known = await self._outbound.machine(call_id, report.uuid, machine_verdict(report))
        self._log(report.uuid, report, "" if known else "of no call that is known")

    def _log(self, leg: str, report: VonageReport, detail: str) -> None:
        self._bridge.log.info("vonage_report", call_sid=leg, status=report.status[:MAX_SHOWN_CHARS], detail=detail)
