"""Genesys' upgrade request: key, ids and signature, with Genesys' own test vector."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.genesys import (
    COMPONENTS,
    GenesysKeys,
    NonceBook,
    decode_secret,
    sign_upgrade,
    verify_upgrade,
)
from bridge.errors import LocalError

API_KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="
ORGANIZATION_ID = "d7934305-0972-4844-938e-9060eef73d05"
NONCE = "VGhpc0lzQVVuaXF1ZU5vbmNl"
CREATED_S = 1641013200
PUBLIC_URL = "https://audiohook.example.com"
TARGET = "/api/v1/voicebiometrics/ws"
KEYS = GenesysKeys((API_KEY,), (SECRET,))

IDS = {
    "host": "audiohook.example.com",
    "audiohook-organization-id": ORGANIZATION_ID,
    "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
    "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "x-api-key": API_KEY,
}
VECTOR = {
    **IDS,
    "signature-input": 'sig1=("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" '
    '"audiohook-correlation-id" "x-api-key");keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";'
    'nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256";created=1641013200;expires=3282026430',
    "signature": "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:",
}
"""The test vector of Genesys' reference implementation (``signature-verifier.test.ts``)."""

MISMATCH = "signature does not match; is PUBLIC_URL what Genesys was told, and the client secret the same?"
UNREADABLE = "Signature-Input cannot be read as one list of components with parameters"
BAD_PARAMETERS = "the parameters of Signature-Input cannot be read"
BAD_PARAMETER = "a signature's parameter is unknown or of the wrong kind"


def verify(
    headers: Mapping[str, str],
    keys: GenesysKeys = KEYS,
    *,
    public_url: str = PUBLIC_URL,
    target: str = TARGET,
    unix_s: float = CREATED_S,
    nonces: NonceBook | None = None,
) -> str:
    return verify_upgrade(keys, public_url, target, headers, unix_s, NonceBook() if nonces is None else nonces)


def signed(
    authority: str = "audiohook.example.com",
    target: str = TARGET,
    ids: Mapping[str, str] = IDS,
    components: tuple[str, ...] = COMPONENTS,
    nonce: str = NONCE,
    created_s: int = CREATED_S,
    expires_s: int = CREATED_S + 30,
) -> dict[str, str]:
    added = sign_upgrade(
        SECRET, authority, target, ids, nonce=nonce, created_s=created_s, expires_s=expires_s, components=components
    )
    return {**ids, **added}


def with_input(old: str, new: str) -> dict[str, str]:
    assert old in VECTOR["signature-input"]
    return {**VECTOR, "signature-input": VECTOR["signature-input"].replace(old, new)}


# --- the key and the ids ---


def test_without_a_key_nobody_is_let_in() -> None:
    assert verify(IDS, GenesysKeys(())) == "GENESYS_API_KEY is not set, so nobody is let in"
    assert verify({**IDS, "x-api-key": ""}, GenesysKeys(("",))) == "GENESYS_API_KEY is not set, so nobody is let in"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (API_KEY, ""),
        ("second", ""),
        (f" {API_KEY}\t", ""),
        ("other", "X-API-KEY is not GENESYS_API_KEY"),
        ("kl\u00fcger\udc80", "X-API-KEY is not GENESYS_API_KEY"),
        ("", "no X-API-KEY header"),
    ],
)
def test_the_key_is_one_of_the_ring(key: str, problem: str) -> None:
    assert verify({**IDS, "x-api-key": key}, GenesysKeys((API_KEY, "second"))) == problem


@pytest.mark.parametrize("name", ["audiohook-organization-id", "audiohook-session-id", "audiohook-correlation-id"])
@pytest.mark.parametrize("value", [None, "", "x", "d7934305-0972-4844-938e-9060eef73d0"])
def test_every_id_is_there_and_a_uuid(name: str, value: str | None) -> None:
    headers = {key: text for key, text in IDS.items() if key != name}
    if value is not None:
        headers[name] = value
    assert verify(headers, GenesysKeys((API_KEY,))) == f"header {name} is missing or no UUID"


@pytest.mark.parametrize(
    ("allowed", "problem"),
    [
        ((), ""),
        (("",), ""),
        ((ORGANIZATION_ID,), ""),
        (("another", f" {ORGANIZATION_ID.upper()} "), ""),
        (("another",), "the organization is not one of GENESYS_ORGANIZATION_ID"),
    ],
)
def test_an_organization_may_have_to_be_listed(allowed: tuple[str, ...], problem: str) -> None:
    assert verify(IDS, GenesysKeys((API_KEY,), (), allowed)) == problem


def test_keys_stay_out_of_what_is_printed() -> None:
    assert repr(KEYS) == "GenesysKeys(organization_ids=())"


# --- the signature ---


def test_genesys_own_vector() -> None:
    assert verify(VECTOR) == ""


def test_signing_gives_genesys_own_vector() -> None:
    assert signed(expires_s=3282026430) == VECTOR


@pytest.mark.parametrize(
    "secret", [SECRET, SECRET.rstrip("="), f" {SECRET} ", "AAAA", SECRET.replace("+", "-").replace("/", "_")]
)
def test_the_secret_may_be_padded_or_not_and_one_of_several(secret: str) -> None:
    problem = verify(VECTOR, GenesysKeys((API_KEY,), (secret,)))
    assert problem == (MISMATCH if secret == "AAAA" else "")
    assert verify(VECTOR, GenesysKeys((API_KEY,), ("AAAA", "", SECRET))) == ""


@pytest.mark.parametrize("secret", ["not base64!", "a", "=", "\u00e4\u00e4\u00e4\u00e4"])
def test_a_secret_that_is_none_is_the_operators_mistake(secret: str) -> None:
    with pytest.raises(ValueError, match="^a client secret is base64 text, as Genesys shows it$"):
        decode_secret(secret)
    assert verify(VECTOR, GenesysKeys((API_KEY,), (secret,))) == (
        "GENESYS_CLIENT_SECRET cannot be used: a client secret is base64 text, as Genesys shows it"
    )


def test_the_order_is_that_of_the_signer() -> None:
    production = (
        "@request-target",
        "audiohook-session-id",
        "audiohook-organization-id",
        "audiohook-correlation-id",
        "x-api-key",
        "@authority",
    )
    assert verify(signed(components=production)) == ""
    turned = signed(components=production)
    turned["signature-input"] = VECTOR["signature-input"]
    assert verify(turned) == MISMATCH


def test_unsigned_is_refused_once_a_secret_is_set() -> None:
    assert verify(IDS) == "not signed although GENESYS_CLIENT_SECRET is set"
    assert verify(IDS, GenesysKeys((API_KEY,))) == ""


def test_a_signature_that_cannot_be_verified_is_refused() -> None:
    problem = "signed, but GENESYS_CLIENT_SECRET is not set, so the signature cannot be verified"
    assert verify(VECTOR, GenesysKeys((API_KEY,))) == problem


@pytest.mark.parametrize("name", ["signature", "signature-input"])
def test_half_a_signature_is_none(name: str) -> None:
    headers = {key: text for key, text in VECTOR.items() if key != name}
    assert verify(headers) == "only one of the headers Signature-Input and Signature"


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_must_be_signed(name: str) -> None:
    components = tuple(component for component in COMPONENTS if component != name)
    assert verify(signed(components=components)) == f"not signed: {name}"


def test_nothing_else_may_be_signed_and_nothing_twice() -> None:
    assert verify(with_input('("@request-target"', '("@method" "@request-target"')) == (
        "a component is signed that Genesys does not sign"
    )
    assert verify(with_input('"x-api-key")', '"x-api-key" "x-api-key")')) == "a component is signed twice"
    assert verify(with_input("x-api-key", "X-API-KEY")) == "a component is signed that Genesys does not sign"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"x-api-key")', '"x-api-key";sf)', UNREADABLE),
        ('"x-api-key")', '"x-api-key"', UNREADABLE),
        ('" "@authority"', '""@authority"', UNREADABLE),
        ("sig1=", "", UNREADABLE),
        ("sig1=", "Sig1=", UNREADABLE),
        ("expires=3282026430", "expires=3282026430, sig2=()", BAD_PARAMETERS),
        ("expires=3282026430", "expires=3282026430.5", BAD_PARAMETERS),
        ("expires=3282026430", "expires", BAD_PARAMETERS),
        (";alg=", ";;alg=", BAD_PARAMETERS),
        (";alg=", ';tag="app";alg=', BAD_PARAMETER),
        ("expires=3282026430", 'expires="3282026430"', BAD_PARAMETER),
        ('nonce="VGhpc0lzQVVuaXF1ZU5vbmNl"', "nonce=1", BAD_PARAMETER),
        (";alg=", ";created=1;alg=", "the signature's parameter created is there twice"),
        (";created=1641013200;expires=3282026430", "", "the signature has no created, expires"),
        ('keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";', "", "the signature has no keyid"),
        ("hmac-sha256", "hmac-sha512", "the signature's algorithm is not hmac-sha256"),
        ("VGhpc0lzQVVuaXF1ZU5vbmNl", "VGhpc0lzQVVuaXF1ZU5v", "the signature's nonce has less than 22 characters"),
        ('keyid="SGVsb', 'keyid="sGVsb', "the signature's keyid is not X-API-KEY"),
        ("VGhpc0lzQVVuaXF1ZU5vbmNl", "WGhpc0lzQVVuaXF1ZU5vbmNl", MISMATCH),
        ("expires=3282026430", "expires=3282026431", MISMATCH),
    ],
)
def test_a_rule_that_is_broken_is_named(old: str, new: str, problem: str) -> None:
    assert verify(with_input(old, new)) == problem


def test_the_parameters_are_signed_as_they_are_re_serialised() -> None:
    assert verify(with_input(";alg=", "; alg=")) == ""
    assert verify(with_input("created=1641013200", "created=001641013200")) == ""
    assert verify(with_input('" "@authority"', '"   "@authority"')) == ""
    assert verify({**VECTOR, "signature-input": f" {VECTOR['signature-input']} "}) == ""


def test_the_algorithm_need_not_be_named() -> None:
    assert verify(with_input('alg="hmac-sha256";', "")) == MISMATCH  # it is signed text, but no rule forbids it


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        ("sig2=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:", "Signature and Signature-Input have different labels"),
        ("NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=", "Signature cannot be read as one base64 value"),
        ("sig1=:NZBw:, sig2=:NZBw:", "Signature cannot be read as one base64 value"),
        ("sig1=:NZBw:", "the signature is not 32 bytes in base64"),
        ("sig1=:NZB:", "the signature is not 32 bytes in base64"),
        ("sig1=::", "the signature is not 32 bytes in base64"),
        ("sig1=:" + "A" * 5000 + ":", "a signature header of more than 4096 characters"),
        ("sig1=:AZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:", MISMATCH),
    ],
)
def test_a_signature_value_that_is_none(signature: str, problem: str) -> None:
    assert verify({**VECTOR, "signature": signature}) == problem


@pytest.mark.parametrize("name", [name for name in COMPONENTS if not name.startswith("@")])
def test_a_header_that_was_changed_on_the_way(name: str) -> None:
    changed = {**VECTOR, name: "00000000-0000-0000-0000-000000000000"}
    keys = GenesysKeys((API_KEY, "00000000-0000-0000-0000-000000000000"), (SECRET,))
    assert verify(changed, keys) == ("the signature's keyid is not X-API-KEY" if name == "x-api-key" else MISMATCH)


@pytest.mark.parametrize(
    ("after_s", "problem"),
    [
        (-4, "the signature was created in the future; is this machine's clock right?"),
        (-3, ""),
        (10, ""),
        (10.5, "the signature is too old; is this machine's clock right?"),
    ],
)
def test_a_signature_is_good_for_seconds(after_s: float, problem: str) -> None:
    assert verify(VECTOR, unix_s=CREATED_S + after_s) == problem


def test_a_signature_expires() -> None:
    headers = signed(expires_s=CREATED_S + 2)
    assert verify(headers, unix_s=CREATED_S + 2) == ""
    assert verify(headers, unix_s=CREATED_S + 2.5) == "the signature has expired; is this machine's clock right?"


# --- where it was sent to ---


@pytest.mark.parametrize(
    ("public_url", "authority", "host"),
    [
        ("https://Audiohook.Example.com", "audiohook.example.com", "inner:8080"),
        ("https://audiohook.example.com:443", "audiohook.example.com", ""),
        ("https://audiohook.example.com", "audiohook.example.com:443", ""),
        ("https://audiohook.example.com:8443", "audiohook.example.com:8443", ""),
        ("https://user@audiohook.example.com", "audiohook.example.com", ""),
        ("http://audiohook.example.com:80", "audiohook.example.com", ""),
        ("wss://audiohook.example.com:443", "audiohook.example.com", ""),
        ("https://[2001:db8::1]", "[2001:db8::1]", ""),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", ""),
        (PUBLIC_URL, "127.0.0.1:33771", "127.0.0.1:33771"),
        (PUBLIC_URL, "localhost:33771", "LocalHost:33771"),
        (PUBLIC_URL, "[::1]:33771", "[::1]:33771"),
        (PUBLIC_URL, "localhost", "localhost"),
    ],
)
def test_the_authority_is_that_of_the_public_url(public_url: str, authority: str, host: str) -> None:
    headers = signed(authority) | {"host": host}
    assert verify(headers, public_url=public_url) == ""


@pytest.mark.parametrize("host", ["other.example.com", "10.0.0.1:8080", "127.0.0.1.example.com", "localhost.example"])
def test_what_was_signed_for_another_machine_is_not_good_here(host: str) -> None:
    assert verify(signed(host) | {"host": host}) == MISMATCH
    assert verify(signed("audiohook.example.com:8443")) == MISMATCH


@pytest.mark.parametrize(
    ("public_url", "sent", "arrived"),
    [
        (PUBLIC_URL, "/genesys/agent_1?version=2&x=%2F", "/genesys/agent_1?version=2&x=%2F"),
        (f"{PUBLIC_URL}/bridge", "/bridge/genesys/agent_1", "/genesys/agent_1"),
        (f"{PUBLIC_URL}/bridge", "/genesys/agent_1", "/genesys/agent_1"),
    ],
)
def test_the_target_is_as_sent_with_or_without_the_prefix(public_url: str, sent: str, arrived: str) -> None:
    assert verify(signed(target=sent), public_url=public_url, target=arrived) == ""


@pytest.mark.parametrize(
    "arrived", ["/genesys/agent_2", "/genesys/agent_1?", "/genesys/agent%5F1", "//genesys/agent_1"]
)
def test_another_target_is_not_what_was_signed(arrived: str) -> None:
    assert verify(signed(target="/genesys/agent_1"), target=arrived) == MISMATCH


# --- replay ---


def test_a_request_works_once() -> None:
    nonces = NonceBook()
    assert verify(VECTOR, nonces=nonces) == ""
    assert verify(VECTOR, nonces=nonces, unix_s=CREATED_S + 10) == "nonce used before"


def test_only_genuine_requests_use_up_a_nonce() -> None:
    nonces = NonceBook()
    assert verify({**VECTOR, "signature": f"sig1=:{'A' * 43}=:"}, nonces=nonces) == MISMATCH
    assert len(nonces) == 0
    assert verify(VECTOR, nonces=nonces) == ""
    assert len(nonces) == 1


def test_another_session_may_have_the_same_nonce() -> None:
    nonces = NonceBook()
    assert verify(VECTOR, nonces=nonces) == ""
    ids = {**IDS, "audiohook-session-id": ORGANIZATION_ID}
    assert verify(signed(ids=ids), nonces=nonces) == ""


def test_the_nonce_book_is_bounded_in_time_and_number() -> None:
    book = NonceBook(2)
    assert book.use("a", "s", 10.0, 0.0)
    assert not book.use("a", "S", 10.0, 10.0)
    assert book.use("b", "s", 20.0, 0.0)
    assert not book.use("a", "s", 30.0, 0.0), "a full book must not forget what it is asked about"
    assert book.use("c", "s", 20.0, 0.0)
    assert len(book) == 2
    assert not book.use("b", "s", 20.0, 20.0)
    assert book.use("d", "s", 30.0, 20.5)
    assert len(book) == 1
    with pytest.raises(LocalError, match="^a nonce book needs room, got capacity=0$"):
        NonceBook(0)


# --- against others, and against anything ---


class _Resolver(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> bytes:
        return decode_secret(SECRET)


@pytest.mark.parametrize("target", ["/genesys/agent_1", "/a%20b?x=1&y=%C3%A4"])
def test_what_the_general_library_signs_is_genuine(target: str) -> None:
    signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=_Resolver())
    request = SimpleNamespace(method="GET", url=f"{PUBLIC_URL}{target}", headers=dict(IDS))
    signer.sign(
        request,
        key_id=API_KEY,
        created=datetime.datetime.fromtimestamp(CREATED_S, datetime.UTC),
        expires=datetime.datetime.fromtimestamp(CREATED_S + 30, datetime.UTC),
        nonce=NONCE,
        label="sig1",
        covered_component_ids=COMPONENTS,
    )
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert verify(headers, target=target) == ""
    assert verify(headers, target=target + "x") == MISMATCH


def test_a_key_with_quotes_is_escaped_alike_by_signer_and_verifier() -> None:
    key = 'a"b\\c'
    headers = signed(ids={**IDS, "x-api-key": key})
    assert 'keyid="a\\"b\\\\c"' in headers["signature-input"]
    assert verify(headers, GenesysKeys((key,), (SECRET,))) == ""


@given(st.data())
def test_whatever_the_headers_hold_is_answered_with_a_reason(data: st.DataObject) -> None:
    headers = dict(VECTOR)
    name = data.draw(st.sampled_from(sorted(VECTOR)))
    text = headers[name]
    at, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    piece = data.draw(st.text(st.characters(), max_size=8))
    headers[name] = text[:at] + piece + text[end:]
    problem = verify(headers)
    assert SECRET not in problem
    assert API_KEY not in problem
