"""The simulated cloud's requests to a bridge: documents and callbacks, within Twilio's limits.

Sources: Twilio docs "Webhooks (HTTP callbacks): Connection overrides" (time-outs, retries, the URL's fragment),
errors 11200, 11205, 12300, 15003, read 2026-11-21.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urldefrag, urlencode, urlsplit

import httpx

from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_signer import Signer

CONNECT_S, READ_S, TOTAL_S = 5.0, 15.0, 15.0
RETRIES = 1
"""Twilio's defaults; the fragment of a URL overrides them (``#ct=2000&rt=5000&tt=8000&rc=2``)."""

HTTP_FAILURE, HTTP_TIMEOUT, INVALID_URL, TOO_BIG, WRONG_CONTENT_TYPE, CALLBACK_FAILURE = (
    11200,
    11205,
    11100,
    11750,
    12300,
    15003,
)

MAX_ANSWER_BYTES = 1 << 20
"""Of audio; documents are limited to 64 kB by the reader."""

MAX_RECORDS = 10_000
"""Requests kept for tests to look at."""

IDEMPOTENCY_HEADER = "I-Twilio-Idempotency-Token"


class WebhookError(Exception):
    """A request came to nothing that Twilio could use."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """One request that was made."""

    at_ms: float
    method: str
    url: str
    form: Mapping[str, str]
    headers: Mapping[str, str]
    status: int
    """0 = there was no answer."""
    body: str

    @property
    def path(self) -> str:
        """Path of the URL."""
        return urlsplit(self.url).path


@dataclass(frozen=True, slots=True)
class _Limits:
    connect_s: float
    read_s: float
    total_s: float
    retries: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer."""

    kind: str
    """Content type without parameters."""
    content: bytes
    text: str


class Webhooks:
    """Makes signed requests and keeps a record of them."""

    def __init__(self, options: CloudOptions, now_ms: Callable[[], float]) -> None:
        self.records: list[WebhookRecord] = []
        self._options = options
        self._signer = Signer(options.auth_token, options.shared_key)
        self._now_ms = now_ms
        self._client = httpx.AsyncClient(headers={"User-Agent": "TwilioProxy/1.1"}, follow_redirects=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def document(self, method: str, url: str, fields: Mapping[str, str]) -> str:
        """Request a document; empty where the answer is. Raises ``WebhookError``."""
        fetched = await self.fetch(method, url, fields, again=self._options.duplicate_answer_webhook)
        if fetched.content and not fetched.kind.endswith("/xml"):
            raise WebhookError(WRONG_CONTENT_TYPE, f"{method} {urlsplit(url).path} was not answered with XML")
        return fetched.text

    async def fetch(self, method: str, url: str, fields: Mapping[str, str], *, again: bool = False) -> Fetched:
        """Request anything. ``again``: act as if the first answer had been lost. Raises ``WebhookError``."""
        parts = _http_url(url)
        token = secrets.token_hex(16)
        limits = _limits(parts.fragment)
        began_s = time.monotonic()
        for attempt in range(limits.retries + 1):
            left_s = limits.total_s - (time.monotonic() - began_s)
            try:
                response = await self._once(method, url, fields, token, _timeout(limits, left_s))
                if again and attempt == 0:
                    response = await self._once(method, url, fields, token, _timeout(limits, left_s))
            except httpx.TimeoutException as error:
                if not isinstance(error, httpx.ConnectTimeout) or attempt == limits.retries:
                    raise WebhookError(HTTP_TIMEOUT, f"{method} {parts.path}: {type(error).__name__}") from None
            except httpx.TransportError as error:
                if attempt == limits.retries:
                    raise WebhookError(HTTP_FAILURE, f"{method} {parts.path}: {type(error).__name__}") from None
            else:
                return _checked(response, f"{method} {parts.path}")
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self, method: str, url: str, fields: Mapping[str, str], token: str, timeout: httpx.Timeout
    ) -> httpx.Response:
        target, form = urldefrag(url).url, dict(fields)
        if method == "GET":
            target += ("&" if "?" in target else "?") + urlencode(form)
            form = {}
        headers = {**self._signer.webhook(target, form), IDEMPOTENCY_HEADER: token}
        data = form if method == "POST" else None
        status, body = 0, ""
        try:
            response = await self._client.request(
                method, self.reach(target), data=data, headers=headers, timeout=timeout
            )
            status, body = response.status_code, response.text
            return response
        finally:
            if len(self.records) < MAX_RECORDS:
                seen = WebhookRecord(self._now_ms(), method, target, dict(fields), headers, status, body)
                self.records.append(seen)

    def upgrade_headers(self, wss_url: str) -> dict[str, str]:
        """Signature of a media socket's upgrade."""
        return self._signer.upgrade(wss_url)

    def reach(self, url: str) -> str:
        """Where a URL of the bridge is really reached, for HTTP and WebSockets alike."""
        public = self._options.public_url.rstrip("/").partition("://")[2]
        scheme, _, rest = url.partition("://")
        if not public or not (rest == public or rest.startswith(public + "/")):
            return url
        here_scheme, _, here = self._options.reach_url.rstrip("/").partition("://")
        secure = here_scheme in ("https", "wss")
        websocket = scheme in ("ws", "wss")
        scheme = ("wss" if secure else "ws") if websocket else ("https" if secure else "http")
        return f"{scheme}://{here}{rest[len(public) :]}"


def _http_url(url: str) -> SplitResult:
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts
    raise WebhookError(INVALID_URL, "the URL is not an absolute http(s) URL")


def _checked(response: httpx.Response, what: str) -> Fetched:
    if not response.is_success:
        raise WebhookError(HTTP_FAILURE, f"{what} was answered with {response.status_code}")
    if len(response.content) > MAX_ANSWER_BYTES:
        raise WebhookError(TOO_BIG, f"{what} was answered with {len(response.content)} bytes")
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    return Fetched(kind, response.content, response.text)


def _limits(fragment: str) -> _Limits:
    given = {name: int(value) for name, value in parse_qsl(fragment) if value.isdigit()}
    return _Limits(
        given.get("ct", int(CONNECT_S * 1000)) / 1000,
        min(given.get("rt", int(READ_S * 1000)) / 1000, READ_S),
        min(given.get("tt", int(TOTAL_S * 1000)) / 1000, TOTAL_S),
        min(given.get("rc", RETRIES), 5),
    )


def _timeout(limits: _Limits, left_s: float) -> httpx.Timeout:
    left_s = max(left_s, 0.001)
    return httpx.Timeout(min(limits.read_s, left_s), connect=min(limits.connect_s, left_s))
