"""Reads Twilio's webhooks: the form of a genuine request, or the refusal that its peer gets.

Every request is verified first (``bridge.auth.twilio``); a missing or wrong signature gives 403, never more. The body
is read raw and with a bound before anything is parsed, because the signature covers every field, the blank ones
included. What is not here: what follows from a webhook (``twilio_http`` and others).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from fastapi import Request, Response

from bridge.auth import twilio as signature
from bridge.providers import twilio

if TYPE_CHECKING:
    from bridge.server.service import Bridge

MAX_BODY_BYTES = 64 * 1024
"""Twilio's longest webhook is a few kilobytes."""

BODY_TIMEOUT_S = 10.0
"""Twilio sends a webhook in one packet; a body that takes longer is somebody holding connections open."""

MAX_FIELDS = 500
"""Form fields read at most; Twilio sends some forty, and operators may add their own."""

FormHandler = Callable[[Request, dict[str, str]], Awaitable[Response]]
"""Answers a genuine request; the form has the last of fields that come twice."""


class Refused(Exception):
    """The request is not answered; ``response`` is what the peer gets."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def xml(text: str) -> Response:
    """TwiML as an answer."""
    return Response(text, media_type="text/xml")


def plain(text: str, status: int) -> Response:
    """A refusal in words."""
    return Response(f"{text}\n", status_code=status, media_type="text/plain")


class TwilioForms:
    """Lets genuine webhooks in. The keys are those of the settings in force."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def verified(self, request: Request) -> dict[str, str]:
        """The form of a genuine request, blank fields included. Raises ``Refused``."""
        body = await _read_body(request)
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except (UnicodeDecodeError, ValueError):
            raise Refused(plain("not a form", 400)) from None
        settings = self._bridge.settings
        if settings.bridge_auth == "on":
            problem = self._problem(request, fields, body)
            if problem:
                self._bridge.metrics.refused.labels(f"{twilio.NAME}_webhook").inc()
                self._bridge.log.warning("request_refused", entrance="twilio_webhook", detail=problem)
                raise Refused(plain("forbidden", 403))
        return dict(fields)

    def _problem(self, request: Request, fields: list[tuple[str, str]], body: bytes) -> str:
        """Why this request is not taken; empty = it is genuine and of an account of ours."""
        settings, target = self._bridge.settings, _raw_target(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        problem = ""
        # What this process asks for in the middle of a call may come to its own address.
        for base in dict.fromkeys((settings.public_base_url, settings.instance_base_url)):
            problem = signature.verify_webhook(settings.twilio_keys, base + target, fields, body, headers)
            if not problem:
                break
        ours = {settings.twilio_account_sid, *settings.twilio_keys.subaccount_tokens}
        if not problem and settings.twilio_account_sid is not None and dict(fields).get("AccountSid") not in ours:
            return "AccountSid is neither TWILIO_ACCOUNT_SID nor one of TWILIO_SUBACCOUNT_TOKENS"
        return problem

    def endpoint(self, handler: FormHandler) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a route whose handler is asked for genuine requests only."""

        async def verify_and_answer(request: Request) -> Response:
            try:
                form = await self.verified(request)
            except Refused as refused:
                return refused.response
            return await handler(request, form)

        return verify_and_answer


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Refused(plain("body too large", 413))
    except TimeoutError:
        raise Refused(plain("body too slow", 408)) from None
    return bytes(body)


def _raw_target(request: Request) -> str:
    """Path and query as they were on the request line: the signature covers their very bytes."""
    path = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
