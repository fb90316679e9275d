"""What is still to be set before calls can work: one sentence each, for the log, the console and ``/readyz``."""

from __future__ import annotations

from bridge.config import Settings


def problems_of(settings: Settings) -> tuple[str, ...]:
    """Every problem, then what works but is hardly meant."""
    return (*_missing(settings), *settings.cautions)


def _missing(settings: Settings) -> list[str]:
    missing = []
    if not settings.elevenlabs_agent_id:
        missing.append("Set ELEVENLABS_AGENT_ID: no agent is there to take calls.")
    over_http = _twilio_is_set(settings) or settings.genesys_api_key or settings.vonage_signature_secrets
    if settings.bridge_auth == "on" and not over_http and not settings.has_sip:
        missing.append(
            "Set TWILIO_AUTH_TOKEN, GENESYS_API_KEY or VONAGE_SIGNATURE_SECRET: requests of carriers cannot be "
            "verified and are refused. Or set SIP_UDP_PORT and SIP_ALLOWED_ADDRESSES for a SIP trunk."
        )
    if settings.public_url is None:
        missing.append("Set PUBLIC_URL: carriers cannot reach this machine by its loopback address.")
    elif settings.public_url.startswith("http:") and settings.bridge_auth == "on":
        missing.append("Set PUBLIC_URL to an https address: carriers connect to media sockets by wss only.")
    if settings.bridge_auth == "on" and not settings.api_keys:
        missing.append("Set BRIDGE_API_KEY: without a key nobody can ask the API below /v1 for calls.")
    return missing


def _twilio_is_set(settings: Settings) -> bool:
    return bool(settings.twilio_keys.auth_tokens or settings.twilio_keys.shared_keys)
