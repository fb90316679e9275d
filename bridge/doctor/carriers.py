"""Whether the carriers take our credentials, and whether Twilio's numbers point here.

Only reading requests. Numbers themselves are neither kept nor shown: a Twilio number is named by its ``PN`` id.

Sources: Twilio docs "Account resource", "IncomingPhoneNumber resource" (2010-04-01); Vonage docs "Voice API: Get
details of calls" (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import msgspec

from bridge.auth.vonage_application import load_private_key, sign_application_token
from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.tools import Tools, listed, words_of
from bridge.server.twilio_rest import API_VERSION, TwilioRestOptions

ACCOUNT_NAME, NUMBERS_NAME, VONAGE_NAME = "Twilio: account", "Twilio: numbers", "Vonage: credentials"

PAGE_SIZE = 100
MAX_PAGES = 10
"""A thousand numbers; whoever has more sets their webhooks by script."""

TWILIO_MEND = "Check TWILIO_ACCOUNT_SID with TWILIO_API_KEY and its secret, or with TWILIO_AUTH_TOKEN."
TWILIO_REGION_MEND = f"{TWILIO_MEND} Credentials of one Twilio region are not known in another: see TWILIO_REGION."


class _Account(msgspec.Struct, frozen=True):
    status: str = ""


class Number(msgspec.Struct, frozen=True):
    """A Twilio number, by its id and what it does with calls."""

    sid: str
    voice_url: str | None = None
    voice_method: str | None = None
    voice_application_sid: str | None = None
    trunk_sid: str | None = None


class _Page(msgspec.Struct, frozen=True):
    incoming_phone_numbers: list[Number]
    next_page_uri: str | None = None


@dataclass(frozen=True, slots=True)
class NumbersSeen:
    """The numbers of the account."""

    numbers: tuple[Number, ...] = ()
    more: bool = False
    """Whether there are more than were read."""
    problem: str = ""


async def check_twilio(tools: Tools) -> list[Finding]:
    """Account and numbers, where there are credentials."""
    settings = tools.settings
    if settings.twilio_account_sid is None:
        advice = "Set it to have the numbers looked at, and for transfers, keypad tones and outbound calls."
        return [skipped(ACCOUNT_NAME, "TWILIO_ACCOUNT_SID is not set", advice)]
    credentials = settings.twilio_rest_credentials
    if credentials is None:
        return [skipped(ACCOUNT_NAME, "neither TWILIO_API_KEY nor TWILIO_AUTH_TOKEN is set")]
    base = TwilioRestOptions(
        base_url=settings.twilio_api_base_url, edge=settings.twilio_edge or "", region=settings.twilio_region or ""
    ).api_url
    auth = httpx.BasicAuth(*credentials)
    path = f"/{API_VERSION}/Accounts/{settings.twilio_account_sid}"
    try:
        response = await tools.http.get(f"{base}{path}.json", auth=auth)
    except httpx.HTTPError as error:
        words = f"{urlsplit(base).hostname} cannot be reached: {words_of(error)}"
        return [failed(ACCOUNT_NAME, words, "Open the firewall to Twilio's interface (port 443 outwards).")]
    account = judge_account(response.status_code, response.content, has_region=settings.twilio_region is not None)
    if response.status_code != 200:
        return [account]
    seen = await _numbers(tools, base, f"{path}/IncomingPhoneNumbers.json?PageSize={PAGE_SIZE}", auth)
    return [account, judge_numbers(seen, settings.public_base_url + "/twilio/voice")]


def judge_account(status: int, body: bytes, *, has_region: bool) -> Finding:
    """What to make of the answer about the account."""
    if status in (401, 403, 404):
        mend = TWILIO_REGION_MEND if has_region else TWILIO_MEND
        return failed(ACCOUNT_NAME, f"the credentials are refused (HTTP {status})", mend)
    if status != 200:
        return failed(ACCOUNT_NAME, f"Twilio's interface answers with HTTP {status}", "Look at status.twilio.com.")
    try:
        state = msgspec.json.decode(body, type=_Account).status
    except (msgspec.DecodeError, UnicodeError):
        return failed(ACCOUNT_NAME, "the answer is none of Twilio's", "Check TWILIO_API_BASE_URL.")
    if state != "active":
        return failed(
            ACCOUNT_NAME, f"the account is {state[:20] or 'in no state'}", "Look at the account in Twilio's console."
        )
    return ok(ACCOUNT_NAME, "the credentials are taken, the account is active")


async def _numbers(tools: Tools, base: str, uri: str, auth: httpx.BasicAuth) -> NumbersSeen:
    numbers: list[Number] = []
    for _ in range(MAX_PAGES):
        try:
            response = await tools.http.get(base + uri, auth=auth)
            if response.status_code != 200:
                return NumbersSeen(problem=f"HTTP {response.status_code}")
            page = msgspec.json.decode(response.content, type=_Page)
        except httpx.HTTPError as error:
            return NumbersSeen(problem=words_of(error))
        except (msgspec.DecodeError, UnicodeError):
            return NumbersSeen(problem="the answer cannot be read")
        numbers += page.incoming_phone_numbers
        if not page.next_page_uri or not page.next_page_uri.startswith("/"):
            return NumbersSeen(tuple(numbers))
        uri = page.next_page_uri
    return NumbersSeen(tuple(numbers), more=True)


def judge_numbers(seen: NumbersSeen, voice_url: str) -> Finding:
    """Which numbers come here, and which look as if they were meant to."""
    if seen.problem:
        advice = "A restricted API key needs read access to Incoming Phone Numbers; calls work without."
        return skipped(NUMBERS_NAME, f"they cannot be read: {seen.problem}", advice)
    set_url = f"Set the number's voice webhook to {voice_url}, method POST."
    if not seen.numbers:
        return warning(NUMBERS_NAME, "the account has no number", f"Buy one. {set_url}")
    here = [number for number in seen.numbers if number.voice_url == voice_url]
    elsewhere = [number.sid for number in here if number.trunk_sid or number.voice_application_sid]
    if elsewhere:
        return failed(
            NUMBERS_NAME,
            f"{listed(elsewhere)}: the voice webhook is ours, but a SIP trunk or TwiML app takes the calls",
            "Take the trunk or app off the number in Twilio's console: it overrides the webhook.",
        )
    wrong_method = [number.sid for number in here if (number.voice_method or "POST").upper() != "POST"]
    if wrong_method:
        return failed(NUMBERS_NAME, f"{listed(wrong_method)}: the voice webhook's method is not POST", set_url)
    near = [number.sid for number in seen.numbers if number not in here and _is_near(number.voice_url, voice_url)]
    if near:
        return failed(NUMBERS_NAME, f"{listed(near)}: the voice webhook is nearly ours, but not to the letter", set_url)
    total = f"{len(seen.numbers)}{' or more' if seen.more else ''}"
    if not here:
        return warning(NUMBERS_NAME, f"none of {total} numbers has this bridge as its voice webhook", set_url)
    return ok(NUMBERS_NAME, f"{len(here)} of {total} numbers have this bridge as their voice webhook")


def _is_near(url: str | None, wanted: str) -> bool:
    """Whether somebody meant our address: same host, or the same path on any."""
    if not url:
        return False
    try:
        theirs, ours = urlsplit(url), urlsplit(wanted)
        return theirs.hostname == ours.hostname and theirs.path.rstrip("/").lower() == ours.path.lower()
    except ValueError:
        return False


# --- Vonage ----------------------------------------------------------------------------------------------


async def check_vonage_credentials(tools: Tools) -> Finding:
    """Whether Vonage takes the application's token."""
    settings = tools.settings
    application_id, key = settings.vonage_application_id, settings.vonage_private_key
    missing: Sequence[str] = [
        name
        for name, value in (("VONAGE_APPLICATION_ID", application_id), ("VONAGE_PRIVATE_KEY", key))
        if value is None
    ]
    if application_id is None or key is None:
        return skipped(VONAGE_NAME, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
    # The settings have seen to it that the key can be read.
    token = sign_application_token(
        load_private_key(key.get_secret_value()), application_id, iat_s=int(tools.unix()), jti=tools.new_nonce()
    )
    try:
        response = await tools.http.get(
            f"{settings.vonage_api_base_url}/v1/calls",
            params={"page_size": "1"},
            headers={"Authorization": f"Bearer {token}"},
        )
    except httpx.HTTPError as error:
        seen = f"{urlsplit(settings.vonage_api_base_url).hostname} cannot be reached: {words_of(error)}"
        return failed(VONAGE_NAME, seen, "Open the firewall to Vonage's interface (port 443 outwards).")
    return judge_vonage(response.status_code)


def judge_vonage(status: int) -> Finding:
    """What to make of the HTTP status of a reading request."""
    if status == 200:
        return ok(VONAGE_NAME, "the application's token is taken")
    if status in (401, 403):
        return failed(
            VONAGE_NAME,
            f"the application's token is refused (HTTP {status})",
            "Check that VONAGE_PRIVATE_KEY belongs to VONAGE_APPLICATION_ID and that its Voice capability is on.",
        )
    return failed(
        VONAGE_NAME,
        f"Vonage's interface answers with HTTP {status}",
        "Check VONAGE_API_BASE_URL, and Vonage's status page.",
    )
