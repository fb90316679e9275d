"""Twilio's signature: everything the vendor's signer makes is let in, everything else is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from bridge.auth.twilio import (
    TwilioKeys,
    parse_shared_keys,
    parse_subaccount_tokens,
    sign_upgrade,
    sign_webhook,
    verify_upgrade,
    verify_webhook,
)

TOKEN = "12345678901234567890123456789012"
KEYS = TwilioKeys((TOKEN,))
SHARED = TwilioKeys((TOKEN,), {"webhooks_sharedkey_1": "shared-secret", "webhooks_sharedkey_2": "another"})
URL = "https://bridge.example.com/twilio/voice"
WSS = "wss://bridge.example.com/twilio/media"
FORM = [
    ("CallSid", "CA00000000000000000000000000000001"),
    ("From", "+14155550100"),
    ("To", "+18005551212"),
    ("CallerCity", ""),
    ("CallStatus", "ringing"),
]
NO_MATCH = "is PUBLIC_URL what Twilio was told?"


class Multi:
    """Form parameters as the vendor's signer takes them when a name is repeated."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __iter__(self) -> Any:
        return (name for name, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def getall(self, wanted: str) -> list[str]:
        return [value for name, value in self._pairs if name == wanted]


def vendor_signature(url: str, form: list[tuple[str, str]] | None = None, token: str = TOKEN) -> str:
    signature = RequestValidator(token).compute_signature(url, Multi(form or []))
    assert isinstance(signature, str)
    return signature


def signed(signature: str, settings: str | None = None) -> dict[str, str]:
    headers = {"x-twilio-signature": signature}
    return headers if settings is None else {**headers, "x-twilio-webhooks-signature-settings": settings}


def sha256_signature(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


# --- webhooks ----------------------------------------------------------------------------------------------


def test_the_example_of_twilios_own_documentation() -> None:
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    form = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+12349013030"),
        ("Digits", "1234"),
        ("From", "+12349013030"),
        ("To", "+18005551212"),
    ]
    keys = TwilioKeys(("12345",))
    assert sign_webhook("12345", url, form) == "0/KCTR6DLpKmkAf8muzZqo1nDgQ="
    assert verify_webhook(keys, url, form, b"", signed("0/KCTR6DLpKmkAf8muzZqo1nDgQ=")) == ""


@pytest.mark.parametrize("form", [FORM, FORM[::-1], [*FORM, *FORM], [], [("a", "2"), ("a", "1"), ("a", "2")]])
@pytest.mark.parametrize("query", ["", "?a=1&b=%2F", "?a=", "?"])
@pytest.mark.parametrize("host", ["bridge.example.com", "127.0.0.1", "[2001:db8::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_the_vendor_signs_is_genuine(scheme: str, host: str, query: str, form: list[tuple[str, str]]) -> None:
    url = f"{scheme}://{host}/twilio/voice{query}"
    signature = vendor_signature(url, form)
    assert sign_webhook(TOKEN, url, form) == signature
    assert verify_webhook(KEYS, url, form, b"", signed(signature)) == ""


@pytest.mark.parametrize(
    ("public", "as_signed"),
    [
        ("https://h.example/v", "https://h.example:443/v"),
        ("https://h.example:443/v", "https://h.example/v"),
        ("http://h.example/v", "http://h.example:80/v"),
        ("http://h.example:80/v", "http://h.example/v"),
        ("https://h.example:8443/v", "https://h.example/v"),
        ("https://h.example:8443/v", "https://h.example:8443/v"),
        ("HTTPS://h.example/v", "HTTPS://h.example:443/v"),
        ("https://[2001:db8::1]/v", "https://[2001:db8::1]:443/v"),
        ("https://[2001:db8::1]:443/v", "https://[2001:db8::1]/v"),
        ("https://[2001:db8::1]:8443/v?q=1", "https://[2001:db8::1]/v?q=1"),
        ("https://me:1234@h.example:443/v", "https://me:1234@h.example/v"),
        ("https://me:1234@h.example/v", "https://me:1234@h.example:443/v"),
        ("https://h.example:443", "https://h.example"),
    ],
)
def test_the_port_may_be_written_or_not(public: str, as_signed: str) -> None:
    assert verify_webhook(KEYS, public, FORM, b"", signed(vendor_signature(as_signed, FORM))) == ""


@pytest.mark.parametrize(
    "as_signed",
    [
        "http://bridge.example.com/twilio/voice",
        "https://bridge.example.com:80/twilio/voice",
        "https://bridge.example.com:8443/twilio/voice",
        "https://bridge.example.com/twilio/voice/",
        "https://bridge.example.com/twilio/voice?a=1",
        "https://other.example.com/twilio/voice",
    ],
)
def test_a_signature_for_another_url_is_refused(as_signed: str) -> None:
    reason = verify_webhook(KEYS, URL, FORM, b"", signed(vendor_signature(as_signed, FORM)))
    assert reason == f"signature does not match for URL {URL}; {NO_MATCH}"


@pytest.mark.parametrize(
    "form",
    [FORM[:-1], [*FORM, ("Extra", "1")], [(n, v + "0") if n == "From" else (n, v) for n, v in FORM]],
)
def test_a_changed_form_is_refused(form: list[tuple[str, str]]) -> None:
    assert NO_MATCH in verify_webhook(KEYS, URL, form, b"", signed(vendor_signature(URL, FORM)))


def test_a_blank_parameter_counts() -> None:
    blank = [("A", "1"), ("B", "")]
    assert verify_webhook(KEYS, URL, blank, b"A=1&B=", signed(vendor_signature(URL, blank))) == ""
    assert NO_MATCH in verify_webhook(KEYS, URL, blank[:1], b"A=1", signed(vendor_signature(URL, blank)))


@pytest.mark.parametrize("headers", [{}, {"x-twilio-signature": ""}, {"x-twilio-signature": "  "}])
def test_a_missing_signature_is_a_refusal_and_no_crash(headers: dict[str, str]) -> None:
    assert verify_webhook(KEYS, URL, FORM, b"", headers) == "no X-Twilio-Signature header"
    assert verify_upgrade(KEYS, WSS, headers) == "no X-Twilio-Signature header"


def test_any_token_of_the_ring_opens_while_it_is_rotated() -> None:
    ring = TwilioKeys(("new-token", TOKEN))
    assert verify_webhook(ring, URL, FORM, b"", signed(vendor_signature(URL, FORM))) == ""
    assert verify_webhook(ring, URL, FORM, b"", signed(vendor_signature(URL, FORM, "new-token"))) == ""
    assert NO_MATCH in verify_webhook(ring, URL, FORM, b"", signed(vendor_signature(URL, FORM, "old-token")))


@pytest.mark.parametrize("tokens", [(), ("",), ("", "")])
def test_without_a_token_nothing_opens_not_even_the_empty_key(tokens: tuple[str, ...]) -> None:
    keys = TwilioKeys(tokens)
    reason = "TWILIO_AUTH_TOKEN is not set, so nothing can be verified"
    assert verify_webhook(keys, URL, FORM, b"", signed(vendor_signature(URL, FORM, ""))) == reason
    assert verify_upgrade(keys, WSS, signed(vendor_signature(WSS, None, ""))) == reason


# --- bodies that are no form ---------------------------------------------------------------------------------


def test_a_json_body_is_covered_by_its_hash_in_the_query() -> None:
    body = b'{"status":"completed"}'
    url = f"{URL}?x=1&bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = vendor_signature(url)
    assert RequestValidator(TOKEN).validate(url, body.decode(), signature)
    assert verify_webhook(KEYS, url, [], body, signed(signature)) == ""
    assert verify_webhook(KEYS, url, [], b"{}", signed(signature)) == "the body does not match bodySHA256"
    assert verify_webhook(KEYS, url, [], b"", signed(signature)) == "the body does not match bodySHA256"


def test_a_true_hash_under_a_false_signature_is_refused() -> None:
    url = f"{URL}?bodySHA256={hashlib.sha256(b'{}').hexdigest()}"
    assert NO_MATCH in verify_webhook(KEYS, url, [], b"{}", signed(vendor_signature(URL)))


def test_a_body_that_the_signature_does_not_cover_is_refused() -> None:
    reason = verify_webhook(KEYS, URL, [], b'{"forged":1}', signed(vendor_signature(URL)))
    assert reason == "the body is no form and the URL has no bodySHA256"


# --- shared keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
        " algorithm = hmac_sha256 , key = webhooks_sharedkey_1 , version=2",
    ],
)
def test_a_shared_key_signs_with_sha256(settings: str) -> None:
    text = URL + "".join(name + value for name, value in sorted(FORM))
    headers = signed(sha256_signature("shared-secret", text), settings)
    assert verify_webhook(SHARED, URL, FORM, b"", headers) == ""
    wss = signed(sha256_signature("shared-secret", WSS), settings)
    assert verify_upgrade(SHARED, WSS, wss) == ""


def test_the_vendor_signs_the_same_with_sha256() -> None:
    signature = RequestValidator("shared-secret").compute_signature(URL, dict(FORM), "HMAC_SHA256")
    headers = signed(signature, "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256")
    assert verify_webhook(SHARED, URL, FORM, b"", headers) == ""


def test_the_named_shared_key_must_have_signed() -> None:
    headers = signed(sha256_signature("another", WSS), "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256")
    assert NO_MATCH in verify_upgrade(SHARED, WSS, headers)


@pytest.mark.parametrize("key", ["webhooks_sharedkey_9", ""])
def test_an_unknown_shared_key_is_refused(key: str) -> None:
    headers = signed(sha256_signature("", URL), f"key={key},algorithm=HMAC_SHA256")
    reason = f"signed with the SharedKey '{key}', which is not in TWILIO_SHARED_KEYS"
    assert verify_webhook(SHARED, URL, [], b"", headers) == reason
    assert verify_webhook(KEYS, URL, [], b"", headers) == reason


def test_a_shared_key_with_an_empty_secret_opens_nothing() -> None:
    keys = TwilioKeys((), {"k": ""})
    headers = signed(sha256_signature("", URL), "key=k,algorithm=HMAC_SHA256")
    assert "which is not in TWILIO_SHARED_KEYS" in verify_webhook(keys, URL, [], b"", headers)


def test_an_unknown_algorithm_is_refused() -> None:
    headers = signed(vendor_signature(URL, FORM), "key=webhooks_sharedkey_1,algorithm=HMAC_MD5")
    assert verify_webhook(SHARED, URL, FORM, b"", headers) == "unknown signature algorithm 'HMAC_MD5'"
    assert verify_webhook(KEYS, URL, FORM, b"", headers) == "unknown signature algorithm 'HMAC_MD5'"


@pytest.mark.parametrize("settings", ["nonsense", "key=a,key=b,algorithm=HMAC_SHA256", ","])
def test_settings_that_cannot_be_read_are_refused(settings: str) -> None:
    headers = signed(vendor_signature(URL, FORM), settings)
    reason = f"x-twilio-webhooks-signature-settings cannot be read: '{settings}'"
    assert verify_webhook(KEYS, URL, FORM, b"", headers) == reason


@pytest.mark.parametrize(
    "settings", [None, "", "key=webhooks_sharedkey_1", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA1"]
)
def test_with_shared_keys_the_auth_token_no_longer_signs_webhooks(settings: str | None) -> None:
    headers = signed(vendor_signature(URL, FORM), settings)
    reason = "not signed with a SharedKey although TWILIO_SHARED_KEYS is set"
    assert verify_webhook(SHARED, URL, FORM, b"", headers) == reason
    assert verify_webhook(KEYS, URL, FORM, b"", headers) == ""


def test_with_shared_keys_an_upgrade_without_the_header_is_still_checked_against_the_token() -> None:
    assert verify_upgrade(SHARED, WSS, signed(vendor_signature(WSS))) == ""
    assert NO_MATCH in verify_upgrade(SHARED, WSS, signed(vendor_signature(WSS, None, "wrong")))
    asking = signed(vendor_signature(WSS), "algorithm=HMAC_SHA1")
    assert verify_upgrade(SHARED, WSS, asking) == "not signed with a SharedKey although TWILIO_SHARED_KEYS is set"


def test_shared_keys_are_read_from_pairs() -> None:
    assert parse_shared_keys(["a=1", " b = x=y "]) == {"a": "1", "b": "x=y"}
    assert parse_shared_keys([]) == {}


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (["a=1", "hunter2"], "entry 2 is not of the form id=secret"),
        (["=hunter2"], "entry 1 is not of the form id=secret"),
        (["hunter2="], "entry 1 is not of the form id=secret"),
        (["a=hunter2", "a=hunter3"], "entry 2 repeats the id of an earlier one"),
    ],
)
def test_bad_pairs_are_named_by_place_and_not_quoted(entries: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        parse_shared_keys(entries)


# --- upgrades --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("public", "as_signed"),
    [
        (WSS, WSS),
        (WSS, WSS + "/"),
        (WSS + "/", WSS),
        (WSS, "wss://bridge.example.com:443/twilio/media"),
        (WSS, "wss://bridge.example.com:443/twilio/media/"),
        ("wss://bridge.example.com:443/twilio/media", WSS),
        ("wss://bridge.example.com:8443/twilio/media", WSS),
        ("ws://127.0.0.1:8080/twilio/media", "ws://127.0.0.1:8080/twilio/media/"),
        ("ws://127.0.0.1/twilio/media", "ws://127.0.0.1:80/twilio/media"),
        ("wss://[2001:db8::1]:443/twilio/media", "wss://[2001:db8::1]/twilio/media"),
        ("wss://[2001:db8::1]/twilio/media", "wss://[2001:db8::1]:443/twilio/media"),
        ("wss://h.example/m?a=1", "wss://h.example/m/?a=1"),
    ],
)
def test_an_upgrade_is_signed_for_its_wss_url(public: str, as_signed: str) -> None:
    signature = vendor_signature(as_signed)
    assert sign_upgrade(TOKEN, as_signed) == signature
    assert verify_upgrade(KEYS, public, signed(signature)) == ""


@pytest.mark.parametrize(
    "as_signed",
    [
        "https://bridge.example.com/twilio/media",
        "ws://bridge.example.com/twilio/media",
        "wss://bridge.example.com:80/twilio/media",
        "wss://bridge.example.com/twilio/media//",
        "wss://bridge.example.com/twilio",
        "wss://bridge.example.com/twilio/media?a=1",
    ],
)
def test_an_upgrade_signed_for_something_else_is_refused(as_signed: str) -> None:
    reason = verify_upgrade(KEYS, WSS, signed(vendor_signature(as_signed)))
    assert reason == f"signature does not match for URL {WSS}; {NO_MATCH}"


# --- the matrix: our verifier and the vendor's -----------------------------------------------------------------

HOSTS = ["h.example", "h.example:443", "h.example:80", "h.example:8443", "127.0.0.1:8080"]
PATHS = ["/twilio/voice", "/bridge/eu/twilio/voice", "/a%2Fb/voice", "/caf%C3%A9/voice/", "/~a;b=c/voice", "/v//w", "/"]
QUERIES = ["", "?call=c1", "?id=a%2Bb&x=", "?a=1&a=2", "?q=%C3%A9+x", "?a=b%26c"]
FORMS: list[list[tuple[str, str]]] = [
    [],
    FORM,
    [("Blank", ""), ("A", "")],
    [("A", "2"), ("A", "1"), ("A", "2"), ("B", "x")],
    [("Name", " padded "), ("City", "K\u00f6ln\n"), ("Emoji", "\U0001f600")],
    [("b", "1"), ("B", "2"), ("a", "3"), ("A", "4")],
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("algorithm", ["HMAC_SHA1", "HMAC_SHA256"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_webhooks_are_judged_as_the_vendors_verifier_judges_them(
    scheme: str, algorithm: str, form: list[tuple[str, str]]
) -> None:
    """Each URL as Twilio may have signed it, against each that we may have been told: the same verdicts."""
    secret, settings = TOKEN, None
    if algorithm == "HMAC_SHA256":
        secret, settings = "shared-secret", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    validator = RequestValidator(secret)
    keys = SHARED if settings else KEYS
    for rest in [path + query for path in PATHS for query in QUERIES]:
        for signed_host in HOSTS:
            signature = validator.compute_signature(f"{scheme}://{signed_host}{rest}", Multi(form), algorithm)
            for host in HOSTS:
                url = f"{scheme}://{host}{rest}"
                theirs = validator.validate(url, Multi(form), signature, algorithm)
                ours = verify_webhook(keys, url, form, b"", signed(signature, settings)) == ""
                assert ours == theirs, (url, signed_host)


@pytest.mark.parametrize("body", [b"CallSid=CA1&CallerCity=&A=2&A=1", b"A=%20x%20&B=%C3%B6&C=a+b", b"A=%26%3D%23"])
def test_forms_as_they_are_read_from_the_wire(body: bytes) -> None:
    form = parse_qsl(body.decode(), keep_blank_values=True)
    assert verify_webhook(KEYS, URL, form, body, signed(vendor_signature(URL, form))) == ""


@pytest.mark.parametrize("body", [b"{}", b'{"a": "\xc3\xb6"}', b"[1,2]\n"])
@pytest.mark.parametrize("place", ["?bodySHA256={}", "?a=1&bodySHA256={}", "?bodySHA256={}&a=1"])
def test_json_bodies_are_judged_as_the_vendors_verifier_judges_them(place: str, body: bytes) -> None:
    validator = RequestValidator(TOKEN)
    for covered in (body, b"another"):
        url = URL + place.format(hashlib.sha256(covered).hexdigest())
        for signature in (vendor_signature(url), vendor_signature(URL)):
            theirs = validator.validate(url, body.decode(), signature)
            assert (verify_webhook(KEYS, url, [], body, signed(signature)) == "") == theirs


@pytest.mark.parametrize(
    ("public", "as_signed"),
    [
        # It takes 80 for the port of wss.
        (WSS, "wss://bridge.example.com:443/twilio/media"),
        # It does not know that Twilio may sign an upgrade with a slash more or less.
        (WSS, WSS + "/"),
        (WSS + "/", WSS),
        ("wss://bridge.example.com/p/twilio/media", "wss://bridge.example.com:443/p/twilio/media/"),
        # It cuts the host at its first colon.
        ("wss://[2001:db8::1]:443/twilio/media", "wss://[2001:db8::1]/twilio/media"),
        ("https://[2001:db8::1]:8443/v", "https://[2001:db8::1]/v"),
        ("https://me:pw@h.example:443/v", "https://me:pw@h.example/v"),
        # It writes the URL anew, which loses an empty query and the scheme's capitals.
        ("https://h.example/v?", "https://h.example/v?"),
        ("HTTPS://h.example/v", "HTTPS://h.example/v"),
    ],
)
def test_what_the_vendors_verifier_gets_wrong_is_let_in(public: str, as_signed: str) -> None:
    signature = vendor_signature(as_signed)
    assert not RequestValidator(TOKEN).validate(public, {}, signature)
    if public.startswith("wss"):
        assert verify_upgrade(KEYS, public, signed(signature)) == ""
    else:
        assert verify_webhook(KEYS, public, [], b"", signed(signature)) == ""


@pytest.mark.parametrize(
    ("public", "as_signed"),
    [
        ("wss://bridge.example.com/twilio/media", "wss://bridge.example.com:80/twilio/media"),
        ("https://me:pw@h.example:443/v", "https://me/v"),
        ("https://[2001:db8::1]:443/v", "https://[2001/v"),
    ],
)
def test_what_the_vendors_verifier_lets_in_wrongly_is_refused(public: str, as_signed: str) -> None:
    signature = vendor_signature(as_signed)
    assert RequestValidator(TOKEN).validate(public, {}, signature)
    assert NO_MATCH in verify_webhook(KEYS, public, [], b"", signed(signature))
    assert NO_MATCH in verify_upgrade(KEYS, public, signed(signature))


def test_where_the_vendors_verifier_raises_ours_refuses() -> None:
    validator = RequestValidator(TOKEN)
    with pytest.raises(TypeError):
        validator.validate(URL, {}, None)
    with pytest.raises(TypeError):
        validator.validate(URL, '{"forged":1}', vendor_signature(URL))
    odd_port = "https://h.example:99999/v"
    with pytest.raises(ValueError, match="Port out of range"):
        validator.validate(odd_port, {}, vendor_signature(odd_port))
    assert verify_webhook(KEYS, URL, [], b'{"forged":1}', signed(vendor_signature(URL))) != ""
    assert verify_webhook(KEYS, odd_port, [], b"", signed("AAAA")) != ""


def test_the_vendors_verifier_lets_a_shared_key_be_downgraded_and_ours_does_not() -> None:
    """It is told the algorithm of the very header that a forger writes."""
    signature = vendor_signature(URL, FORM)
    assert RequestValidator(TOKEN).validate(URL, Multi(FORM), signature)
    assert verify_webhook(SHARED, URL, FORM, b"", signed(signature)) != ""


# --- sub-accounts ------------------------------------------------------------------------------------------------

MAIN, SUB, OTHER = ("AC" + digit * 32 for digit in "123")
FAMILY = TwilioKeys((TOKEN, "older"), subaccount_tokens={SUB: ("sub-token", "sub-older"), OTHER: ("other-token",)})


def of(account: str) -> list[tuple[str, str]]:
    return [("AccountSid", account), ("CallSid", "CA1")]


@pytest.mark.parametrize(
    ("account", "opening"),
    [
        (MAIN, {TOKEN, "older"}),
        ("AC" + "9" * 32, {TOKEN, "older"}),
        ("", {TOKEN, "older"}),
        (SUB, {"sub-token", "sub-older"}),
        (OTHER, {"other-token"}),
    ],
)
def test_the_account_says_whose_token_must_have_signed(account: str, opening: set[str]) -> None:
    query = f"{URL}?AccountSid={account}"
    for token in (TOKEN, "older", "sub-token", "sub-older", "other-token"):
        form = of(account)
        given = verify_webhook(FAMILY, URL, form, b"", signed(vendor_signature(URL, form, token)))
        assert (given == "") == (token in opening)
        given = verify_webhook(FAMILY, query, [], b"", signed(vendor_signature(query, None, token)))
        assert (given == "") == (token in opening)


def test_without_an_account_the_main_accounts_token_must_have_signed() -> None:
    assert verify_webhook(FAMILY, URL, [], b"", signed(vendor_signature(URL))) == ""
    assert NO_MATCH in verify_webhook(FAMILY, URL, [], b"", signed(vendor_signature(URL, None, "sub-token")))


@pytest.mark.parametrize(
    ("url", "form"),
    [
        (URL, [*of(SUB), ("AccountSid", MAIN)]),
        (f"{URL}?AccountSid={MAIN}", of(SUB)),
        (f"{URL}?a=1&AccountSid={MAIN}&AccountSid={SUB}#AccountSid=x", []),
    ],
)
def test_a_webhook_that_names_two_accounts_is_refused_whoever_signed_it(url: str, form: list[tuple[str, str]]) -> None:
    for token in (TOKEN, "sub-token"):
        given = verify_webhook(FAMILY, url, form, b"", signed(vendor_signature(url, form, token)))
        assert given == "more than one AccountSid"


def test_the_same_account_twice_is_one() -> None:
    url, form = f"{URL}?AccountSid={SUB}", of(SUB) * 2
    assert verify_webhook(FAMILY, url, form, b"", signed(vendor_signature(url, form, "sub-token"))) == ""


def test_an_upgrade_names_no_account_so_any_token_may_have_signed_it() -> None:
    for token in (TOKEN, "older", "sub-token", "sub-older", "other-token"):
        assert verify_upgrade(FAMILY, WSS, signed(vendor_signature(WSS, None, token))) == ""
    assert NO_MATCH in verify_upgrade(FAMILY, WSS, signed(vendor_signature(WSS, None, "nobody's")))


def test_shared_keys_go_before_the_tokens_of_sub_accounts_too() -> None:
    keys = TwilioKeys((TOKEN,), {"k": "s"}, {SUB: ("sub-token",)})
    signature = vendor_signature(URL, of(SUB), "sub-token")
    reason = "not signed with a SharedKey although TWILIO_SHARED_KEYS is set"
    assert verify_webhook(keys, URL, of(SUB), b"", signed(signature)) == reason


def test_a_sub_account_without_a_token_opens_nothing() -> None:
    keys = TwilioKeys((TOKEN,), subaccount_tokens={SUB: ("",)})
    signature = vendor_signature(URL, of(SUB), "")
    assert verify_webhook(keys, URL, of(SUB), b"", signed(signature)) != ""


def test_tokens_of_sub_accounts_are_read_from_pairs() -> None:
    assert parse_subaccount_tokens([f"{SUB}=a", f" {OTHER} = x=y ", f"{SUB}=b"]) == {SUB: ("a", "b"), OTHER: ("x=y",)}
    assert parse_subaccount_tokens([]) == {}


@pytest.mark.parametrize("entry", ["hunter2", f"{SUB}=", "=hunter2", "AC12=hunter2", f"{SUB}0=hunter2"])
def test_bad_pairs_of_sub_accounts_are_named_by_place_and_not_quoted(entry: str) -> None:
    problem = "entry 2 is not of the form AC...=token; give the subaccount's SID and auth token"
    with pytest.raises(ValueError, match=f"^{problem}$"):
        parse_subaccount_tokens([f"{OTHER}=x", entry])


# --- what reaches the log --------------------------------------------------------------------------------------


def test_reasons_hold_neither_query_nor_user_nor_control_characters() -> None:
    url = "https://me:pw@h.example/v\r\n?From=%2B14155550100"
    reason = verify_webhook(KEYS, url, [], b"", signed("AAAA"))
    assert reason == f"signature does not match for URL https://h.example/v\\r\\n; {NO_MATCH}"


def test_reasons_quote_a_peer_only_so_far() -> None:
    headers = signed("AAAA", "key=k,algorithm=" + "X" * 5000)
    reason = verify_webhook(KEYS, URL, [], b"", headers)
    assert reason == f"unknown signature algorithm '{'X' * 120}...'"


def test_keys_do_not_show_in_a_traceback() -> None:
    assert TOKEN not in repr(SHARED)
    assert "shared-secret" not in repr(SHARED)
    assert "sub-token" not in repr(FAMILY)


any_text = st.text(st.characters(), max_size=60)  # lone surrogates included


@given(any_text, st.lists(st.tuples(any_text, any_text), max_size=4), st.binary(max_size=40), any_text, any_text)
def test_no_input_raises_or_opens(
    url: str, form: list[tuple[str, str]], body: bytes, signature: str, settings: str
) -> None:
    for keys in (KEYS, SHARED, FAMILY, TwilioKeys(())):
        for headers in (signed(signature), signed(signature, settings)):
            assert verify_webhook(keys, url, form, body, headers) != ""
            assert verify_upgrade(keys, url, headers) != ""


names = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.tuples(names, names), max_size=8), st.sampled_from([URL, URL + "?a=%2Fb"]))
def test_any_form_that_the_vendor_signs_is_genuine(form: list[tuple[str, str]], url: str) -> None:
    assert verify_webhook(KEYS, url, form, b"", signed(vendor_signature(url, form))) == ""


def test_something_that_is_no_url_is_refused_in_words() -> None:
    reason = f"signature does not match for URL that is no URL; {NO_MATCH}"
    assert verify_webhook(KEYS, "/twilio/voice", FORM, b"", signed("AAAA")) == reason
    assert verify_upgrade(KEYS, "/twilio/media", signed("AAAA")) == reason


def test_an_unknown_scheme_has_no_port_to_add() -> None:
    assert verify_upgrade(KEYS, "x://h/m", signed(vendor_signature("x://h/m/"))) == ""
