"""Vonage's webhooks of a transfer: the human's leg of a warm one, and how a blind one came out.

Any process answers them: all they need is in the transfer's card. Each is verified like every webhook of Vonage's; the
transfer's id in the query is the second lock. ``bridge.server.vonage_control`` says when which of them is asked.

Sources: Vonage "NCCO reference" (``input``: ``dtmf``; ``connect``: ``eventType``), "Webhook reference", read
2026-11-21.
"""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Response

from bridge.events import CallInfo
from bridge.providers import vonage
from bridge.providers.vonage_ncco import HANG_UP
from bridge.server.carrier_control import ControlError, Line
from bridge.server.service import Bridge
from bridge.server.transfers import TransferCard, Verdict
from bridge.server.vonage_control import accept_document, caller_gone_document, whisper_document
from bridge.server.vonage_hooks import METHODS, Hook, VonageHooks, document, nothing
from bridge.server.vonage_media import connect_again, recall

MAX_ID_CHARS = 64

_ENDS = {
    "busy": Verdict.BUSY,
    "rejected": Verdict.DECLINED,
    "unanswered": Verdict.NO_ANSWER,
    "timeout": Verdict.NO_ANSWER,
    "cancelled": Verdict.NO_ANSWER,
    "failed": Verdict.FAILED,
    "completed": Verdict.DECLINED,
    "disconnected": Verdict.DECLINED,
}
"""Status of a human's leg that is over: one who had answered and was not to take the caller has declined."""

_CONNECTED = {**_ENDS, "completed": Verdict.ACCEPTED, "disconnected": Verdict.ACCEPTED, "answered": Verdict.ACCEPTED}
"""Status of the leg that a ``connect`` has called."""


class VonageTransferWebhooks:
    """The routes below ``/vonage/transfer``."""

    def __init__(self, bridge: Bridge, hooks: VonageHooks) -> None:
        self._bridge = bridge
        self.router = APIRouter(prefix="/vonage/transfer", tags=["vonage"])
        for path, handler in (
            ("/whisper", self._whisper),
            ("/accept", self._accept),
            ("/human", self._human),
            ("/action", self._action),
        ):
            self.router.add_api_route(path, hooks.endpoint(handler), methods=list(METHODS), response_model=None)

    async def _whisper(self, hook: Hook) -> Response:
        """The human has answered: tell them who calls, and ask."""
        transfers, transfer_id = self._bridge.transfers, _id(hook)
        card = await transfers.card(transfer_id)
        if card is None or await transfers.verdict_of(transfer_id) is not None:
            return _gone(card)
        told = whisper_document(
            transfer_id,
            self._bridge.settings.instance_base_url,
            words=card.agent_message,
            accept_key=card.accept_key,
            language=card.language,
            detects_machine=card.detects_machine,
        )
        return document(told)

    async def _accept(self, hook: Hook) -> Response:
        """The human takes the caller, or has pressed another key or none."""
        transfers, transfer_id = self._bridge.transfers, _id(hook)
        card = await transfers.card(transfer_id)
        if card is None:
            return _gone(card)
        if card.accept_key and not hmac.compare_digest(hook.report.keys.encode(), card.accept_key.encode()):
            await transfers.report(transfer_id, Verdict.DECLINED)
            return document(HANG_UP)
        accepted = await transfers.report(transfer_id, Verdict.ACCEPTED)
        if accepted or await transfers.verdict_of(transfer_id) is Verdict.ACCEPTED:  # repeated: its answer got lost
            return document(accept_document(transfer_id))
        return _gone(card)

    async def _human(self, hook: Hook) -> Response:
        """How the human's leg is doing, and who has answered it."""
        transfers, transfer_id, status = self._bridge.transfers, _id(hook), hook.report.status
        card = await transfers.card(transfer_id)
        if card is None:
            return nothing()
        if status == "machine":
            await transfers.report(transfer_id, Verdict.MACHINE)
        elif status in _ENDS:
            await transfers.report(transfer_id, _ENDS[status])
            if await transfers.left(transfer_id):
                await self._end_caller(card)
        return nothing()

    async def _action(self, hook: Hook) -> Response:
        """A blind transfer: somebody has answered, or the caller goes back to the agent."""
        transfers, transfer_id, status = self._bridge.transfers, _id(hook), hook.report.status
        card = await transfers.card(transfer_id)
        verdict = _CONNECTED.get(status)
        if card is None or verdict is None:  # it rings
            return nothing()
        await transfers.report(transfer_id, verdict)
        if await transfers.verdict_of(transfer_id) is Verdict.ACCEPTED:
            return nothing()
        known = await recall(self._bridge, card.call_sid)
        info = known.info if known is not None else _info_of(card)
        return document(await connect_again(self._bridge, info, await transfers.come_back(card)))

    async def _end_caller(self, card: TransferCard) -> None:
        """The human has left the conversation; a caller who came too late, or stays behind, would be alone in it."""
        control = self._bridge.control_of(vonage.NAME)
        if control is None:
            return
        try:
            await control.hang_up(Line(card.call_sid, control_url=card.control_url))
        except ControlError as error:
            self._bridge.log.warning("hang_up_failed", fault=error.fault.value, detail=str(error))


def _id(hook: Hook) -> str:
    return hook.query.get("id", "")[:MAX_ID_CHARS]


def _gone(card: TransferCard | None) -> Response:
    return document(caller_gone_document(card.language if card is not None else ""))


def _info_of(card: TransferCard) -> CallInfo:
    """The caller's call, as far as the card knows it."""
    return CallInfo(
        provider=vonage.NAME,
        call_sid=card.call_sid,
        caller=card.caller,
        called=card.called,
        direction=card.direction,
        control_url=card.control_url,
    )
