"""A small application for the simulated Vonage: webhooks that answer with prepared NCCOs, and a media socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

from bridge.media.format import Encoding, MediaFormat
from bridge.media.g711 import ulaw_to_pcm
from bridge.simulators.speech import tone
from bridge.simulators.vonage_cloud import VonageCloud, running_vonage
from bridge.simulators.vonage_cloud_options import VonageOptions

OURS, CALLER, HUMAN = "15550199", "15550100", "15550123"
AGENT_HZ = 1000.0

Answer = list[dict[str, Any]] | int | None
"""An NCCO, a status, or None: 204."""


@dataclass
class Asked:
    path: str
    method: str
    fields: dict[str, Any]
    headers: dict[str, str]
    body: bytes


@dataclass
class App:
    """Answers by path; several answers are given in turn, the last for ever."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    media: Callable[[ServerConnection], Any] | None = None
    """What the media socket does after the first message; None = an agent that says a tone and listens."""
    upgrades: list[dict[str, str]] = field(default_factory=list)
    firsts: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    http: str = ""
    ws: str = ""

    def url(self, path: str) -> str:
        return f"{self.http}{path}"

    def statuses(self, path: str) -> list[str]:
        """What the event webhook at a path was told."""
        return [asked.fields["status"] for asked in self.asked if asked.path == path]

    def socket(self, rate_hz: int = 16000, **fields: Any) -> dict[str, Any]:
        """A ``connect`` to the media socket."""
        endpoint = {
            "type": "websocket",
            "uri": f"{self.ws}/media",
            "content-type": f"audio/l16;rate={rate_hz}",
            "headers": {"token": "t1"},
            "authorization": {"type": "vonage"},
        }
        return {"action": "connect", "endpoint": [endpoint], "from": OURS, **fields}

    def phone(self, number: str = HUMAN, **fields: Any) -> dict[str, Any]:
        return {"action": "connect", "endpoint": [{"type": "phone", "number": number}], "from": OURS, **fields}

    async def serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                path = urlsplit(target).path
                fields = json.loads(body) if body else dict(parse_qsl(urlsplit(target).query))
                self.asked.append(Asked(path, method, fields, headers, body))
                left = self.answers.get(path, [None])
                answer = left.pop(0) if len(left) > 1 else left[0]
                status = answer if isinstance(answer, int) else 204 if answer is None else 200
                content = json.dumps(answer).encode() if isinstance(answer, list) else b""
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve_media(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.upgrades.append({name.lower(): value for name, value in connection.request.headers.raw_items()})
        self.firsts.append(json.loads(await connection.recv()))
        rate_hz = int(self.firsts[-1]["content-type"].partition("rate=")[2])
        if self.media is not None:
            await self.media(connection)
            return
        media = MediaFormat(Encoding.L16, rate_hz)
        audio, size = tone(AGENT_HZ, media, 400), media.size_bytes(20)
        for start in range(0, len(audio), size):
            await connection.send(audio[start : start + size])
        await connection.send('{"action":"notify","payload":{"mark":"end"}}')
        async for message in connection:
            if isinstance(message, bytes):
                self.heard += message
            else:
                self.texts.append(json.loads(message))


@asynccontextmanager
async def wired(**options: Any) -> AsyncIterator[tuple[VonageCloud, App]]:
    """A Vonage and an application."""
    app = App()
    http = await asyncio.start_server(app.serve_http, "127.0.0.1", 0)
    async with serve(app.serve_media, "127.0.0.1", 0, ping_interval=None) as media, http:
        app.http = f"http://127.0.0.1:{http.sockets[0].getsockname()[1]}"
        app.ws = f"ws://127.0.0.1:{next(iter(media.sockets)).getsockname()[1]}"
        given = {"talk_ms_per_char": 2.0, "event_url": app.url("/events"), **options}
        async with running_vonage(VonageOptions(**given)) as cloud:
            yield cloud, app


def level(ulaw: bytes | bytearray, hz: float) -> float:
    """How strong a pitch is anywhere in a mu-law track: the best 100 ms, 1.0 = full scale."""
    pcm = np.frombuffer(ulaw_to_pcm(bytes(ulaw)), "<i2") / 32768
    pieces = pcm[: len(pcm) // 800 * 800].reshape(-1, 800)
    wave = np.exp(-2j * np.pi * hz / 8000 * np.arange(800))
    return float(np.max(np.abs(pieces @ wave)) / 400) if len(pieces) else 0.0
