"""The application's token: what the vendor's SDK makes, made once and renewed in time."""

from __future__ import annotations

import time
from itertools import count

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bridge.auth.vonage_application import LIFETIME_S, TokenMint, load_private_key, sign_application_token

APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
NOW = 1_760_000_000.0
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def opened(token: str) -> dict[str, object]:
    return dict(jwt.decode(token, PUBLIC, ["RS256"], options={"verify_exp": False, "verify_iat": False}))


def test_the_token_to_the_letter() -> None:
    token = sign_application_token(KEY, APPLICATION, iat_s=int(NOW), jti="j1")
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT"}
    assert opened(token) == {
        "application_id": APPLICATION,
        "iat": 1_760_000_000,
        "jti": "j1",
        "exp": 1_760_000_900,
    }
    claims = {"application_id": APPLICATION, "iat": 1_760_000_000, "jti": "j1", "exp": 1_760_000_900}
    assert token == jwt.encode(claims, PEM, "RS256")  # RS256 is deterministic: PyJWT's is the same to the byte


def test_the_vendors_sdk_makes_the_same() -> None:
    sdk = pytest.importorskip("vonage_jwt")
    iat_s = int(time.time())
    theirs = sdk.JwtClient(APPLICATION, PEM).generate_application_jwt({"iat": iat_s, "jti": "j1"}).decode()
    assert opened(theirs) == opened(sign_application_token(KEY, APPLICATION, iat_s=iat_s, jti="j1"))


@pytest.mark.parametrize("pem", [PEM, PEM.strip(), PEM.replace("\n", "\\n")])
def test_a_key_is_read_however_its_lines_are_written(pem: str) -> None:
    assert load_private_key(pem).private_numbers() == KEY.private_numbers()


@pytest.mark.parametrize("pem", ["", "secret", PEM[:200], PEM.replace("MII", "MIJ"), "\u00e4"])
def test_what_is_no_key_is_not_quoted(pem: str) -> None:
    with pytest.raises(ValueError, match=r"^the private key cannot be read; it is a PEM text without a password$"):
        load_private_key(pem)


def test_a_key_of_another_kind_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ValueError, match=r"^the private key is no RSA key; download it again from Vonage$"):
        load_private_key(pem)


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def mint(clock: Clock) -> TokenMint:
    numbers = count(1)
    return TokenMint(KEY, APPLICATION, unix=clock, new_jti=lambda: f"j{next(numbers)}")


def test_a_token_is_used_until_its_last_minute() -> None:
    clock = Clock()
    source = mint(clock)
    first = source.token()
    clock.now = NOW + LIFETIME_S - 60.1
    assert source.token() == first
    clock.now = NOW + LIFETIME_S - 60
    second = source.token()
    assert opened(first)["jti"] == "j1"
    assert opened(second) == {
        "application_id": APPLICATION,
        "iat": 1_760_000_840,
        "jti": "j2",
        "exp": 1_760_001_740,
    }


def test_a_token_that_was_not_taken_is_not_used_again() -> None:
    source = mint(Clock())
    first = source.token()
    source.refuse("of another time")
    assert source.token() == first
    source.refuse(first)
    second = source.token()
    assert second != first
    source.refuse(first)  # two requests failed with the same token: the new one stays
    assert source.token() == second
