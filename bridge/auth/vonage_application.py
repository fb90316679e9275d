"""The token with which we ask Vonage for something: an application's JWT, RS256 with its private key.

Pure: key, time and chance are arguments. Apart from ``vonage`` so that only who controls calls pays for loading the
package cryptography.

Sources: Vonage "Authentication: JSON Web Tokens", read 2026-11-21; RFC 7515; RFC 7518, 3.3; the SDK vonage-jwt 1.1.5.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bridge.auth.vonage import base64url

LIFETIME_S = 15 * 60
"""Of a token: the SDKs' own."""
RENEW_BEFORE_S = 60
"""A token is not used in its last minute: a request takes time, and clocks differ."""


def load_private_key(pem: str) -> RSAPrivateKey:
    """The application's private key. Raises ``ValueError``, without quoting it, where it is none."""
    try:
        key = load_pem_private_key(pem.replace("\\n", "\n").strip().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("the private key cannot be read; it is a PEM text without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the private key is no RSA key; download it again from Vonage")
    return key


def sign_application_token(key: RSAPrivateKey, application_id: str, *, iat_s: int, jti: str) -> str:
    """A token of this application, good for ``LIFETIME_S`` from ``iat_s`` (Unix seconds)."""
    claims = {"application_id": application_id, "iat": iat_s, "jti": jti, "exp": iat_s + LIFETIME_S}
    header = {"alg": "RS256", "typ": "JWT"}
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{base64url(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


class TokenMint:
    """Makes application tokens and uses each until shortly before its end: signing takes a millisecond."""

    __slots__ = ("_application_id", "_key", "_new_jti", "_token", "_unix", "_until_s")

    def __init__(
        self, key: RSAPrivateKey, application_id: str, *, unix: Callable[[], float], new_jti: Callable[[], str]
    ) -> None:
        """``unix`` is the wall clock; ``new_jti`` gives ids that are never the same."""
        self._key = key
        self._application_id = application_id
        self._unix = unix
        self._new_jti = new_jti
        self._token = ""
        self._until_s = 0.0

    def token(self) -> str:
        """A token that is good now."""
        now = self._unix()
        if not self._token or not now < self._until_s:
            self._token = sign_application_token(self._key, self._application_id, iat_s=int(now), jti=self._new_jti())
            self._until_s = int(now) + LIFETIME_S - RENEW_BEFORE_S
        return self._token

    def refuse(self, token: str) -> None:
        """Vonage did not take this token: make another next time."""
        if token == self._token:
            self._token = ""
