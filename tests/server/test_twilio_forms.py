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
