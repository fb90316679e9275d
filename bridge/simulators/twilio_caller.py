"""Calls a bridge as Twilio would: answer webhook, TwiML, media socket, and what the TwiML says afterwards.

The call itself is in ``twilio_line`` (caller) and ``twilio_protocol`` (wire); here are the sockets. Nothing but the
bridge's address is needed; with an auth token webhooks and the upgrade are signed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from bridge.auth.twilio import sign_upgrade, sign_webhook
from bridge.simulators.call_result import CallResult
from bridge.simulators.pump import pump
from bridge.simulators.speech import write_stereo_wav
from bridge.simulators.twilio_line import DEMO_ACTIONS, AnyAction, FakeTwilio, LineAction
from bridge.simulators.twilio_protocol import TwilioStream, Violation
from bridge.simulators.twiml import StreamNoun, TwimlError, Verb, parse_twiml

WEBHOOK_CONNECT_S, WEBHOOK_READ_S = 5.0, 15.0
"""Twilio's own limits for webhooks (docs: "Webhooks connection overrides")."""

HANDSHAKE_S = 10.0
"""How long the media socket may take to open; Twilio's limit is not documented."""

MAX_DOCUMENTS = 10
"""TwiML documents followed in one call: a redirect loop ends here."""

HTTP_FAILURE, WRONG_CONTENT_TYPE, NO_UPGRADE, NO_CONNECTION = 11200, 12300, 31920, 31901

SIGNATURE_HEADER = "X-Twilio-Signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioCallOptions:
    """One simulated call. Either ``to`` or ``voice`` says where."""

    to: str = ""
    """Media socket to open at once, e.g. ``ws://127.0.0.1:8080/twilio/media``, without any webhook."""
    voice: str = ""
    """Answer webhook, e.g. ``http://127.0.0.1:8080/twilio/voice``; its TwiML says the rest."""
    status: str = ""
    """Webhook that is told the end of the call; empty = none."""
    public_url: str = ""
    """The bridge's PUBLIC_URL where it is not the address above: signatures cover it, and its URLs in the TwiML are
    reached at that address."""
    auth_token: str = ""
    """Signs webhooks and the upgrade; empty = unsigned."""
    account_sid: str = "AC" + 32 * "0"
    caller: str = "+15550100"
    called: str = "+15550199"
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Custom parameters of a media socket opened without a webhook."""
    actions: tuple[AnyAction, ...] = DEMO_ACTIONS
    """What the caller does; a stream that is opened again goes on where the one before stopped."""
    max_duration_s: float = 120.0
    """The caller hangs up after that long in any case."""
    recording: Path | None = None
    """Where to write a stereo WAV: caller left, agent as heard right."""


class TwilioCall:
    """One call. ``run`` makes it; ``result`` may be looked at while it goes on."""

    def __init__(self, options: TwilioCallOptions) -> None:
        """Raises ``ValueError`` unless exactly one of ``to`` and ``voice`` is set."""
        if bool(options.to) == bool(options.voice):
            raise ValueError("exactly one of to and voice says where to call")
        self.options = options
        self.result = CallResult(call_sid=_sid("CA"))
        self.line: FakeTwilio | None = None
        """The stream that goes on now, or the last."""
        self._actions = list(options.actions)
        self._ends_s = 0.0
        self._over = False

    async def run(self) -> CallResult:
        """Make the call, to its end. Never raises on what the bridge does: that is in the result."""
        options = self.options
        self._ends_s = time.monotonic() + options.max_duration_s
        timeout = httpx.Timeout(WEBHOOK_READ_S, connect=WEBHOOK_CONNECT_S)
        async with httpx.AsyncClient(timeout=timeout) as client:
            if options.to:
                await self._stream(StreamNoun(self._public(options.to), parameters=options.parameters))
            else:
                await self._follow(client, self._public(options.voice))
            if options.status:
                seconds = str(round(self.result.duration_ms / 1000))
                fields = {"CallStatus": "completed", "CallDuration": seconds}
                await self._request(client, self._public(options.status), fields)
        if options.recording is not None:
            await asyncio.to_thread(write_stereo_wav, options.recording, self.result.said, self.result.heard)
        return self.result

    # --- TwiML -------------------------------------------------------------------------------------------

    async def _follow(self, client: httpx.AsyncClient, url: str) -> None:
        """Fetch documents and carry out their verbs until the call is over or cannot go on."""
        fields = {"CallStatus": "ringing"}
        for _ in range(MAX_DOCUMENTS):
            document = await self._request(client, url, fields)
            if document is None:
                break
            try:
                verbs = parse_twiml(document, url)
            except TwimlError as error:
                self._violate(error.code, error.text)
                break
            url = await self._carry_out(verbs)
            if not url:
                return
            fields = {"CallStatus": "in-progress"}
        else:
            self._violate(HTTP_FAILURE, f"more than {MAX_DOCUMENTS} documents in one call")
        self.result.ended_by = self.result.ended_by or "refused"

    async def _carry_out(self, verbs: tuple[Verb, ...]) -> str:
        """Carry out one document; returns the URL of the next, empty = the call is over."""
        for verb in verbs:
            self.result.verbs.append(str(verb))
            if verb.stream is not None:
                await self._stream(verb.stream)
                if self._over:
                    return ""
                if "action" in verb.attributes:
                    return verb.attributes["action"]
            elif verb.name == "Redirect":
                return verb.text
            elif verb.name in ("Hangup", "Reject", "Dial", "Refer"):
                # A dialled or referred call goes on elsewhere; for this caller the bridge's part is over.
                break
        self.result.ended_by = self.result.ended_by or "bridge"
        return ""

    async def _request(self, client: httpx.AsyncClient, url: str, fields: Mapping[str, str]) -> str | None:
        """Post a webhook; None (and a violation) where the answer is no TwiML."""
        options = self.options
        form = {
            "CallSid": self.result.call_sid,
            "AccountSid": options.account_sid,
            "ApiVersion": "2010-04-01",
            "Direction": "inbound",
            "From": options.caller,
            "Caller": options.caller,
            "To": options.called,
            "Called": options.called,
            "CallerCity": "",  # blank fields are sent and signed too
            **fields,
        }
        headers = {"User-Agent": "TwilioProxy/1.1"}
        if options.auth_token:
            headers[SIGNATURE_HEADER] = sign_webhook(options.auth_token, url, tuple(form.items()))
        path = urlsplit(url).path
        try:
            response = await client.post(self._reach(url), data=form, headers=headers)
        except httpx.HTTPError as error:
            self._violate(HTTP_FAILURE, f"POST {path}: {type(error).__name__}")
            return None
        self.result.requests.append(f"POST {path} {response.status_code}")
        if not response.is_success:
            self.result.http_status = response.status_code
            self._violate(HTTP_FAILURE, f"POST {path} was answered with {response.status_code}")
            return None
        if response.content and not response.headers.get("Content-Type", "").split(";")[0].endswith("/xml"):
            self._violate(WRONG_CONTENT_TYPE, f"POST {path} was not answered with XML")
            return None
        return response.text

    # --- media -------------------------------------------------------------------------------------------

    async def _stream(self, noun: StreamNoun) -> None:
        """Open the media socket and hold the call on it, until one side ends it."""
        headers = {}
        if self.options.auth_token:
            headers[SIGNATURE_HEADER] = sign_upgrade(self.options.auth_token, noun.url)
        try:
            connection = await connect(
                self._reach(noun.url),
                additional_headers=headers,
                compression=None,
                open_timeout=HANDSHAKE_S,
                ping_interval=None,  # not known of Twilio, and the bridge must not count on it
                user_agent_header="TwilioMediaStreams/1.0",
                proxy=None,
            )
        except InvalidStatus as error:
            self.result.http_status = error.response.status_code
            self._refused(NO_UPGRADE, f"upgrade was answered with {error.response.status_code}")
        except (InvalidHandshake, OSError, TimeoutError) as error:
            self._refused(NO_CONNECTION, f"no connection: {type(error).__name__}")
        else:
            await self._talk(connection, noun)

    def _refused(self, code: int, text: str) -> None:
        self.result.ended_by = "refused"
        self._violate(code, text)

    async def _talk(self, connection: ClientConnection, noun: StreamNoun) -> None:
        now = time.monotonic()
        stream = TwilioStream(self.result.call_sid, _sid("MZ"), self.options.account_sid, noun.parameters)
        self.line = line = FakeTwilio(stream, self._actions, now, self.result)
        limit = asyncio.get_running_loop().call_later(self._ends_s - now, self._time_is_up, line)

        async def perform(action: LineAction) -> None:
            if isinstance(action, str):
                await connection.send(action)
            else:
                await connection.close(1000)

        try:
            await pump(connection, line, perform)
        finally:
            limit.cancel()
        self._actions = line.remaining_actions()
        self._over = self.result.ended_by in ("caller", "time")

    def _time_is_up(self, line: FakeTwilio) -> None:
        line.hang_up(time.monotonic(), "time")

    # --- addresses ---------------------------------------------------------------------------------------

    def _violate(self, code: int, text: str) -> None:
        self.result.violations.append(Violation(code, text, self.result.duration_ms))

    def _public(self, url: str) -> str:
        """The URL of this address as Twilio would have been told it."""
        public = self.options.public_url.rstrip("/")
        if not public:
            return url
        scheme, _, rest = public.partition("://")
        websocket = urlsplit(url).scheme in ("ws", "wss")
        scheme = {"https": "wss", "http": "ws"}[scheme] if websocket else scheme
        return f"{scheme}://{rest}{urlsplit(url).path}"

    def _reach(self, url: str) -> str:
        """The address at which a public URL is really reached."""
        public = self.options.public_url.rstrip("/").partition("://")[2]
        scheme, _, rest = url.partition("://")
        if not public or not (rest == public or rest.startswith(public + "/")):
            return url
        here = urlsplit(self.options.to or self.options.voice)
        secure = here.scheme in ("https", "wss")
        websocket = scheme in ("ws", "wss")
        scheme = ("wss" if secure else "ws") if websocket else ("https" if secure else "http")
        return f"{scheme}://{here.netloc}{rest[len(public) :]}"


async def call_twilio(options: TwilioCallOptions) -> CallResult:
    """Make one call and return what came of it."""
    return await TwilioCall(options).run()


def _sid(prefix: str) -> str:
    return prefix + secrets.token_hex(16)
