"""Settings that work but are hardly meant: one sentence each, with the mend. They are logged at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.config import Settings


def find_cautions(settings: Settings) -> tuple[str, ...]:
    """What the operator should look at once more; empty = nothing."""
    return (*_of_webhooks(settings), *_of_carriers(settings), *_of_limits_and_storage(settings), *_of_voices(settings))


def _of_webhooks(settings: Settings) -> list[str]:
    if (settings.webhook_url or settings.dtmf_webhook_url) and not settings.webhook_signing_secret:
        return ["Set WEBHOOK_SECRET: webhooks go out unsigned, and whoever receives them cannot trust them."]
    return []


def _of_carriers(settings: Settings) -> list[str]:
    """Credentials that lack their other half."""
    found = []
    if settings.genesys_client_secret and not settings.genesys_api_key:
        found.append("Set GENESYS_API_KEY: Genesys' requests are refused without it, signed or not.")
    if settings.twilio_api_key and not settings.twilio_auth_token:
        found.append("Set TWILIO_AUTH_TOKEN: the API key signs no webhooks, so Twilio's requests are refused.")
    if (settings.twilio_api_key or settings.twilio_from_numbers) and not settings.twilio_account_sid:
        found.append("Set TWILIO_ACCOUNT_SID: without it nothing can be asked of Twilio.")
    elif settings.twilio_from_numbers and settings.twilio_rest_credentials is None:
        found.append("Set TWILIO_AUTH_TOKEN or TWILIO_API_KEY: without them no call is placed over Twilio.")
    if settings.vonage_private_key and not settings.vonage_application_id:
        found.append("Set VONAGE_APPLICATION_ID: the private key signs nothing without it.")
    if settings.vonage_application_id and not settings.vonage_private_key:
        found.append("Set VONAGE_PRIVATE_KEY: without it calls cannot be placed, transferred or sent tones.")
    if settings.vonage_application_id and not settings.vonage_signature_secret:
        found.append("Set VONAGE_SIGNATURE_SECRET: Vonage's requests are refused without it.")
    return found


def _of_limits_and_storage(settings: Settings) -> list[str]:
    found = []
    if settings.burst and settings.workspace_concurrency is None:
        found.append("Set WORKSPACE_CONCURRENCY: without it BURST has no effect.")
    if settings.retention_transcripts_days > settings.retention_records_days:
        found.append("Raise RETENTION_RECORDS_DAYS: transcripts go with their records, so they are kept no longer.")
    if settings.recording and not settings.retention_audio_days:
        found.append("Raise RETENTION_AUDIO_DAYS: at 0 nothing is recorded although RECORDING is on.")
    if settings.flight_recorder == "all" and not settings.retention_flights_days:
        found.append("Raise RETENTION_FLIGHTS_DAYS: at 0 nothing is written although FLIGHT_RECORDER is all.")
    return found


def _of_voices(settings: Settings) -> list[str]:
    if settings.voicemail_action == "leave_message" and not (settings.voicemail_message or settings.voicemail_audio):
        return ["Set VOICEMAIL_MESSAGE or VOICEMAIL_AUDIO: VOICEMAIL_ACTION has nothing to leave."]
    return []
