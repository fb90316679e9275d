"""The plain design, for comparison only: FastAPI WebSocket in, ``websockets`` out, one task per direction.

This is how bridges of this kind are usually written. It has no limits, no checks, no pacing and no tear-down
worth the name, so it is cheaper than a real server of its design would be. In conversion mode it resamples with
soxr streams, as popular frameworks do. Run as ``python -m bridge.bench.plain PORT AGENT_PORT MODE``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import warnings
from typing import Any

import soxr
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

import numpy as np

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""What the vendor's own client allows from the agent."""


class Converter:
    """8 kHz mu-law <-> 16 kHz PCM with stream resamplers; one per call."""

    def __init__(self) -> None:
        self._up = soxr.ResampleStream(8000, 16000, 1, dtype="int16", quality="VHQ")
        self._down = soxr.ResampleStream(16000, 8000, 1, dtype="int16", quality="VHQ")

    def up(self, audio: bytes) -> bytes:
        """Caller audio for the agent."""
        linear = np.frombuffer(audioop.ulaw2lin(audio, 2), np.int16)
        return bytes(self._up.resample_chunk(linear).tobytes())

    def down(self, audio: bytes) -> bytes:
        """Agent audio for the caller."""
        narrow = self._down.resample_chunk(np.frombuffer(audio, np.int16))
        return audioop.lin2ulaw(narrow.tobytes(), 2)


async def caller_to_agent(carrier: WebSocket, agent: ClientConnection, converter: Converter | None) -> None:
    """Forward caller audio until the stream stops."""
    while True:
        message = json.loads(await carrier.receive_text())
        if message["event"] == "stop":
            return
        if message["event"] != "media":
            continue
        chunk = message["media"]["payload"]
        if converter is not None:
            audio = converter.up(base64.b64decode(chunk))
            if not audio:
                continue
            chunk = base64.b64encode(audio).decode()
        await agent.send(json.dumps({"user_audio_chunk": chunk}))


async def agent_to_caller(
    carrier: WebSocket, agent: ClientConnection, stream_sid: str, converter: Converter | None
) -> None:
    """Forward agent audio and barge-in until the agent closes."""
    async for text in agent:
        message = json.loads(text)
        kind = message["type"]
        reply: dict[str, Any]
        if kind == "audio":
            payload = message["audio_event"]["audio_base_64"]
            if converter is not None:
                audio = converter.down(base64.b64decode(payload))
                if not audio:
                    continue
                payload = base64.b64encode(audio).decode()
            reply = {"event": "media", "streamSid": stream_sid, "media": {"payload": payload}}
        elif kind == "interruption":
            reply = {"event": "clear", "streamSid": stream_sid}
        elif kind == "ping":
            await agent.send(json.dumps({"type": "pong", "event_id": message["ping_event"]["event_id"]}))
            continue
        else:
            continue
        await carrier.send_text(json.dumps(reply))


async def relay(carrier: WebSocket, agent_url: str, converting: bool) -> None:
    """One call."""
    await carrier.accept()
    start: dict[str, Any] = {}
    while start.get("event") != "start":
        start = json.loads(await carrier.receive_text())
    converter = Converter() if converting else None
    async with connect(agent_url, compression=None, max_size=MAX_MESSAGE_BYTES) as agent:
        await agent.send(json.dumps({"type": "conversation_initiation_client_data"}))
        tasks = [
            asyncio.create_task(caller_to_agent(carrier, agent, converter)),
            asyncio.create_task(agent_to_caller(carrier, agent, start["streamSid"], converter)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    expected = (WebSocketDisconnect, ConnectionClosed, asyncio.CancelledError)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, expected):
            raise result


def build_app(agent_url: str, converting: bool) -> FastAPI:
    """The server."""
    app = FastAPI()

    @app.get("/readyz")
    async def readyz() -> dict[str, bool]:
        return {"ready": True}

    @app.websocket("/twilio/media")
    async def media(carrier: WebSocket) -> None:
        await relay(carrier, agent_url, converting)

    return app


def main(arguments: list[str]) -> None:
    """Serve until stopped."""
    port, agent_port, mode = int(arguments[0]), int(arguments[1]), arguments[2]
    agent_url = f"ws://127.0.0.1:{agent_port}/v1/convai/conversation?agent_id=bench"
    uvicorn.run(
        build_app(agent_url, converting=mode == "convert"),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
