"""Signs the upgrade request as Genesys Cloud does: HTTP message signatures with a shared secret.

Only what Genesys uses of them: six covered components, ``hmac-sha256``, one signature labelled ``sig1``. It verifies
nothing, and is independent of ``bridge.auth`` on purpose: each is a check on the other.

Sources: RFC 9421 section 2.5 (signature base) and 3.3.3 (hmac-sha256); Genesys Cloud Developer Center, "AudioHook
security" and the test vector of its reference implementation (read 2026-11-22).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

REFERENCE_ORDER = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)
"""All components that Genesys covers, in the order of the vendor's reference client."""

PRODUCTION_ORDER = (
    "@request-target",
    "audiohook-session-id",
    "audiohook-organization-id",
    "audiohook-correlation-id",
    "x-api-key",
    "@authority",
)
"""The same in the order seen from the production service: the order is not fixed, Signature-Input tells it."""

LIFETIME_S = 30
"""From ``created`` to ``expires``, as the reference client has it."""

NONCE_BYTES = 18
"""Random bytes of a nonce, as the reference client takes: 24 characters of base64."""

LABEL = "sig1"

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True, slots=True)
class Key:
    """Who signs."""

    key_id: str
    """The API key; goes into ``keyid`` and must equal X-API-KEY."""
    secret: bytes
    """The client secret, base64 decoded."""


def decode_secret(text: str) -> bytes:
    """The bytes of a client secret as Genesys shows it: base64, whose padding may be missing.

    Raises ``ValueError`` (without the text) if it is not base64 or empty.
    """
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not secret:
        raise ValueError("the client secret is not base64")
    return secret


def target_and_authority(url: str) -> tuple[str, str]:
    """``@request-target`` (path and query as they stand) and ``@authority`` of a ws, wss, http or https URL.

    The authority is lower case and without the scheme's default port (RFC 9421 section 2.2.3).
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = parts.netloc.rpartition("@")[2].lower()
    default_port = _DEFAULT_PORTS.get(parts.scheme)
    return target, authority.removesuffix(f":{default_port}")


def sign_upgrade(
    values: Mapping[str, str],
    key: Key,
    *,
    nonce: str,
    created_s: int,
    expires_s: int | None = None,
    order: Sequence[str] = PRODUCTION_ORDER,
) -> dict[str, str]:
    """The two headers ``Signature-Input`` and ``Signature``.

    ``values`` holds the value of every component named in ``order``; times are Unix seconds.
    """
    expires_s = created_s + LIFETIME_S if expires_s is None else expires_s
    names = " ".join(f'"{name}"' for name in order)
    parameters = (
        f'({names});keyid="{key.key_id}";nonce="{nonce}";alg="hmac-sha256";created={created_s};expires={expires_s}'
    )
    lines = [*(f'"{name}": {values[name].strip()}' for name in order), f'"@signature-params": {parameters}']
    digest = hmac.new(key.secret, "\n".join(lines).encode("ascii"), hashlib.sha256).digest()
    return {
        "Signature-Input": f"{LABEL}={parameters}",
        "Signature": f"{LABEL}=:{base64.b64encode(digest).decode('ascii')}:",
    }
