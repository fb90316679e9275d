"""Vonage calls a bridge that listens: the strict simulated client and cloud, with the keys that the tests use."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.twilio_line import WaitForClose
from bridge.simulators.twilio_person import PersonScript
from bridge.simulators.vonage_caller import VonageCall, VonageCallOptions
from bridge.simulators.vonage_cloud import VonageCloud, running_vonage
from bridge.simulators.vonage_cloud_options import VonageOptions
from bridge.simulators.vonage_leg import Leg
from bridge.simulators.vonage_result import VonageResult
from tests.kit.server import Place, RunningBridge, Start, free_port

APPLICATION = "78d335fa-323d-0114-9c3d-d6f0d48968cf"
SECRET = "simulated-signature-secret-of-vonage"
OURS, CALLER, HUMAN = "15550199", "15550100", "15550123"
PUBLIC = "https://bridge.example.com"

OPEN: Any = {"BRIDGE_AUTH": "off"}
"""Settings of a bridge that lets everybody in."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An application's."""

    private_pem: str
    public_pem: str


@functools.cache
def key_pair() -> KeyPair:
    """One for all tests: making one takes a while."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(private.decode(), public.decode())


async def dial(at: Place, *actions: AnyAction, query: str = "", **more: Any) -> VonageResult:
    """Call the media socket, to the call's end; the caller waits for the other side unless told otherwise."""
    to = f"{at.http_url.replace('http', 'ws', 1)}/vonage/media{query}"
    given = {"max_duration_s": 30.0, **more}
    return await VonageCall(VonageCallOptions(to=to, actions=actions or (WaitForClose(),), **given)).run()


@dataclass(frozen=True, slots=True)
class Wired:
    """A Vonage and a bridge that know each other."""

    cloud: VonageCloud
    at: RunningBridge

    def call(self, *actions: AnyAction, **more: Any) -> Leg:
        """Somebody calls the bridge's number."""
        script = PersonScript(actions=actions or (WaitForClose(),))
        return self.cloud.incoming(CALLER, OURS, f"{PUBLIC}/vonage/answer", script, **more)


@asynccontextmanager
async def wired(
    start: Start, scenario: Any, *, cloud: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Wired]:
    """Start both, with every signature on."""
    port = free_port()
    pair = key_pair()
    options = {
        "application_id": APPLICATION,
        "public_key_pem": pair.public_pem,
        "signature_secret": SECRET,
        "event_url": f"{PUBLIC}/vonage/events",
        "public_url": PUBLIC,
        "reach_url": f"http://127.0.0.1:{port}",
        "region_url": "",
        "talk_ms_per_char": 10.0,
        **(cloud or {}),
    }
    async with running_vonage(VonageOptions(**options)) as vonage:
        at = await start(
            scenario,
            **{
                "BRIDGE_PORT": str(port),
                "PUBLIC_URL": PUBLIC,
                "VONAGE_APPLICATION_ID": APPLICATION,
                "VONAGE_PRIVATE_KEY": pair.private_pem,
                "VONAGE_SIGNATURE_SECRET": SECRET,
                "VONAGE_API_BASE_URL": vonage.base_url,
                **settings,
            },
        )
        yield Wired(vonage, at)
