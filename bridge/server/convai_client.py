"""Connecting to an agent: signed URL when there is a key, then the WebSocket, with one retry inside a deadline.

Retry rules: what another try may mend (no connection, time-out, a server error) is tried once more; what it
cannot (a wrong key, an unknown agent, a refusal) is not, and being over the quota is not either, because a
retry would make it worse. Signed URLs are keys: they are never logged.

Source: ElevenLabs docs "Get signed URL" and the Agents WebSocket reference, read 2026-11-21.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from picows import WSError, WSHandshakeError, ws_connect

from bridge import __version__, outcome
from bridge.config import Settings
from bridge.convai.closing import clip, reason_for_handshake
from bridge.outcome import EndReason
from bridge.server.sockets import READ_BUFFER_BYTES, MediaSocket, SocketOwner

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest message of an agent that is taken: what the vendor's own SDK allows."""

ATTEMPTS = 2
ATTEMPT_TIMEOUT_S = 4.0
"""One attempt, signed URL or WebSocket: a healthy connection takes a fraction of a second."""

PING_IDLE_S = 10.0
"""An agent's side that sent nothing for so long is pinged, to notice a dead connection before the caller does."""

SIGNED_URL_MAX_BYTES = 64 * 1024
"""More than this is no signed URL."""


class AgentConnectError(Exception):
    """No conversation could be had; ``reason`` and ``detail`` say why, fit for the log."""

    def __init__(self, reason: EndReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = clip(detail)


class _SignedUrl(msgspec.Struct):
    signed_url: str


class _Attempt:
    """Owns a socket until it opens, then hands it over; cuts one that opens after we stopped waiting for it.

    picows completes a handshake even when nobody awaits it any more, so without this a call could get two
    agents: the one it gave up on, and the one of the retry.
    """

    def __init__(self, owner: SocketOwner) -> None:
        self._owner = owner
        self._opened = self._settled = False

    def settle(self) -> bool:
        """No longer wait; returns whether the socket was handed over."""
        self._settled = True
        return self._opened

    def on_open(self, socket: MediaSocket) -> None:
        if self._settled:
            socket.cut()
            return
        self._opened = True
        socket.hand_over(self._owner)

    def on_message(self, message: str | bytes) -> None:
        """Of a socket that is being cut."""

    def on_lost(self, code: int, words: str) -> None:
        """As above; ``connect`` reports the failure."""

    def on_writable(self, writable: bool) -> None:
        """As above."""


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """Which agent takes a call, in which shape. Empty = the vendor's default."""

    agent_id: str
    environment: str = ""
    branch: str = ""


@dataclass(frozen=True, slots=True)
class AgentClient:
    """Opens agent conversations with the operator's settings."""

    settings: Settings
    http: httpx.AsyncClient
    tls: ssl.SSLContext

    async def connect(self, target: AgentTarget, owner: SocketOwner) -> None:
        """Open a conversation's socket with this agent for ``owner``. Raises ``AgentConnectError``."""
        try:
            async with asyncio.timeout(self.settings.agent_connect_timeout_s):
                await self._connect_with_retry(target, owner)
        except TimeoutError:
            raise AgentConnectError(
                outcome.AGENT_UNREACHABLE, f"no connection within {self.settings.agent_connect_timeout_s:g} s"
            ) from None

    async def _connect_with_retry(self, target: AgentTarget, owner: SocketOwner) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            socket = _Attempt(owner)
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    await self._open(await self._url(target), socket)
                return
            except TimeoutError:
                error = AgentConnectError(outcome.AGENT_UNREACHABLE, f"no answer within {ATTEMPT_TIMEOUT_S:g} s")
            except AgentConnectError as failure:
                error = failure
            finally:
                taken = socket.settle()
            if taken:  # it opened in the very moment in which our patience ended
                return
            if error.reason is not outcome.AGENT_UNREACHABLE or attempt == ATTEMPTS:
                raise error

    @staticmethod
    def _query(target: AgentTarget) -> str:
        fields = {"agent_id": target.agent_id, "branch_id": target.branch, "environment": target.environment}
        return urlencode({name: value for name, value in fields.items() if value})

    async def _url(self, target: AgentTarget) -> str:
        """The address of a conversation: signed when there is a key, otherwise of a public agent."""
        settings = self.settings
        query = self._query(target)
        if settings.elevenlabs_api_key is None:
            return f"{settings.agent_ws_base}/v1/convai/conversation?{query}"
        try:
            response = await self.http.get(
                f"{settings.elevenlabs_base_url}/v1/convai/conversation/get-signed-url?{query}",
                headers={"xi-api-key": settings.elevenlabs_api_key.get_secret_value()},
            )
        except httpx.HTTPError as error:
            raise AgentConnectError(outcome.AGENT_UNREACHABLE, f"signed URL: {type(error).__name__}") from None
        if response.status_code != 200:
            raise AgentConnectError(
                reason_for_handshake(response.status_code),
                f"signed URL: HTTP {response.status_code} {response.text[:200]}",
            )
        return self._checked(response.content)

    def _checked(self, body: bytes) -> str:
        """The signed URL of an answer, if it is one and does not lead away from TLS."""
        try:
            url = msgspec.json.decode(body[:SIGNED_URL_MAX_BYTES], type=_SignedUrl).signed_url
        except msgspec.DecodeError as error:
            raise AgentConnectError(outcome.AGENT_GARBAGE, f"signed URL: {error}") from None
        if not _leads_to_agent(url, plain=self.settings.agent_ws_base.startswith("ws:")):
            raise AgentConnectError(outcome.AGENT_GARBAGE, "signed URL: not a wss:// address")
        return url

    async def _open(self, url: str, attempt: _Attempt) -> None:
        try:
            await ws_connect(
                lambda: MediaSocket(attempt, MAX_MESSAGE_BYTES),
                url,
                ssl_context=self.tls,
                websocket_handshake_timeout=ATTEMPT_TIMEOUT_S,
                enable_auto_ping=True,
                auto_ping_idle_timeout=PING_IDLE_S,
                auto_ping_reply_timeout=PING_IDLE_S,
                max_frame_size=MAX_MESSAGE_BYTES,
                max_redirects=0,
                extra_headers={"User-Agent": f"telephony-bridge/{__version__}"},
                read_buffer_init_size=READ_BUFFER_BYTES,
            )
        except WSHandshakeError as error:
            if error.response is None:
                raise AgentConnectError(outcome.AGENT_UNREACHABLE, f"handshake: {error}") from None
            status = int(error.response.status)
            body = (error.raw_body or b"").decode(errors="replace")
            raise AgentConnectError(reason_for_handshake(status), f"handshake: HTTP {status} {body[:200]}") from None
        except (OSError, WSError) as error:  # ssl.SSLError is an OSError
            raise AgentConnectError(outcome.AGENT_UNREACHABLE, f"{type(error).__name__}: {error}") from None


def _leads_to_agent(url: str, *, plain: bool) -> bool:
    """Whether this is a WebSocket address; checked here, because picows' complaints quote the whole URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    known_scheme = parts.scheme == "wss" or (plain and parts.scheme == "ws")
    return known_scheme and bool(host) and not parts.fragment and url.isprintable()
