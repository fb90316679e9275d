"""Twilio's signatures on what it sends to a bridge, written apart from ``bridge.auth.twilio`` so that each checks the
other.

Source: Twilio docs "Webhooks security" (read 2026-11-21); twilio-python 9.13 ``request_validator.py`` is the oracle
in the tests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

SIGNATURE_HEADER = "X-Twilio-Signature"
SETTINGS_HEADER = "X-Twilio-Webhooks-Signature-Settings"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with an auth token, or with a SharedKey where there is one."""

    auth_token: str = field(repr=False)
    """Empty = nothing is signed."""
    shared_key: tuple[str, str] | None = field(default=None, repr=False)
    """Id and secret; for webhooks only."""

    def webhook(self, url: str, form: Mapping[str, str]) -> dict[str, str]:
        """Headers of a webhook: ``url`` as requested, with its query; ``form`` empty for GET."""
        text = url + "".join(name + form[name] for name in sorted(form))
        if self.shared_key is not None:
            key_id, secret = self.shared_key
            settings = f"key={key_id},algorithm=HMAC_SHA256"
            return {SIGNATURE_HEADER: _sign(secret, text, "sha256"), SETTINGS_HEADER: settings}
        return {SIGNATURE_HEADER: _sign(self.auth_token, text, "sha1")} if self.auth_token else {}

    def upgrade(self, wss_url: str) -> dict[str, str]:
        """Headers of a media socket's upgrade; ``wss_url`` as in the TwiML."""
        return {SIGNATURE_HEADER: _sign(self.auth_token, wss_url, "sha1")} if self.auth_token else {}


def _sign(secret: str, text: str, digest: str) -> str:
    mac = hmac.new(secret.encode(), text.encode(), getattr(hashlib, digest))
    return base64.b64encode(mac.digest()).decode("ascii")
