"""What stays out of flight records, in JSON, in broken JSON, in addresses and headers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.flight_file import FlightRequest
from bridge.calls.flight_privacy import ELIDED, Privacy, is_blanked

SECRET = "s3cr3t-value-0123456789"


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "Authorization",
        "api_key",
        "xi-api-key",
        "client_secret",
        "signature",
        "signed_url",
        "secret__crm",
        "jwt",
    ],
)
@pytest.mark.parametrize("cut", [0, 1])
def test_secrets_go_by_their_name_at_any_depth(name: str, cut: int) -> None:
    text = json.dumps({"start": {"customParameters": [{name: SECRET, "shop": "north"}]}})
    cleaned = Privacy().text(text[: len(text) - cut])
    assert SECRET not in cleaned
    assert ELIDED in cleaned
    assert "north" in cleaned
    assert is_blanked(cleaned)


def test_keys_go_by_their_looks() -> None:
    cleaned = Privacy().text('{"note":"use sk_0123456789abcdef","head":"Bearer abcdefgh.ijkl-mnop"}')
    assert json.loads(cleaned) == {"note": f"use {ELIDED}", "head": ELIDED}
    assert Privacy().text("sk_0123456789abcdef") == ELIDED


def test_what_needs_no_cleaning_stays_to_the_letter() -> None:
    for text in ('{ "a" :1.50,"digit":"5" }', "", "plain words", "{broken", '{"token":""}', '["x"]', '{"token":5}'):
        assert Privacy().text(text) == text
        assert not is_blanked(text)


@pytest.mark.parametrize("cut", [0, 1])
def test_pressed_keys_stay_out_when_they_must(cut: int) -> None:
    text = '{"event":"dtmf","dtmf":{"digit":"7","track":"in"},"tones":{"dtmf_tones":"7w7#"}}'
    shown = Privacy().text(text[: len(text) - cut])
    hidden = Privacy(digits=True).text(text[: len(text) - cut])
    assert "7" in shown
    assert "7" not in hidden
    assert '"digit":"0"' in hidden
    if not cut:
        assert json.loads(hidden)["tones"] == {"dtmf_tones": "0000"}


def test_numbers_are_masked_when_they_must() -> None:
    privacy = Privacy(numbers=True, known=("03012345678",))
    cleaned = privacy.text('{"caller":"+4930123456","said":"call 03012345678 or sip:alice@example.com"}')
    assert json.loads(cleaned) == {"caller": "+***456", "said": "call ***678 or sip:***ce@example.com"}
    assert privacy.text("from +4930123456") == "from +***456"
    assert Privacy().text("from +4930123456") == "from +4930123456"


def test_members_and_structs() -> None:
    assert Privacy(digits=True).members({"digit": "4", "source": "event"}) == {"digit": "0", "source": "event"}
    request = FlightRequest("/x", {"audiohook-session-id": "1"}, {"agent_id": "+4930123456"})
    assert Privacy(numbers=True).clean(request, FlightRequest).path_values == {"agent_id": "+***456"}


def test_addresses_and_headers_of_requests() -> None:
    privacy = Privacy()
    assert privacy.path("/media?a=1&token=abc&b=2&signature=x") == f"/media?a=1&token={ELIDED}&b=2&signature={ELIDED}"
    given_headers = {"X-API-Key": SECRET, "Signature": SECRET, "Audiohook-Session-Id": "s1", "Cookie": SECRET}
    assert privacy.headers(given_headers) == {"audiohook-session-id": "s1"}


@given(st.text(), st.booleans(), st.booleans())
def test_any_text_is_taken(text: str, digits: bool, numbers: bool) -> None:
    Privacy(digits, numbers).text(text)
    Privacy(digits, numbers).text("{" + text)


def test_json_nested_beyond_reason() -> None:
    text = "[" * 100_000
    assert Privacy(digits=True, numbers=True).text(text) == text
