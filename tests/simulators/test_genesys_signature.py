"""The signing side, against the vendor's test vector and against an independent library."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms

from bridge.simulators.genesys_signature import (
    PRODUCTION_ORDER,
    REFERENCE_ORDER,
    Key,
    decode_secret,
    sign_upgrade,
    target_and_authority,
)

API_KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="
VALUES = {
    "@request-target": "/api/v1/voicebiometrics/ws",
    "@authority": "audiohook.example.com",
    "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
    "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
    "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "x-api-key": API_KEY,
}
KEY = Key(API_KEY, decode_secret(SECRET))


@dataclass
class Request:
    """What the library reads of a request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Resolver(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id: str) -> bytes:
        assert key_id == API_KEY
        return base64.b64decode(SECRET)


def test_the_vendors_vector() -> None:
    headers = sign_upgrade(
        VALUES,
        KEY,
        nonce="VGhpc0lzQVVuaXF1ZU5vbmNl",
        created_s=1641013200,
        expires_s=3282026430,
        order=REFERENCE_ORDER,
    )
    assert headers == {
        "Signature-Input": 'sig1=("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" '
        '"audiohook-correlation-id" "x-api-key");keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";'
        'nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256";created=1641013200;expires=3282026430',
        "Signature": "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:",
    }


@pytest.mark.parametrize("order", [REFERENCE_ORDER, PRODUCTION_ORDER])
@pytest.mark.parametrize("url", ["wss://bridge.example.com/genesys/agent_1?a=b%20c", "ws://127.0.0.1:8080/x"])
def test_an_independent_library_verifies_it(order: tuple[str, ...], url: str) -> None:
    target, authority = target_and_authority(url)
    values = {**VALUES, "@request-target": target, "@authority": authority}
    created_s = int(time.time())
    signature = sign_upgrade(values, KEY, nonce="bm9uY2Vub25jZW5vbmNlMTI=", created_s=created_s, order=order)
    headers = {name: value for name, value in VALUES.items() if not name.startswith("@")}
    request = Request("GET", "http" + url.removeprefix("ws"), {**headers, "host": authority, **signature})
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Resolver())
    [result] = verifier.verify(request, max_age=None)
    assert set(result.covered_components) == {*(f'"{name}"' for name in order), '"@signature-params"'}
    assert result.parameters["expires"] == created_s + 30


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("wss://Bridge.Example.com:443/g/a?x=1&y=%2F", "/g/a?x=1&y=%2F", "bridge.example.com"),
        ("wss://bridge.example.com:8443/g", "/g", "bridge.example.com:8443"),
        ("ws://127.0.0.1:80", "/", "127.0.0.1"),
        ("ws://127.0.0.1:443/", "/", "127.0.0.1:443"),
        ("https://user:pass@h/", "/", "h"),
    ],
)
def test_target_and_authority(url: str, target: str, authority: str) -> None:
    assert target_and_authority(url) == (target, authority)


def test_a_secret_may_lack_its_padding() -> None:
    assert decode_secret(SECRET.rstrip("=")) == base64.b64decode(SECRET)


@pytest.mark.parametrize("text", ["not base64!", "", "a", "\u00e4\u00e4"])
def test_a_secret_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="^the client secret is not base64$"):
        decode_secret(text)
