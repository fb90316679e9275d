"""Vonage's webhooks as tests send them: signed, by GET or POST, to a bridge without a port."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from bridge.auth.vonage import sign_request
from bridge.server.app import create_app
from bridge.server.service import Bridge
from bridge.server.vonage_control import VonageControl, VonageControlOptions
from tests.kit.offline import offline_bridge
from tests.kit.vonage_api import FakeApi

PUBLIC = "https://bridge.example.com"
SECRET = "the-signature-secret-of-the-account"
LEG = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
SOCKET_LEG = "bbbbbbbb-cccc-dddd-eeee-0123456789ab"
REGION = "https://api-eu-3.vonage.com"
SETTINGS = {"PUBLIC_URL": PUBLIC, "VONAGE_SIGNATURE_SECRET": SECRET}
CALL = {
    "from": "447700900000",
    "to": "447700900001",
    "uuid": LEG,
    "conversation_uuid": "CON-1",
    "region_url": REGION,
}
"""The fields of an answer webhook."""


def report(status: str, leg: str = LEG, **fields: object) -> dict[str, object]:
    """The fields of an event webhook."""
    return {"status": status, "uuid": leg, "conversation_uuid": "CON-1", "timestamp": "2026-11-21T08:00:00Z", **fields}


@dataclass
class Vonage:
    """Vonage, a bridge, and what the bridge asks of Vonage."""

    bridge: Bridge
    client: httpx.AsyncClient
    api: FakeApi

    async def post(
        self, path: str, fields: object, *, token: str | None = None, body: bytes | None = None
    ) -> httpx.Response:
        """A signed webhook; ``token`` takes the place of its Authorization header, ``body`` of its body."""
        signed = json.dumps(fields).encode()
        header = sign(signed) if token is None else token
        headers = {"Content-Type": "application/json", **({"Authorization": header} if header else {})}
        return await self.client.post(path, content=signed if body is None else body, headers=headers)

    async def get(self, path: str, fields: dict[str, str], *, token: str | None = None) -> httpx.Response:
        """The same by GET."""
        header = sign() if token is None else token
        joint = "&" if "?" in path else "?"
        return await self.client.get(f"{path}{joint}{urlencode(fields)}", headers={"Authorization": header})

    async def answered(self, path: str = "/vonage/answer", **fields: object) -> Any:
        """The NCCO of an answer webhook."""
        response = await self.post(path, {**CALL, **fields})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    @property
    def refused(self) -> float:
        """Webhooks that were refused so far."""
        return float(self.bridge.metrics.refused.labels("vonage_webhook")._value.get())


def sign(body: bytes = b"", *, secret: str = SECRET, age_s: float = 0.0, jti: str = "", application: str = "") -> str:
    """An Authorization header of Vonage's."""
    iat_s, new_jti = int(time.time() - age_s), jti or str(uuid.uuid4())
    return sign_request(secret, iat_s=iat_s, jti=new_jti, application_id=application, body=body)


@contextlib.asynccontextmanager
async def vonage(
    *answers: httpx.Response | Exception, bridge: Bridge | None = None, **settings: str
) -> AsyncIterator[Vonage]:
    """A bridge that Vonage can ask, and that gets these answers from Vonage."""
    chosen = bridge or offline_bridge({**SETTINGS, **settings})
    api = FakeApi(list(answers))
    chosen.parts.controls["vonage"] = VonageControl(api.rest(), VonageControlOptions(PUBLIC))
    transport = httpx.ASGITransport(create_app(chosen))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield Vonage(chosen, client, api)
    await chosen.outbound.close()


def socket_of(ncco: Any) -> dict[str, Any]:
    """The endpoint of a document that connects the call to our media socket, and nothing else."""
    [connect] = ncco
    assert connect["action"] == "connect"
    [endpoint] = connect["endpoint"]
    assert endpoint["type"] == "websocket"
    return dict(endpoint)
