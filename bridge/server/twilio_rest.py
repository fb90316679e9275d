"""Twilio's REST API, as far as calls need it: create a call, update a call. A small client on httpx.

What it is not: a client for all of Twilio, or one that knows what the requests are for (``twilio_control``). The
vendor's Python library is not used: its asynchronous client ignores time-outs and can repeat a POST that places a call.

Source: Twilio "Call resource", "REST API: requests to Twilio", "Regions and edge locations", errors 20003, 20404, 20429
and 21220, read 2026-11-21. What is done about a request that came to nothing:

- 429: Twilio says that it was not processed and may be repeated. Once, after the wait that ``Retry-After`` asks for,
  if that is short enough for somebody who waits on the line.
- No TCP connection: nothing was sent. Tried once more.
- The connection broke, or a 5xx: whether it was done is unknown. Only an update that may be done twice (a hang-up) is
  tried once more; a request that places a call never is, nor is a document that would be played twice.
- Time-out: the time is used up, whatever the request was.

All attempts of one request and the waits between them share one deadline. Texts of errors hold Twilio's code and our
words, never Twilio's: those quote phone numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

import anyio
import httpx
import msgspec

from bridge import __version__
from bridge.server.carrier_control import ControlError, ControlFault

DEFAULT_BASE_URL = "https://api.twilio.com"
API_VERSION = "2010-04-01"

CODE_NOT_FOUND, CODE_NOT_IN_PROGRESS, CODE_TOO_MANY = 20404, 21220, 20429

MAX_ANSWER_BYTES = 64 * 1024
"""A call resource has some 2 KB."""

MAX_RETRY_AFTER_S = 2.0
"""Longest wait before a request is repeated after a 429: a caller listens to the silence meanwhile."""
DEFAULT_RETRY_AFTER_S = 0.5
"""Wait after a 429 that names none."""
RETRY_PAUSE_S = 0.1
"""Wait before the second attempt after a failed connection or a 5xx."""

MAX_CONNECTIONS = 20
"""Requests at once; more wait their turn inside their deadline. Twilio refuses accounts that send too many at once."""
KEEPALIVE_S = 55.0
"""Idle connections are kept this long, so that a hang-up need not wait for TCP and TLS: a little less than the minute
after which load balancers commonly close them."""

_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What may stand in a URL's path as an id: ids come from webhooks and sockets."""

Form = Sequence[tuple[str, str]]
"""Form fields in order; names may repeat."""


@dataclass(frozen=True, slots=True)
class TwilioRestOptions:
    """Whose API, where, and with what."""

    account_sid: str = ""
    auth_token: str = field(default="", repr=False)
    """The primary one; or instead:"""
    api_key: str = ""
    """``SK`` and 32 hex digits."""
    api_key_secret: str = field(default="", repr=False)
    sub_account_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Auth tokens of sub-accounts by their id. The others' calls are reached with the main account's credentials."""
    base_url: str = DEFAULT_BASE_URL
    edge: str = ""
    """E.g. ``dublin``; only with Twilio's own host."""
    region: str = ""
    """E.g. ``ie1``; with an edge and none here, Twilio's ``us1``."""
    timeout_s: float = 5.0
    """For one request with all its attempts."""

    @property
    def ready(self) -> bool:
        """Whether there are credentials."""
        return bool(self.account_sid and (self.auth_token or (self.api_key and self.api_key_secret)))

    @property
    def api_url(self) -> str:
        """Scheme and host of the API, without trailing slash."""
        base = self.base_url.rstrip("/")
        region = self.region or (self.edge and "us1")
        if base != DEFAULT_BASE_URL or not region:
            return base
        return ".".join(part for part in ("https://api", self.edge, region, "twilio.com") if part)


class _Answer(msgspec.Struct):
    """What is read of Twilio's JSON: a resource or an error."""

    sid: str = ""
    code: int | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class _MayRepeat(Exception):
    """An attempt came to nothing, and another one may be made after this wait; otherwise ``error`` is the outcome."""

    def __init__(self, wait_s: float, error: ControlError) -> None:
        super().__init__()
        self.wait_s = wait_s
        self.error = error


class TwilioRest:
    """The client of one account and its sub-accounts. Best made inside the running loop; close it with ``aclose``."""

    def __init__(
        self,
        options: TwilioRestOptions,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self._sleep = sleep
        self._unix = unix
        # httpx opens its sockets through anyio, which loads half of itself, 30 ms long, when it is first used: not
        # while a caller waits for the first hang-up, and no media moves.
        with contextlib.suppress(RuntimeError):  # no loop yet
            anyio.get_cancelled_exc_class()
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(options.timeout_s),  # connect, read, write and pool alike
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
            ),
            follow_redirects=False,
            trust_env=False,
            headers={
                "User-Agent": f"telephony-bridge/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
        )

    async def create_call(self, form: Form, *, account_sid: str = "") -> str:
        """Place a call; returns its id. Raises ``ControlError``; ``DOWN`` leaves open whether the phone rings."""
        try:
            answer = await self._post(account_sid, "Calls.json", form, repeatable=False)
        except ControlError as error:
            if error.fault is not ControlFault.GONE:
                raise
            raise ControlError(
                ControlFault.REFUSED, "Twilio knows no such account here; is the region right?", code=error.code
            ) from None
        if not _SID.fullmatch(answer.sid):
            raise ControlError(ControlFault.DOWN, "Twilio's answer names no call")
        return answer.sid

    async def update_call(self, call_sid: str, form: Form, *, account_sid: str = "", repeatable: bool = False) -> None:
        """Change a call. ``repeatable``: doing it twice does no harm. Raises ``ControlError``."""
        if not _SID.fullmatch(call_sid):
            raise ControlError(ControlFault.REFUSED, "the id of the call is none of Twilio's")
        await self._post(account_sid, f"Calls/{call_sid}.json", form, repeatable=repeatable)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _post(self, account_sid: str, path: str, form: Form, *, repeatable: bool) -> _Answer:
        account = account_sid or self.options.account_sid
        if not self.options.ready:
            raise ControlError(ControlFault.REFUSED, "no credentials for Twilio's REST API are set")
        if not _SID.fullmatch(account):
            raise ControlError(ControlFault.REFUSED, "the id of the account is none of Twilio's")
        request = self._client.build_request(
            "POST",
            f"{self.options.api_url}/{API_VERSION}/Accounts/{account}/{path}",
            content=urlencode(form).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        auth = self._auth(account)
        try:
            async with asyncio.timeout(self.options.timeout_s):
                return await self._attempts(request, auth, repeatable)
        except (TimeoutError, httpx.TimeoutException):
            detail = f"Twilio did not answer within {self.options.timeout_s:g} s"
            raise ControlError(ControlFault.DOWN, detail) from None

    async def _attempts(self, request: httpx.Request, auth: tuple[str, str], repeatable: bool) -> _Answer:
        """One attempt, or two where that is allowed."""
        try:
            return await self._attempt(request, auth, repeatable)
        except _MayRepeat as first:
            if first.wait_s > MAX_RETRY_AFTER_S:
                raise first.error from None
            await self._sleep(first.wait_s)
        try:
            return await self._attempt(request, auth, repeatable)
        except _MayRepeat as second:
            raise second.error from None

    async def _attempt(self, request: httpx.Request, auth: tuple[str, str], repeatable: bool) -> _Answer:
        """Send the request and read the answer. Raises ``ControlError``, ``_MayRepeat`` and ``TimeoutException``."""
        try:
            response = await self._client.send(request, auth=auth, stream=True)
            try:
                body = await _read(response)
            finally:
                await response.aclose()
        except httpx.TimeoutException:
            raise
        except httpx.ConnectError:
            error = ControlError(ControlFault.DOWN, "no connection to Twilio's REST API")
            raise _MayRepeat(RETRY_PAUSE_S, error) from None
        except httpx.TransportError:
            error = ControlError(ControlFault.DOWN, "the connection to Twilio's REST API broke")
            raise _MayRepeat(RETRY_PAUSE_S, error) if repeatable else error from None
        status, answer = response.status_code, _parse(body)
        if 200 <= status < 300:
            if answer is None:
                raise ControlError(ControlFault.DOWN, f"Twilio's answer ({status}) is no JSON of a call")
            return answer
        error = _failure(status, answer.code if answer is not None else None)
        if error.fault is ControlFault.BUSY:
            raise _MayRepeat(self._retry_after_s(response), error)
        if repeatable and status >= 500:
            raise _MayRepeat(RETRY_PAUSE_S, error)
        raise error

    def _auth(self, account: str) -> tuple[str, str]:
        options = self.options
        token = options.sub_account_tokens.get(account)
        if token:
            return account, token
        if options.api_key and options.api_key_secret:
            return options.api_key, options.api_key_secret
        return options.account_sid, options.auth_token

    def _retry_after_s(self, response: httpx.Response) -> float:
        """RFC 9110, section 10.2.3: seconds or a date; ``inf`` for what is neither."""
        text = response.headers.get("retry-after", "").strip()
        if not text:
            return DEFAULT_RETRY_AFTER_S
        if text.isascii() and text.isdigit():
            return float(text[:9])  # more digits than any wait has
        try:
            return max(email.utils.parsedate_to_datetime(text).timestamp() - self._unix(), 0.0)
        except (ValueError, OverflowError):
            return float("inf")


async def _read(response: httpx.Response) -> bytes | None:
    """The body, if it is as it was asked for: uncompressed, and not longer than such an answer is."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return None
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return bytes(body)


def _parse(body: bytes | None) -> _Answer | None:
    try:
        return _decode(body) if body is not None else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _failure(status: int, code: int | None) -> ControlError:
    """What an answer that is none of 2xx means."""
    shown = f"{status}, code {code}" if code is not None else f"{status}"
    if status == 429 or code == CODE_TOO_MANY:
        return ControlError(ControlFault.BUSY, f"Twilio takes no more requests right now ({shown})", code=code)
    if not 400 <= status < 500:
        return ControlError(ControlFault.DOWN, f"Twilio's REST API failed ({shown})", code=code)
    if status == 404 or code in (CODE_NOT_FOUND, CODE_NOT_IN_PROGRESS):
        return ControlError(ControlFault.GONE, f"the call is over ({shown})", code=code)
    if status in (401, 403):
        return ControlError(ControlFault.REFUSED, f"Twilio refuses the credentials ({shown})", code=code)
    return ControlError(ControlFault.REFUSED, f"Twilio refuses the request ({shown})", code=code)
