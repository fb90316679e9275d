from __future__ import annotations

import pytest
from twilio.request_validator import RequestValidator

from bridge.auth.twilio import TwilioKeys, verify_upgrade, verify_webhook
from bridge.simulators.twilio_signer import Signer

URL = "https://pbx.example.com/twilio/voice?x=1&y=%2F"
FORM = {"To": "+15550199", "CallerCity": "", "From": "+1 555", "Name": "Zoë & co"}


@pytest.mark.parametrize("form", [FORM, {}])
def test_the_sdk_accepts_what_the_auth_token_signs(form: dict[str, str]) -> None:
    headers = Signer("token").webhook(URL, form)
    assert list(headers) == ["X-Twilio-Signature"]
    assert RequestValidator("token").validate(URL, form, headers["X-Twilio-Signature"])
    assert not RequestValidator("other").validate(URL, form, headers["X-Twilio-Signature"])


def test_a_shared_key_names_itself_and_our_verifier_takes_it() -> None:
    headers = Signer("token", ("key-1", "secret")).webhook(URL, FORM)
    assert headers["X-Twilio-Webhooks-Signature-Settings"] == "key=key-1,algorithm=HMAC_SHA256"
    keys = TwilioKeys((), {"key-1": "secret"})
    lower = {name.lower(): value for name, value in headers.items()}
    assert verify_webhook(keys, URL, tuple(FORM.items()), b"x", lower) == ""
    assert verify_webhook(TwilioKeys((), {"key-1": "other"}), URL, tuple(FORM.items()), b"x", lower) != ""


def test_upgrades_are_signed_with_the_auth_token() -> None:
    url = "wss://pbx.example.com/twilio/media"
    headers = Signer("token", ("key-1", "secret")).upgrade(url)
    assert verify_upgrade(TwilioKeys(("token",)), url, {"x-twilio-signature": headers["X-Twilio-Signature"]}) == ""


def test_without_a_token_nothing_is_signed_and_no_secret_is_shown() -> None:
    assert Signer("").webhook(URL, FORM) == {} and Signer("").upgrade("wss://a/") == {}
    assert "token" not in repr(Signer("token")).replace("auth_token", "") and "secret" not in repr(
        Signer("t", ("k", "secret"))
    )
