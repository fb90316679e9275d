"""Twilio's webhooks of a transfer: the human's leg of a warm one, and how a blind one or a REFER came out.

Any process answers them: all they need is in the transfer's card. Each is verified like every webhook of Twilio's; the
transfer's id in the query is the second lock.

Sources: Twilio docs "TwiML Gather", "TwiML Dial" (``action``: DialCallStatus), "TwiML Refer" (``action``:
ReferCallStatus, ReferSipResponseCode, NotifySipResponseCode: believed, not proven), "Answering machine detection",
read 2026-11-21.
"""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Request, Response

from bridge.providers import twilio, twilio_twiml
from bridge.providers.twilio_words import Phrase
from bridge.server.carrier_control import ControlError, Line
from bridge.server.service import Bridge
from bridge.server.transfers import TransferCard, Verdict
from bridge.server.twilio_fallback import connect_again
from bridge.server.twilio_forms import TwilioForms, xml

_ENDS = {
    "busy": Verdict.BUSY,
    "no-answer": Verdict.NO_ANSWER,
    "failed": Verdict.FAILED,
    "canceled": Verdict.NO_ANSWER,
    "completed": Verdict.DECLINED,
}
"""CallStatus of a human's leg that is over: one who had answered and was not to take the caller has declined."""

_DIALLED = {**_ENDS, "completed": Verdict.ACCEPTED, "answered": Verdict.ACCEPTED}
"""DialCallStatus."""

_SIP_ANSWERS = {"486": Verdict.BUSY, "600": Verdict.BUSY, "480": Verdict.NO_ANSWER, "408": Verdict.NO_ANSWER}

_MACHINES = ("machine", "fax")

DETECTION_WAIT_S = 6
"""How long whoever has answered waits, after they were told who calls, for Twilio to make up its mind whether they are
a machine: it takes some four seconds from the answer, most of which the telling has taken already."""


class TwilioTransferWebhooks:
    """The routes below ``/twilio/transfer``."""

    def __init__(self, bridge: Bridge, forms: TwilioForms) -> None:
        self._bridge = bridge
        self.router = APIRouter(prefix="/twilio/transfer", tags=["twilio"])
        for path, handler in (
            ("/whisper", self.whisper),
            ("/accept", self.accept),
            ("/human", self.human),
            ("/amd", self.amd),
            ("/action", self.action),
        ):
            self.router.add_api_route(path, forms.endpoint(handler), methods=["POST"], response_model=None)

    async def whisper(self, request: Request, form: dict[str, str]) -> Response:
        """The human has answered: tell them who calls, and ask."""
        transfer_id = _id(request)
        card = await self._bridge.transfers.card(transfer_id)
        if card is None or await self._bridge.transfers.verdict_of(transfer_id) is not None:
            return _gone(card)
        accept_url = f"{self._bridge.settings.instance_base_url}/twilio/transfer/accept?id={transfer_id}"
        return xml(
            twilio_twiml.whisper(
                card.agent_message, accept_url=accept_url, language=card.language, accept_key=card.accept_key
            )
        )

    async def accept(self, request: Request, form: dict[str, str]) -> Response:
        """The human takes the caller, or has pressed another key."""
        transfers, transfer_id = self._bridge.transfers, _id(request)
        card = await transfers.card(transfer_id)
        if card is None:
            return _gone(card)
        if card.accept_key and not hmac.compare_digest(form.get("Digits", "").encode(), card.accept_key.encode()):
            await transfers.report(transfer_id, Verdict.DECLINED)
            return xml(twilio_twiml.hang_up())
        if not card.accept_key and card.detects_machine and not await transfers.is_known_human(transfer_id):
            waited = _number(request.query_params.get("waited", ""))
            if waited < DETECTION_WAIT_S and await transfers.verdict_of(transfer_id) is None:
                again = f"{self._bridge.settings.instance_base_url}/twilio/transfer/accept?id={transfer_id}"
                return xml(twilio_twiml.wait_and_ask(f"{again}&waited={waited + 1}"))
        if await transfers.report(transfer_id, Verdict.ACCEPTED):
            return xml(twilio_twiml.human_joins(transfer_id))
        accepted = await transfers.verdict_of(transfer_id) is Verdict.ACCEPTED  # Twilio repeats what got lost
        return xml(twilio_twiml.human_joins(transfer_id)) if accepted else _gone(card)

    async def human(self, request: Request, form: dict[str, str]) -> Response:
        """How the human's leg is doing."""
        transfers, transfer_id = self._bridge.transfers, _id(request)
        card = await transfers.card(transfer_id)
        status = form.get("CallStatus", "")
        if card is None:
            return Response(status_code=204)
        if not card.is_warm:
            if status == "in-progress":
                await transfers.report(transfer_id, Verdict.ACCEPTED)
        elif status in _ENDS:
            await transfers.report(transfer_id, _ENDS[status])
            if await transfers.left(transfer_id):
                await self._end_caller(card)
        return Response(status_code=204)

    async def amd(self, request: Request, form: dict[str, str]) -> Response:
        """Who has answered the human's phone."""
        if form.get("AnsweredBy", "").startswith(_MACHINES):
            await self._bridge.transfers.report(_id(request), Verdict.MACHINE)
        else:
            await self._bridge.transfers.is_human(_id(request))
        return Response(status_code=204)

    async def action(self, request: Request, form: dict[str, str]) -> Response:
        """A blind transfer or a REFER is over: with success, or the caller goes back to the agent."""
        transfers, transfer_id = self._bridge.transfers, _id(request)
        card = await transfers.card(transfer_id)
        if card is None:
            return xml(twilio_twiml.hang_up())
        verdict = _referred(form) if "DialCallStatus" not in form else _DIALLED.get(form["DialCallStatus"])
        if verdict is Verdict.ACCEPTED and form.get("DialBridged", "true").lower() == "false":
            verdict = Verdict.DECLINED  # they answered and were gone before they met the caller
        await transfers.report(transfer_id, verdict or Verdict.FAILED)
        if await transfers.verdict_of(transfer_id) is Verdict.ACCEPTED:
            return xml(twilio_twiml.hang_up())
        return xml(connect_again(self._bridge, await transfers.come_back(card)))

    async def _end_caller(self, card: TransferCard) -> None:
        """The human has left the room; a caller who came too late, or stays behind, would be alone in it."""
        control = self._bridge.control_of(twilio.NAME)
        if control is None:
            return
        try:
            await control.hang_up(Line(card.call_sid, card.account_id))
        except ControlError as error:
            self._bridge.log.warning("hang_up_failed", fault=error.fault.value, detail=str(error))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def _id(request: Request) -> str:
    return request.query_params.get("id", "")[:64]


def _gone(card: TransferCard | None) -> Response:
    return xml(twilio_twiml.phrase_and_hang_up(Phrase.CALLER_GONE, card.language if card is not None else ""))


def _referred(form: dict[str, str]) -> Verdict:
    """How a REFER came out."""
    answer = form.get("NotifySipResponseCode") or form.get("ReferSipResponseCode", "")
    if answer.startswith("2") or (not answer and form.get("ReferCallStatus") == "completed"):
        return Verdict.ACCEPTED
    return _SIP_ANSWERS.get(answer, Verdict.FAILED)
