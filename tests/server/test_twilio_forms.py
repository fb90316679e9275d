"""The way in for Twilio's webhooks: handlers see genuine forms, peers see refusals."""

from __future__ import annotations

import httpx
from fastapi import FastAPI, Request, Response
from twilio.request_validator import RequestValidator

from bridge.server.twilio_forms import TwilioForms, plain, xml
from tests.kit.offline import offline_bridge
from tests.kit.server import AUTH_TOKEN

PUBLIC = "https://bridge.example.com"
FORM = {"CallSid": "CA1", "Blank": ""}


def test_answers() -> None:
    answer = xml("<Response />")
    assert (answer.status_code, answer.body) == (200, b"<Response />")
    assert answer.headers["content-type"].startswith("text/xml")
    refusal = plain("no", 418)
    assert (refusal.status_code, refusal.body) == (418, b"no\n")
    assert refusal.headers["content-type"].startswith("text/plain")


async def test_a_handler_is_asked_for_genuine_requests_only() -> None:
    seen: list[dict[str, str]] = []

    async def handler(request: Request, form: dict[str, str]) -> Response:
        seen.append({**form, "id": request.query_params["id"]})
        return xml("<Response />")

    app = FastAPI()
    forms = TwilioForms(offline_bridge(PUBLIC_URL=PUBLIC))
    app.add_api_route("/twilio/own", forms.endpoint(handler), methods=["POST"], response_model=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        signature = RequestValidator(AUTH_TOKEN).compute_signature(f"{PUBLIC}/twilio/own?id=t1", FORM)
        genuine = await client.post("/twilio/own?id=t1", data=FORM, headers={"X-Twilio-Signature": signature})
        forged = await client.post("/twilio/own?id=t2", data=FORM, headers={"X-Twilio-Signature": signature})
    assert (genuine.status_code, genuine.text) == (200, "<Response />")
    assert (forged.status_code, forged.text) == (403, "forbidden\n")
    assert seen == [{"CallSid": "CA1", "Blank": "", "id": "t1"}]


MAIN, SUB, STRANGER = "AC" + 32 * "a", "AC" + 32 * "b", "AC" + 32 * "c"


async def status_of(path: str, form: dict[str, str], signed_url: str, token: str, **settings: str) -> int:
    """The answer to one webhook that was signed over this URL."""

    async def handler(request: Request, form: dict[str, str]) -> Response:
        return xml("<Response />")

    app = FastAPI()
    forms = TwilioForms(offline_bridge({"PUBLIC_URL": PUBLIC, **settings}))
    app.add_api_route("/twilio/own", forms.endpoint(handler), methods=["POST"], response_model=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        signature = RequestValidator(token).compute_signature(signed_url, form)
        answer = await client.post(path, data=form, headers={"X-Twilio-Signature": signature})
    return answer.status_code


async def test_webhooks_may_be_signed_for_this_very_process() -> None:
    instance = {"INSTANCE_URL": "https://bridge.example.com/a"}
    own = "https://bridge.example.com/a/twilio/own"
    assert await status_of("/twilio/own", FORM, own, AUTH_TOKEN, **instance) == 200
    assert await status_of("/twilio/own", FORM, f"{PUBLIC}/twilio/own", AUTH_TOKEN, **instance) == 200
    assert await status_of("/twilio/own", FORM, own, AUTH_TOKEN) == 403, "it has no such address"
    other = "https://bridge.example.com/b/twilio/own"
    assert await status_of("/twilio/own", FORM, other, AUTH_TOKEN, **instance) == 403


async def test_accounts_that_are_ours() -> None:
    url, sub_token = f"{PUBLIC}/twilio/own", 32 * "5"
    settings = {"TWILIO_ACCOUNT_SID": MAIN, "TWILIO_SUBACCOUNT_TOKENS": f"{SUB}={sub_token}"}
    for account, token, status in (
        (MAIN, AUTH_TOKEN, 200),
        (SUB, sub_token, 200),
        (SUB, AUTH_TOKEN, 403),
        (MAIN, sub_token, 403),
        (STRANGER, AUTH_TOKEN, 403),
    ):
        form = {**FORM, "AccountSid": account}
        assert await status_of("/twilio/own", form, url, token, **settings) == status, (account, token)
