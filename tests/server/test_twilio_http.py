"""Twilio's webhooks, signed by Twilio's own library: who is let in, what TwiML comes back, and that 403 is not 500."""

from __future__ import annotations

import asyncio
import contextlib
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from twilio.request_validator import RequestValidator

from bridge import outcome
from bridge.auth.tokens import CallClaims, TokenProblem
from bridge.auth.twilio import sign_webhook
from bridge.calls.machine import MachineAction
from bridge.calls.routing import Resolved
from bridge.outcome import EndReason
from bridge.providers.twilio import SPEC
from bridge.server import twilio_fallback, twilio_forms
from bridge.server.app import create_app
from bridge.server.carrier_control import ControlFault
from bridge.server.service import Bridge
from bridge.server.session import Session
from bridge.server.twilio_http import TwilioWebhooks
from tests.kit import logs, twilio
from tests.kit.controls import HUMAN_SID, FakeControl, fault
from tests.kit.legs import REQUEST
from tests.kit.offline import Asked, asked, offline_bridge
from tests.kit.outbound import OURS, SID, THEIRS, Office
from tests.kit.server import AUTH_TOKEN

PUBLIC = "https://bridge.example.com"
ACCOUNT = "AC0123456789abcdef0123456789abcdef"
FORM = {
    "CallSid": twilio.CALL_SID,
    "AccountSid": ACCOUNT,
    "From": "+15557654321",
    "To": "+15551234567",
    "CallerCity": "",
    "Direction": "inbound",
}
APOLOGY = (
    '<?xml version="1.0" encoding="UTF-8"?><Response><Say language="en-US">We are sorry, a technical problem came up. '
    "Please call again later.</Say><Hangup /></Response>"
)
HANG_UP = '<?xml version="1.0" encoding="UTF-8"?><Response><Hangup /></Response>'
BUSY = '<?xml version="1.0" encoding="UTF-8"?><Response><Reject reason="busy" /></Response>'


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


async def post(
    at: Asked, path: str, form: dict[str, str] = FORM, *, token: str = AUTH_TOKEN, public: str = PUBLIC
) -> httpx.Response:
    """A webhook signed as Twilio signs it."""
    signature = RequestValidator(token).compute_signature(f"{public}{path}", form)
    return await at.client.post(path, data=form, headers={"X-Twilio-Signature": signature})


def parameters(twiml: str) -> dict[str, str]:
    return {p.attrib["name"]: p.attrib["value"] for p in ET.fromstring(twiml).findall("./Connect/Stream/Parameter")}


def refused(bridge: Bridge) -> str:
    text = bridge.metrics.render().decode()
    return next((line for line in text.splitlines() if line.startswith("bridge_refused_requests_total{")), "")


def end_a_call(bridge: Bridge, reason: EndReason) -> None:
    """A call of this CallSid that ends so."""
    session = Session(bridge, SPEC, REQUEST, "call_1")
    bridge.sessions[session.call_id] = session
    session.call.carrier_message(twilio.CONNECTED, 0.0)
    session.call.carrier_message(twilio.start(), 0.0)
    assert session.call.info is not None
    session.facts.route = bridge.route_for(session.call.info, None)
    session.call.ended_as = reason
    bridge.call_over(session, reason)


async def test_the_answer_word_for_word() -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        response = await post(at, "/twilio/voice")
        token = parameters(response.text)["token"]
        claims = await at.bridge.tokens.redeem(token, twilio.CALL_SID)
    assert isinstance(claims, CallClaims)
    assert (claims.caller, claims.called, claims.direction) == ("+15557654321", "+15551234567", "inbound")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/xml")
    assert response.text == (
        '<?xml version="1.0" encoding="UTF-8"?><Response><Connect>'
        '<Stream url="wss://bridge.example.com/twilio/media" statusCallback="https://bridge.example.com/twilio/status">'
        f'<Parameter name="token" value="{token}" /><Parameter name="caller" value="+15557654321" />'
        '<Parameter name="called" value="+15551234567" /></Stream></Connect>'
        '<Redirect method="POST">https://bridge.example.com/twilio/fallback</Redirect></Response>'
    )
    assert len(token) == 32


async def test_a_repeated_webhook_gets_the_same_answer_and_another_call_another() -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        first, again = await post(at, "/twilio/voice"), await post(at, "/twilio/voice")
        other = await post(at, "/twilio/voice", {**FORM, "CallSid": "CA2"})
    assert first.text == again.text
    assert parameters(other.text)["token"] != parameters(first.text)["token"]


async def test_names_that_xml_must_escape() -> None:
    form = {**FORM, "From": 'sip:"A&B"<x@y>'}
    async with asked(PUBLIC_URL=PUBLIC) as at:
        assert parameters((await post(at, "/twilio/voice", form)).text)["caller"] == 'sip:"A&B"<x@y>'


async def test_a_path_prefix_in_the_public_url_is_signed_and_told() -> None:
    public = f"{PUBLIC}/calls/eu"
    async with asked(PUBLIC_URL=public) as at:
        response = await post(at, "/twilio/voice", public=public)
        assert response.status_code == 200
        assert 'url="wss://bridge.example.com/calls/eu/twilio/media"' in response.text
        assert ">https://bridge.example.com/calls/eu/twilio/fallback<" in response.text
        assert (await post(at, "/twilio/voice", public=PUBLIC)).status_code == 403


async def test_query_and_odd_characters_of_the_target_are_signed_as_they_are() -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        assert (await post(at, "/twilio/voice?tenant=a%2Fb&x=%20")).status_code == 200


async def test_signed_over_another_address(lines: list[dict[str, Any]]) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        response = await post(at, "/twilio/voice", public="http://bridge.example.com")
        assert (response.status_code, response.text) == (403, "forbidden\n")
        assert refused(at.bridge) == 'bridge_refused_requests_total{entrance="twilio_webhook"} 1.0'
    [line] = [line for line in lines if line["event"] == "request_refused"]
    assert "is PUBLIC_URL what Twilio was told?" in line["detail"]
    assert not any(number in str(lines) for number in ("5557654321", "5551234567"))


@pytest.mark.parametrize("path", ["/twilio/voice", "/twilio/fallback", "/twilio/status", "/twilio/amd"])
@pytest.mark.parametrize("signature", [None, "", "AAAA", "ü", "x" * 5000])
async def test_no_or_wrong_signature_is_403_everywhere(path: str, signature: str | None) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        headers = [] if signature is None else [(b"X-Twilio-Signature", signature.encode())]
        response = await at.client.post(path, data=FORM, headers=headers)
    assert response.status_code == 403


async def test_a_field_changed_after_signing() -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        signature = RequestValidator(AUTH_TOKEN).compute_signature(f"{PUBLIC}/twilio/voice", FORM)
        changed = {**FORM, "To": "+15550000000"}
        response = await at.client.post("/twilio/voice", data=changed, headers={"X-Twilio-Signature": signature})
    assert response.status_code == 403


async def test_nothing_can_be_verified_without_a_token() -> None:
    async with asked(PUBLIC_URL=PUBLIC, TWILIO_AUTH_TOKEN="") as at:
        assert (await post(at, "/twilio/voice", token="")).status_code == 403


async def test_both_tokens_of_a_rotation_sign() -> None:
    async with asked(PUBLIC_URL=PUBLIC, TWILIO_AUTH_TOKEN="old,new") as at:
        assert (await post(at, "/twilio/voice", token="old")).status_code == 200
        assert (await post(at, "/twilio/voice", token="new")).status_code == 200
        assert (await post(at, "/twilio/voice", token="old,new")).status_code == 403


async def test_another_account(lines: list[dict[str, Any]]) -> None:
    async with asked(PUBLIC_URL=PUBLIC, TWILIO_ACCOUNT_SID=ACCOUNT) as at:
        assert (await post(at, "/twilio/voice")).status_code == 200
        for wrong in ({**FORM, "AccountSid": "AC" + "f" * 32}, {k: v for k, v in FORM.items() if k != "AccountSid"}):
            assert (await post(at, "/twilio/voice", wrong)).status_code == 403
    details = [line["detail"] for line in lines if line["event"] == "request_refused"]
    assert details == ["AccountSid is neither TWILIO_ACCOUNT_SID nor one of TWILIO_SUBACCOUNT_TOKENS"] * 2


async def test_without_authentication_everybody_is_let_in() -> None:
    async with asked(BRIDGE_AUTH="off", TWILIO_AUTH_TOKEN="") as at:
        response = await at.client.post("/twilio/voice", data=FORM)
        assert response.status_code == 200
        assert 'url="ws://127.0.0.1:8080/twilio/media"' in response.text


@pytest.mark.parametrize("auth", ["on", "off"])
async def test_bodies_that_are_no_form(auth: str) -> None:
    many = "&".join(f"a{n}=1" for n in range(600))
    async with asked(BRIDGE_AUTH=auth) as at:
        for body, status in ((b"\xff\xfe=\xff", 400), (many.encode(), 400), (b"a" * 70_000, 413)):
            assert (await at.client.post("/twilio/voice", content=body)).status_code == status


async def test_a_large_body_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b"x" * 10_000

    async with asked() as at:
        assert (await at.client.post("/twilio/voice", content=endless())).status_code == 413


async def test_a_body_that_trickles_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_forms, "BODY_TIMEOUT_S", 0.02)

    async def trickle() -> Any:
        while True:
            yield b"x"
            await asyncio.sleep(0.005)

    async with asked(BRIDGE_AUTH="off") as at:
        request = at.client.build_request("POST", "/twilio/voice", content=trickle())
        response = await _answer_to(at.bridge, request)
    assert response == (408, b"body too slow\n")


async def _answer_to(bridge: Bridge, request: httpx.Request) -> tuple[int, bytes]:
    """As a server feeds it: piece by piece, which httpx's own transport to applications does not."""
    pieces = aiter(request.stream)  # type: ignore[arg-type]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(pieces), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/twilio/voice",
        "raw_path": b"/twilio/voice",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
    }
    await create_app(bridge)(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("body", [b"", b"%%%&&&===", b"{}", b"CallSid="])
async def test_no_call_sid(body: bytes) -> None:
    async with asked(BRIDGE_AUTH="off") as at:
        response = await at.client.post("/twilio/voice", content=body)
    assert (response.status_code, response.text) == (400, "CallSid is missing\n")


async def test_fields_that_come_twice_are_covered_by_the_signature() -> None:
    pairs = [*FORM.items(), ("To", "+15550000000")]
    async with asked(PUBLIC_URL=PUBLIC) as at:
        headers = {
            "X-Twilio-Signature": sign_webhook(AUTH_TOKEN, f"{PUBLIC}/twilio/voice", pairs),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        assert (await at.client.post("/twilio/voice", content=urlencode(pairs), headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_posts(method: str) -> None:
    async with asked(BRIDGE_AUTH="off") as at:
        assert (await at.client.request(method, "/twilio/voice")).status_code == 405


# --- busy ------------------------------------------------------------------------------------------------


async def test_busy_when_full_and_while_draining(lines: list[dict[str, Any]]) -> None:
    async with asked(PUBLIC_URL=PUBLIC, BRIDGE_MAX_CALLS="1") as at:
        await at.bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
        assert (await post(at, "/twilio/voice")).text == BUSY
        at.bridge.admission.give_back("somebody")
        assert parameters((await post(at, "/twilio/voice")).text)
        at.bridge.admission.draining = True
        assert (await post(at, "/twilio/voice")).text == BUSY
    reasons = [line["reason"] for line in lines if line["event"] == "call_refused"]
    assert reasons == ["server_error/capacity", "server_error/draining"]


async def test_who_may_wait_is_connected_when_all_slots_are_taken() -> None:
    async with asked(PUBLIC_URL=PUBLIC, BRIDGE_MAX_CALLS="1", OVERFLOW="queue") as at:
        await at.bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
        assert parameters((await post(at, "/twilio/voice")).text)["token"]


@pytest.mark.parametrize(
    ("target", "verb"),
    [("+15550111", "<Number>+15550111</Number>"), ("sip:desk@pbx.example", "<Sip>sip:desk@pbx.example</Sip>")],
)
async def test_who_is_diverted_is_dialled_on_at_once(target: str, verb: str) -> None:
    settings = {"OVERFLOW": "divert", "OVERFLOW_DIVERT_TO": target}
    async with asked(PUBLIC_URL=PUBLIC, BRIDGE_MAX_CALLS="1", **settings) as at:
        await at.bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
        response = await post(at, "/twilio/voice")
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    assert response.text == f"{head}<Response><Dial>{verb}</Dial></Response>"


@pytest.mark.parametrize(
    ("direction", "told"), [("inbound", "inbound"), ("outbound-api", "outbound"), ("outbound-dial", "outbound")]
)
async def test_who_placed_the_call(direction: str, told: str) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        twiml = (await post(at, "/twilio/voice", {**FORM, "Direction": direction})).text
        claims = await at.bridge.tokens.redeem(parameters(twiml)["token"], twilio.CALL_SID)
    assert isinstance(claims, CallClaims)
    assert claims.direction == told


# --- after the stream ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "twiml"),
    [
        (outcome.CALLER_HANGUP, HANG_UP),
        (outcome.AGENT_HANGUP, HANG_UP),
        (outcome.MAX_DURATION, HANG_UP),
        (outcome.AGENT_LOST, APOLOGY),
        (outcome.DRAINING, APOLOGY),
        (outcome.BAD_TOKEN, APOLOGY),
    ],
)
async def test_the_fallback_after_an_end(end: EndReason, twiml: str) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        end_a_call(at.bridge, end)
        response = await post(at, "/twilio/fallback")
    assert response.text == twiml
    assert ET.fromstring(response.text).tag == "Response"


async def test_the_fallback_of_a_call_without_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_fallback, "END_WAIT_S", 0.06)
    async with asked(PUBLIC_URL=PUBLIC) as at:
        assert (await post(at, "/twilio/fallback", {"AccountSid": ACCOUNT})).text == APOLOGY


async def test_the_fallback_may_come_before_the_news_of_the_end() -> None:
    """Another process carried the call, and Twilio is as quick as Redis."""
    async with asked(PUBLIC_URL=PUBLIC) as at:
        asking = asyncio.create_task(post(at, "/twilio/fallback"))
        await asyncio.sleep(0.02)
        assert not asking.done()
        end_a_call(at.bridge, outcome.AGENT_HANGUP)
        assert (await asking).text == HANG_UP


async def test_the_fallback_of_a_call_that_found_no_slot_on_the_line() -> None:
    """It had one when its webhook was answered, and its socket came too late."""
    async with asked(PUBLIC_URL=PUBLIC, OVERFLOW="divert", OVERFLOW_DIVERT_TO="+15550111") as at:
        end_a_call(at.bridge, outcome.CAPACITY)
        assert "<Dial><Number>+15550111</Number></Dial>" in (await post(at, "/twilio/fallback")).text


# --- calls that the bridge has placed ---------------------------------------------------------------------


@dataclass
class Desk:
    """The webhooks of a bridge that places calls."""

    at: Asked
    office: Office

    async def place(self, **members: Any) -> str:
        """A call to ``THEIRS`` that rings."""
        return (await self.office.place(**members)).call_id

    async def post(self, path: str, **fields: str) -> httpx.Response:
        """A signed webhook of the placed call."""
        form = {"CallSid": SID, "AccountSid": ACCOUNT, "From": OURS, "To": THEIRS, "Direction": "outbound-api"}
        return await post(self.at, path, {**form, **fields})


@contextlib.asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    """The routes of Twilio beside the bridge's own, standing on fakes."""
    bridge = offline_bridge(PUBLIC_URL=PUBLIC)
    office = Office()
    app = FastAPI()
    app.include_router(TwilioWebhooks(bridge, office.outbound).router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as client:
        yield Desk(Asked(bridge, client), office)
    await office.outbound.close()


async def test_a_placed_call_is_connected_under_its_own_id() -> None:
    async with desk() as our:
        call_id = await our.place()
        twiml = (await our.post(f"/twilio/voice?call={call_id}")).text
        again = (await our.post(f"/twilio/voice?call={call_id}")).text
        claims = await our.office.tokens.redeem(parameters(twiml)["token"], SID)
    assert again == twiml
    assert isinstance(claims, CallClaims)
    assert (claims.call_id, claims.direction, claims.agent_id) == (call_id, "outbound", "agent_1")
    assert parameters(twiml)["caller"] == OURS
    [stream] = ET.fromstring(twiml).findall("./Connect/Stream")
    assert stream.attrib["statusCallback"] == f"{PUBLIC}/twilio/status?call={call_id}"
    assert (our.at.bridge.admission.active, our.office.slots) == (0, 1), "it has its slot already"


async def test_a_call_that_was_not_placed_here_or_is_over_is_hung_up_on() -> None:
    async with desk() as our:
        assert (await our.post("/twilio/voice?call=0123456789abcdef")).text == HANG_UP
        call_id = await our.place()
        assert (await our.post(f"/twilio/status?call={call_id}", CallStatus="busy")).status_code == 204
        assert (await our.post(f"/twilio/voice?call={call_id}")).text == HANG_UP
    async with asked(PUBLIC_URL=PUBLIC) as at:  # a bridge that places no calls
        assert (await post(at, f"/twilio/voice?call={call_id}")).text == HANG_UP
        assert (await post(at, f"/twilio/status?call={call_id}", {**FORM, "CallStatus": "busy"})).status_code == 204


async def test_reports_of_a_placed_call_in_the_wrong_order() -> None:
    async with desk() as our:
        call_id = await our.place()
        path = f"/twilio/status?call={call_id}"
        for status, sequence in (("in-progress", "2"), ("ringing", "1"), ("no-answer", "3"), ("initiated", "0")):
            response = await our.post(path, CallStatus=status, SequenceNumber=sequence, CallerCity="")
            assert (response.status_code, response.content) == (204, b"")
        assert our.office.ends == ["no_answer"]
        [failure] = our.office.failures
    assert failure["metadata"]["body"] == {
        "CallSid": SID,
        "AccountSid": ACCOUNT,
        "From": OURS,
        "To": THEIRS,
        "Direction": "outbound-api",
        "CallStatus": "no-answer",
        "SequenceNumber": "3",
        "CallerCity": "",
    }


async def test_a_verdict_reaches_the_call(lines: list[dict[str, Any]]) -> None:
    async with desk() as our:
        call_id = await our.place(machine_detection={"mode": "enable", "rules": {"machine": "hang_up"}})
        our.office.lines.call_ids.add(call_id)
        assert (await our.post(f"/twilio/amd?call={call_id}", AnsweredBy="machine_start")).status_code == 204
        assert (await our.post("/twilio/amd?call=0123456789abcdef", AnsweredBy="human")).status_code == 204
        assert (await our.post(f"/twilio/amd?call={call_id}")).status_code == 204
        assert our.office.lines.detected == [(call_id, "machine_start", MachineAction.HANG_UP, "")]
    reports = [line for line in lines if line["event"] == "twilio_report"]
    assert [line["detail"] for line in reports] == ["", "of no call that is known", "of no call that is known"]


# --- reports ---------------------------------------------------------------------------------------------


async def test_reports_are_logged_without_numbers(lines: list[dict[str, Any]]) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        done = await post(at, "/twilio/status", {**FORM, "CallStatus": "completed"})
        broken = await post(at, "/twilio/status", {**FORM, "StreamEvent": "stream-error", "StreamError": "e" * 300})
        machine = await post(at, "/twilio/amd", {**FORM, "AnsweredBy": "machine_start"})
        nothing = await post(at, "/twilio/status")
    assert [response.status_code for response in (done, broken, machine, nothing)] == [204] * 4
    reports = [line for line in lines if line["event"] == "twilio_report"]
    assert [line["status"] for line in reports] == ["completed", "stream-error", "machine_start"]
    assert reports[1]["detail"] == "e" * 200
    assert {line["call_sid"] for line in reports} == {twilio.CALL_SID}
    assert "5557654321" not in str(lines)


@pytest.mark.parametrize("status", ["completed", "canceled", "failed", "busy", "no-answer"])
async def test_a_line_that_is_over_before_its_media_came_frees_its_slot_at_once(status: str) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        token = parameters((await post(at, "/twilio/voice")).text)["token"]
        assert at.bridge.admission.active == 1
        await post(at, "/twilio/status", {**FORM, "CallStatus": "ringing"})
        assert at.bridge.admission.active == 1
        for _ in range(2):
            await post(at, "/twilio/status", {**FORM, "CallStatus": status})
            assert at.bridge.admission.active == 0
        assert await at.bridge.tokens.redeem(token, twilio.CALL_SID) is TokenProblem.USED


async def test_a_line_that_is_over_while_its_media_is_here_takes_no_slot_from_it() -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        token = parameters((await post(at, "/twilio/voice")).text)["token"]
        assert isinstance(await at.bridge.tokens.redeem(token, twilio.CALL_SID), CallClaims)
        await post(at, "/twilio/status", {**FORM, "CallStatus": "completed"})
        assert at.bridge.admission.active == 1, "it is the session's"


async def test_the_session_of_a_line_that_is_over_is_told() -> None:
    async with desk() as our:
        our.office.lines.call_sids.add(SID)
        await our.post("/twilio/status", CallStatus="completed")
        await our.post("/twilio/status", CallStatus="in-progress")
        await our.post("/twilio/status", CallStatus="completed", CallSid="CA2")
    assert our.office.lines.over == [SID, "CA2"]


async def test_a_stream_that_could_not_be_opened_frees_its_slot() -> None:
    async with desk() as our:
        await post(our.at, "/twilio/voice")
        for event in ("stream-started", "stream-stopped"):
            await our.post("/twilio/status", CallSid=twilio.CALL_SID, StreamEvent=event)
            assert our.at.bridge.admission.active == 1
        await our.post("/twilio/status", CallSid=twilio.CALL_SID, StreamEvent="stream-error", StreamError="31920")
        assert our.at.bridge.admission.active == 0
        assert our.office.lines.remarks == [(twilio.CALL_SID, "stream_error")]


async def test_a_stream_that_broke_is_written_into_its_call() -> None:
    async with desk() as our:
        await post(our.at, "/twilio/voice")
        our.office.lines.call_sids.add(twilio.CALL_SID)
        await our.post("/twilio/status", CallSid=twilio.CALL_SID, StreamEvent="stream-error", StreamError="31903")
        assert our.office.lines.remarks == [(twilio.CALL_SID, "stream_error")]
        assert our.at.bridge.admission.active == 1


# --- what the webhook learns ------------------------------------------------------------------------------


async def test_sip_headers_and_the_like_reach_the_agent_as_variables() -> None:
    form = {
        **FORM,
        "From": "sip:ann@example.sip.twilio.com",
        "SipDomain": "example.sip.twilio.com",
        "SipHeader_X-Contact-ID": "12345",
        "SipHeader_X-Auth-Token": "s3cret",
    }
    async with asked(PUBLIC_URL=PUBLIC) as at:
        twiml = (await post(at, "/twilio/voice", form)).text
        claims = await at.bridge.tokens.redeem(parameters(twiml)["token"], twilio.CALL_SID)
    assert isinstance(claims, CallClaims)
    assert claims.caller == "sip:ann@example.sip.twilio.com"
    assert claims.parameters == {"sip_contact_id": "12345", "sip_domain": "example.sip.twilio.com"}
    assert "s3cret" not in twiml


async def test_who_withholds_the_number_is_anonymous() -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        twiml = (await post(at, "/twilio/voice", {**FORM, "From": "+266696687"})).text
    assert parameters(twiml)["caller"] == "anonymous"


# --- a caller who was sent to somebody else ----------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "failed", "in-progress"])
async def test_who_waits_for_a_caller_that_has_hung_up_is_hung_up_on(status: str) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        control = FakeControl()
        at.bridge.parts.controls["twilio"] = control
        await at.bridge.transfers.meets(twilio.CALL_SID, HUMAN_SID)
        response = await post(at, "/twilio/status", {**FORM, "CallStatus": status})
        assert response.status_code == 204
        assert control.log == ([] if status == "in-progress" else ["drop"])
        await post(at, "/twilio/status", {**FORM, "CallSid": "CA" + "0" * 32, "CallStatus": status})
        assert len(control.log) <= 1, "another call is none of its business"


async def test_who_cannot_be_hung_up_on_is_said(lines: list[dict[str, Any]]) -> None:
    async with asked(PUBLIC_URL=PUBLIC) as at:
        control = FakeControl()
        control.failures["drop"] = fault(ControlFault.DOWN)
        at.bridge.parts.controls["twilio"] = control
        await at.bridge.transfers.meets(twilio.CALL_SID, HUMAN_SID)
        assert (await post(at, "/twilio/status", {**FORM, "CallStatus": "completed"})).status_code == 204
        assert "human_not_dropped" in [line["event"] for line in lines]
        at.bridge.parts.controls.clear()
        assert (await post(at, "/twilio/status", {**FORM, "CallStatus": "completed"})).status_code == 204
