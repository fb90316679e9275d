"""Carriers' credentials and Twilio's numbers, against pretended interfaces."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge.doctor.carriers import (
    Number,
    NumbersSeen,
    check_twilio,
    check_vonage_credentials,
    judge_numbers,
    judge_vonage,
)
from tests.kit.doctor import NOW_S, told, tools_for

ACCOUNT = "AC" + "a" * 32
API_KEY = "SK" + "b" * 32
VOICE = "https://bridge.example.com/twilio/voice"
SET_URL = f"Set the number's voice webhook to {VOICE}, method POST."
GIVEN = {
    "PUBLIC_URL": "https://bridge.example.com",
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": "0123456789abcdef,other",
}
APPLICATION = "11111111-2222-3333-4444-555555555555"


class Twilio:
    """A pretended REST interface."""

    def __init__(self, account: httpx.Response | None = None, pages: list[dict[str, Any]] | None = None) -> None:
        self.account = account or httpx.Response(200, json={"sid": ACCOUNT, "status": "active"})
        self.pages = pages or [{"incoming_phone_numbers": []}]
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path.endswith("IncomingPhoneNumbers.json"):
            return httpx.Response(200, json=self.pages[int(request.url.params.get("Page", "0"))])
        return self.account


def entry(sid: str, url: str | None = VOICE, **more: str | None) -> dict[str, Any]:
    """A number as Twilio lists it."""
    return {"sid": sid, "phone_number": "+15550100", "voice_url": url, "voice_method": "POST", **more}


async def test_account_and_numbers_with_the_auth_token() -> None:
    twilio = Twilio(
        pages=[
            {
                "incoming_phone_numbers": [entry("PN1"), entry("PN2", "https://else.example.com")],
                "next_page_uri": f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json?PageSize=100&Page=1",
            },
            {"incoming_phone_numbers": [entry("PN3")], "next_page_uri": None},
        ]
    )
    async with tools_for(twilio, GIVEN) as tools:
        account, numbers = await check_twilio(tools)
    assert told(account) == ("ok", "the credentials are taken, the account is active", "")
    assert told(numbers) == ("ok", "2 of 3 numbers have this bridge as their voice webhook", "")
    assert [str(request.url) for request in twilio.asked] == [
        f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}.json",
        f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json?PageSize=100",
        f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json?PageSize=100&Page=1",
    ]
    wanted = "Basic " + base64.b64encode(f"{ACCOUNT}:0123456789abcdef".encode()).decode()
    assert {request.headers["authorization"] for request in twilio.asked} == {wanted}


async def test_an_api_key_goes_before_the_token_and_the_region_into_the_host() -> None:
    twilio = Twilio()
    given = {**GIVEN, "TWILIO_API_KEY": API_KEY, "TWILIO_API_KEY_SECRET": "s", "TWILIO_EDGE": "dublin"}
    async with tools_for(twilio, given, TWILIO_REGION="ie1") as tools:
        await check_twilio(tools)
    assert twilio.asked[0].url.host == "api.dublin.ie1.twilio.com"
    assert twilio.asked[0].headers["authorization"] == "Basic " + base64.b64encode(f"{API_KEY}:s".encode()).decode()


async def test_without_credentials() -> None:
    async with tools_for(Twilio(), TWILIO_AUTH_TOKEN="t") as tools:
        (no_account,) = await check_twilio(tools)
    async with tools_for(Twilio(), TWILIO_ACCOUNT_SID=ACCOUNT) as tools:
        (no_token,) = await check_twilio(tools)
    assert told(no_account) == (
        "skipped",
        "TWILIO_ACCOUNT_SID is not set",
        "Set it to have the numbers looked at, and for transfers, keypad tones and outbound calls.",
    )
    assert told(no_token) == ("skipped", "neither TWILIO_API_KEY nor TWILIO_AUTH_TOKEN is set", "")


@pytest.mark.parametrize(
    ("answer", "seen", "advice"),
    [
        (
            httpx.Response(401), "the credentials are refused (HTTP 401)",
            "Check TWILIO_ACCOUNT_SID with TWILIO_API_KEY and its secret, or with TWILIO_AUTH_TOKEN.",
        ),
        (httpx.Response(500), "Twilio's interface answers with HTTP 500", "Look at status.twilio.com."),
    ],
)  # fmt: skip
async def test_a_refused_account_ends_it(answer: httpx.Response, seen: str, advice: str) -> None:
    async with tools_for(Twilio(answer), GIVEN) as tools:
        (finding,) = await check_twilio(tools)
    assert told(finding) == ("failed", seen, advice)


async def test_a_region_is_named_where_one_is_set() -> None:
    async with tools_for(Twilio(httpx.Response(401)), GIVEN, TWILIO_EDGE="dublin", TWILIO_REGION="ie1") as tools:
        (finding,) = await check_twilio(tools)
    assert finding.advice.endswith("Credentials of one Twilio region are not known in another: see TWILIO_REGION.")


@pytest.mark.parametrize(
    ("body", "seen", "advice"),
    [
        (b'{"status": "suspended"}', "the account is suspended", "Look at the account in Twilio's console."),
        (b"{}", "the account is in no state", "Look at the account in Twilio's console."),
        (b"<html>", "the answer is none of Twilio's", "Check TWILIO_API_BASE_URL."),
    ],
)
async def test_an_account_that_is_not_active(body: bytes, seen: str, advice: str) -> None:
    async with tools_for(Twilio(httpx.Response(200, content=body)), GIVEN) as tools:
        found = await check_twilio(tools)
    assert told(found[0]) == ("failed", seen, advice)


async def test_an_interface_that_is_not_there() -> None:
    def gone(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("x")

    async with tools_for(gone, GIVEN) as tools:
        (finding,) = await check_twilio(tools)
    assert told(finding) == (
        "failed",
        "api.twilio.com cannot be reached: no connection in time",
        "Open the firewall to Twilio's interface (port 443 outwards).",
    )


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (httpx.Response(403), "HTTP 403"),
        (httpx.Response(200, content=b"[]"), "the answer cannot be read"),
        (httpx.ReadTimeout("x"), "no answer in time"),
    ],
)
async def test_numbers_that_cannot_be_read(page: httpx.Response | Exception, problem: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("IncomingPhoneNumbers.json"):
            return httpx.Response(200, json={"status": "active"})
        if isinstance(page, Exception):
            raise page
        return page

    async with tools_for(answer, GIVEN) as tools:
        found = await check_twilio(tools)
    assert told(found[1]) == (
        "skipped",
        f"they cannot be read: {problem}",
        "A restricted API key needs read access to Incoming Phone Numbers; calls work without.",
    )


async def test_pages_without_end_are_left() -> None:
    endless = {"incoming_phone_numbers": [entry("PN1", None)], "next_page_uri": "/x/IncomingPhoneNumbers.json?Page=0"}
    twilio = Twilio(pages=[endless])
    async with tools_for(twilio, GIVEN) as tools:
        found = await check_twilio(tools)
    assert len(twilio.asked) == 11
    assert told(found[1]) == (
        "warning", "none of 10 or more numbers has this bridge as its voice webhook", SET_URL,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "verdict", "seen", "advice"),
    [
        ([], "warning", "the account has no number", f"Buy one. {SET_URL}"),
        ([Number("PN1")], "warning", "none of 1 numbers has this bridge as its voice webhook", SET_URL),
        (
            [Number("PN1", VOICE, "POST", trunk_sid="TK1")], "failed",
            "PN1: the voice webhook is ours, but a SIP trunk or TwiML app takes the calls",
            "Take the trunk or app off the number in Twilio's console: it overrides the webhook.",
        ),
        ([Number("PN1", VOICE, "GET")], "failed", "PN1: the voice webhook's method is not POST", SET_URL),
        (
            [Number("PN1", VOICE), Number("PN2", VOICE + "/")], "failed",
            "PN2: the voice webhook is nearly ours, but not to the letter", SET_URL,
        ),
        (
            [Number("PN1", "http://bridge.example.com/Twilio/Voice")], "failed",
            "PN1: the voice webhook is nearly ours, but not to the letter", SET_URL,
        ),
        ([Number("PN1", VOICE, None), Number("PN2", "http://[")], "ok",
         "1 of 2 numbers have this bridge as their voice webhook", ""),
    ],
)  # fmt: skip
def test_where_numbers_point(numbers: list[Number], verdict: str, seen: str, advice: str) -> None:
    assert told(judge_numbers(NumbersSeen(tuple(numbers)), VOICE)) == (verdict, seen, advice)


# --- Vonage ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pem() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


async def test_vonage_is_asked_with_a_token_of_the_application(pem: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"count": 1, "_embedded": {"calls": [{"to": {"number": "15550100"}}]}})

    given = {"VONAGE_APPLICATION_ID": APPLICATION, "VONAGE_PRIVATE_KEY": pem.replace("\n", "\\n")}
    async with tools_for(answer, given) as tools:
        tools.unix = lambda: NOW_S
        finding = await check_vonage_credentials(tools)
    assert told(finding) == ("ok", "the application's token is taken", "")
    assert str(asked[0].url) == "https://api.nexmo.com/v1/calls?page_size=1"
    claims = asked[0].headers["authorization"].removeprefix("Bearer ").split(".")[1]
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert (decoded["application_id"], decoded["iat"]) == (APPLICATION, int(NOW_S))


async def test_vonage_without_credentials() -> None:
    async with tools_for() as tools:
        both = await check_vonage_credentials(tools)
    async with tools_for(VONAGE_APPLICATION_ID=APPLICATION) as tools:
        one = await check_vonage_credentials(tools)
    assert told(both) == ("skipped", "VONAGE_APPLICATION_ID and VONAGE_PRIVATE_KEY are not set", "")
    assert told(one) == ("skipped", "VONAGE_PRIVATE_KEY is not set", "")


async def test_vonage_that_is_not_there(pem: str) -> None:
    def gone(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("x")

    given = {"VONAGE_APPLICATION_ID": APPLICATION, "VONAGE_PRIVATE_KEY": pem.replace("\n", "\\n")}
    async with tools_for(gone, given) as tools:
        finding = await check_vonage_credentials(tools)
    assert told(finding) == (
        "failed",
        "api.nexmo.com cannot be reached: no connection",
        "Open the firewall to Vonage's interface (port 443 outwards).",
    )


def test_what_vonage_says() -> None:
    assert told(judge_vonage(401)) == (
        "failed",
        "the application's token is refused (HTTP 401)",
        "Check that VONAGE_PRIVATE_KEY belongs to VONAGE_APPLICATION_ID and that its Voice capability is on.",
    )
    assert told(judge_vonage(500)) == (
        "failed",
        "Vonage's interface answers with HTTP 500",
        "Check VONAGE_API_BASE_URL, and Vonage's status page.",
    )
