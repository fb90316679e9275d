"""Calls a bridge as Genesys Cloud's Audio Connector would: signed upgrade, one session per socket, retries.

The call itself is in ``genesys_line`` (caller) and ``genesys_protocol`` (wire); here are the sockets. Nothing but the
bridge's address is needed; with an API key it is sent, with a client secret the upgrade is signed too.
Sources: Genesys Cloud Developer Center, "AudioHook protocol reference: Connection establishment" and "Security".
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from bridge.simulators.genesys_limits import Limits
from bridge.simulators.genesys_line import GenesysLine
from bridge.simulators.genesys_media import OFFERS
from bridge.simulators.genesys_outbox import Outgoing
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.genesys_protocol import GenesysSession
from bridge.simulators.genesys_result import Attempt, GenesysResult
from bridge.simulators.genesys_retry import MAX_RETRIES, backoff_s, worth_retrying
from bridge.simulators.genesys_setup import NULL_UUID, SessionSetup
from bridge.simulators.genesys_signature import (
    NONCE_BYTES,
    PRODUCTION_ORDER,
    Key,
    decode_secret,
    sign_upgrade,
    target_and_authority,
)
from bridge.simulators.pump import pump
from bridge.simulators.speech import write_stereo_wav
from bridge.simulators.twilio_line import DEMO_ACTIONS

HANDSHAKE_S = 10.0
"""How long the socket may take to open; Genesys' limit is not documented."""

MAX_RECEIVED_BYTES = 1_048_576
"""What is read of one message, so that one over the limit of Genesys is noted as that."""

_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesysCallOptions:
    """One simulated call."""

    to: str
    """Base Connection URI, or the whole address with the Connector ID, e.g. ``ws://127.0.0.1:8080/genesys/agent_1``."""
    connector_id: str = ""
    """Appended to ``to`` as it stands, as Genesys does."""
    api_key: str = ""
    client_secret: str = field(default="", repr=False)
    """Base64, as entered in Genesys; empty = unsigned."""
    public_url: str = ""
    """The bridge's PUBLIC_URL where it is not the address above: the signature covers its host and path prefix."""
    signature_order: tuple[str, ...] = PRODUCTION_ORDER
    organization_id: str = ""
    """Empty = a random one."""
    caller: str = "+15550100"
    """A number becomes a ``tel:`` URI; anything with a scheme stays as it is."""
    caller_name: str = ""
    called: str = "+15550199"
    media: str = "external"
    """Name of an offer: one of ``OFFERS``."""
    language: str = "en-US"
    input_variables: Mapping[str, str] = field(default_factory=dict)
    custom_config: Mapping[str, Any] | None = None
    probe: bool = False
    """A connection probe, as when the integration is activated, rather than a call."""
    actions: tuple[AnyAction, ...] = DEMO_ACTIONS
    """What the caller does from ``opened`` on."""
    retries: int = 0
    """How often the connection is tried again; Genesys does so up to 5 times."""
    limits: Limits = Limits()
    completed_after_barge_in: bool = True
    max_duration_s: float = 120.0
    """The caller hangs up after that long in any case."""
    recording: Path | None = None
    """Where to write a stereo WAV: caller left, agent as heard right."""
    keep_audio: bool = True
    """Whether the result holds both tracks; off for load."""


class GenesysCall:
    """One call. ``run`` makes it; ``result`` may be looked at while it goes on."""

    def __init__(
        self, options: GenesysCallOptions, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Raises ``ValueError`` that names the option that does not work. ``sleep`` waits between retries."""
        self.options = options
        self.url = options.to + options.connector_id
        if urlsplit(self.url).scheme not in ("ws", "wss"):
            raise ValueError("to must begin with ws:// or wss://")
        if options.media not in OFFERS:
            raise ValueError(f"media must be one of {', '.join(OFFERS)}")
        if not 0 <= options.retries <= MAX_RETRIES:
            raise ValueError(f"retries must be from 0 to {MAX_RETRIES}")
        if options.client_secret and not options.api_key:
            raise ValueError("client_secret needs api_key: the signature names it")
        self.result = GenesysResult()
        self.line: GenesysLine | None = None
        """The attempt that goes on now, or the last."""
        self._secret = decode_secret(options.client_secret) if options.client_secret else b""
        self._signed_url = self._public_url()
        self.setup = self._new_setup()
        """Ids, participant and media of the session; the same in every attempt."""
        self._correlation_id = str(uuid.uuid4())
        self._sleep = sleep

    async def run(self) -> GenesysResult:
        """Make the call, to its end. Never raises on what the bridge does: that is in the result."""
        waited_s = 0.0
        while True:
            result = await self._attempt(len(self.result.attempts))
            result.attempts.append(Attempt(result.ended_by, result.http_status, result.opened_ms, waited_s))
            retry = len(result.attempts)
            if retry > self.options.retries or not worth_retrying(result):
                break
            waited_s = backoff_s(retry)
            await self._sleep(waited_s)
            self.result = GenesysResult(attempts=result.attempts, breaches=result.breaches)
        if self.options.recording is not None:
            await asyncio.to_thread(write_stereo_wav, self.options.recording, result.said, result.heard)
        return result

    def headers(self, retry: int) -> dict[str, str]:
        """Headers of the upgrade request, with a fresh signature."""
        options, setup = self.options, self.setup
        headers = {
            "Audiohook-Organization-Id": setup.organization_id,
            "Audiohook-Session-Id": setup.session_id,
            "Audiohook-Correlation-Id": self._correlation_id,
            "Audiohook-Retry-Attempt": str(retry),
        }
        if options.api_key:
            headers["X-API-KEY"] = options.api_key
        if self._secret:
            target, authority = target_and_authority(self._signed_url)
            values = {name.lower(): value for name, value in headers.items()}
            values |= {"@request-target": target, "@authority": authority, "x-api-key": options.api_key}
            nonce = base64.b64encode(secrets.token_bytes(NONCE_BYTES)).decode("ascii")
            key = Key(options.api_key, self._secret)
            order = options.signature_order
            headers |= sign_upgrade(values, key, nonce=nonce, created_s=int(time.time()), order=order)
        return headers

    # --- one attempt -------------------------------------------------------------------------------------

    async def _attempt(self, retry: int) -> GenesysResult:
        try:
            connection = await _Connect(
                self.url,
                additional_headers=self.headers(retry),
                compression=None,
                open_timeout=HANDSHAKE_S,
                ping_interval=None,  # AudioHook has pings of its own
                max_size=MAX_RECEIVED_BYTES,
                user_agent_header="AudioHook-Client",
                proxy=None,
            )
        except InvalidStatus as error:
            self.result.http_status = error.response.status_code
            return self._refused(f"upgrade was answered with {error.response.status_code}")
        except (InvalidHandshake, OSError, TimeoutError) as error:
            return self._refused(f"no connection: {type(error).__name__}")
        await self._talk(connection)
        return self.result

    def _refused(self, text: str) -> GenesysResult:
        self.result.ended_by, self.result.refusal = "refused", text
        self.result.session_id = self.setup.session_id
        self.result.conversation_id = self.setup.conversation_id
        self.result.note(0, text)
        return self.result

    async def _talk(self, connection: ClientConnection) -> None:
        now = time.monotonic()
        options = self.options
        session = GenesysSession(self.setup, now)
        self.line = line = GenesysLine(session, options.actions, self.result, keep_audio=options.keep_audio)
        limit = asyncio.get_running_loop().call_later(options.max_duration_s, self._time_is_up, line)

        async def perform(action: Outgoing) -> None:
            if isinstance(action, str | bytes):
                await connection.send(action)
            else:
                await connection.close()

        try:
            await pump(connection, line, perform)
        finally:
            limit.cancel()

    def _time_is_up(self, line: GenesysLine) -> None:
        """The line's own timer, at most 5 s away, sends what this puts out."""
        line.hang_up(time.monotonic(), "time")

    # --- who and where -----------------------------------------------------------------------------------

    def _new_setup(self) -> SessionSetup:
        options = self.options
        new_id = NULL_UUID if options.probe else None
        return SessionSetup(
            organization_id=options.organization_id or str(uuid.uuid4()),
            session_id=str(uuid.uuid4()),
            conversation_id=new_id or str(uuid.uuid4()),
            participant_id=new_id or str(uuid.uuid4()),
            ani="" if options.probe else _address(options.caller),
            ani_name="" if options.probe else options.caller_name,
            dnis="" if options.probe else _address(options.called),
            media=OFFERS[options.media],
            language=options.language,
            input_variables={} if options.probe else options.input_variables,
            custom_config=options.custom_config,
            limits=options.limits,
            completed_after_barge_in=options.completed_after_barge_in,
        )

    def _public_url(self) -> str:
        """The address as Genesys would have been told it."""
        public = self.options.public_url.rstrip("/")
        if not public:
            return self.url
        scheme, _, rest = public.partition("://")
        if scheme not in _WEBSOCKET_SCHEMES or not rest:
            raise ValueError("public_url must begin with https:// or http://")
        here = urlsplit(self.url)
        query = f"?{here.query}" if here.query else ""
        return f"{_WEBSOCKET_SCHEMES[scheme]}://{rest}{here.path}{query}"


class _Connect(connect):
    """Without redirects: Genesys follows none, and the signature covers the address."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def call_genesys(options: GenesysCallOptions) -> GenesysResult:
    """Make one call and return what came of it."""
    return await GenesysCall(options).run()


def _address(number: str) -> str:
    return f"tel:{number}" if number and ":" not in number else number
