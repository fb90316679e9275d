"""Reads Vonage's webhooks: the fields of a genuine request, or the refusal that its peer gets.

Every request is verified first (``bridge.auth.vonage``), over its body as it came; a missing or wrong token gives 401,
never more. A token is good for one request: the same request again (Vonage repeats one whose answer got lost) gets the
same answer without being acted on twice, and any other that comes with it is refused. Processes share what they know
of tokens. What is not here: what follows from a webhook (``vonage_http`` and others).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from fastapi import Request, Response

from bridge.auth.vonage import Verdict, VonageKeys, verify_webhook
from bridge.providers import vonage
from bridge.providers.vonage_ncco import Ncco, render
from bridge.server.vonage_fields import VonageReport, read_report

if TYPE_CHECKING:
    from bridge.server.service import Bridge

MAX_BODY_BYTES = 64 * 1024
"""Vonage's longest webhook is a few kilobytes."""
BODY_TIMEOUT_S = 10.0
"""Vonage sends a webhook in one packet; a body that takes longer is somebody holding connections open."""
MAX_FIELDS = 200
"""Of a query; Vonage sends some ten, and operators may add their own."""
REPEAT_WAIT_S = 3.0
"""How long a repeated webhook waits for the answer to the first one, which another process may be working on."""

METHODS = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Hook:
    """A genuine webhook."""

    report: VonageReport
    """What Vonage says."""
    query: Mapping[str, str]
    """Of the address: what we, or the operator, put there."""


Handler = Callable[[Hook], Awaitable[Response]]


class Refused(Exception):
    """The request is not answered; ``response`` is what the peer gets."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class _Answer(msgspec.Struct, frozen=True):
    """An answer that may be given again."""

    status: int
    media_type: str
    body: bytes


def document(ncco: Ncco) -> Response:
    """An NCCO as an answer."""
    return Response(render(ncco), media_type="application/json")


def nothing() -> Response:
    """No word from us: Vonage goes on with what it has, and ends the call when that is nothing."""
    return Response(status_code=204)


def plain(text: str, status: int) -> Response:
    """A refusal in words."""
    return Response(f"{text}\n", status_code=status, media_type="text/plain")


class VonageHooks:
    """Lets genuine webhooks in. The keys are those of the settings in force."""

    def __init__(self, bridge: Bridge, *, unix: Callable[[], float] = time.time) -> None:
        self._bridge = bridge
        self._unix = unix

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a route whose handler is asked for genuine requests only."""

        async def verify_and_answer(request: Request) -> Response:
            try:
                body = await _read_body(request)
                verdict = self._verified(request, body)
                hook = _hook(request, body)
                if verdict is None:
                    return await handler(hook)
                return await self._once(request, body, verdict, lambda: handler(hook))
            except Refused as refused:
                return refused.response

        return verify_and_answer

    def _verified(self, request: Request, body: bytes) -> Verdict | None:
        """The genuine request's token; None = nobody is asked for one. Raises ``Refused``."""
        settings = self._bridge.settings
        if settings.bridge_auth == "off":
            return None
        keys = VonageKeys(settings.vonage_signature_secrets, settings.vonage_application_id or "")
        headers = {name.lower(): value for name, value in request.headers.items()}
        verdict = verify_webhook(keys, headers, body, self._unix())
        if verdict.problem:
            raise self._refused(verdict.problem)
        return verdict

    def _refused(self, problem: str) -> Refused:
        self._bridge.metrics.refused.labels(f"{vonage.NAME}_webhook").inc()
        self._bridge.log.warning("request_refused", entrance="vonage_webhook", detail=problem)
        return Refused(plain("unauthorized", 401))

    async def _once(
        self, request: Request, body: bytes, verdict: Verdict, act: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Answer a request, and the same one again alike. Raises ``Refused`` for another with its token."""
        shared, ttl_s = self._bridge.shared, max(verdict.until_unix_s - self._unix(), 1.0)
        used, answered = f"vonage-token:{verdict.jti}", f"vonage-answer:{verdict.jti}"
        fingerprint = _fingerprint(request, body)
        if not await shared.put_if_absent(used, fingerprint, ttl_s):
            if await shared.get(used) != fingerprint:
                raise self._refused("the token was used for another request before")
            kept = await shared.wait_for(answered, REPEAT_WAIT_S)
            if kept is not None:
                answer = msgspec.msgpack.decode(kept, type=_Answer)
                return Response(answer.body, answer.status, media_type=answer.media_type or None)
            # Whoever worked on it has died; every handler may be asked again.
        response = await act()
        answer = _Answer(response.status_code, response.media_type or "", bytes(response.body))
        await shared.put(answered, msgspec.msgpack.encode(answer), ttl_s)
        return response


def _hook(request: Request, body: bytes) -> Hook:
    query = _query(request)
    if not body:
        return Hook(read_report(query), query)
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Refused(plain("not a JSON object", 400)) from None
    return Hook(read_report(fields), query)


def _query(request: Request) -> dict[str, str]:
    """The parameters of the address; the first of each name counts."""
    try:
        pairs = parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused(plain("too many fields", 400)) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _fingerprint(request: Request, body: bytes) -> bytes:
    """What makes a request the same one: method, path, query and body to the letter."""
    target: bytes = request.scope.get("raw_path", b"") + b"?" + request.scope.get("query_string", b"")
    parts = (request.method.encode(), target, body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


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
