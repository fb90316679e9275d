"""Twilio's webhooks: the answer that starts a stream, the fallback behind it, and status reports.

Every request is verified first (``bridge.auth.twilio``); a missing or wrong signature gives 403, never more.
The body is read raw and with a bound before anything is parsed, because the signature covers every field, the
blank ones included.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response

from bridge.auth import twilio as signature
from bridge.events import CallInfo
from bridge.outcome import Result
from bridge.providers import twilio, twilio_twiml
from bridge.server.answer import Busy, Divert, answer
from bridge.server.service import DIVERT_TO, Bridge

MAX_BODY_BYTES = 64 * 1024
"""Twilio's longest webhook is a few kilobytes."""

BODY_TIMEOUT_S = 10.0
"""Twilio sends a webhook in one packet; a body that takes longer is somebody holding connections open."""

MAX_FIELDS = 500
"""Form fields read at most; Twilio sends some forty, and operators may add their own."""

APOLOGY = "We are sorry, a technical problem came up. Please call again later."
"""What the caller hears when a call broke; without it there would only be a click."""


END_WAIT_S = 1.0
"""How long a fallback waits to hear how the stream ended: another process may have carried it."""


class Refused(Exception):
    """The request is not answered; ``response`` is what the peer gets."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def _xml(text: str) -> Response:
    return Response(text, media_type="text/xml")


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Refused(Response("body too large\n", status_code=413, media_type="text/plain"))
    except TimeoutError:
        raise Refused(Response("body too slow\n", status_code=408, media_type="text/plain")) from None
    return bytes(body)


class TwilioWebhooks:
    """The routes below ``/twilio``."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.router = APIRouter(prefix="/twilio", tags=["twilio"])
        for path, handler in (
            ("/voice", self.voice),
            ("/fallback", self.fallback),
            ("/status", self.report),
            ("/amd", self.report),
        ):
            self.router.add_api_route(path, handler, methods=["POST"], response_model=None)

    async def voice(self, request: Request) -> Response:
        """Answer a call: connect it to our media socket, or tell it busy."""
        try:
            form = await self._verified_form(request)
        except Refused as refused:
            return refused.response
        info = _call_info(form)
        if not info.call_sid:
            return Response("CallSid is missing\n", status_code=400, media_type="text/plain")
        decided = await answer(self._bridge, info)
        if isinstance(decided, Divert):
            return _xml(twilio_twiml.dial(decided.target))
        if isinstance(decided, Busy):
            return _xml(twilio_twiml.reject_busy())
        settings = self._bridge.settings
        return _xml(
            twilio_twiml.connect_stream(
                settings.public_ws_url + twilio.SPEC.media_paths[0],
                {
                    twilio.PARAM_TOKEN: decided.token,
                    twilio.PARAM_CALLER: info.caller,
                    twilio.PARAM_CALLED: info.called,
                },
                settings.public_base_url + "/twilio/fallback",
            )
        )

    async def fallback(self, request: Request) -> Response:
        """After the stream: hang up after a proper end, divert where the route says so, otherwise apologise."""
        try:
            form = await self._verified_form(request)
        except Refused as refused:
            return refused.response
        end = await self._bridge.shared.end_of(form.get("CallSid", ""), END_WAIT_S)
        if end is not None and end.extra.get(DIVERT_TO):
            return _xml(twilio_twiml.dial(end.extra[DIVERT_TO]))
        if end is not None and end.reason.result is Result.SUCCESS:
            return _xml(twilio_twiml.hang_up())
        return _xml(twilio_twiml.say_and_hang_up(APOLOGY))

    async def report(self, request: Request) -> Response:
        """Status and answering-machine reports: taken, logged without numbers, not acted on by this version."""
        try:
            form = await self._verified_form(request)
        except Refused as refused:
            return refused.response
        self._bridge.log.info(
            "twilio_report",
            call_sid=form.get("CallSid", ""),
            status=form.get("CallStatus", "") or form.get("StreamEvent", "") or form.get("AnsweredBy", ""),
            detail=form.get("StreamError", "")[:200],
        )
        return Response(status_code=204)

    async def _verified_form(self, request: Request) -> dict[str, str]:
        """The form of a genuine request. Raises ``Refused``."""
        body = await _read_body(request)
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except (UnicodeDecodeError, ValueError):
            raise Refused(Response("not a form\n", status_code=400, media_type="text/plain")) from None
        settings = self._bridge.settings
        if settings.bridge_auth == "on":
            problem = signature.verify_webhook(
                settings.twilio_keys,
                settings.public_base_url + _raw_target(request),
                fields,
                body,
                {name.lower(): value for name, value in request.headers.items()},
            )
            account, given = settings.twilio_account_sid, dict(fields).get("AccountSid")
            if not problem and account is not None and given != account:
                problem = "AccountSid is not TWILIO_ACCOUNT_SID"
            if problem:
                self._bridge.metrics.refused.labels(f"{twilio.NAME}_webhook").inc()
                self._bridge.log.warning("request_refused", entrance="twilio_webhook", detail=problem)
                raise Refused(Response("forbidden\n", status_code=403, media_type="text/plain"))
        return dict(fields)


def _call_info(form: dict[str, str]) -> CallInfo:
    """The call as its webhook tells of it."""
    outbound = form.get("Direction", "").startswith("outbound")
    return CallInfo(
        provider=twilio.NAME,
        call_sid=form.get("CallSid", ""),
        account_id=form.get("AccountSid", ""),
        caller=form.get("From", ""),
        called=form.get("To", ""),
        direction="outbound" if outbound else "inbound",
    )


def _raw_target(request: Request) -> str:
    """Path and query as they were on the request line: the signature covers their very bytes."""
    path = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
