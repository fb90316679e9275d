"""Twilio."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from bridge.auth.twilio import TwilioKeys, parse_shared_keys
from bridge.settings.base import Topic, ring, setting


def _shared_keys(value: SecretStr) -> SecretStr:
    parse_shared_keys(ring(value))
    return value


class TwilioSettings(Topic):
    """Twilio."""

    twilio_account_sid: str | None = setting(
        None,
        "Twilio account whose calls are taken: `AC` and 32 hex digits.",
        pattern=r"^AC[0-9a-fA-F]{32}$",
        expected="AC and 32 hex digits",
    )
    twilio_auth_token: SecretStr | None = setting(
        None,
        "Primary auth token that signs Twilio's requests. While it is rotated: old and new one with a "
        "comma between. Unset: Twilio's requests are refused while `BRIDGE_AUTH` is `on`.",
    )
    twilio_shared_keys: Annotated[SecretStr, AfterValidator(_shared_keys)] | None = setting(
        None,
        "Twilio SharedKeys as `id=secret,id=secret`. Once set, webhooks signed with the auth token alone "
        "are refused, so set it together with Twilio's side.",
    )

    @property
    def twilio_keys(self) -> TwilioKeys:
        """What may sign Twilio's requests."""
        return TwilioKeys(ring(self.twilio_auth_token), parse_shared_keys(ring(self.twilio_shared_keys)))
