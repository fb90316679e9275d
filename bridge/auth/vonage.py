"""Vonage's signed requests: who really sent this webhook or this media socket's upgrade request.

What it is: a pure verifier of the JWT in ``Authorization: Bearer`` and, for the simulators, its signer. What it is not:
the token with which we ask Vonage for something (``vonage_application``), the memory of tokens that were used (the
caller's: ``Verdict.jti`` and ``until_unix_s`` say what to remember for how long), the one-time call token (``tokens``).

Sources: Vonage "Voice API: Signed webhooks" and "WebSockets" (``authorization`` of the endpoint), read 2026-11-21; RFC
7515 and 7519; the SDKs vonage-jwt 1.1.5 and PyJWT, the oracles of the tests. The rules:

- HS256 with the account's signature secret and nothing else: the header's ``alg`` is compared, never obeyed. ``crit``
  is refused (RFC 7515, 4.1.11). Several secrets may be good while one is rotated; all are tried, in constant time.
- ``iat`` and ``jti`` must be there; the token is good for ``MAX_AGE_S`` from ``iat``, with ``CLOCK_SKEW_S`` for two
  clocks, and never beyond ``exp``. ``iss`` is not looked at: the secret says more than a word does.
- ``application_id`` and ``api_key`` must be ours where we know ours and the token has them; Vonage leaves the former
  out of some. Neither makes a token good, they keep apart several applications of one account.
- ``payload_hash`` is the SHA-256 of the raw body. Where the token has it, a body must match; a body under a token
  without it is let in, because not every webhook has it, unless ``VonageKeys.require_payload_hash``. What keeps an
  intercepted token off another body then is that its ``jti`` works once.

Why not PyJWT, although it is an oracle: it looks at the system's clock, warns of secrets as short as Vonage's are, and
tries one key; what is left of it is thirty lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from bridge.errors import LocalError

HEADER = "authorization"

MAX_AGE_S = 300.0
"""How long after ``iat`` a token is good, as Vonage advises."""
CLOCK_SKEW_S = 30.0
"""How far the clocks of two machines may differ."""
MAX_TOKEN_CHARS = 4096
"""Real ones have some 500."""
MAX_JTI_CHARS = 128
"""A UUID has 36."""
JTIS_REMEMBERED = 100_000
"""Tokens are kept for six minutes: this is for 300 upgrades a second and process."""

_T = TypeVar("_T")

_ALGORITHM = "HS256"
_ISSUER = "Vonage"


@dataclass(frozen=True, slots=True)
class VonageKeys:
    """Who may sign, and for whom."""

    signature_secrets: tuple[str, ...] = field(repr=False)
    """Of the account; several while one is rotated. Empty texts count as absent."""
    application_id: str = ""
    """Ours; empty = any."""
    api_key: str = ""
    """Our account's; empty = any."""
    require_payload_hash: bool = False
    """Whether a body needs a token that covers it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is genuine."""

    problem: str
    """Empty = genuine; otherwise why not, for the log: no secret, no number, nothing of the token's."""
    jti: str = ""
    """The token's id. It must work once: whoever has seen it before ``until_unix_s`` refuses the request, or repeats
    the answer to it, because Vonage sends a webhook again whose answer got lost."""
    until_unix_s: float = 0.0
    """How long the id must be remembered."""


class _Header(msgspec.Struct):
    alg: str
    crit: Any = None


class _Claims(msgspec.Struct):
    iat: float
    jti: str
    exp: float | None = None
    nbf: float | None = None
    application_id: str | None = None
    api_key: str | None = None
    payload_hash: str | None = None


class _Refused(Exception):
    """The text says why."""


_header_decoder = msgspec.json.Decoder(_Header)
_claims_decoder = msgspec.json.Decoder(_Claims)


class JtiBook:
    """The ids of upgrades that were let in, so that no token opens two sockets. Bounded; times are Unix seconds.

    It is the memory of one process: enough beside the one-time call token, which all processes share.
    """

    __slots__ = ("_capacity", "_until_s")

    def __init__(self, capacity: int = JTIS_REMEMBERED) -> None:
        if capacity < 1:
            raise LocalError(f"a book of ids needs room, got capacity={capacity}")
        self._capacity = capacity
        self._until_s: dict[bytes, float] = {}  # by digest, in order of arrival, which is nearly that of expiry

    def __len__(self) -> int:
        return len(self._until_s)

    def use(self, jti: str, until_unix_s: float, unix_s: float) -> bool:
        """Use up this id, remembering it until ``until_unix_s``; False when it was used before."""
        book = self._until_s
        while book and book[oldest := next(iter(book))] < unix_s:
            del book[oldest]
        digest = hashlib.sha256(_utf8(jti)).digest()
        if digest in book:
            return False
        if len(book) >= self._capacity:
            del book[next(iter(book))]
        book[digest] = until_unix_s
        return True


# --- verify ----------------------------------------------------------------------------------------------


def verify_webhook(keys: VonageKeys, headers: Mapping[str, str], body: bytes, unix_s: float) -> Verdict:
    """Verify a webhook. ``headers`` have lower-case names, ``body`` is raw and empty for GET."""
    try:
        claims = _verified(keys, headers, unix_s)
        _check_body(keys, claims, body)
    except _Refused as refused:
        return Verdict(str(refused))
    return Verdict("", claims.jti, claims.iat + MAX_AGE_S + CLOCK_SKEW_S)


def verify_upgrade(keys: VonageKeys, headers: Mapping[str, str], unix_s: float) -> Verdict:
    """Verify the upgrade request of a media socket, which has no body."""
    return verify_webhook(keys, headers, b"", unix_s)


def _verified(keys: VonageKeys, headers: Mapping[str, str], unix_s: float) -> _Claims:
    secrets = [secret for secret in keys.signature_secrets if secret]
    if not secrets:
        raise _Refused("VONAGE_SIGNATURE_SECRET is not set, so nothing can be verified")
    token = _bearer(headers)
    signed, _, signature = token.rpartition(".")
    head, separator, payload = signed.partition(".")
    if not separator or "." in payload:
        raise _Refused("the token is no JWT of three parts")
    header = _decoded(_header_decoder, head, "header")
    if header.alg != _ALGORITHM:
        raise _Refused(f"the token's algorithm is not {_ALGORITHM}")
    if header.crit is not None:
        raise _Refused("the token has extensions that must be understood")
    given = _utf8(signature)
    genuine = False
    for secret in secrets:  # all of them, so that the time taken tells nothing
        genuine |= hmac.compare_digest(_mac(secret, signed), given)
    if not genuine:
        raise _Refused("the token's signature does not match; is VONAGE_SIGNATURE_SECRET the account's?")
    claims = _decoded(_claims_decoder, payload, "claims")
    _check_time(claims, unix_s)
    _check_names(keys, claims)
    return claims


def _bearer(headers: Mapping[str, str]) -> str:
    value = headers.get(HEADER, "").strip(" \t")
    if not value:
        raise _Refused("no Authorization header")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _Refused("the Authorization header has no bearer token")
    token = token.strip(" \t")
    if len(token) > MAX_TOKEN_CHARS:
        raise _Refused(f"a token of more than {MAX_TOKEN_CHARS} characters")
    return token


def _check_time(claims: _Claims, unix_s: float) -> None:
    if not 0 < len(claims.jti) <= MAX_JTI_CHARS:
        raise _Refused(f"the token's jti is empty or longer than {MAX_JTI_CHARS} characters")
    if max(claims.iat, claims.nbf or 0.0) > unix_s + CLOCK_SKEW_S:
        raise _Refused("the token is of the future; is this machine's clock right?")
    if claims.iat + MAX_AGE_S + CLOCK_SKEW_S < unix_s:
        raise _Refused("the token is too old; is this machine's clock right?")
    if claims.exp is not None and claims.exp + CLOCK_SKEW_S <= unix_s:
        raise _Refused("the token has expired; is this machine's clock right?")


def _check_names(keys: VonageKeys, claims: _Claims) -> None:
    for ours, given, name, setting in (
        (keys.application_id, claims.application_id, "application_id", "VONAGE_APPLICATION_ID"),
        (keys.api_key, claims.api_key, "api_key", "VONAGE_API_KEY"),
    ):
        if ours and given is not None and not hmac.compare_digest(_utf8(ours.lower()), _utf8(given.lower())):
            raise _Refused(f"the token's {name} is not {setting}")


def _check_body(keys: VonageKeys, claims: _Claims, body: bytes) -> None:
    if not body:
        return
    if claims.payload_hash is None:
        if keys.require_payload_hash:
            raise _Refused("the token has no payload_hash, so it does not cover the body")
        return
    actual = hashlib.sha256(body).hexdigest()
    if not hmac.compare_digest(actual.encode(), _utf8(claims.payload_hash.lower())):
        raise _Refused("the body does not match the token's payload_hash; a proxy must pass it on unchanged")


def _decoded(decoder: msgspec.json.Decoder[_T], part: str, name: str) -> _T:
    try:
        return decoder.decode(_unpadded(part))
    except (ValueError, RecursionError, msgspec.MsgspecError):  # not quoted: it is the peer's
        raise _Refused(f"the token's {name} cannot be read") from None


def _unpadded(part: str) -> bytes:
    """The bytes of base64url without padding; ``ValueError`` for anything else (RFC 7515, 2)."""
    if not part.isascii() or "=" in part or "+" in part or "/" in part:
        raise ValueError
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError from None


# --- sign, for the simulators ------------------------------------------------------------------------------


def sign_request(
    secret: str, *, iat_s: int, jti: str, application_id: str = "", api_key: str = "", body: bytes = b""
) -> str:
    """Sign a webhook or an upgrade as Vonage does: the value of the ``Authorization`` header."""
    claims: dict[str, object] = {"iat": iat_s, "jti": jti, "iss": _ISSUER}
    if body:
        claims["payload_hash"] = hashlib.sha256(body).hexdigest()
    claims |= {name: value for name, value in (("api_key", api_key), ("application_id", application_id)) if value}
    signed = ".".join(base64url(_json(part)) for part in ({"alg": _ALGORITHM, "typ": "JWT"}, claims))
    return f"Bearer {signed}.{_mac(secret, signed).decode()}"


def base64url(data: bytes) -> str:
    """RFC 7515, 2: without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _mac(secret: str, signed: str) -> bytes:
    """The signature as it stands in the token; compared as text, so that only one writing of it is good."""
    return base64url(hmac.digest(_utf8(secret), _utf8(signed), "sha256")).encode()


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _utf8(text: str) -> bytes:
    # Never raises, whatever the server's decoding of a hostile header left in the text.
    return text.encode("utf-8", "surrogatepass")
