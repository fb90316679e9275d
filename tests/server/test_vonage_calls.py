"""Calls over Vonage with their media socket: ends, keys and transfers, and what Vonage is asked for meanwhile."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from bridge import outcome
from bridge.leg import UpgradeRequest
from bridge.providers.vonage import SPEC
from bridge.server import handing, vonage_fallback
from bridge.server.session import Session
from tests.kit import convai
from tests.kit import vonage as wire
from tests.kit.controls import HUMAN, results, tool_call
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table, Wire
from tests.kit.vonage_webhooks import LEG, PUBLIC, REGION, SETTINGS, SOCKET_LEG, Vonage, report, socket_of, vonage

CALLS = f"{REGION}/v1/calls"
HUMAN_LEG = "cccccccc-dddd-eeee-ffff-0123456789ab"
PLACED = httpx.Response(201, json={"uuid": HUMAN_LEG})
HANG_UP = {"action": "hangup"}
WARM = tool_call("transfer_to_number", transfer_number=HUMAN, agent_message="An invoice.")
BLIND = tool_call("transfer_to_number", transfer_number=HUMAN, transfer_type="blind")
EVENTS = f"/vonage/events?leg={LEG}"
END = convai.tool_call("end_call", "tool_1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vonage_fallback, "END_WAIT_S", 0.05)
    monkeypatch.setattr(handing, "RETURN_S", 0.5)


async def talking(at: Vonage) -> Table:
    """A call that Vonage has asked for and connected, whose agent is ready."""
    headers = socket_of(await at.answered())["headers"]
    table = Table(at.bridge, spec=SPEC)
    table.session.on_message(wire.connected(**headers))
    await until(lambda: table.agent.sent, "the agent was not told of the call")
    table.session.from_agent(convai.metadata("pcm_16000", "pcm_16000"))
    return table


def last(at: Vonage) -> tuple[str, str, Any]:
    return at.api.asked[-1]


# --- ends ----------------------------------------------------------------------------------------------------


async def test_when_the_agent_ends_the_call_the_callers_leg_is_hung_up_and_nothing_follows() -> None:
    async with vonage(TRANSFER_ALLOW=HUMAN) as at:
        table = await talking(at)
        table.session.from_agent(END)
        await until(lambda: table.carrier.closed)
        assert at.api.asked == [("PUT", f"{CALLS}/{LEG}", HANG_UP)]
        assert table.carrier.closed == [1000]
        table.session.on_lost(1000, "")
        assert (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).status_code == 204
        await at.post("/vonage/events", report("completed"))
        await table.settled()
        assert table.ends == {"success/agent_hangup": 1}


@pytest.mark.parametrize("status", [401, 404, 409, 429, 500, 503])
async def test_and_where_that_cannot_be_asked_for_closing_the_socket_ends_it(status: int) -> None:
    async with vonage(httpx.Response(status), httpx.Response(status), TRANSFER_ALLOW=HUMAN) as at:
        table = await talking(at)
        table.session.from_agent(END)
        await until(lambda: table.carrier.closed)
        assert (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).status_code == 204
        await table.settled()


async def test_a_socket_that_vonage_calls_gone_ends_its_session_and_is_connected_again() -> None:
    async with vonage(TRANSFER_ALLOW=HUMAN) as at:
        table = await talking(at)
        told = (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).json()
        assert table.ends == {str(outcome.CARRIER_LOST): 1}
        assert socket_of(told)["headers"]["uuid"] == LEG
        await table.settled()


async def test_a_caller_who_hangs_up_ends_the_session_by_report_too() -> None:
    async with vonage(TRANSFER_ALLOW=HUMAN) as at:
        table = await talking(at)
        await at.post("/vonage/events", report("completed"))
        await until(lambda: table.session.call.is_over)
        await table.settled()
        assert at.bridge.admission.active == 0


# --- who brings no token -----------------------------------------------------------------------------------------


async def arrived(path: str, **headers: Any) -> Session:
    """A socket of this address whose upgrade was verified."""
    bridge = offline_bridge(SETTINGS)
    Table(bridge, spec=SPEC)  # for its agents
    session = bridge.new_session(SPEC, UpgradeRequest(path, {}))
    session.on_open(Wire().socket)
    session.on_message(wire.connected(**headers))
    await until(lambda: session.call.is_over or session.admitted_s < 1e300)
    return session


async def test_whoever_wrote_the_ncco_themselves_has_no_token_to_bring() -> None:
    session = await arrived("/vonage/media?peer_uuid=peer-1&call_direction=inbound", token=None, uuid=None)
    assert not session.call.is_over
    assert session.call.info is not None
    assert session.call.info.call_sid == "peer-1"
    session.end(outcome.OPERATOR_HANGUP)


@pytest.mark.parametrize(
    ("path", "token"),
    [("/vonage/media", None), ("/vonage/media", "wrong"), ("/vonage/media?peer_uuid=peer-1", "wrong")],
)
async def test_everybody_else_does_and_a_wrong_one_is_refused(path: str, token: str | None) -> None:
    session = await arrived(path, token=token)
    assert session.call.ended_as is outcome.BAD_TOKEN


# --- keys ----------------------------------------------------------------------------------------------------


async def test_keys_are_pressed_while_the_socket_stays_up() -> None:
    async with vonage(TRANSFER_ALLOW=HUMAN) as at:
        table = await talking(at)
        table.session.from_agent(tool_call("play_keypad_touch_tone", dtmf_tones="1w2W#"))
        await until(lambda: results(table))
        assert at.api.asked == [("PUT", f"{CALLS}/{LEG}/dtmf", {"digits": "1p2pp#"})]
        assert not table.session.call.is_waited_for
        assert not table.carrier.closed
        table.session.end(outcome.OPERATOR_HANGUP)
        await table.settled()


# --- transfers -----------------------------------------------------------------------------------------------


async def begun(at: Vonage, tool: str) -> tuple[Table, str]:
    """A transfer, up to the first request; with its id."""
    table = await talking(at)
    asked = len(at.api.requests)
    table.session.from_agent(tool)
    await until(lambda: len(at.api.requests) > asked)
    body = json.dumps(last(at)[2])
    return table, body.partition("?id=")[2].partition('"')[0]


async def test_a_warm_transfer_from_the_tool_call_to_the_meeting() -> None:
    async with vonage(PLACED, TRANSFER_ALLOW=HUMAN) as at:
        table, transfer_id = await begun(at, WARM)
        method, url, body = last(at)
        assert (method, url, body["from"]) == ("POST", CALLS, {"type": "phone", "number": "447700900001"})
        assert body["event_url"] == [f"{PUBLIC}/vonage/transfer/human?id={transfer_id}"]
        whisper = await at.post(f"/vonage/transfer/whisper?id={transfer_id}", report("", HUMAN_LEG))
        assert whisper.json()[0]["text"] == "An invoice."
        key = at.bridge.settings.transfer_accept_key or ""
        dtmf = {"digits": key, "timed_out": not key}
        await at.post(f"/vonage/transfer/accept?id={transfer_id}", report("", HUMAN_LEG, dtmf=dtmf))
        await until(lambda: table.session.call.is_over)
        method, url, body = last(at)
        assert (method, url) == ("PUT", f"{CALLS}/{LEG}")
        assert body["destination"]["ncco"][-1]["name"] == f"transfer-{transfer_id}"
        assert table.ends == {"success/transferred": 1}
        assert (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).status_code == 204, (
            "nobody fetches them back"
        )
        await table.settled()


@pytest.mark.parametrize("status", ["busy", "unanswered", "rejected", "failed", "machine"])
async def test_where_the_human_does_not_come_the_caller_stays_with_the_agent(status: str) -> None:
    async with vonage(PLACED, TRANSFER_ALLOW=HUMAN) as at:
        table, transfer_id = await begun(at, WARM)
        await at.post(f"/vonage/transfer/human?id={transfer_id}", report(status, HUMAN_LEG))
        await until(lambda: results(table))
        assert results(table)[-1][1]
        assert not table.session.call.is_over
        assert [body for _, url, body in at.api.asked if url.endswith(LEG)] == [], "the caller's leg is let be"
        table.session.end(outcome.OPERATOR_HANGUP)
        await table.settled()


@pytest.mark.parametrize("status", [401, 404, 409, 429, 500, 503])
@pytest.mark.parametrize("tool", [WARM, BLIND])
async def test_where_vonage_refuses_the_agent_is_told_and_goes_on(tool: str, status: int) -> None:
    async with vonage(httpx.Response(status), httpx.Response(status), TRANSFER_ALLOW=HUMAN) as at:
        table, _ = await begun(at, tool)
        await until(lambda: results(table))
        assert results(table)[-1][1]
        assert not table.session.call.is_over
        table.session.end(outcome.OPERATOR_HANGUP)
        await table.settled()


async def test_a_caller_who_goes_while_it_rings_takes_the_human_along() -> None:
    async with vonage(PLACED, TRANSFER_ALLOW=HUMAN) as at:
        table, _ = await begun(at, WARM)
        await until(lambda: "transfer_ringing" in [step.event for step in table.session.call.journal.steps])
        table.session.on_lost(1000, "")
        await table.settled()
        assert ("PUT", f"{CALLS}/{HUMAN_LEG}", HANG_UP) in at.api.asked


async def test_a_blind_transfer_is_answered() -> None:
    async with vonage(TRANSFER_ALLOW=HUMAN) as at:
        table, transfer_id = await begun(at, BLIND)
        connect = last(at)[2]["destination"]["ncco"][-1]
        assert connect["endpoint"] == [{"type": "phone", "number": HUMAN.strip("+")}]
        table.session.on_lost(1000, "")
        assert not table.session.call.is_over, "the socket's leg goes with the caller"
        assert (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).status_code == 204
        await at.post(f"/vonage/transfer/action?id={transfer_id}", report("answered", HUMAN_LEG))
        await until(lambda: table.session.call.is_over)
        assert table.ends == {"success/transferred": 1}
        await table.settled()


async def test_a_blind_transfer_that_nobody_answers_brings_the_caller_back() -> None:
    async with vonage(TRANSFER_ALLOW=HUMAN) as at:
        table, transfer_id = await begun(at, BLIND)
        table.session.on_lost(1000, "")
        told = await at.post(f"/vonage/transfer/action?id={transfer_id}", report("unanswered", HUMAN_LEG))
        session = at.bridge.new_session(SPEC, UpgradeRequest("/vonage/media", {}))
        carrier = Wire()
        session.on_open(carrier.socket)
        session.on_message(wire.connected(**socket_of(told.json())["headers"]))
        await until(lambda: results(table))
        assert results(table)[-1][1]
        table.session.from_agent(convai.audio(wire.frame() * 2))
        assert carrier.binary, "and the agent is heard on the new socket"
        assert at.bridge.admission.active == 1
        table.session.end(outcome.OPERATOR_HANGUP)
        await table.settled()


# --- who controls --------------------------------------------------------------------------------------------


async def test_without_credentials_closing_the_socket_ends_the_call() -> None:
    async with vonage(TRANSFER_ALLOW=HUMAN) as at:
        at.bridge.parts.controls.clear()
        table = await talking(at)
        table.session.from_agent(END)
        await until(lambda: table.carrier.closed)
        assert (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).status_code == 204
        await table.settled()
