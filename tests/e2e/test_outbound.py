"""Placed calls through a whole bridge: ordered by the API, followed by webhooks, talked on over the media socket."""

from __future__ import annotations

from xml.etree import ElementTree

import httpx
import pytest

from bridge.auth.twilio import sign_webhook
from tests.kit.caller import WireCaller
from tests.kit.outbound import OURS, SID, THEIRS, FakeControl
from tests.kit.server import AUTH_TOKEN, RunningBridge, Start, until

pytestmark = pytest.mark.e2e

KEY = "operator-key-0123456789"


async def placing(start: Start) -> tuple[RunningBridge, FakeControl]:
    """A bridge that places calls with a carrier that only writes down."""
    at = await start("echo", BRIDGE_API_KEY=f"admin:{KEY}", TWILIO_FROM_NUMBERS=OURS)
    control = FakeControl()
    at.bridge.parts.controls["twilio"] = control
    return at, control


async def order(at: RunningBridge, **members: object) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        body = {"to_number": THEIRS, **members}
        return await client.post(f"{at.http_url}/v1/calls", json=body, headers={"X-API-Key": KEY})


async def webhook(at: RunningBridge, path: str, **fields: str) -> httpx.Response:
    """A signed webhook of the placed call."""
    form = {"CallSid": SID, "AccountSid": "AC1", "From": OURS, "To": THEIRS, "Direction": "outbound-api", **fields}
    signature = sign_webhook(AUTH_TOKEN, f"{at.settings.public_base_url}{path}", tuple(form.items()))
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{at.http_url}{path}", data=form, headers={"X-Twilio-Signature": signature})


async def test_a_call_from_the_order_to_its_record(start: Start) -> None:
    at, _ = await placing(start)
    data = {"dynamic_variables": {"customer": "Ann"}}
    answer = await order(at, conversation_initiation_client_data=data, machine_detection={"mode": "enable"})
    assert answer.status_code == 201, answer.text
    call_id = answer.json()["call_id"]
    assert at.active == 1
    for status, sequence in (("initiated", "0"), ("in-progress", "2"), ("ringing", "1")):
        report = {"CallStatus": status, "SequenceNumber": sequence}
        assert (await webhook(at, f"/twilio/status?call={call_id}", **report)).status_code == 204
    twiml = (await webhook(at, f"/twilio/voice?call={call_id}")).text
    [token] = ElementTree.fromstring(twiml).findall(".//Parameter[@name='token']")
    async with WireCaller(at, call_sid=SID, caller=OURS, called=THEIRS) as caller:
        await caller.dial(token.attrib["value"])
        await until(lambda: at.logged("agent_ready"), "the agent never came")
        assert list(at.bridge.sessions) == [call_id]
        assert (at.active, len(at.bridge.outbound)) == (1, 0), "one call, one slot"
        assert (await webhook(at, f"/twilio/amd?call={call_id}", AnsweredBy="human")).status_code == 204
        await webhook(at, f"/twilio/status?call={call_id}", CallStatus="completed", SequenceNumber="3")
        assert await caller.closed() == 1000
    assert await at.ended() == ["success/caller_hangup"]
    [record] = await at.records()
    assert (record.id, record.direction, record.call_sid) == (call_id, "outbound", SID)
    assert (record.caller, record.called) == (OURS, THEIRS)
    assert record.variables["customer"] == "Ann"


async def test_a_call_that_fails_leaves_a_record_and_no_slot(start: Start) -> None:
    at, control = await placing(start)
    call_id = (await order(at)).json()["call_id"]
    await webhook(at, f"/twilio/status?call={call_id}", CallStatus="busy", SipResponseCode="486")
    await webhook(at, f"/twilio/status?call={call_id}", CallStatus="completed")
    assert (at.active, at.bridge.live.here()) == (0, [])
    assert at.ends() == ["client_error/line_busy"]
    [record] = await at.records()
    assert (record.id, record.state, record.reason) == (call_id, "ended", "line_busy")
    assert control.hung_up == []


async def test_an_order_that_is_wrong(start: Start) -> None:
    at, control = await placing(start)
    answer = await order(at, to_number="911")
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "to_number")
    assert control.placed == []


async def test_what_rings_is_taken_back_when_the_bridge_stops(start: Start) -> None:
    at, control = await placing(start)
    await order(at)
    at.server.should_exit = True
    await at.task
    assert control.hung_up == [SID]
    assert at.ends() == ["server_error/draining"]
