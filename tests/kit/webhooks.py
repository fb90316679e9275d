"""A receiver of webhooks that checks what it gets as a strict customer would, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.auth import webhook

SECRET = "wsec_tests_0123456789abcdef"

MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    chunked: bool

    @property
    def event(self) -> dict[str, Any]:
        """The body as JSON."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def event_id(self) -> str:
        """The id by which a repetition is known."""
        return self.headers["x-bridge-event-id"]

    def problem(self, secret: str = SECRET) -> str:
        """What a strict receiver would object to; empty = nothing."""
        if self.method != "POST":
            return f"method {self.method}"
        refusal = webhook.verify([secret], self.headers.get("elevenlabs-signature"), self.body, time.time())
        if refusal:
            return refusal
        if self.headers.get("content-type") != "application/json":
            return "not application/json"
        if self.headers.get("idempotency-key") != self.headers.get("x-bridge-event-id"):
            return "two ids"
        return shape_problem(self.event)


@dataclass(frozen=True)
class Reply:
    """What the receiver answers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    delay_s: float = 0.0
    """Before the answer; the request has been read by then."""
    raw: bytes | None = None
    """In place of an HTTP answer; empty = the connection is closed without a word."""


Behaviour = Callable[[Received, int], Reply]
"""Request and its number, from 1 -> what is answered."""


def always(status: int = 200, **headers: str) -> Behaviour:
    """The same answer to everything; ``_`` in header names stands for ``-``."""
    reply = Reply(status, {name.replace("_", "-"): value for name, value in headers.items()})
    return lambda _request, _number: reply


class Receiver:
    """An HTTP server on a port of this machine that keeps everything it was sent."""

    def __init__(self, behaviour: Behaviour | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour if behaviour is not None else always()
        self.received: list[Received] = []
        self.taken: list[Received] = []
        """What was answered with a 2xx."""
        self.port = 0
        self._tls = tls
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where to send events."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/hook"

    def problems(self) -> list[str]:
        """Everything that a strict receiver objects to."""
        return [f"{request.event_id}: {problem}" for request in self.received if (problem := request.problem())]

    def events(self, *, taken: bool = True) -> list[tuple[str, str]]:
        """(id, type) of what came, in order."""
        return [(request.event_id, request.event["type"]) for request in (self.taken if taken else self.received)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        self.received.append(request)
        reply = self.behaviour(request, len(self.received))
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return False
        if 200 <= reply.status < 300:
            self.taken.append(request)
        headers = {"content-length": str(len(reply.body)), **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode() + reply.body)
        await writer.drain()
        return True

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@contextlib.asynccontextmanager
async def receiver(
    behaviour: Behaviour | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port (or this one) until the block is left."""
    running = Receiver(behaviour, tls)
    server = await asyncio.start_server(running.serve, "127.0.0.1", port, ssl=tls, limit=MAX_HEAD_BYTES)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        await running.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _version = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    chunked = headers.get("transfer-encoding") == "chunked"
    body = bytearray()
    if chunked:
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body += await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, bytes(body), chunked)


# --- shapes ----------------------------------------------------------------------------------------------

_OWN_TYPES = ("call.started", "call.answered", "call.transferred", "call.ended")


def shape_problem(event: dict[str, Any]) -> str:
    """Compare an event with its documented shape; empty = it fits."""
    kind = event.get("type")
    if not isinstance(event.get("event_timestamp"), int | float):
        return "no event_timestamp"
    data = event.get("data")
    if not isinstance(data, dict):
        return "no data"
    if kind in _OWN_TYPES:
        if set(event) != {"type", "id", "event_timestamp", "sequence", "data"}:
            return f"members of the event: {sorted(event)}"
        missing = {"id", "provider", "direction", "caller", "called", "agent_id", "is_burst", "admission"} - set(data)
        return f"data lacks {sorted(missing)}" if missing else ""
    if set(event) != {"type", "event_timestamp", "data"}:
        return f"members of the event: {sorted(event)}"
    if kind == "post_call_transcription":
        return _transcription_problem(data)
    if kind == "post_call_audio":
        if set(data) != {"agent_id", "conversation_id", "full_audio"}:
            return f"members of the audio event: {sorted(data)}"
        base64.b64decode(data["full_audio"], validate=True)
        return ""
    if kind == "call_initiation_failure":
        if not {"agent_id", "conversation_id", "failure_reason", "metadata"} <= set(data):
            return f"members of the failure: {sorted(data)}"
        if data["failure_reason"] not in ("busy", "no-answer", "unknown"):
            return f"failure_reason {data['failure_reason']}"
        return "" if isinstance(data["metadata"].get("body"), dict) else "no metadata body"
    return f"unknown type {kind}"


def _transcription_problem(data: dict[str, Any]) -> str:
    """Against GetConversationResponseModel of the vendor's API reference."""
    wanted = {
        "agent_id": str,
        "conversation_id": str,
        "status": str,
        "transcript": list,
        "metadata": dict,
        "has_audio": bool,
        "has_user_audio": bool,
        "has_response_audio": bool,
    }
    for name, kind in wanted.items():
        if not isinstance(data.get(name), kind):
            return f"{name} is no {kind.__name__}"
    if data["status"] not in ("initiated", "in-progress", "processing", "done", "failed"):
        return f"status {data['status']}"
    for turn in data["transcript"]:
        if turn.get("role") not in ("user", "agent") or not isinstance(turn.get("time_in_call_secs"), int):
            return "a turn without role or time"
    for name in ("start_time_unix_secs", "call_duration_secs"):
        if not isinstance(data["metadata"].get(name), int):
            return f"metadata.{name} is no integer"
    return ""
