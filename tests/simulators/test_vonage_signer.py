"""``bridge.simulators.vonage_signer`` and ``bridge.auth``: written apart, they must agree."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bridge.auth.vonage import VonageKeys, verify_webhook
from bridge.auth.vonage_application import sign_application_token
from bridge.simulators.vonage_signer import ApplicationTokens, Forgery, Signer, TokenError

NOW = 1_760_000_000.0
APPLICATION = "78d335fa-323d-0114-9c3d-d6f0d48968cf"
KEY = rsa.generate_private_key(65537, 2048)
KEYS = VonageKeys(("secret",), APPLICATION, require_payload_hash=True)
BODY = b'{"uuid":"u1"}'


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def signer(forgery: Forgery = Forgery.NONE, secret: str = "secret") -> Signer:
    return Signer(secret=secret, application_id=APPLICATION, forgery=forgery, unix=lambda: NOW)


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_the_bridge_takes_what_is_signed_well() -> None:
    headers = signer().headers(BODY)
    assert verify_webhook(KEYS, lower(headers), BODY, NOW).problem == ""
    header, claims, _ = headers["Authorization"].removeprefix("Bearer ").split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "typ": "JWT"}
    read = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert len(read.pop("jti")) == 36
    assert read == {
        "iat": 1_760_000_000,
        "iss": "Vonage",
        "api_key": "simulated",
        "application_id": APPLICATION,
        "payload_hash": hashlib.sha256(BODY).hexdigest(),
    }


@pytest.mark.parametrize("forgery", [item for item in Forgery if item not in (Forgery.NONE, Forgery.REPLAY)])
def test_the_bridge_takes_nothing_else(forgery: Forgery) -> None:
    assert verify_webhook(KEYS, lower(signer(forgery).headers(BODY)), BODY, NOW).problem


def test_a_replay_has_the_same_id_every_time() -> None:
    first, second = (verify_webhook(KEYS, lower(signer(Forgery.REPLAY).headers()), b"", NOW) for _ in range(2))
    assert (first.problem, first.jti) == ("", second.jti)
    assert verify_webhook(KEYS, lower(signer().headers()), b"", NOW).jti != first.jti


def test_without_a_secret_nothing_is_signed() -> None:
    assert signer(secret="").headers(BODY) == {}


def test_an_application_token_of_the_bridge_opens_the_interface() -> None:
    token = sign_application_token(KEY, APPLICATION, iat_s=int(NOW), jti="j1")
    tokens = ApplicationTokens(pem(KEY), APPLICATION, lambda: NOW)
    tokens.check(f"Bearer {token}")
    for authorization, other in (
        ("", tokens),
        ("Bearer a.b", tokens),
        ("Bearer a.b.c", tokens),
        (f"Basic {token}", tokens),
        (f"Bearer {token[:-6]}AAAAAA", tokens),
        (signer().headers()["Authorization"], tokens),
        (f"Bearer {token}", ApplicationTokens(pem(KEY), "another", lambda: NOW)),
        (f"Bearer {token}", ApplicationTokens(pem(KEY), APPLICATION, lambda: NOW + 901)),
        (f"Bearer {token}", ApplicationTokens(pem(KEY), APPLICATION, lambda: NOW - 61)),
    ):
        with pytest.raises(TokenError):
            other.check(authorization)


def test_only_rsa_keys() -> None:
    with pytest.raises(ValueError, match="the public key is no RSA key"):
        ApplicationTokens(pem(ec.generate_private_key(ec.SECP256R1())), APPLICATION)
