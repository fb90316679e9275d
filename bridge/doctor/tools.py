"""What the checks work with: the configuration, clients, clocks; tests put their own in place of each."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from bridge import __version__
from bridge.calls.http_tools import HttpTool
from bridge.calls.routing import RoutingTable
from bridge.config import Settings, is_secret
from bridge.server.egress import Resolver, system_resolver
from bridge.settings.base import pieces
from bridge.sip.trunks import Trunk

CONNECT_TIMEOUT_S = 4.0
READ_TIMEOUT_S = 6.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What the operator asked for."""

    conversation: bool = True
    """Whether a conversation with the agent is opened, and closed again at once."""
    at: str = ""
    """Where the running bridge listens, where that is not BRIDGE_HOST:BRIDGE_PORT as seen from here."""


@dataclass(slots=True)
class Tools:
    """Everything a check may use. Belongs to one event loop."""

    settings: Settings
    routing: RoutingTable
    http: httpx.AsyncClient
    tls: ssl.SSLContext
    options: DoctorOptions = DoctorOptions()
    http_tools: Mapping[str, HttpTool] = field(default_factory=dict)
    """The operator's own tools, by name."""
    trunks: tuple[Trunk, ...] = ()
    """The SIP trunks, of settings and file."""
    resolver: Resolver = system_resolver
    unix: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    new_nonce: Callable[[], str] = lambda: secrets.token_urlsafe(24)
    _shared: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    @property
    def local_url(self) -> str:
        """Where the bridge of these settings listens, as seen from this machine."""
        if self.options.at:
            return self.options.at.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.bridge_host, self.settings.bridge_host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.bridge_port}"

    async def once(self, name: str, look: Callable[[], Awaitable[_T]]) -> _T:
        """What ``look`` gives, looked at once however many checks ask under this name.

        A check that runs out of time leaves it running for the others.
        """
        if name not in self._shared:
            self._shared[name] = asyncio.ensure_future(look())
        result: _T = await asyncio.shield(self._shared[name])
        return result

    async def close(self) -> None:
        """Stop what nobody waits for any more."""
        for task in self._shared.values():
            task.cancel()
        await asyncio.gather(*self._shared.values(), return_exceptions=True)


def new_http(tls: ssl.SSLContext) -> httpx.AsyncClient:
    """The client of the checks; close it with ``aclose``."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        verify=tls,
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"telephony-bridge/{__version__} doctor"},
    )


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The values of all secret settings, whole and entry by entry: what no finding may show."""
    found: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is not None and is_secret(name):
            text = value.get_secret_value()
            found += [text, *pieces(text)]
    return tuple(dict.fromkeys(found))


def secrets_of_trunks(trunks: Iterable[Trunk]) -> tuple[str, ...]:
    """Passwords and values of headers of trunks, wherever they were set: no finding may show these either."""
    found: list[str] = []
    for trunk in trunks:
        found += trunk.inbound.passwords if trunk.inbound else ()
        if trunk.outbound is not None:
            found += [value for _, value in trunk.outbound.headers]
            found += [trunk.outbound.account.password] if trunk.outbound.account else []
    return tuple(dict.fromkeys(found))


def words_of(error: Exception) -> str:
    """A failed request in words that hold no address and no content."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return type(error).__name__


def listed(items: Sequence[str], most: int = 4) -> str:
    """The first of them, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")
