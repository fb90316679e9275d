"""Who may open a media socket."""

from __future__ import annotations

from bridge.auth.vonage import sign_request
from bridge.leg import AuthContext, UpgradeRequest
from bridge.providers.vonage_upgrade import UpgradeVerifier

NOW = 1_760_000_000.0


def context(unix_s: float = NOW, **secrets: tuple[str, ...]) -> AuthContext:
    return AuthContext("https://bridge.example", {"vonage_signature_secret": ("old", "s"), **secrets}, unix_s)


def request(secret: str = "s", jti: str = "j1", application_id: str = "") -> UpgradeRequest:
    value = sign_request(secret, iat_s=int(NOW), jti=jti, application_id=application_id)
    return UpgradeRequest("/vonage/media", {"authorization": value})


def test_a_token_opens_one_socket() -> None:
    verify = UpgradeVerifier()
    assert verify(request(), context()) == ""
    assert verify(request(), context()) == "token used before"
    assert verify(request(jti="j2"), context()) == ""
    assert UpgradeVerifier()(request(), context()) == ""


def test_a_forged_token_opens_none_and_uses_up_no_id() -> None:
    verify = UpgradeVerifier()
    problem = "the token's signature does not match; is VONAGE_SIGNATURE_SECRET the account's?"
    assert verify(request("other"), context()) == problem
    assert verify(request(), context()) == ""


def test_an_expired_token_opens_none() -> None:
    problem = "the token is too old; is this machine's clock right?"
    assert UpgradeVerifier()(request(), context(NOW + 331)) == problem


def test_without_a_secret_nobody_is_let_in() -> None:
    problem = "VONAGE_SIGNATURE_SECRET is not set, so nothing can be verified"
    assert UpgradeVerifier()(request(), AuthContext("https://bridge.example", {}, NOW)) == problem


def test_another_application_is_not_let_in() -> None:
    ours = context(vonage_application_id=("app-1",))
    assert UpgradeVerifier()(request(application_id="app-1"), ours) == ""
    problem = "the token's application_id is not VONAGE_APPLICATION_ID"
    assert UpgradeVerifier()(request(application_id="app-2"), ours) == problem
