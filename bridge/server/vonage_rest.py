"""Requests to Vonage's Voice API: one at a time, with a deadline, to Vonage and to nobody else.

What it is: the HTTP of it: the application's token, the region, time-outs, what an answer's status means. What it is
not: the requests' content (``vonage_control``).

The region comes out of a webhook, and our token goes where it points. So it counts only where it is a host of Vonage's
own, by HTTPS, or the address that the operator has set; anything else is logged and the operator's address is used.

Nothing that places a call is ever sent twice, whatever happened to it. Other requests are sent again once: with a new
token when Vonage refuses the token (401), after the wait that Vonage asks for when there were too many (429).

Source: Vonage "Voice API", read 2026-11-21; the SDK vonage-voice 1.5.1.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import msgspec

from bridge.auth.vonage_application import TokenMint
from bridge.server.carrier_control import ControlError, ControlFault
from bridge.server.logs import get_logger

TIMEOUT_S = 5.0
"""Of one request with everything around it: a caller is on the line, and what takes longer has failed for them."""
MAX_WAIT_S = 2.0
"""Of the wait that a 429 asks for; a longer one is no use to a call."""
DEFAULT_WAIT_S = 0.5
"""Where a 429 does not say how long."""
MAX_ANSWER_BYTES = 64 * 1024
"""Answers have some hundred bytes."""
VENDOR_DOMAINS = ("vonage.com", "nexmo.com")
"""Where regions live: ``api-eu-3.vonage.com``, ``api.nexmo.com``."""

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_TITLE = re.compile(r"[A-Za-z ,'.-]{1,60}")
_GONE = (404, 409, 410)


@dataclass(frozen=True, slots=True)
class VonageApiOptions:
    """Where the interface is."""

    base_url: str = "https://api.nexmo.com"
    """For calls whose webhook names no region."""
    timeout_s: float = TIMEOUT_S


def control_base(region_url: str, base_url: str) -> str | None:
    """Where requests about a call of this region go, without slash at the end; None = not to where that points.

    Empty, and the configured address itself, give the configured address.
    """
    base = base_url.rstrip("/")
    region = region_url.strip().rstrip("/")
    if not region or region.lower() == base.lower():
        return base
    try:
        parts = urlsplit(region)
        port = parts.port
    except ValueError:
        return None
    host = parts.netloc.lower().removesuffix(":443")
    is_plain = parts.scheme == "https" and port in (None, 443) and not (parts.path or parts.query or parts.fragment)
    is_vendors = bool(_HOST.fullmatch(host)) and host.endswith(tuple(f".{domain}" for domain in VENDOR_DOMAINS))
    return f"https://{host}" if is_plain and is_vendors else None


class _Problem(msgspec.Struct):
    """What an error's body may say."""

    title: str = ""


class VonageRest:
    """The requests. ``client`` is closed with it; ``mint`` is None without credentials."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        mint: TokenMint | None,
        options: VonageApiOptions | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._mint = mint
        self._options = options or VonageApiOptions()
        self._sleep = sleep
        self._log = get_logger()

    @property
    def has_credentials(self) -> bool:
        """Whether anything can be asked for."""
        return self._mint is not None

    async def put(self, region_url: str, path: str, body: object) -> bytes:
        """Change something about a call; may be sent again once. Returns the answer. Raises ``ControlError``."""
        return await self._within_time("PUT", region_url, path, body, tries=2)

    async def post(self, region_url: str, path: str, body: object) -> bytes:
        """Make something new, once. Returns the answer. Raises ``ControlError``."""
        return await self._within_time("POST", region_url, path, body, tries=1)

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()

    # --- inside ---

    async def _within_time(self, method: str, region_url: str, path: str, body: object, tries: int) -> bytes:
        url = self._base(region_url) + path
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await self._send(method, url, msgspec.json.encode(body), tries)
        except TimeoutError:
            raise ControlError(ControlFault.DOWN, f"{method}: no answer in {self._options.timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # its text may hold the address, and that the call's id
            raise ControlError(ControlFault.DOWN, f"{method}: {type(error).__name__}") from None

    def _base(self, region_url: str) -> str:
        base = control_base(region_url, self._options.base_url)
        if base is None:
            self._log.warning("control_url_refused", provider="vonage", detail="not an address of Vonage's")
            return self._options.base_url.rstrip("/")
        return base

    async def _send(self, method: str, url: str, content: bytes, tries: int) -> bytes:
        if self._mint is None:
            raise ControlError(ControlFault.REFUSED, "VONAGE_APPLICATION_ID and VONAGE_PRIVATE_KEY are not set")
        while True:
            tries -= 1
            token = self._mint.token()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            async with self._client.stream(method, url, content=content, headers=headers) as response:
                answer = await _bounded(response)
            if response.is_success:
                return answer
            if response.status_code == 401:
                self._mint.refuse(token)
            wait_s = _wait_s(response)
            if not tries or wait_s is None:
                raise _fault(method, response.status_code, answer)
            await self._sleep(wait_s)


async def _bounded(response: httpx.Response) -> bytes:
    answer = bytearray()
    async for piece in response.aiter_bytes():
        answer += piece
        if len(answer) > MAX_ANSWER_BYTES:
            raise httpx.ReadError("the answer is too long")
    return bytes(answer)


def _wait_s(response: httpx.Response) -> float | None:
    """How long to wait before another try; None = there is none."""
    if response.status_code == 401:
        return 0.0
    if response.status_code != 429:
        return None
    asked = response.headers.get("retry-after", "")
    if not asked:
        return DEFAULT_WAIT_S
    return float(asked) if re.fullmatch(r"[0-9]{1,3}", asked) and float(asked) <= MAX_WAIT_S else None


def _fault(method: str, status: int, answer: bytes) -> ControlError:
    """What the status means. The body's ``detail`` is not shown, because it may hold numbers."""
    if status in _GONE:
        fault = ControlFault.GONE
    elif status == 429:
        fault = ControlFault.BUSY
    else:
        fault = ControlFault.DOWN if status >= 500 else ControlFault.REFUSED
    try:
        title = msgspec.json.decode(answer, type=_Problem).title
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        title = ""
    words = f": {title}" if _TITLE.fullmatch(title) else ""
    return ControlError(fault, f"{method}: HTTP {status}{words}", code=status)
