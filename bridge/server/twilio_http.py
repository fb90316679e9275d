"""Twilio's webhooks: the answer that starts a stream, the fallback behind it, and reports on calls and streams.

Every request is verified first (``twilio_forms``). Twilio repeats a webhook whose answer got lost, and its reports come
in any order: every handler may be asked again, and answers a call that it does not know without acting.

Calls that the bridge has placed carry ``?call=`` with our id of them (``bridge.server.outbound``).
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from bridge.auth.tokens import CallClaims
from bridge.calls.outbound import StatusReport
from bridge.events import CallInfo
from bridge.providers import twilio, twilio_twiml
from bridge.server.answer import Answer, Busy, Connect, Divert, answer
from bridge.server.carrier_control import ControlError, Line
from bridge.server.outbound import Outbound
from bridge.server.service import Bridge
from bridge.server.twilio_fallback import RESERVED, after_stream, keep_reserved
from bridge.server.twilio_fields import call_info, status_report
from bridge.server.twilio_forms import TwilioForms, plain, xml

MAX_SHOWN_CHARS = 200
"""Of a report's text in the log."""


class TwilioWebhooks:
    """The routes below ``/twilio``. Without ``outbound`` this bridge has placed no call."""

    def __init__(self, bridge: Bridge, outbound: Outbound | None = None) -> None:
        self._bridge = bridge
        self._outbound = outbound
        forms = TwilioForms(bridge)
        self.router = APIRouter(prefix="/twilio", tags=["twilio"])
        for path, handler in (
            ("/voice", self._voice),
            ("/fallback", self._fallback),
            ("/status", self._status),
            ("/amd", self._amd),
        ):
            self.router.add_api_route(path, forms.endpoint(handler), methods=["POST"], response_model=None)

    # --- the answer ---

    async def _voice(self, request: Request, form: dict[str, str]) -> Response:
        """Answer a call: connect it to our media socket, tell it busy, or send it elsewhere."""
        info = call_info(form)
        if not info.call_sid:
            return plain("CallSid is missing", 400)
        call_id = request.query_params.get("call", "")
        if call_id:
            return await self._voice_of_placed(call_id, info)
        decided = await answer(self._bridge, info)
        if isinstance(decided, Divert):
            return xml(twilio_twiml.dial(decided.target))
        if isinstance(decided, Busy):
            return xml(twilio_twiml.reject_busy())
        await keep_reserved(self._bridge, info.call_sid, decided.token)
        return self._connect(decided, info, "")

    async def _voice_of_placed(self, call_id: str, info: CallInfo) -> Response:
        """A call of ours was answered. One that is none, or was given up, is hung up on: it is being paid for."""
        decided: Answer | None = None
        if self._outbound is not None:
            decided = await self._outbound.answered(call_id, info)
        if isinstance(decided, Connect):
            return self._connect(decided, info, f"?call={call_id}")
        return xml(twilio_twiml.hang_up())

    def _connect(self, decided: Connect, info: CallInfo, query: str) -> Response:
        settings = self._bridge.settings
        parameters = {
            twilio.PARAM_TOKEN: decided.token,
            twilio.PARAM_CALLER: info.caller,
            twilio.PARAM_CALLED: info.called,
        }
        stream_url = settings.public_ws_url + twilio.SPEC.media_paths[0]
        base = settings.public_base_url + "/twilio"
        return xml(
            twilio_twiml.connect_stream(stream_url, parameters, f"{base}/fallback", status_url=f"{base}/status{query}")
        )

    # --- after the stream ---

    async def _fallback(self, request: Request, form: dict[str, str]) -> Response:
        """After the stream: what follows from how it ended."""
        return xml(await after_stream(self._bridge, call_info(form)))

    # --- reports ---

    async def _status(self, request: Request, form: dict[str, str]) -> Response:
        """A report on a call, or on a stream of one."""
        if form.get("StreamEvent"):
            await self._stream_reported(form)
        elif form.get("CallStatus"):
            await self._call_reported(request.query_params.get("call", ""), status_report(form))
        return Response(status_code=204)

    async def _stream_reported(self, form: dict[str, str]) -> None:
        """A stream began, ended or failed. Its socket tells us all but one thing: that none came, and why."""
        call_sid = form.get("CallSid", "")
        event, error = form["StreamEvent"][:MAX_SHOWN_CHARS], form.get("StreamError", "")[:MAX_SHOWN_CHARS]
        log = self._bridge.log.warning if event == "stream-error" else self._bridge.log.info
        log("twilio_report", call_sid=call_sid, status=event, detail=error)
        if event != "stream-error":
            return
        if self._outbound is None or not self._outbound.remark(call_sid, "stream_error"):
            await self._free_reserved(call_sid)

    async def _call_reported(self, call_id: str, report: StatusReport) -> None:
        placed = bool(call_id) and self._outbound is not None and await self._outbound.status(call_id, report)
        self._bridge.log.info(
            "twilio_report",
            call_sid=report.call_sid,
            status=report.status[:MAX_SHOWN_CHARS],
            detail="of no call that is known" if call_id and not placed else "",
        )
        if report.is_final:
            await self._end_human(report.call_sid)
        if report.is_final and not placed:
            await self._line_over(report.call_sid)

    async def _end_human(self, call_sid: str) -> None:
        """A caller may hang up on the way to the human of a transfer, who would wait for them in an empty room."""
        human_sid, control = await self._bridge.transfers.human_of(call_sid), self._bridge.control_of(twilio.NAME)
        if not human_sid or control is None:
            return
        try:
            await control.drop_human(Line(call_sid), human_sid)
        except ControlError as error:
            self._bridge.log.warning("human_not_dropped", fault=error.fault.value, detail=str(error))

    async def _line_over(self, call_sid: str) -> None:
        """The line of a call that came in is over: its session is told, or the slot that waits for it is freed."""
        if self._outbound is None or not self._outbound.line_over(call_sid):
            await self._free_reserved(call_sid)

    async def _free_reserved(self, call_sid: str) -> None:
        """Free the slot of a call that was answered and whose media has not come, and never will.

        The one-time token decides whether it has: it is used up by the media socket, or here.
        """
        bridge = self._bridge
        token = await bridge.shared.get(RESERVED.format(call_sid=call_sid))
        if token is None:
            return
        claims = await bridge.tokens.redeem(token.decode(), call_sid)
        if isinstance(claims, CallClaims):
            bridge.admission.dismiss(claims.call_id)
            bridge.parts.personalizer.forget(call_sid)
            bridge.log.info("call_gone_before_media", call_sid=call_sid, call_id=claims.call_id)

    async def _amd(self, request: Request, form: dict[str, str]) -> Response:
        """Who answered a call that we have placed, by Twilio's ear."""
        call_id, verdict = request.query_params.get("call", ""), form.get("AnsweredBy", "")[:MAX_SHOWN_CHARS]
        known = False
        if verdict and self._outbound is not None:
            known = await self._outbound.machine(call_id, form.get("CallSid", ""), verdict)
        detail = "" if known else "of no call that is known"
        self._bridge.log.info("twilio_report", call_sid=form.get("CallSid", ""), status=verdict, detail=detail)
        return Response(status_code=204)
