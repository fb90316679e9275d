"""A Twilio call whose every message is written by the test: for what no well-behaved carrier does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.auth.twilio import sign_upgrade, sign_webhook
from tests.kit import twilio
from tests.kit.server import AUTH_TOKEN, DEADLINE_S, Place, until

FRAME_BYTES = 160
"""20 ms of mu-law."""


class WireCaller:
    """One call. As an async context manager it leaves no socket behind."""

    def __init__(
        self,
        at: Place,
        *,
        call_sid: str = twilio.CALL_SID,
        caller: str = "+15550100",
        called: str = "+15550199",
    ) -> None:
        self.at = at
        self.call_sid, self.caller, self.called = call_sid, caller, called
        self.received: list[str] = []
        """What the bridge sent on the media socket."""
        self.echo_marks = True
        """Whether marks come back at once, as from a caller who hears everything in no time."""
        self.code = 0
        """Close code of the media socket, once it is closed; 1006 = without a close frame."""
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None and self._reader is not None:
            await self._socket.close()
            await self._reader

    # --- webhooks ---

    async def post(self, path: str, *, sign: bool = True, **fields: str) -> httpx.Response:
        """A webhook of this call, signed over the public URL; ``fields`` come on top."""
        form = {
            "CallSid": self.call_sid,
            "AccountSid": twilio.ACCOUNT_SID,
            "From": self.caller,
            "To": self.called,
            "CallerCity": "",
            **fields,
        }
        url = f"{self.at.settings.public_base_url}{path}"
        headers = {"X-Twilio-Signature": sign_webhook(AUTH_TOKEN, url, tuple(form.items()))} if sign else {}
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return await client.post(f"{self.at.http_url}{path}", data=form, headers=headers)

    async def order(self) -> str:
        """The answer webhook; returns the one-time token in its TwiML."""
        response = await self.post("/twilio/voice")
        assert response.status_code == 200, response.text
        [token] = ElementTree.fromstring(response.text).findall(".//Parameter[@name='token']")
        return token.attrib["value"]

    async def verbs(self) -> list[str]:
        """What the fallback webhook tells Twilio to do with the caller."""
        response = await self.post("/twilio/fallback")
        assert response.status_code == 200
        verbs = [verb.tag for verb in ElementTree.fromstring(response.text)]
        if "Connect" in verbs:  # this caller does not follow; who hangs up instead gives the slot back
            await self.post("/twilio/status", CallStatus="completed")
        return verbs

    # --- the media socket ---

    async def open(self) -> None:
        """Open the media socket, without a word."""
        port, path = self.at.settings.bridge_port, "/twilio/media"
        signature = sign_upgrade(AUTH_TOKEN, f"{self.at.settings.public_ws_url}{path}")
        self._socket = await connect(
            f"ws://127.0.0.1:{port}{path}",
            additional_headers={"X-Twilio-Signature": signature},
            compression=None,
            ping_interval=None,
            proxy=None,
            max_size=None,
        )
        self._reader = asyncio.create_task(self._read(self._socket))

    async def dial(self, token: str | None = None) -> Self:
        """Order, open, and begin the stream."""
        token = await self.order() if token is None else token
        await self.open()
        await self.send(twilio.CONNECTED, self.start(token))
        return self

    async def dial_in(self) -> Self:
        """``dial``, and wait until the agent is there."""
        await self.dial()
        await until(self._agent_ready, "the agent never came")
        return self

    def start(self, token: str) -> str:
        """The ``start`` message of this call."""
        parameters = {"token": token, "caller": self.caller, "called": self.called}
        return twilio.start(parameters).replace(twilio.CALL_SID, self.call_sid)

    async def send(self, *messages: str | bytes) -> None:
        """Write messages; a socket that the bridge has closed meanwhile is no mistake of the test."""
        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await self._socket.send(message)

    async def say(self, payload: bytes) -> None:
        """Send audio in frames of 20 ms, all at once."""
        for start in range(0, len(payload), FRAME_BYTES):
            await self.send(twilio.media(payload[start : start + FRAME_BYTES], start // 8))

    async def talk(self, payload: bytes) -> None:
        """Send audio in frames of 20 ms, as fast as it is spoken: recordings know when what was said."""
        clock = asyncio.get_running_loop()
        began_s = clock.time()
        for start in range(0, len(payload), FRAME_BYTES):
            await asyncio.sleep(began_s + start / 8000 - clock.time())
            await self.send(twilio.media(payload[start : start + FRAME_BYTES], start // 8))

    async def close(self, code: int = 1000) -> None:
        """Close with a close frame."""
        assert self._socket is not None
        await self._socket.close(code)

    def abort(self) -> None:
        """Break the TCP connection off."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def closed(self) -> int:
        """Wait for the end of the socket; returns its close code."""
        assert self._reader is not None
        async with asyncio.timeout(DEADLINE_S):
            await self._reader
        return self.code

    @property
    def heard(self) -> bytes:
        """Agent audio so far, as sent."""
        return twilio.played(self.received)

    def got(self, event: str) -> list[Any]:
        """The bridge's messages of this event, parsed."""
        return [message for message in map(json.loads, self.received) if message["event"] == event]

    def _agent_ready(self) -> bool:
        return self.call_sid in [line.get("call_sid") for line in self.at.logged("agent_ready")]

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                assert isinstance(message, str), "Twilio takes no binary messages"
                self.received.append(message)
                parsed = json.loads(message)
                if parsed["event"] == "mark" and self.echo_marks:
                    await socket.send(twilio.mark(parsed["mark"]["name"]))
        except ConnectionClosed:
            pass
        self.code = socket.close_code if socket.close_code is not None else 1006
