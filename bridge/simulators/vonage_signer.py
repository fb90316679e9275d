"""Signs as Vonage does (HS256, webhooks and upgrades), and checks the tokens of those who control calls (RS256).

Independent of ``bridge.auth`` on purpose: each is a check on the other. Faults of a signature are part of it
(``Forgery``), for what a bridge must refuse.

Sources: Vonage "Signed webhooks" and "Authentication: JSON Web Tokens", read 2026-11-21; RFC 7515, 7518.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

MAX_TOKEN_LIFE_S = 24 * 3600
"""Longest life of an application's token that Vonage takes."""

SKEW_S = 60
"""How far in the future ``iat`` may lie."""


class Forgery(enum.Enum):
    """What may be wrong with a signature; ``NONE`` for a good one."""

    NONE = "none"
    MISSING = "missing"
    """No Authorization header at all."""
    OTHER_KEY = "other_key"
    ALG_NONE = "alg_none"
    """Unsigned, and the token says so."""
    TOO_OLD = "too_old"
    """``iat`` an hour ago."""
    FUTURE = "future"
    """``iat`` in an hour."""
    EXPIRED = "expired"
    """``exp`` two minutes ago."""
    NO_IAT = "no_iat"
    NO_JTI = "no_jti"
    REPLAY = "replay"
    """The same ``jti`` every time."""
    WRONG_HASH = "wrong_hash"
    """``payload_hash`` of another body."""
    OTHER_APPLICATION = "other_application"
    GARBAGE = "garbage"
    """No JWT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs, and how well."""

    secret: str = field(default="", repr=False)
    """The account's signature secret; empty = nothing is signed."""
    application_id: str = ""
    api_key: str = "simulated"
    forgery: Forgery = Forgery.NONE
    unix: Callable[[], float] = time.time

    def headers(self, body: bytes = b"") -> dict[str, str]:
        """The header of a request with this body; an upgrade and a GET have none."""
        if not self.secret or self.forgery is Forgery.MISSING:
            return {}
        return {"Authorization": f"Bearer {self._token(body)}"}

    def _token(self, body: bytes) -> str:
        if self.forgery is Forgery.GARBAGE:
            return "no.token"
        algorithm = "none" if self.forgery is Forgery.ALG_NONE else "HS256"
        secret = f"not {self.secret}" if self.forgery is Forgery.OTHER_KEY else self.secret
        signed = f"{_part({'alg': algorithm, 'typ': 'JWT'})}.{_part(self._claims(body))}"
        if self.forgery is Forgery.ALG_NONE:
            return f"{signed}."
        digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{_encode(digest)}"

    def _claims(self, body: bytes) -> dict[str, Any]:
        now_s = int(self.unix())
        shift_s = {Forgery.TOO_OLD: -3600, Forgery.FUTURE: 3600}.get(self.forgery, 0)
        claims: dict[str, Any] = {"iat": now_s + shift_s, "jti": str(uuid.uuid4()), "iss": "Vonage"}
        if self.api_key:
            claims["api_key"] = self.api_key
        if self.application_id:
            claims["application_id"] = self.application_id
        if body:
            claims["payload_hash"] = hashlib.sha256(body).hexdigest()
        changes: dict[Forgery, dict[str, Any]] = {
            Forgery.EXPIRED: {"exp": now_s - 120},
            Forgery.NO_IAT: {"iat": None},
            Forgery.NO_JTI: {"jti": None},
            Forgery.REPLAY: {"jti": "00000000-0000-4000-8000-000000000000"},
            Forgery.WRONG_HASH: {"payload_hash": hashlib.sha256(body + b" ").hexdigest()},
            Forgery.OTHER_APPLICATION: {"application_id": "00000000-0000-4000-8000-000000000000"},
        }
        claims |= changes.get(self.forgery, {})
        return {name: value for name, value in claims.items() if value is not None}


class TokenError(Exception):
    """A token that Vonage does not take; the text says why, without the token."""


class ApplicationTokens:
    """Checks the tokens with which an application controls its calls."""

    def __init__(self, public_key_pem: str, application_id: str, unix: Callable[[], float] = time.time) -> None:
        """Raises ``ValueError`` where the text is no RSA public key."""
        key = load_pem_public_key(public_key_pem.encode())
        if not isinstance(key, RSAPublicKey):
            raise ValueError("the public key is no RSA key")
        self._key, self._application_id, self._unix = key, application_id, unix

    def check(self, authorization: str) -> None:
        """Check an Authorization header. Raises ``TokenError``."""
        scheme, _, token = authorization.partition(" ")
        parts = token.split(".")
        if scheme.lower() != "bearer" or len(parts) != 3:
            raise TokenError("no bearer token that is a JWT")
        try:
            header, claims, signature = json.loads(_decode(parts[0])), json.loads(_decode(parts[1])), _decode(parts[2])
        except ValueError:
            raise TokenError("a token that cannot be read") from None
        if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "RS256":
            raise TokenError("the algorithm is not RS256")
        try:
            self._key.verify(signature, f"{parts[0]}.{parts[1]}".encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            raise TokenError("the signature does not match") from None
        self._check_claims(claims)

    def _check_claims(self, claims: dict[str, Any]) -> None:
        now_s = self._unix()
        issued_s, expires_s = claims.get("iat"), claims.get("exp")
        if not isinstance(issued_s, int) or not isinstance(expires_s, int):
            raise TokenError("iat or exp is missing")
        if not isinstance(claims.get("jti"), str) or not claims["jti"]:
            raise TokenError("jti is missing")
        if claims.get("application_id") != self._application_id:
            raise TokenError("another application")
        if issued_s > now_s + SKEW_S or expires_s <= now_s or expires_s - issued_s > MAX_TOKEN_LIFE_S:
            raise TokenError("not good at this time")


def _part(value: Mapping[str, Any]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
