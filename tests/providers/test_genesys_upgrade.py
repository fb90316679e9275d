"""The carrier's verifier: which secrets it reads, and that it remembers nonces."""

from __future__ import annotations

from bridge.auth.genesys import sign_upgrade
from bridge.leg import AuthContext, UpgradeRequest
from bridge.providers.genesys import SPEC
from bridge.providers.genesys_upgrade import UpgradeVerifier
from tests.kit.genesys import HEADERS, ORGANIZATION_ID, REQUEST

SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="
SECRETS = {
    "genesys_api_key": ("old", HEADERS["x-api-key"]),
    "genesys_client_secret": (SECRET,),
    "genesys_organization_id": (ORGANIZATION_ID,),
}


def context(**changes: tuple[str, ...]) -> AuthContext:
    return AuthContext("https://audiohook.example.com", SECRETS | changes, 1000.0)


def signed() -> UpgradeRequest:
    headers = sign_upgrade(
        SECRET, HEADERS["host"], REQUEST.raw_path, HEADERS, nonce="n" * 24, created_s=1000, expires_s=1030
    )
    return UpgradeRequest(REQUEST.raw_path, HEADERS | headers)


def test_the_secrets_are_taken_by_their_settings() -> None:
    assert UpgradeVerifier()(signed(), context()) == ""
    assert UpgradeVerifier()(signed(), context(genesys_api_key=())) == "GENESYS_API_KEY is not set, so nobody is let in"
    assert UpgradeVerifier()(REQUEST, context()) == "not signed although GENESYS_CLIENT_SECRET is set"
    assert UpgradeVerifier()(REQUEST, context(genesys_client_secret=())) == ""
    assert UpgradeVerifier()(signed(), context(genesys_organization_id=("x",))) == (
        "the organization is not one of GENESYS_ORGANIZATION_ID"
    )
    assert UpgradeVerifier()(REQUEST, AuthContext("https://a", {}, 0.0)) == (
        "GENESYS_API_KEY is not set, so nobody is let in"
    )


def test_a_request_works_once() -> None:
    verifier = UpgradeVerifier()
    assert verifier(signed(), context()) == ""
    assert verifier(signed(), context()) == "nonce used before"
    assert isinstance(SPEC.authenticate_upgrade, UpgradeVerifier)
