"""Vonage's signed requests: the vendor's way of signing is let in, everything else is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth import vonage
from bridge.auth.vonage import JtiBook, Verdict, VonageKeys, sign_request, verify_upgrade, verify_webhook
from bridge.errors import LocalError

SECRET = "s" * 32
"""As long as PyJWT wants it; Vonage's may be shorter."""
NOW = 1_760_000_000.0
KEYS = VonageKeys((SECRET,), "aaaaaaaa-bbbb-cccc-dddd-0123456789ab", "abcd1234")
BODY = b'{"from":"447700900000","to":"447700900001","uuid":"u1","status":"answered"}'
CLAIMS: dict[str, Any] = {
    "iat": int(NOW),
    "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5",
    "iss": "Vonage",
    "payload_hash": hashlib.sha256(BODY).hexdigest(),
    "api_key": "abcd1234",
    "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
}
GOOD = Verdict("", "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5", NOW + 330)

DIFFERS = "the token's signature does not match; is VONAGE_SIGNATURE_SECRET the account's?"
NO_JWT = "the token is no JWT of three parts"
FUTURE = "the token is of the future; is this machine's clock right?"
TOO_OLD = "the token is too old; is this machine's clock right?"
EXPIRED = "the token has expired; is this machine's clock right?"


def signed(claims: dict[str, Any], secret: str = SECRET, **header: Any) -> dict[str, str]:
    """The header of a request, its token made by PyJWT."""
    return {"authorization": f"Bearer {jwt.encode(claims, secret, 'HS256', headers=header)}"}


def changed(**claims: Any) -> dict[str, Any]:
    """The good claims with some changed; None takes one out."""
    return {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}


def by_hand(header: Any, claims: Any, secret: str = SECRET) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    text = b".".join(parts)
    mac = base64.urlsafe_b64encode(hmac.digest(secret.encode(), text, "sha256")).rstrip(b"=")
    return f"Bearer {(text + b'.' + mac).decode()}"


# --- let in ----------------------------------------------------------------------------------------------


def test_a_genuine_webhook_is_let_in() -> None:
    assert verify_webhook(KEYS, signed(CLAIMS), BODY, NOW) == GOOD


def test_a_genuine_upgrade_is_let_in() -> None:
    assert verify_upgrade(KEYS, signed(changed(payload_hash=None)), NOW) == GOOD


def test_what_we_sign_is_what_the_vendor_signs() -> None:
    value = sign_request(
        SECRET,
        iat_s=int(NOW),
        jti=CLAIMS["jti"],
        application_id=CLAIMS["application_id"],
        api_key="abcd1234",
        body=BODY,
    )
    token = value.removeprefix("Bearer ")
    assert jwt.decode(token, SECRET, ["HS256"], options={"verify_iat": False}) == CLAIMS
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert verify_webhook(KEYS, {"authorization": value}, BODY, NOW) == GOOD


def test_the_signature_to_the_letter() -> None:
    assert sign_request("secret", iat_s=1, jti="j") == (
        "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjEsImp0aSI6ImoiLCJpc3MiOiJWb25hZ2UifQ"
        ".anRGyiqoSoqJacqiAZ21MlYBxesh3xsxfvHXTPTRhf8"
    )


def test_the_vendors_sdk_takes_our_signature() -> None:
    sdk = pytest.importorskip("vonage_jwt")
    token = sign_request(SECRET, iat_s=int(NOW), jti="j").removeprefix("Bearer ")
    assert sdk.verify_signature(token, SECRET) is True
    assert sdk.verify_signature(token, "t" * 32) is False


def test_any_secret_of_the_ring_is_good() -> None:
    keys = VonageKeys(("t" * 32, "", SECRET))
    assert verify_webhook(keys, signed(CLAIMS), BODY, NOW) == GOOD
    assert verify_webhook(keys, signed(CLAIMS, "t" * 32), BODY, NOW) == GOOD
    assert verify_webhook(keys, signed(CLAIMS, "u" * 32), BODY, NOW).problem == DIFFERS


def test_a_short_secret_works() -> None:
    value = sign_request("abc", iat_s=int(NOW), jti="j")
    assert verify_upgrade(VonageKeys(("abc",)), {"authorization": value}, NOW).problem == ""


def test_what_vonage_leaves_out_may_be_missing() -> None:
    claims = changed(application_id=None, api_key=None, payload_hash=None, iss=None)
    assert verify_webhook(KEYS, signed(claims), BODY, NOW) == GOOD


@pytest.mark.parametrize("value", ["bearer {}", "BEARER {}", "  Bearer   {}\t"])
def test_the_scheme_may_be_written_in_any_case(value: str) -> None:
    token = signed(CLAIMS)["authorization"].removeprefix("Bearer ")
    assert verify_webhook(KEYS, {"authorization": value.format(token)}, BODY, NOW) == GOOD


def test_ids_are_compared_without_case() -> None:
    claims = changed(application_id=CLAIMS["application_id"].upper(), payload_hash=CLAIMS["payload_hash"].upper())
    assert verify_webhook(KEYS, signed(claims), BODY, NOW) == GOOD


def test_unknown_claims_and_names_are_let_be() -> None:
    claims = changed(application_id="other", api_key="other", sub="x", nested={"a": [1]})
    assert verify_webhook(VonageKeys((SECRET,)), signed(claims, kid="k"), BODY, NOW) == GOOD


# --- not let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_secret_nobody_is_let_in(secrets: tuple[str, ...]) -> None:
    verdict = verify_webhook(VonageKeys(secrets), {"authorization": by_hand({"alg": "HS256"}, CLAIMS, "")}, BODY, NOW)
    assert verdict == Verdict("VONAGE_SIGNATURE_SECRET is not set, so nothing can be verified")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "no Authorization header"),
        ("   ", "no Authorization header"),
        ("Basic YWJjOmRlZg==", "the Authorization header has no bearer token"),
        ("Bearer", "the Authorization header has no bearer token"),
        ("Bearer  ", "the Authorization header has no bearer token"),
        ("Bearer " + "x" * 4097, "a token of more than 4096 characters"),
        ("Bearer abc", NO_JWT),
        ("Bearer a.b", NO_JWT),
        ("Bearer a.b.c.d", NO_JWT),
        ("Bearer a.b.c", "the token's header cannot be read"),
        ("Bearer e30.e30.", "the token's header cannot be read"),
        ("Bearer W10.e30.", "the token's header cannot be read"),
        ("Bearer \u00e4.e30.", "the token's header cannot be read"),
        ("Bearer e30=.e30.", "the token's header cannot be read"),
        ("Bearer \udcff.\udcff.\udcff", "the token's header cannot be read"),
    ],
)
def test_what_is_no_token_is_refused(value: str, problem: str) -> None:
    assert verify_webhook(KEYS, {"authorization": value}, BODY, NOW) == Verdict(problem)


def test_a_request_without_the_header_is_refused() -> None:
    assert verify_upgrade(KEYS, {}, NOW) == Verdict("no Authorization header")


@pytest.mark.parametrize("algorithm", ["none", "None", "HS384", "HS512", "RS256", "hs256", ""])
def test_the_token_does_not_choose_its_algorithm(algorithm: str) -> None:
    forged = by_hand({"alg": algorithm, "typ": "JWT"}, CLAIMS)
    verdict = verify_webhook(KEYS, {"authorization": forged}, BODY, NOW)
    assert verdict == Verdict("the token's algorithm is not HS256")


def test_extensions_that_must_be_understood_are_not() -> None:
    forged = by_hand({"alg": "HS256", "crit": ["b64"], "b64": False}, CLAIMS)
    verdict = verify_webhook(KEYS, {"authorization": forged}, BODY, NOW)
    assert verdict == Verdict("the token has extensions that must be understood")


def test_a_token_without_a_signature_is_refused() -> None:
    unsigned = signed(CLAIMS)["authorization"].rpartition(".")[0] + "."
    assert verify_webhook(KEYS, {"authorization": unsigned}, BODY, NOW) == Verdict(DIFFERS)


def test_every_change_of_the_token_is_noticed() -> None:
    token = signed(CLAIMS)["authorization"].removeprefix("Bearer ")
    for place, char in enumerate(token):
        other = token[:place] + ("A" if char != "A" else "B") + token[place + 1 :]
        assert verify_webhook(KEYS, {"authorization": f"Bearer {other}"}, BODY, NOW).problem


@pytest.mark.parametrize(
    ("claims", "after_s", "problem"),
    [
        ({}, 330.0, ""),
        ({}, 330.1, TOO_OLD),
        ({}, -30.0, ""),
        ({}, -30.1, FUTURE),
        ({"iat": NOW + 0.5}, 0.0, ""),
        ({"exp": int(NOW) + 60}, 89.9, ""),
        ({"exp": int(NOW) + 60}, 90.0, EXPIRED),
        ({"exp": int(NOW) + 9999}, 331.0, TOO_OLD),
        ({"nbf": int(NOW) + 60}, 29.9, FUTURE),
        ({"nbf": int(NOW) + 60}, 30.0, ""),
    ],
)
def test_a_token_is_good_for_five_minutes(claims: dict[str, Any], after_s: float, problem: str) -> None:
    headers = {"authorization": by_hand({"alg": "HS256"}, changed(**claims))}
    assert verify_webhook(KEYS, headers, BODY, NOW + after_s).problem == problem


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": None},
        {"jti": None},
        {"iat": "1760000000"},
        {"jti": 7},
        {"exp": "soon"},
        {"payload_hash": 1},
        {"application_id": []},
    ],
)
def test_claims_of_the_wrong_kind_are_refused(claims: dict[str, Any]) -> None:
    headers = {"authorization": by_hand({"alg": "HS256"}, changed(**claims))}
    assert verify_webhook(KEYS, headers, BODY, NOW) == Verdict("the token's claims cannot be read")


@pytest.mark.parametrize("jti", ["", "x" * 129])
def test_an_id_has_a_length(jti: str) -> None:
    verdict = verify_webhook(KEYS, signed({**CLAIMS, "jti": jti}), BODY, NOW)
    assert verdict == Verdict("the token's jti is empty or longer than 128 characters")


def test_another_applications_and_anothers_accounts_token_is_refused() -> None:
    verdict = verify_webhook(KEYS, signed(changed(application_id="other")), BODY, NOW)
    assert verdict == Verdict("the token's application_id is not VONAGE_APPLICATION_ID")
    verdict = verify_webhook(KEYS, signed(changed(api_key="other")), BODY, NOW)
    assert verdict == Verdict("the token's api_key is not VONAGE_API_KEY")


def test_a_changed_body_is_refused() -> None:
    words = "the body does not match the token's payload_hash; a proxy must pass it on unchanged"
    for body in (BODY + b" ", BODY.replace(b"answered", b"completed"), b"x"):
        assert verify_webhook(KEYS, signed(CLAIMS), body, NOW) == Verdict(words)


def test_a_body_that_the_token_does_not_cover_is_the_operators_choice() -> None:
    headers = signed(changed(payload_hash=None))
    strict = VonageKeys((SECRET,), require_payload_hash=True)
    assert verify_webhook(KEYS, headers, BODY, NOW) == GOOD
    words = "the token has no payload_hash, so it does not cover the body"
    assert verify_webhook(strict, headers, BODY, NOW) == Verdict(words)
    assert verify_webhook(strict, headers, b"", NOW) == GOOD


def test_reasons_and_keys_show_no_secret() -> None:
    assert SECRET not in repr(KEYS)


@given(st.text(max_size=80), st.binary(max_size=20))
def test_whatever_comes_is_refused_without_an_exception(value: str, body: bytes) -> None:
    assert verify_webhook(KEYS, {"authorization": value}, body, NOW).problem
    assert verify_webhook(KEYS, {"authorization": f"Bearer {value}"}, body, NOW).problem


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=5), x)
    )
)
def test_whatever_is_signed_is_read_without_an_exception(claims: Any) -> None:
    for header in (claims, {"alg": "HS256"}):
        assert verify_upgrade(KEYS, {"authorization": by_hand(header, claims)}, NOW).problem


# --- the book of ids -------------------------------------------------------------------------------------


def test_an_id_works_once() -> None:
    book = JtiBook()
    assert book.use("j1", 10.0, 0.0)
    assert not book.use("j1", 10.0, 5.0)
    assert book.use("j2", 12.0, 5.0)
    assert len(book) == 2


def test_an_id_is_forgotten_after_its_time() -> None:
    book = JtiBook()
    assert book.use("j1", 10.0, 0.0)
    assert not book.use("j1", 10.0, 10.0)
    assert book.use("j1", 20.0, 10.1)
    assert len(book) == 1


def test_the_book_is_bounded() -> None:
    book = JtiBook(2)
    for number in range(5):
        assert book.use(f"j{number}", 10.0, 0.0)
    assert len(book) == 2
    assert not book.use("j4", 10.0, 0.0)
    assert book.use("j0", 10.0, 0.0)
    with pytest.raises(LocalError, match=r"^a book of ids needs room, got capacity=0$"):
        JtiBook(0)


def test_an_id_may_hold_anything() -> None:
    assert JtiBook().use("\udcff", 10.0, 0.0)


def test_base64url_is_without_padding() -> None:
    assert vonage.base64url(b"\xfb\xff") == "-_8"
