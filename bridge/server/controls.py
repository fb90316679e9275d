"""The carriers' control clients, made of the settings: one for each carrier that there are credentials for."""

from __future__ import annotations

import time
import uuid

import httpx

from bridge.auth.vonage_application import TokenMint, load_private_key
from bridge.config import Settings
from bridge.providers import twilio, vonage
from bridge.server.call_pace import PaceOptions
from bridge.server.carrier_control import CarrierControl
from bridge.server.twilio_control import TwilioControl, TwilioControlOptions
from bridge.server.twilio_rest import TwilioRest, TwilioRestOptions
from bridge.server.vonage_control import VonageControl, VonageControlOptions
from bridge.server.vonage_rest import VonageApiOptions, VonageRest
from bridge.settings.base import ring


def open_controls(settings: Settings) -> dict[str, CarrierControl]:
    """The clients by their carriers' names. Made inside the event loop; close them."""
    controls: dict[str, CarrierControl] = {}
    if settings.twilio_rest_credentials is not None:
        controls[twilio.NAME] = TwilioControl(
            TwilioRest(twilio_rest_options(settings)), twilio_control_options(settings)
        )
    if settings.vonage_application_id and settings.vonage_private_key is not None:
        controls[vonage.NAME] = open_vonage(settings)
    return controls


def open_vonage(settings: Settings) -> VonageControl:
    """The client of Vonage, with the application's key."""
    assert settings.vonage_application_id is not None
    assert settings.vonage_private_key is not None
    key = load_private_key(settings.vonage_private_key.get_secret_value())
    mint = TokenMint(key, settings.vonage_application_id, unix=time.time, new_jti=lambda: str(uuid.uuid4()))
    timeout_s = settings.carrier_request_timeout_s
    client = httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=False)
    rest = VonageRest(client, mint, VonageApiOptions(settings.vonage_api_base_url, timeout_s))
    return VonageControl(rest, VonageControlOptions(settings.instance_base_url))


def twilio_rest_options(settings: Settings) -> TwilioRestOptions:
    """See ``TwilioRestOptions``."""
    tokens, secret = ring(settings.twilio_auth_token), settings.twilio_api_key_secret
    return TwilioRestOptions(
        account_sid=settings.twilio_account_sid or "",
        auth_token=tokens[0] if tokens else "",
        api_key=settings.twilio_api_key.get_secret_value() if settings.twilio_api_key is not None else "",
        api_key_secret=secret.get_secret_value() if secret is not None else "",
        sub_account_tokens={account: ring_[0] for account, ring_ in settings.twilio_keys.subaccount_tokens.items()},
        base_url=settings.twilio_api_base_url,
        edge=settings.twilio_edge or "",
        region=settings.twilio_region or "",
        timeout_s=settings.carrier_request_timeout_s,
    )


def twilio_control_options(settings: Settings) -> TwilioControlOptions:
    """See ``TwilioControlOptions``."""
    numbers = settings.twilio_from_numbers
    return TwilioControlOptions(
        callback_base=settings.instance_base_url,
        stream_url=settings.instance_ws_url + twilio.SPEC.media_paths[0],
        caller_id=numbers[0] if numbers else "",
        pace=PaceOptions(calls_per_second=settings.twilio_calls_per_second),
    )
