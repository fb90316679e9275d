"""Outgoing HTTP to addresses that an operator or an agent typed in, kept off this machine's own networks.

Theory of operation: a URL says a name, and what the name resolves to is the resolver's word of this moment. So
nothing is decided by the name. ``_GuardedBackend`` stands where the HTTP library opens its sockets: it resolves the
name, drops every address that is not public (``egress_addresses``), and connects to one of those that it has checked,
by that address. Certificate check, SNI and Host header still go by the name. There is no second look-up that could
give another answer, and a redirect opens its sockets in the same place.

``request`` is the way to use it: it follows redirects itself (the library's own would repeat a secret header to
another host, and cannot repeat a streamed body), reads a bounded part of the answer, and keeps one deadline for all
of it. A POST stays a POST: 307 and 308 are followed, 301, 302 and 303 are failures, because clients that follow them
ask the new address with GET and without the body. An https address never leads on to http.

Source: RFC 9110, section 15.4 (redirects).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import httpcore
import httpx

from bridge import __version__
from bridge.errors import BridgeError
from bridge.server.egress_addresses import Address, Network, address_allowed

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Name and port -> addresses as texts. Raises ``OSError`` where there are none."""
BodySource = Callable[[], AsyncIterator[bytes]]
"""Gives the body from its beginning, once per redirect."""

SETTING = "EGRESS_ALLOW"
"""The setting that opens networks; refusals name it."""

MAX_REDIRECTS = 3
MAX_URL_CHARS = 4_096
MAX_ADDRESSES = 16
"""Addresses of one name that are tried; names of large services have some eight."""


class EgressRefused(BridgeError):
    """A request that must not go out. The message names the setting or the rule, never the address."""


class EgressFailed(BridgeError):
    """A request that went out and came to nothing; the message says how, without address and content."""


@dataclass(frozen=True, slots=True)
class EgressOptions:
    """What outgoing requests may reach and how long each step may take."""

    allow: tuple[Network, ...] = ()
    """Networks that may be reached although they are not public."""
    connect_timeout_s: float = 5.0
    """TCP and TLS together; a receiver that is up answers in a fraction."""
    read_timeout_s: float = 10.0
    """Between two pieces of the answer."""
    write_timeout_s: float = 10.0
    """Between two pieces of the request that the peer takes."""
    pool_timeout_s: float = 10.0
    """For a free connection."""
    max_connections: int = 50


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The bounds of one request, redirects included."""

    deadline_s: float = 15.0
    """From the first look-up to the last byte of the answer."""
    max_answer_bytes: int = 64 * 1024
    """Of the answer's body that are read; the rest is dropped with its connection."""
    max_redirects: int = MAX_REDIRECTS


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes = field(repr=False)
    truncated: bool = False
    """The body is not whole: it was longer than ``max_answer_bytes``, broke off, or did not end in time. The status
    holds all the same: a receiver that said 200 has what it was sent."""


def check_url(url: str | httpx.URL) -> httpx.URL:
    """The URL, if a request may be made of it as far as its text says. Raises ``EgressRefused``.

    Where it leads is checked when it is connected to.
    """
    if len(str(url)) > MAX_URL_CHARS:
        raise EgressRefused(f"the URL is longer than {MAX_URL_CHARS} characters")
    try:
        parsed = httpx.URL(url)
        port = parsed.port
    except (httpx.InvalidURL, ValueError):
        raise EgressRefused("the URL cannot be read") from None
    if parsed.scheme not in ("http", "https"):
        raise EgressRefused("only http and https URLs are requested")
    if not parsed.host:
        raise EgressRefused("the URL names no host")
    if parsed.userinfo:
        raise EgressRefused("the URL holds a user or password; use a header instead")
    if port is not None and not 0 < port < 65_536:
        raise EgressRefused("the URL's port is none")
    return parsed


# --- the guarded client ----------------------------------------------------------------------------------


async def system_resolver(host: str, port: int) -> list[str]:
    """The operating system's answer, IPv4 and IPv6."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def guarded_client(
    options: EgressOptions, *, resolver: Resolver = system_resolver, ssl_context: ssl.SSLContext | None = None
) -> httpx.AsyncClient:
    """A client whose every connection goes to a checked address; close it with ``aclose``.

    It follows no redirects, knows no proxies of the environment, and asks for answers as they are: a compressed one
    could grow a thousandfold while it is read.
    """
    pool = httpcore.AsyncConnectionPool(
        ssl_context=ssl_context if ssl_context is not None else ssl.create_default_context(),
        max_connections=options.max_connections,
        keepalive_expiry=30.0,
        network_backend=_GuardedBackend(options.allow, resolver, httpcore.AnyIOBackend()),
    )
    return httpx.AsyncClient(
        transport=_PoolTransport(pool),
        timeout=httpx.Timeout(
            connect=options.connect_timeout_s,
            read=options.read_timeout_s,
            write=options.write_timeout_s,
            pool=options.pool_timeout_s,
        ),
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"telephony-bridge/{__version__}", "Accept-Encoding": "identity"},
    )


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens sockets to checked addresses only."""

    def __init__(self, allow: tuple[Network, ...], resolver: Resolver, backend: httpcore.AsyncNetworkBackend) -> None:
        self._allow = allow
        self._resolver = resolver
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """httpcore: a connection for the host of a URL. Addresses are tried in turn inside one time-out."""
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._checked(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout("DNS took too long") from None
        problem: Exception = httpcore.ConnectError("no address")
        for index, address in enumerate(addresses):
            share_s = None
            if timeout is not None:  # what is left is shared among what is left to try
                share_s = max(0.1, (timeout - (time.monotonic() - began_s)) / (len(addresses) - index))
            try:
                return await self._backend.connect_tcp(str(address), port, share_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """httpcore: never asked for, and never given."""
        raise EgressRefused("sockets of this machine are not reached")

    async def sleep(self, seconds: float) -> None:
        """httpcore: between its own retries, of which there are none here."""
        await asyncio.sleep(seconds)

    async def _checked(self, host: str, port: int) -> list[Address]:
        """The addresses of a name that may be connected to; never empty."""
        try:
            texts = await self._resolver(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("DNS knows no such host") from None
        addresses = [ipaddress.ip_address(text) for text in texts]
        allowed = [address for address in addresses if address_allowed(address, self._allow)]
        if addresses and not allowed:
            raise EgressRefused(f"the host is not on the public internet; allow its network in {SETTING}")
        return allowed[:MAX_ADDRESSES]


_HTTPX_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.ReadTimeout, httpx.ReadTimeout),
    (httpcore.WriteTimeout, httpx.WriteTimeout),
    (httpcore.PoolTimeout, httpx.PoolTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.ReadError, httpx.ReadError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError),
)


@contextlib.contextmanager
def _httpx_errors() -> Iterator[None]:
    """Errors of the pool as httpx names them; others pass."""
    try:
        yield
    except Exception as error:
        for ours, theirs in _HTTPX_ERRORS:
            if isinstance(error, ours):
                raise theirs(str(error)) from error
        raise


class _PoolTransport(httpx.AsyncBaseTransport):
    """httpx over a connection pool of ours; httpx's own transport has no place for a network backend."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """httpx: one request."""
        url = check_url(request.url)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        inner = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _httpx_errors():
            response = await self._pool.handle_async_request(inner)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_AnswerStream(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """httpx: close all connections."""
        await self._pool.aclose()


class _AnswerStream(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for piece in self._response.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


# --- one request -----------------------------------------------------------------------------------------


async def request(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    private_headers: Mapping[str, str] | None = None,
    body: bytes | BodySource | None = None,
    limits: RequestLimits | None = None,
) -> Answer:
    """Make one request and read its answer, inside ``limits``.

    ``private_headers`` (keys, passwords) go to the URL's own host only, not on to where it redirects.
    A ``BodySource`` is sent in chunks. Raises ``EgressRefused`` and ``EgressFailed``.
    """
    limits = limits if limits is not None else RequestLimits()
    try:
        return await _follow(client, method, check_url(url), headers, private_headers or {}, body, limits)
    except TimeoutError:
        raise EgressFailed(f"no answer within {limits.deadline_s:g} s") from None
    except httpx.TimeoutException as error:
        raise EgressFailed(f"time-out: {_words(error)}") from None
    except httpx.TransportError as error:
        raise EgressFailed(_failure(error)) from None


async def _follow(
    client: httpx.AsyncClient,
    method: str,
    url: httpx.URL,
    headers: Mapping[str, str],
    private_headers: Mapping[str, str],
    body: bytes | BodySource | None,
    limits: RequestLimits,
) -> Answer:
    first = url
    deadline_s = asyncio.get_running_loop().time() + limits.deadline_s
    for _ in range(limits.max_redirects + 1):
        own = {**headers, **private_headers} if _origin(url) == _origin(first) else dict(headers)
        content = body if body is None or isinstance(body, bytes) else body()
        async with asyncio.timeout_at(deadline_s):
            response = await client.send(client.build_request(method, url, headers=own, content=content), stream=True)
        try:
            if response.next_request is None:
                return await _read(response, limits.max_answer_bytes, deadline_s)
            url = _redirected(response.status_code, url, response.next_request.url, method)
        finally:
            await response.aclose()
    raise EgressFailed(f"more than {limits.max_redirects} redirects")


def _redirected(status: int, url: httpx.URL, target: httpx.URL, method: str) -> httpx.URL:
    """Where a redirect leads, if it may be followed."""
    if status in (301, 302, 303) and method not in ("GET", "HEAD"):
        raise EgressFailed(
            f"redirected with {status}, which would drop the body; answer 307 or 308, or set the new URL"
        )
    if url.scheme == "https" and target.scheme == "http":
        raise EgressFailed("redirected from https to http")
    return check_url(target)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


async def _read(response: httpx.Response, max_bytes: int, deadline_s: float) -> Answer:
    """The answer with as much of its body as comes in time and is wanted."""
    body = bytearray()
    whole = False
    with contextlib.suppress(TimeoutError, httpx.TransportError):
        async with asyncio.timeout_at(deadline_s):
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > max_bytes:
                    break
            else:
                whole = True
    return Answer(response.status_code, response.headers, bytes(body[:max_bytes]), truncated=not whole)


def _failure(error: httpx.TransportError) -> str:
    """How a connection failed, in words without its address."""
    if isinstance(error, httpx.ConnectError):
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"TLS: the certificate does not verify ({cause.verify_message})"
            if isinstance(cause, ssl.SSLError):
                return "TLS: the handshake failed"
            if isinstance(cause, OSError) and cause.errno is not None:
                return f"cannot connect: {os.strerror(cause.errno)}"
        return f"cannot connect: {_words(error)}"
    if isinstance(error, httpx.ProtocolError):
        return "the answer is no proper HTTP"
    return f"the connection broke: {type(error).__name__}"


def _words(error: Exception) -> str:
    """The library's words where they are ours, else the kind of error: theirs may hold the address."""
    text = str(error)
    return text if text.startswith("DNS ") else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What the library wrapped, outermost first."""
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
