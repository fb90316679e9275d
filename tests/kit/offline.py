"""A bridge without a port: its HTTP side is asked directly, and its agents cannot be reached."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from bridge.server.app import create_app
from bridge.server.convai_client import AgentClient
from bridge.server.service import Bridge
from tests.kit.server import AUTH_TOKEN, settings_for


def offline_bridge(**settings: str) -> Bridge:
    """A bridge with these settings; nothing of it is connected to anything."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: httpx.Response(503)))
    given = {"TWILIO_AUTH_TOKEN": AUTH_TOKEN, "ELEVENLABS_AGENT_ID": "agent_1", **settings}
    chosen = settings_for({name: value for name, value in given.items() if value})
    return Bridge(chosen, AgentClient(chosen, http, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))


@dataclass
class Asked:
    """A bridge and a client that asks its application."""

    bridge: Bridge
    client: httpx.AsyncClient


@contextlib.asynccontextmanager
async def asked(**settings: str) -> AsyncIterator[Asked]:
    """A bridge whose application can be asked. An exception in a handler fails the test."""
    bridge = offline_bridge(**settings)
    transport = httpx.ASGITransport(create_app(bridge))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield Asked(bridge, client)
