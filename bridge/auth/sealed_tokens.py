"""One-time call tokens that carry what they stand for: any process that knows the secret can read them.

Theory of operation: ``token.payload.mac``, three parts in base64url. The payload is the end of the token's life and the
claims as JSON; the MAC is HMAC-SHA256 over both parts and the carrier's id of the call, cut to 128 bits. The key is
derived from a secret that all processes have anyway, and that the carrier shares: its own. So a media socket can be let
in although the process that answered its webhook cannot be asked, because what they share is down or was emptied.

What it is not: used once. That takes memory, and is for whoever redeems (``bridge.server.call_tokens``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from bridge.auth.tokens import CallClaims, TokenProblem

MAX_TOKEN_CHARS = 450
"""Name and value of a Twilio parameter have fewer than 500 characters together."""
MAC_BYTES = 16
SKEW_S = 30.0
"""How far the clocks of two processes may differ."""

_LABEL = b"telephony-bridge call token 1"


class _Payload(msgspec.Struct, frozen=True, array_like=True):
    expires_unix_s: float
    claims: CallClaims


_decoder = msgspec.json.Decoder(_Payload)


class Sealer:
    """Seals with the first of its secrets and reads what any of them sealed; without one it seals nothing."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._keys = tuple(hmac.digest(secret.encode(), _LABEL, hashlib.sha256) for secret in secrets if secret)

    def seal(self, token: str, call_sid: str, claims: CallClaims, expires_unix_s: float) -> str:
        """The token with its claims; the bare token where they are too long, or there is no secret.

        ``token`` is random and in the alphabet of base64url.
        """
        if not self._keys:
            return token
        body = f"{token}.{_text(msgspec.json.encode(_Payload(expires_unix_s, claims)))}"
        sealed = f"{body}.{_mac(self._keys[0], body, call_sid)}"
        return sealed if len(sealed) <= MAX_TOKEN_CHARS else token

    def unseal(self, sealed: str, call_sid: str, now_unix_s: float) -> CallClaims | TokenProblem:
        """What the token stands for, or why it is refused; a forged one and another call's are both ``UNKNOWN``."""
        if len(sealed) > MAX_TOKEN_CHARS or not sealed.isascii() or sealed.count(".") != 2:
            return TokenProblem.UNKNOWN
        body, _, mac = sealed.rpartition(".")
        # As text: several texts decode to the same bytes, and each would be a token that was not used yet.
        if not any(hmac.compare_digest(_mac(key, body, call_sid), mac) for key in self._keys):
            return TokenProblem.UNKNOWN
        try:
            payload = _decoder.decode(_bytes(body.partition(".")[2]))
        except msgspec.MsgspecError:  # of another version of this program
            return TokenProblem.UNKNOWN
        return TokenProblem.EXPIRED if now_unix_s >= payload.expires_unix_s + SKEW_S else payload.claims


def _mac(key: bytes, body: str, call_sid: str) -> str:
    text = f"{body}.{call_sid}".encode("utf-8", "surrogatepass")
    return _text(hmac.digest(key, text, hashlib.sha256)[:MAC_BYTES])


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
