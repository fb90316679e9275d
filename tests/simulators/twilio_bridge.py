"""A small fake bridge for the simulated Twilio cloud: webhooks that answer with prepared TwiML, and a media socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response as TwilioResponse
from twilio.rest import Client
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from bridge.media.format import ULAW_8K
from bridge.media.g711 import ulaw_to_pcm
from bridge.media.tones import DtmfDetector
from bridge.simulators.speech import tone
from bridge.simulators.twilio_cloud import TwilioCloud, running_cloud
from bridge.simulators.twilio_cloud_options import CloudOptions
from bridge.simulators.twilio_person import PersonScript

OURS, CALLER, HUMAN = "+15550199", "+15550100", "+15550123"
ACCOUNT, TOKEN = "AC" + 32 * "0", "simulated-auth-token"
AGENT_HZ = 1000.0

Answer = str | Callable[[dict[str, str]], str] | None
"""TwiML, what makes it of the form, or None: the connection is dropped."""


@dataclass
class Asked:
    path: str
    method: str
    target: str
    form: dict[str, str]
    headers: dict[str, str]


@dataclass
class FakeBridge:
    """Answers by path; unknown paths get an empty 200."""

    answers: dict[str, Answer] = field(default_factory=dict)
    kinds: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and content type by path."""
    delays: dict[str, float] = field(default_factory=dict)
    """Seconds until the answer, by path."""
    asked: list[Asked] = field(default_factory=list)
    upgrades: list[Request] = field(default_factory=list)
    streams: list[list[dict[str, Any]]] = field(default_factory=list)
    sockets: list[ServerConnection] = field(default_factory=list)
    port: int = 0
    media_port: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def media_url(self) -> str:
        return f"ws://127.0.0.1:{self.media_port}/media"

    def connect(self, after: str = "", **attributes: str) -> str:
        extra = "".join(f' {name}="{value}"' for name, value in attributes.items())
        return f'<Response><Connect><Stream url="{self.media_url}"{extra}/></Connect>{after}</Response>'

    def of(self, path: str) -> list[dict[str, str]]:
        """The forms that came to a path."""
        return [asked.form for asked in self.asked if asked.path == path]

    def events(self, stream: int) -> list[str]:
        return [message["event"] for message in self.streams[stream]]

    async def webhook(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}
                body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
                method, target, _ = lines[0].split(" ")
                path = urlsplit(target).path
                form = dict(parse_qsl(body or urlsplit(target).query, keep_blank_values=True))
                self.asked.append(Asked(path, method, target, form, headers))
                await asyncio.sleep(self.delays.get(path, 0.0))
                answer = self.answers.get(path, "")
                if answer is None:
                    writer.transport.abort()
                    return
                text = answer(form) if callable(answer) else answer
                status, kind = self.kinds.get(path, (200, "text/xml"))
                data = text.encode("latin-1")
                reply = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(data)}"]
                writer.write("\r\n".join([*reply, f"Content-Type: {kind}", "", ""]).encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def media(self, connection: ServerConnection) -> None:
        """Take a stream; the agent is a tone that sounds all the time."""
        assert connection.request is not None
        self.upgrades.append(connection.request)
        messages: list[dict[str, Any]] = []
        self.streams.append(messages)
        self.sockets.append(connection)
        async for text in connection:
            message = json.loads(text)
            messages.append(message)
            if message["event"] == "start":
                payload = base64.b64encode(tone(AGENT_HZ, ULAW_8K, 10_000)).decode()
                media = {"event": "media", "streamSid": message["streamSid"], "media": {"payload": payload}}
                await connection.send(json.dumps(media))

    def said_to_bridge(self, stream: int) -> bytes:
        """The caller's audio of a stream."""
        media = [message["media"]["payload"] for message in self.streams[stream] if message["event"] == "media"]
        return b"".join(base64.b64decode(payload) for payload in media)


@asynccontextmanager
async def fake_bridge() -> AsyncIterator[FakeBridge]:
    bridge = FakeBridge()
    server = await asyncio.start_server(bridge.webhook, "127.0.0.1", 0)
    bridge.port = server.sockets[0].getsockname()[1]
    async with serve(bridge.media, "127.0.0.1", 0, compression=None) as media:
        bridge.media_port = media.sockets[0].getsockname()[1]
        try:
            yield bridge
        finally:
            server.close()


@asynccontextmanager
async def both(**changes: Any) -> AsyncIterator[tuple[TwilioCloud, FakeBridge]]:
    """A cloud and a bridge; ringing has no extra time, <Say> is fast."""
    people: dict[str, PersonScript] = changes.pop("people", {})
    defaults: dict[str, Any] = {"ring_extra_s": 0.0, "say_ms_per_char": 10.0, "redirect_gap_ms": 30.0}
    async with fake_bridge() as bridge, running_cloud(CloudOptions(people=people, **(defaults | changes))) as cloud:
        yield cloud, bridge


class _Local(TwilioHttpClient):  # type: ignore[misc,unused-ignore]
    """The SDK's HTTP client with another host."""

    def __init__(self, base_url: str) -> None:
        super().__init__(timeout=5)
        self._base_url = base_url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> TwilioResponse:
        return super().request(method, url.replace("https://api.twilio.com", self._base_url), *args, **kwargs)


def sdk(cloud: TwilioCloud, user: str = ACCOUNT, password: str = TOKEN, account: str = ACCOUNT) -> Client:
    """The official client, pointed at the cloud. Call it in a thread."""
    return Client(user, password, account, http_client=_Local(cloud.base_url))


def has_pitch(ulaw: bytes | bytearray, hz: float, *, at_least_ms: int = 100) -> bool:
    """Whether a tone sounds anywhere in a recording, in pieces of 20 ms."""
    samples = np.frombuffer(ulaw_to_pcm(bytes(ulaw)), "<i2").astype(float)
    whole = len(samples) // 160 * 160
    frames = samples[:whole].reshape(-1, 160)
    probe = np.exp(-2j * np.pi * hz * np.arange(160) / 8000)
    strength = np.abs(frames @ probe) / 80
    energy = np.sqrt(np.mean(frames**2, axis=1)) + 1
    return int(np.sum((strength > 1000) & (strength > energy))) * 20 >= at_least_ms


def keys_in(ulaw: bytes | bytearray) -> str:
    """The keys whose tones are in a piece of audio."""
    detector = DtmfDetector(8000)
    return "".join(hit.digit for hit in [*detector.process(ulaw_to_pcm(bytes(ulaw))), *detector.flush()])
