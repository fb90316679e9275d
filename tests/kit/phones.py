"""Callers of a cluster, many at once: each places a Twilio call, talks in numbered bytes and checks what comes back.

The agent echoes, so a caller hears what it has said. Loss, order, doubles and gaps of the whole way show, whichever
instances the call has met.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.auth.twilio import sign_upgrade, sign_webhook
from tests.kit import twilio
from tests.kit.audio import numbered
from tests.kit.cluster import SERVED_BY, Cluster, new_number
from tests.kit.server import AUTH_TOKEN, DEADLINE_S, until

CHUNK_MS = 100
"""Twilio sends 20 ms; five at once are the same audio for a fifth of the test's work."""
CHUNK_BYTES = 8 * CHUNK_MS


class NoAnswer(Exception):
    """The call was refused, or nobody was there; the text says how."""


class Phone:
    """One call. ``place`` it, and ``hang_up``; ``phones`` leaves none behind."""

    def __init__(self, cluster: Cluster, called: str = "+15550199") -> None:
        self.cluster = cluster
        self.caller, self.called = new_number(), called
        self.call_sid = "CA" + secrets.token_hex(16)
        self.token = ""
        self.answered_by = ""
        """The instance that answered the webhook."""
        self.carried_by = ""
        """The instance that has the media socket."""
        self.heard = bytearray()
        self.said_bytes = 0
        self.longest_gap_s = 0.0
        """Between two pieces of the agent's audio, while this side talks."""
        self.first_heard_s = 0.0
        """Monotonic time; 0 = nothing yet."""
        self.was_cut = False
        """The socket ended before this side hung up."""
        self._hung_up = False
        self._last_heard_s = 0.0
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_on(self) -> bool:
        """Whether the call goes on: begun, and ended by neither side."""
        return self._socket is not None and not self._hung_up and not self.was_cut

    # --- the webhook ---

    async def order(self, at: str | None = None) -> ElementTree.Element:
        """The answer webhook, at an instance or through HAProxy; returns the TwiML. Raises ``NoAnswer``."""
        url = f"{self.cluster.public_url}/twilio/voice"
        form = {"CallSid": self.call_sid, "AccountSid": twilio.ACCOUNT_SID, "From": self.caller, "To": self.called}
        headers = {"X-Twilio-Signature": sign_webhook(AUTH_TOKEN, url, tuple(form.items()))}
        try:
            answer = await self.cluster.client.post(
                f"http://{self.cluster.address(at)}/twilio/voice", data=form, headers=headers
            )
        except httpx.HTTPError as error:
            raise NoAnswer(type(error).__name__) from None
        if answer.status_code != 200:
            raise NoAnswer(f"HTTP {answer.status_code}")
        self.answered_by = answer.headers.get(SERVED_BY, at or "")
        document = ElementTree.fromstring(answer.text)
        for parameter in document.findall(".//Parameter[@name='token']"):
            self.token = parameter.attrib["value"]
        return document

    async def is_let_in(self, at: str | None = None) -> bool:
        """``order``: whether the call got a slot; it is refused with the busy tone otherwise."""
        verbs = [verb.tag for verb in await self.order(at)]
        assert verbs in (["Connect", "Redirect"], ["Reject"]), verbs
        return verbs[0] == "Connect"

    # --- the media ---

    async def join(self, at: str | None = None, *, talk: bool = True) -> None:
        """Open the media socket and begin the stream. Raises ``NoAnswer``."""
        public_ws = self.cluster.public_url.replace("http", "ws", 1)
        headers = {"X-Twilio-Signature": sign_upgrade(AUTH_TOKEN, f"{public_ws}/twilio/media")}
        try:
            self._socket = await connect(
                f"ws://{self.cluster.address(at)}/twilio/media",
                additional_headers=headers,
                compression=None,
                ping_interval=None,
                proxy=None,
            )
        except (OSError, InvalidStatus, EOFError, TimeoutError) as error:
            raise NoAnswer(f"{type(error).__name__} {error}") from None
        response = self._socket.response
        self.carried_by = (response.headers.get(SERVED_BY) if response is not None else "") or at or ""
        parameters = {"token": self.token, "caller": self.caller, "called": self.called}
        start = twilio.start(parameters).replace(twilio.CALL_SID, self.call_sid)
        self._tasks.append(asyncio.create_task(self._listen(self._socket)))
        await self._send(twilio.CONNECTED, start)
        if talk:
            self._tasks.append(asyncio.create_task(self._talk()))

    async def place(self, answered_by: str | None = None, carried_by: str | None = None, *, talk: bool = True) -> None:
        """Webhook and media; returns when the agent is heard. Raises ``NoAnswer``."""
        if not await self.is_let_in(answered_by):
            raise NoAnswer("busy")
        await self.join(carried_by, talk=talk)
        if talk:
            await self.hears_something()

    async def hears_something(self) -> None:
        """Wait for the agent. Raises ``NoAnswer`` when the call ends instead."""
        await until(lambda: self.first_heard_s or self.was_cut, f"{self.call_sid}: silence")
        if not self.first_heard_s:
            ends = [line for one in self.cluster.instances.values() for line in one.logged("call_ended")]
            ours = [f"{one['reason']} {one['detail']}" for one in ends if one.get("call_sid") == self.call_sid]
            raise NoAnswer(f"cut before a word by {self.carried_by}: {ours}")

    async def hang_up(self) -> None:
        """End the call as Twilio does, and wait until the bridge has closed the socket."""
        if self._socket is None:
            return
        self._hung_up = True
        await self._send(twilio.STOP.replace(twilio.CALL_SID, self.call_sid))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_S):
                await self._tasks[0]
        await self.drop()

    async def drop(self) -> None:
        """Let go of the socket, whatever the bridge does with it."""
        self._hung_up = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._socket is not None:
            self._socket.transport.abort()
            self._socket = None

    def assert_whole(self, max_gap_s: float) -> None:
        """The call goes on, and all that came back is what was said, in order, once, without a gap."""
        assert not self.was_cut, f"{self.call_sid} was cut"
        assert bytes(self.heard) == numbered(len(self.heard))
        assert self.said_bytes - len(self.heard) <= max_gap_s * 8000
        silence_s = max(self.longest_gap_s, time.monotonic() - self._last_heard_s)
        assert silence_s <= max_gap_s, f"{self.call_sid}: silence of {silence_s:.2f} s"

    # --- inside ---

    async def _talk(self) -> None:
        due_s = time.monotonic()
        while True:
            message = twilio.media(numbered(CHUNK_BYTES, self.said_bytes), self.said_bytes // 8)
            await self._send(message)
            self.said_bytes += CHUNK_BYTES
            due_s += CHUNK_MS / 1000
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _listen(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                message: dict[str, Any] = json.loads(text)
                if message["event"] == "mark":
                    await self._send(twilio.mark(message["mark"]["name"]))
                elif message["event"] == "media":
                    self._hear(base64.b64decode(message["media"]["payload"]))
        self.was_cut = not self._hung_up

    def _hear(self, payload: bytes) -> None:
        now_s = time.monotonic()
        if self.first_heard_s:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._last_heard_s)
        else:
            self.first_heard_s = now_s
        self._last_heard_s = now_s
        self.heard += payload

    async def _send(self, *messages: str) -> None:
        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await self._socket.send(message)


class Phones:
    """Makes calls and knows them all."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.all: list[Phone] = []

    def new(self, called: str = "+15550199") -> Phone:
        """A phone that has not dialled yet."""
        phone = Phone(self.cluster, called)
        self.all.append(phone)
        return phone

    async def call(
        self, count: int, answered_by: str | None = None, carried_by: str | None = None, *, talk: bool = True
    ) -> list[Phone]:
        """So many calls, one after the other; with ``talk`` each until its agent is heard."""
        placed = [self.new() for _ in range(count)]
        for phone in placed:
            await phone.place(answered_by, carried_by, talk=talk)
        return placed

    async def hang_up(self, phones: list[Phone] | None = None) -> None:
        """End these calls, or all."""
        await asyncio.gather(*(phone.hang_up() for phone in (self.all if phones is None else phones)))


@contextlib.asynccontextmanager
async def phones(cluster: Cluster) -> AsyncIterator[Phones]:
    """Callers who leave no socket behind."""
    everybody = Phones(cluster)
    try:
        yield everybody
    finally:
        await asyncio.gather(*(phone.drop() for phone in everybody.all))
