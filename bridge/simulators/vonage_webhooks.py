"""The simulated Vonage's requests to an application: answer and event webhooks, signed, retried once.

Sources: Vonage "Webhook reference" (a request that is not answered with 2xx is made once more), "Signed webhooks",
read 2026-11-21.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from bridge.simulators.vonage_cloud_options import VonageOptions
from bridge.simulators.vonage_signer import Signer

TRIES = 2
MAX_RECORDS = 10_000
"""Requests kept for tests to look at."""


class WebhookError(Exception):
    """A request came to nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """One request that was made."""

    at_ms: float
    method: str
    url: str
    fields: Mapping[str, Any]
    headers: Mapping[str, str]
    status: int
    """0 = there was no answer."""
    body: str

    @property
    def path(self) -> str:
        """Path of the URL."""
        return urlsplit(self.url).path


class Webhooks:
    """Makes signed requests and keeps a record of them."""

    def __init__(self, options: VonageOptions, now_ms: Callable[[], float]) -> None:
        self.records: list[WebhookRecord] = []
        self._options = options
        self._now_ms = now_ms
        self._client = httpx.AsyncClient(timeout=options.webhook_timeout_s, follow_redirects=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, method: str, url: str, fields: Mapping[str, Any]) -> bytes:
        """Request something; the body of the answer. Raises ``WebhookError``."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WebhookError("the URL is not an absolute http(s) URL")
        why = ""
        for _ in range(TRIES):
            try:
                response = await self._once(method, url, fields)
            except httpx.TransportError as error:
                why = type(error).__name__
            else:
                if response.is_success:
                    return response.content
                why = f"answered with {response.status_code}"
        raise WebhookError(f"{method} {parts.path}: {why}")

    def upgrade_headers(self) -> dict[str, str]:
        """Of a media socket with ``authorization: vonage``."""
        return self._signer().headers()

    def reach(self, url: str) -> str:
        """Where a URL of the bridge is really reached, for HTTP and WebSockets alike."""
        public = self._options.public_url.rstrip("/").partition("://")[2]
        scheme, _, rest = url.partition("://")
        if not public or not (rest == public or rest.startswith((f"{public}/", f"{public}?"))):
            return url
        here_scheme, _, here = self._options.reach_url.rstrip("/").partition("://")
        plain = "ws" if scheme in ("ws", "wss") else "http"
        return f"{plain}{'s' if here_scheme in ('https', 'wss') else ''}://{here}{rest[len(public) :]}"

    async def _once(self, method: str, url: str, fields: Mapping[str, Any]) -> httpx.Response:
        target, body = url, b""
        if method == "GET":
            target += ("&" if "?" in target else "?") + urlencode(
                {name: _flat(value) for name, value in fields.items()}
            )
        else:
            body = json.dumps(fields).encode()
        headers = self._signer().headers(body)
        if body:
            headers["Content-Type"] = "application/json"
        status, text = 0, ""
        try:
            response = await self._client.request(method, self.reach(target), content=body, headers=headers)
            status, text = response.status_code, response.text
            return response
        finally:
            if len(self.records) < MAX_RECORDS:
                self.records.append(WebhookRecord(self._now_ms(), method, target, dict(fields), headers, status, text))

    def _signer(self) -> Signer:
        options = self._options
        return Signer(
            secret=options.signature_secret,
            application_id=options.application_id,
            api_key=options.api_key,
            forgery=options.forgery,
        )


def _flat(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
