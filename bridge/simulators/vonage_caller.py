"""Calls a bridge's media socket as Vonage does: signed upgrade, first message, audio both ways.

The call itself is in ``vonage_line`` (caller) and ``vonage_socket`` (wire); here is the socket. Nothing but the
bridge's address is needed; with a signature secret the upgrade is signed as ``authorization: vonage`` asks for.
What leads to it in real life (answer webhook, NCCO) is in ``vonage_cloud``.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.pump import pump
from bridge.simulators.speech import write_stereo_wav
from bridge.simulators.twilio_line import DEMO_ACTIONS
from bridge.simulators.vonage_line import Inject, VonageLine, check_actions
from bridge.simulators.vonage_result import VonageResult
from bridge.simulators.vonage_signer import Forgery, Signer
from bridge.simulators.vonage_socket import AbortSocket, CloseSocket, Outgoing, SocketSetup, VonageSocket

HANDSHAKE_S = 10.0
"""How long the socket may take to open."""

MAX_RECEIVED_BYTES = 1_048_576
"""What is read of one message, so that one of a wrong size is noted as that."""

USER_AGENT = "Vonage-Simulator"


@dataclass(frozen=True, slots=True, kw_only=True)
class VonageCallOptions:
    """One simulated call, straight to the media socket."""

    to: str
    """The media socket, e.g. ``ws://127.0.0.1:8080/vonage/media``, with whatever query the NCCO would have."""
    rate_hz: int = 16000
    caller: str = "15550100"
    called: str = "15550199"
    call_uuid: str = ""
    """Of the caller's leg; empty = a random one."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    """Headers of the endpoint, beside uuid, from and to, or in place of them; None leaves one out."""
    secret: str = field(default="", repr=False)
    """Signature secret; empty = unsigned."""
    application_id: str = ""
    forgery: Forgery = Forgery.NONE
    authorization: str = field(default="", repr=False)
    """Sent verbatim instead (``authorization: custom``)."""
    upgrade_headers: Mapping[str, str] = field(default_factory=dict)
    """Sent besides with the upgrade."""
    echo_cleared: bool = False
    nested_dtmf: bool = False
    say_connected: bool = True
    actions: tuple[AnyAction, ...] = DEMO_ACTIONS
    injections: tuple[Inject, ...] = ()
    max_duration_s: float = 120.0
    """The caller hangs up after that long in any case."""
    recording: Path | None = None
    """Where to write a stereo WAV: caller left, agent as heard right."""
    keep_audio: bool = True


class VonageCall:
    """One call. ``run`` makes it; ``result`` and ``line`` may be looked at while it goes on."""

    def __init__(self, options: VonageCallOptions) -> None:
        """Raises ``ValueError`` that names the option that does not work."""
        if urlsplit(options.to).scheme not in ("ws", "wss"):
            raise ValueError("to must begin with ws:// or wss://")
        check_actions(options.actions)
        self.options = options
        self.call_uuid = options.call_uuid or str(uuid.uuid4())
        self.setup = SocketSetup(
            rate_hz=options.rate_hz,
            headers=self._endpoint_headers(),
            echo_cleared=options.echo_cleared,
            nested_dtmf=options.nested_dtmf,
            say_connected=options.say_connected,
        )
        self.result = VonageResult(rate_hz=options.rate_hz)
        self.line: VonageLine | None = None

    async def run(self) -> VonageResult:
        """Make the call, to its end. Never raises on what the bridge does: that is in the result."""
        connection = await self._connect()
        if connection is not None:
            await self._talk(connection)
        if self.options.recording is not None:
            await asyncio.to_thread(write_stereo_wav, self.options.recording, self.result.said, self.result.heard)
        return self.result

    def _endpoint_headers(self) -> dict[str, Any]:
        options = self.options
        headers = {"uuid": self.call_uuid, "from": options.caller, "to": options.called, **options.headers}
        return {name: value for name, value in headers.items() if value is not None}

    def _upgrade_headers(self) -> dict[str, str]:
        options = self.options
        if options.authorization:
            return {"Authorization": options.authorization, **options.upgrade_headers}
        signer = Signer(secret=options.secret, application_id=options.application_id, forgery=options.forgery)
        return {**signer.headers(), **options.upgrade_headers}

    async def _connect(self) -> ClientConnection | None:
        try:
            return await open_socket(self.options.to, self._upgrade_headers())
        except InvalidStatus as error:
            self.result.http_status = error.response.status_code
            self._refused(f"upgrade was answered with {error.response.status_code}")
        except (InvalidHandshake, OSError, TimeoutError) as error:
            self._refused(f"no connection: {type(error).__name__}")
        return None

    def _refused(self, text: str) -> None:
        self.result.ended_by, self.result.refusal = "refused", text
        self.result.note(0, text)

    async def _talk(self, connection: ClientConnection) -> None:
        options = self.options
        socket = VonageSocket(self.setup, time.monotonic())
        self.line = line = VonageLine(
            socket, options.actions, self.result, injections=options.injections, keep_audio=options.keep_audio
        )
        limit = asyncio.get_running_loop().call_later(
            options.max_duration_s, lambda: line.hang_up(time.monotonic(), "time")
        )
        try:
            await pump(connection, line, lambda action: perform(connection, action))
        finally:
            limit.cancel()


async def open_socket(url: str, headers: Mapping[str, str]) -> ClientConnection:
    """Open a media socket as Vonage does. Raises what ``websockets`` raises; redirects are not followed."""
    return await _Connect(
        url,
        additional_headers=headers,
        compression=None,
        open_timeout=HANDSHAKE_S,
        ping_interval=None,
        max_size=MAX_RECEIVED_BYTES,
        user_agent_header=USER_AGENT,
        proxy=None,
    )


async def perform(connection: ClientConnection, action: Outgoing) -> None:
    """Carry out what a socket wants."""
    if isinstance(action, AbortSocket):
        connection.transport.abort()
    elif isinstance(action, CloseSocket):
        await connection.close()
    else:
        await connection.send(action)


class _Connect(connect):
    """Without redirects: the signature is for this address."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def call_media(options: VonageCallOptions) -> VonageResult:
    """Make one call and return what came of it."""
    return await VonageCall(options).run()
