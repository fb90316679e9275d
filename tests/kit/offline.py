"""A bridge without a port: its HTTP side is asked directly, and what its agents answer is up to the test."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx

from bridge.calls.record import CallRecord, OutboxEvent, decode, encode
from bridge.calls.routing import RoutingTable
from bridge.server.app import create_app
from bridge.server.parts import Events, event_options, local_parts, open_parts
from bridge.server.service import Bridge
from tests.kit.server import AUTH_TOKEN, settings_for

Answer = Callable[[httpx.Request], httpx.Response]
"""What everybody answers whom the bridge asks by HTTP: the vendor's interface, the personalization webhook."""


class Records:
    """A ``RecordSink`` that keeps every version that it was given, as it was at that moment."""

    def __init__(self) -> None:
        self.puts: list[tuple[CallRecord, tuple[OutboxEvent, ...]]] = []

    def put(self, record: CallRecord, events: Sequence[OutboxEvent]) -> None:
        """See ``RecordSink``."""
        self.puts.append((decode(encode(record)), tuple(events)))

    @property
    def last(self) -> CallRecord:
        """The latest version of whichever call."""
        return self.puts[-1][0]

    @property
    def states(self) -> list[str]:
        """The states of all versions, in order."""
        return [version.state for version, _ in self.puts]

    @property
    def events(self) -> list[str]:
        """The types of all events, in order."""
        return [event.type for _, events in self.puts for event in events]


def unavailable(_request: httpx.Request) -> httpx.Response:
    """The answer of everybody unless a test says otherwise."""
    return httpx.Response(503)


def _unread(response: httpx.Response) -> httpx.Response:
    """The response as a network gives it: its body is still to be read."""

    async def body() -> AsyncIterator[bytes]:
        yield response.content

    return httpx.Response(response.status_code, headers=response.headers, content=body())


def offline_bridge(
    given: Mapping[str, str] | None = None,
    /,
    *,
    routing: RoutingTable | None = None,
    answer: Answer = unavailable,
    **settings: str,
) -> Bridge:
    """A bridge with these settings; nothing of it is connected to anything. ``records_of`` has what it wrote down."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: _unread(answer(request))))
    wanted = {"TWILIO_AUTH_TOKEN": AUTH_TOKEN, "ELEVENLABS_AGENT_ID": "agent_1", **(given or {}), **settings}
    chosen = settings_for({name: value for name, value in wanted.items() if value})
    parts = local_parts(chosen, http, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    parts.records = Records()
    return Bridge(chosen, routing or RoutingTable(), parts, Events(event_options(chosen)))


@contextlib.asynccontextmanager
async def keeping_bridge(
    folder: Path, given: Mapping[str, str] | None = None, /, *, answer: Answer = unavailable, **settings: str
) -> AsyncIterator[Bridge]:
    """A bridge without a port, but with all its parts running: it keeps records and recordings in ``folder``."""
    wanted = {"TWILIO_AUTH_TOKEN": AUTH_TOKEN, "ELEVENLABS_AGENT_ID": "agent_1", "DATA_DIR": str(folder)}
    chosen = settings_for({name: value for name, value in {**wanted, **(given or {}), **settings}.items() if value})
    events = Events(event_options(chosen))
    transport = httpx.MockTransport(lambda request: _unread(answer(request)))
    async with (
        httpx.AsyncClient(transport=transport) as http,
        open_parts(chosen, http, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), events) as parts,
    ):
        yield Bridge(chosen, RoutingTable(), parts, events)


def records_of(bridge: Bridge) -> Records:
    """What an offline bridge wrote down."""
    return cast(Records, bridge.parts.records)


@dataclass
class Asked:
    """A bridge and a client that asks its application."""

    bridge: Bridge
    client: httpx.AsyncClient


@contextlib.asynccontextmanager
async def asked(**settings: str) -> AsyncIterator[Asked]:
    """A bridge whose application can be asked. An exception in a handler fails the test."""
    bridge = offline_bridge(settings)
    transport = httpx.ASGITransport(create_app(bridge))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield Asked(bridge, client)
