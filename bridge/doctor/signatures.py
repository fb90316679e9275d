"""Signature self-tests by the public address: a request signed as the carrier signs is let in, a wrong one is not.

They find what no look at settings can: a proxy that changes host, path or query, a PUBLIC_URL that differs by one
letter from where requests arrive, and a proxy that does not pass WebSocket upgrades. Nothing is called: the Twilio
status report is about a call that does not exist, and sockets are closed before a call begins on them.

Sources: Twilio docs "Webhooks security"; Vonage docs "Signed webhooks"; Genesys AudioHook "Connection probe".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from bridge.auth.twilio import SETTINGS_HEADER, SIGNATURE_HEADER, sign_upgrade, sign_webhook
from bridge.auth.vonage import sign_request
from bridge.config import Settings
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.tools import Tools, words_of
from bridge.providers import twilio, vonage
from bridge.settings.base import ring
from bridge.simulators.genesys_caller import GenesysCall, GenesysCallOptions
from bridge.simulators.genesys_result import GenesysResult

TWILIO_NAME, SOCKET_NAME, GENESYS_NAME = "Twilio: signature", "Twilio: media socket", "Genesys: probe"
VONAGE_NAME, VONAGE_SOCKET_NAME = "Vonage: signature", "Vonage: media socket"
OPEN_TIMEOUT_S = 6.0
PROBE_S = 8.0
"""A connection probe is over in milliseconds."""

AUTH_OFF = "BRIDGE_AUTH is off, so nothing is verified"
NOBODY_HERE = "there is no bridge to ask"
PROXY_MEND = (
    "Have the proxy pass host, path and query on unchanged, and set PUBLIC_URL to the letter as the carrier was told."
)
UPGRADE_MEND = (
    "Have the proxy pass WebSocket upgrades (nginx: proxy_http_version 1.1, headers Upgrade $http_upgrade and "
    "Connection upgrade)."
)
REACH_MEND = "Make PUBLIC_URL reachable first: see what was found about it above."
STRANGER_MEND = "Find out what answers there: whoever knows the address could place calls at your expense."


# --- Twilio ----------------------------------------------------------------------------------------------


def twilio_headers(settings: Settings, url: str, form: Sequence[tuple[str, str]] | None) -> dict[str, str]:
    """Twilio's signature of a webhook (``form``) or of an upgrade (None), with whichever secret is set."""
    keys = settings.twilio_keys
    for key_id, secret in keys.shared_keys.items():
        text = url + "".join(name + value for name, value in sorted(set(form or ())))
        digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
        return {
            SIGNATURE_HEADER: base64.b64encode(digest).decode(),
            SETTINGS_HEADER: f"key={key_id},algorithm=HMAC_SHA256",
        }
    token = keys.auth_tokens[0]
    signature = sign_upgrade(token, url) if form is None else sign_webhook(token, url, form)
    return {SIGNATURE_HEADER: signature}


async def check_twilio_webhook(tools: Tools) -> Finding:
    """A status report that is signed, and one that is not."""
    settings = tools.settings
    url = settings.public_base_url + "/twilio/status"
    form = [
        ("AccountSid", settings.twilio_account_sid or "AC" + "0" * 32),
        ("CallSid", "CA" + "0" * 32),
        ("CallStatus", "ringing"),
    ]
    try:
        signed = await tools.http.post(url, data=dict(form), headers=twilio_headers(settings, url, form))
        wrong = await tools.http.post(url, data=dict(form), headers={SIGNATURE_HEADER: _noise()})
    except httpx.HTTPError as error:
        return failed(TWILIO_NAME, f"{url} cannot be reached: {words_of(error)}", REACH_MEND)
    return judge_webhook(TWILIO_NAME, "/twilio/status", signed.status_code, wrong.status_code)


def judge_webhook(name: str, path: str, signed: int, wrong: int) -> Finding:
    """What to make of the HTTP statuses of a signed and a wrongly signed request."""
    if signed in (401, 403):
        return failed(name, f"{path} refuses a rightly signed request (HTTP {signed})", PROXY_MEND)
    if not 200 <= signed < 300:
        return failed(name, f"{path} answers a signed request with HTTP {signed}", PROXY_MEND)
    if wrong not in (401, 403):
        return failed(name, f"{path} answers a wrongly signed request with HTTP {wrong}", STRANGER_MEND)
    return ok(name, "a signed request is let in, a wrong one is refused")


async def check_twilio_socket(tools: Tools) -> Finding:
    """An upgrade that is signed; closed at once, before a call begins on it."""
    settings = tools.settings
    path = twilio.SPEC.media_paths[0]
    url = settings.public_ws_url + path
    signed, problem = await _upgrade(tools, url, twilio_headers(settings, url, None))
    wrong, _ = await _upgrade(tools, url, {SIGNATURE_HEADER: _noise()}) if signed == 101 else (403, "")
    return judge_socket(SOCKET_NAME, path, signed, wrong, problem)


def judge_socket(name: str, path: str, signed: int, wrong: int, problem: str) -> Finding:
    """What to make of upgrades; 0 = no connection, 101 = a WebSocket."""
    if signed == 0:
        return failed(name, f"no connection to {path}: {problem}", f"{REACH_MEND} {UPGRADE_MEND}")
    if signed == 503:
        return warning(name, f"{path} has no room or is shutting down (HTTP 503)", "Look again when it is less busy.")
    if signed in (401, 403):
        return failed(name, f"{path} refuses a rightly signed upgrade (HTTP {signed})", PROXY_MEND)
    if signed != 101:
        return failed(name, f"{path} does not become a WebSocket (HTTP {signed})", UPGRADE_MEND)
    if wrong == 101:
        return failed(name, f"{path} lets in a wrongly signed upgrade", STRANGER_MEND)
    return ok(name, "upgrades pass; a signed one is let in, a wrong one is refused")


async def _upgrade(tools: Tools, url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """HTTP status of an upgrade, and words where there was none."""
    try:
        connection = await connect(
            url,
            additional_headers=dict(headers),
            ssl=tools.tls if url.startswith("wss:") else None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=1.0,
            compression=None,
            proxy=None,
        )
    except InvalidStatus as error:
        return error.response.status_code, ""
    except (InvalidHandshake, OSError, TimeoutError) as error:
        return 0, type(error).__name__
    await connection.close()
    return 101, ""


# --- Genesys ---------------------------------------------------------------------------------------------


async def check_genesys(tools: Tools) -> Finding:
    """A connection probe, as when the integration is activated; then one with a wrong key."""
    settings = tools.settings
    keys, signing = ring(settings.genesys_api_key), ring(settings.genesys_client_secret)
    right = await _probe(tools, keys[0], signing[0] if signing else "")
    if right.ended_by != "probe":
        return judge_probe(right, 401)
    return judge_probe(right, (await _probe(tools, _noise(), "")).http_status)


async def _probe(tools: Tools, key: str, secret: str) -> GenesysResult:
    settings = tools.settings
    organization = settings.genesys_organization_id
    call = GenesysCall(
        GenesysCallOptions(
            to=f"{settings.public_ws_url}/genesys/",
            connector_id=settings.elevenlabs_agent_id or "agent",
            api_key=key,
            client_secret=secret,
            organization_id=organization[0] if organization else "",
            public_url=settings.public_base_url,
            probe=True,
            keep_audio=False,
            max_duration_s=PROBE_S,
        )
    )
    return await call.run()


def judge_probe(right: GenesysResult, wrong_status: int) -> Finding:
    """What to make of a probe, and of the HTTP status of one with a wrong key."""
    path = "/genesys/"
    if right.http_status in (401, 403):
        return failed(GENESYS_NAME, f"{path} refuses a rightly signed probe (HTTP {right.http_status})", PROXY_MEND)
    if right.http_status == 503:
        return warning(
            GENESYS_NAME, f"{path} has no room or is shutting down (HTTP 503)", "Look again when it is less busy."
        )
    if right.http_status:
        return failed(GENESYS_NAME, f"{path} does not become a WebSocket (HTTP {right.http_status})", UPGRADE_MEND)
    if right.ended_by == "refused":
        return failed(GENESYS_NAME, right.refusal, f"{REACH_MEND} {UPGRADE_MEND}")
    if right.ended_by != "probe" or right.breaches:
        why = f"breach {right.breaches[0].code}" if right.breaches else f"ended by {right.ended_by}"
        return failed(GENESYS_NAME, f"the probe went wrong: {why}", "Look at the bridge's log for the session's end.")
    if wrong_status not in (401, 403):
        return failed(GENESYS_NAME, f"a probe with a wrong key got HTTP {wrong_status or 101}", STRANGER_MEND)
    return ok(GENESYS_NAME, "goes well; a wrong key is refused")


# --- Vonage ----------------------------------------------------------------------------------------------


async def check_vonage(tools: Tools, secret: str) -> Finding:
    """An event that is signed, and one that is not."""
    url = tools.settings.public_base_url + "/vonage/events"
    application_id = tools.settings.vonage_application_id or ""
    nobody = "00000000-0000-0000-0000-000000000000"
    body = json.dumps({"status": "ringing", "uuid": nobody, "conversation_uuid": f"CON-{nobody}"}).encode()
    statuses = []
    try:
        for key in (secret, _noise()):
            signed = sign_request(
                key, iat_s=int(tools.unix()), jti=tools.new_nonce(), application_id=application_id, body=body
            )
            headers = {"Authorization": signed, "Content-Type": "application/json"}
            statuses.append((await tools.http.post(url, content=body, headers=headers)).status_code)
    except httpx.HTTPError as error:
        return failed(VONAGE_NAME, f"{url} cannot be reached: {words_of(error)}", REACH_MEND)
    return judge_webhook(VONAGE_NAME, "/vonage/events", statuses[0], statuses[1])


async def check_vonage_socket(tools: Tools, secret: str) -> Finding:
    """An upgrade with Vonage's token, and one with a wrong one; closed at once, before a call begins on it."""
    path = vonage.SPEC.media_paths[0]
    url = tools.settings.public_ws_url + path
    signed, problem = await _upgrade(tools, url, _vonage_upgrade(tools, secret))
    wrong, _ = await _upgrade(tools, url, _vonage_upgrade(tools, _noise())) if signed == 101 else (401, "")
    return judge_socket(VONAGE_SOCKET_NAME, path, signed, wrong, problem)


def _vonage_upgrade(tools: Tools, secret: str) -> dict[str, str]:
    application_id = tools.settings.vonage_application_id or ""
    signed = sign_request(secret, iat_s=int(tools.unix()), jti=tools.new_nonce(), application_id=application_id)
    return {"Authorization": signed}


# --- which of them ---------------------------------------------------------------------------------------


async def check_signatures_twilio(tools: Tools, bridge_is_here: bool) -> list[Finding]:
    """Twilio's two, where there is something to sign with and somebody to ask."""
    keys = tools.settings.twilio_keys
    names = (TWILIO_NAME, SOCKET_NAME)
    reason = _no_test(tools, bridge_is_here, bool(any(keys.auth_tokens) or keys.shared_keys), "TWILIO_AUTH_TOKEN")
    if reason:
        return [skipped(name, reason) for name in names]
    return [await check_twilio_webhook(tools), await check_twilio_socket(tools)]


async def check_signatures_genesys(tools: Tools, bridge_is_here: bool) -> Finding:
    """Genesys' probe, on the same terms."""
    has_key = bool(ring(tools.settings.genesys_api_key))
    reason = _no_test(tools, bridge_is_here, has_key, "GENESYS_API_KEY")
    return skipped(GENESYS_NAME, reason) if reason else await check_genesys(tools)


async def check_signatures_vonage(tools: Tools, bridge_is_here: bool) -> list[Finding]:
    """Vonage's two, on the same terms."""
    secrets_set = tools.settings.vonage_signature_secrets
    reason = _no_test(tools, bridge_is_here, bool(secrets_set), "VONAGE_SIGNATURE_SECRET")
    if reason:
        return [skipped(name, reason) for name in (VONAGE_NAME, VONAGE_SOCKET_NAME)]
    return [await check_vonage(tools, secrets_set[0]), await check_vonage_socket(tools, secrets_set[0])]


def _no_test(tools: Tools, bridge_is_here: bool, has_secret: bool, setting: str) -> str:
    """Why nothing is tested; empty = it is."""
    if tools.settings.bridge_auth == "off":
        return AUTH_OFF
    if not has_secret:
        return f"{setting} is not set"
    # By PUBLIC_URL a bridge may be reached although none could be asked here.
    return NOBODY_HERE if not bridge_is_here and tools.settings.public_url is None else ""


def _noise() -> str:
    return secrets.token_urlsafe(24)
