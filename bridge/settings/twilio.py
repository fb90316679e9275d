"""Twilio: whose requests are taken, and the credentials for its REST interface."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr, ValidationInfo, field_validator

from bridge.auth.twilio import TwilioKeys, parse_shared_keys, parse_subaccount_tokens
from bridge.settings.base import HttpUrl, Number, OwnNumbers, Topic, ring, setting

_API_KEY = re.compile(r"SK[0-9a-fA-F]{32}")


def _shared_keys(value: SecretStr) -> SecretStr:
    parse_shared_keys(ring(value))
    return value


def _api_key(value: SecretStr) -> SecretStr:
    if not _API_KEY.fullmatch(value.get_secret_value()):
        raise ValueError("is no SID of an API key; give SK and 32 hex digits")
    return value


def _subaccount_tokens(value: SecretStr) -> SecretStr:
    parse_subaccount_tokens(ring(value))
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
    twilio_subaccount_tokens: Annotated[SecretStr, AfterValidator(_subaccount_tokens)] | None = setting(
        None,
        "Auth tokens of subaccounts whose calls are taken besides, as `AC...=token,AC...=token`: each signs the "
        "requests of its own account only.",
    )
    twilio_api_key: Annotated[SecretStr, AfterValidator(_api_key)] | None = setting(
        None,
        "SID of an API key (`SK` and 32 hex digits) for requests to Twilio, which can be revoked without touching the "
        "account. Unset: the first `TWILIO_AUTH_TOKEN` is used for them.",
        restart=True,
    )
    twilio_api_key_secret: SecretStr | None = setting(None, "Secret that belongs to `TWILIO_API_KEY`.", restart=True)
    twilio_api_base_url: HttpUrl = setting(
        "https://api.twilio.com",
        "Twilio's REST interface; another address for trials against a simulator.",
        restart=True,
    )
    twilio_edge: str | None = setting(
        None,
        "Edge through which REST requests enter Twilio, such as `dublin`. Goes with `TWILIO_REGION`.",
        pattern=r"^[a-z][a-z0-9-]{1,31}$",
        expected="an edge such as dublin",
        restart=True,
    )
    twilio_region: str | None = setting(
        None,
        "Region in which the account's calls are processed, such as `ie1`; the credentials must be that region's. "
        "Unset: `us1`.",
        pattern=r"^[a-z]{2}[0-9]{1,2}$",
        expected="a region such as ie1",
        restart=True,
    )
    twilio_from_numbers: OwnNumbers = setting(
        (),
        "Numbers of the account that placed calls may come from, with commas between them; the first is the default. "
        "Unset: no calls are placed over Twilio.",
    )
    twilio_calls_per_second: Number = setting(
        1,
        "How fast calls are placed; Twilio allows an account one a second unless it was asked for more.",
        unit="calls/s",
        gt=0,
        le=1000,
        restart=True,
    )

    @field_validator("twilio_api_key_secret")
    @classmethod
    def _key_has_a_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        _check_pair(value is not None, "twilio_api_key", info)
        return value

    @field_validator("twilio_region")
    @classmethod
    def _edge_has_a_region(cls, value: str | None, info: ValidationInfo) -> str | None:
        _check_pair(value is not None, "twilio_edge", info)
        return value

    @property
    def twilio_keys(self) -> TwilioKeys:
        """What may sign Twilio's requests."""
        return TwilioKeys(
            ring(self.twilio_auth_token),
            parse_shared_keys(ring(self.twilio_shared_keys)),
            parse_subaccount_tokens(ring(self.twilio_subaccount_tokens)),
        )

    @property
    def twilio_rest_credentials(self) -> tuple[str, str] | None:
        """User and password of REST requests: the API key where there is one, else account and token."""
        if self.twilio_account_sid is None:
            return None  # every path names the account
        if self.twilio_api_key is not None and self.twilio_api_key_secret is not None:
            return self.twilio_api_key.get_secret_value(), self.twilio_api_key_secret.get_secret_value()
        tokens = ring(self.twilio_auth_token)
        return (self.twilio_account_sid, tokens[0]) if tokens else None


def _check_pair(is_set: bool, other: str, info: ValidationInfo) -> None:
    """Two settings go together. Nothing is said where the other one is wrong anyway."""
    if other not in info.data:
        return
    other_is_set = info.data[other] is not None
    if other_is_set and not is_set:
        raise ValueError(f"is not set although {other.upper()} is; set both or neither")
    if is_set and not other_is_set:
        raise ValueError(f"is set although {other.upper()} is not; set both or neither")
