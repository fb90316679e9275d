"""Genesys Cloud Audio Connector."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, SecretStr

from bridge.auth.genesys import decode_secret
from bridge.settings.base import CommaList, Lower, Number, Topic, ring, setting

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def _client_secrets(value: SecretStr) -> SecretStr:
    for place, secret in enumerate(ring(value), 1):
        try:
            decode_secret(secret)
        except ValueError:
            raise ValueError(f"entry {place} is no base64 text; copy the client secret again from Genesys") from None
    return value


def _organizations(ids: tuple[str, ...]) -> tuple[str, ...]:
    for place, text in enumerate(ids, 1):
        if not _UUID.fullmatch(text):
            raise ValueError(f"entry {place} is no UUID; copy the organization ID again from Genesys")
    return tuple(text.lower() for text in ids)


class GenesysSettings(Topic):
    """Genesys."""

    genesys_api_key: SecretStr | None = setting(
        None,
        "API key that Genesys sends as `X-API-KEY`. While it is rotated: old and new one with a comma between. Unset: "
        "Genesys' requests are refused while `BRIDGE_AUTH` is `on`.",
    )
    genesys_client_secret: Annotated[SecretStr, AfterValidator(_client_secrets)] | None = setting(
        None,
        "Client secret with which Genesys signs its requests, base64 as Genesys shows it; several with commas between "
        "them while it is rotated. Once set, unsigned requests are refused.",
    )
    genesys_organization_id: Annotated[tuple[str, ...], CommaList, AfterValidator(_organizations)] = setting(
        (),
        "Genesys organizations whose calls are taken, UUIDs with commas between them. Unset: any that has the key.",
    )
    genesys_when_full: Annotated[Literal["retry", "overflow", "refuse"], Lower] = setting(
        "retry",
        "What Genesys is told when no slot is free: `retry` = an error, and it tries again up to five times with "
        "growing pauses; `overflow` = done, with the output variable `overflow` set, so that the flow goes on at "
        "once; `refuse` = 503 before a session begins, where that is known so early.",
    )
    genesys_output_wait_s: Number = setting(
        5,
        "How long the conversation's results (data collection) are waited for before the flow goes on with what is "
        "known; the caller hears a soft tone meanwhile. 0 = not at all.",
        unit="s",
        ge=0,
        le=30,
    )
