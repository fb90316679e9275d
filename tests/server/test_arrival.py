"""From the offer to the agent: who is let in, under which id, what is waited for, and that a hang-up stops it all."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.call import Call
from bridge.calls.routing import Resolved, parse_routing
from bridge.config import Configuration
from bridge.providers.twilio import SPEC
from bridge.server import arrival
from bridge.server.convai_client import AgentConnectError, AgentTarget
from bridge.server.service import Bridge
from tests.kit import convai, logs, twilio
from tests.kit.offline import offline_bridge, records_of
from tests.kit.server import until
from tests.kit.sessions import Table

CLAIMS = CallClaims(
    caller="+15550100", called="+15550199", direction="outbound", call_id="call_of_webhook", parameters={"tenant": "a"}
)
ROUTE = Resolved("agent_1")
SECOND = "CA00000000000000000000000000000002"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "QUEUE_POLL_S", 0.002)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


async def token_for(bridge: Bridge, claims: CallClaims = CLAIMS, call_sid: str = twilio.CALL_SID) -> str:
    """What the answer webhook does: a token, and a slot that is held for the call."""
    issued = await bridge.tokens.issue(call_sid, claims)
    await bridge.take_slot(claims.call_id, "", ROUTE, "inbound", hold=True)
    return issued.token


def open_bridge(**settings: str) -> Bridge:
    return offline_bridge(settings, BRIDGE_AUTH="off")


# --- the token -------------------------------------------------------------------------------------------


async def test_a_call_goes_on_under_the_id_and_slot_of_its_webhook() -> None:
    bridge = offline_bridge()
    token = await token_for(bridge)
    table = await Table(bridge).activate(token=token, caller="+1spoofed", shade="blue")
    assert table.session.call_id == "call_of_webhook"
    assert (list(bridge.sessions), bridge.admission.active) == (["call_of_webhook"], 1)
    info = table.session.call.info
    assert info is not None
    assert (info.caller, info.called, info.direction) == ("+15550100", "+15550199", "outbound")
    assert info.parameters == {"tenant": "a", "shade": "blue"}
    assert table.records.last.id == "call_of_webhook"
    table.hang_up()
    assert (bridge.sessions, bridge.admission.active) == ({}, 0)


async def test_a_token_is_good_for_one_socket() -> None:
    bridge = offline_bridge()
    token = await token_for(bridge)
    first = await Table(bridge).activate(token=token)
    second = Table(bridge).offer(token=token)
    await until(lambda: second.carrier.closed)
    assert bridge.ended_counts == {"client_error/bad_token": 1}
    assert (list(bridge.sessions), bridge.admission.active) == (["call_of_webhook"], 1)
    first.hang_up()


@pytest.mark.parametrize(
    ("token", "call_sid", "detail"),
    [
        ("", twilio.CALL_SID, "no token"),
        ("made-up", twilio.CALL_SID, "unknown token"),
        ("genuine", SECOND, "token of another call"),
    ],
)
async def test_without_a_genuine_token_nobody_is_let_in(token: str, call_sid: str, detail: str) -> None:
    bridge = offline_bridge()
    genuine = await token_for(bridge)
    table = Table(bridge).offer(call_sid, token=genuine if token == "genuine" else token)
    await until(lambda: table.carrier.closed)
    await table.settled()
    assert bridge.ended_counts == {"client_error/bad_token": 1}
    assert bridge.admission.active == 1, "the slot of the call whose token was tried"
    assert table.agents.targets == []
    record = table.records.last
    assert (record.state, record.admission, record.reason, record.detail) == ("ended", "bad_token", "bad_token", detail)
    assert record.call_sid == call_sid
    other = await Table(bridge).activate(token=genuine)
    other.hang_up()


async def test_no_token_is_asked_for_without_authentication() -> None:
    table = await Table().activate()
    assert table.session.facts.admission == "granted"
    table.hang_up()


async def test_without_authentication_a_token_that_is_there_is_used_all_the_same() -> None:
    bridge = open_bridge()
    token = await token_for(bridge)
    table = await Table(bridge).activate(token=token)
    assert table.session.call_id == "call_of_webhook"
    assert bridge.admission.active == 1
    table.hang_up()
    other = await Table(bridge).activate(token=token)  # used up, and nobody minds
    assert other.session.call_id != "call_of_webhook"
    other.hang_up()


async def test_a_carrier_that_needs_no_token_is_not_asked_for_one() -> None:
    spec = dataclasses.replace(SPEC, needs_token=False)
    bridge = offline_bridge()
    token = await token_for(bridge)
    table = await Table(bridge, spec=spec).activate(token=token)
    assert table.session.call_id != "call_of_webhook"
    table.hang_up()


async def test_claims_without_an_id_leave_the_sockets_own() -> None:
    bridge = offline_bridge()
    issued = await bridge.tokens.issue(twilio.CALL_SID, CallClaims(caller="+1", called="+2", direction="inbound"))
    table = Table(bridge)
    own = table.session.call_id
    await table.activate(token=issued.token)
    assert table.session.call_id == own
    table.hang_up()


async def test_a_call_that_ends_before_its_token_was_looked_at_gives_its_slot_back() -> None:
    """Its ``stop`` may come with its ``start``."""
    bridge = offline_bridge()
    table = Table(bridge).offer(token=await token_for(bridge))
    assert bridge.admission.active == 1
    table.hang_up()
    await table.settled()
    assert bridge.admission.active == 0
    assert bridge.ended_counts == {"success/caller_hangup": 1}
    assert (table.records.last.state, table.records.last.admission) == ("ended", "")


# --- the route -------------------------------------------------------------------------------------------


async def test_no_agent_for_this_call(lines: list[dict[str, Any]]) -> None:
    bridge = open_bridge(ELEVENLABS_AGENT_ID="")
    table = Table(bridge).offer()
    await until(lambda: table.carrier.closed)
    assert bridge.ended_counts == {"upstream_error/agent_not_found": 1}
    assert bridge.admission.active == 0
    assert lines[-1]["detail"] == "no route names an agent, and ELEVENLABS_AGENT_ID is not set"
    assert (table.records.last.admission, table.records.last.agent_id) == ("agent_not_found", "")


async def test_the_routes_agent_branch_and_environment_are_connected() -> None:
    routing = parse_routing(
        {"routes": [{"number": "+15550199", "agent": "agent_7", "branch": "b1", "environment": "staging"}]}
    )
    bridge = offline_bridge(routing=routing)
    claims = msgspec.structs.replace(CLAIMS, direction="inbound")
    table = await Table(bridge).activate(token=await token_for(bridge, claims))
    assert table.agents.targets == [AgentTarget("agent_7", "staging", "b1")]
    record = table.records.last
    assert (record.agent_id, record.route, record.environment, record.branch) == (
        "agent_7",
        "+15550199",
        "staging",
        "b1",
    )
    table.hang_up()


async def test_a_change_of_routes_does_not_touch_a_call_that_is_on() -> None:
    bridge = open_bridge()
    table = Table(bridge)
    table.agents.go_on.clear()
    table.offer()
    await until(lambda: table.agents.targets)
    bridge.apply(Configuration(bridge.settings, parse_routing({"routes": [{"number": "*", "agent": "agent_new"}]})))
    table.agents.go_on.set()
    await until(lambda: table.agent.sent)
    table.session.from_agent(convai.metadata())
    assert table.records.last.agent_id == "agent_1"
    other = await Table(bridge).activate(SECOND)
    assert other.records.last.agent_id == "agent_new"
    table.hang_up()
    other.hang_up()


# --- the slot --------------------------------------------------------------------------------------------


async def test_no_slot_on_the_line() -> None:
    bridge = open_bridge(BRIDGE_MAX_CALLS="1")
    first = await Table(bridge).activate()
    second = Table(bridge).offer(SECOND)
    await until(lambda: second.carrier.closed)
    assert bridge.ended_counts == {"server_error/capacity": 1}
    assert bridge.admission.active == 1
    record = second.records.last
    assert (record.call_sid, record.admission, record.detail) == (SECOND, "capacity", "1 calls in progress, 0 waiting")
    assert second.records.events == []
    first.hang_up()


async def test_a_carrier_that_takes_results_is_told_where_to_send_its_caller() -> None:
    bridge = open_bridge(WORKSPACE_CONCURRENCY="1", OVERFLOW="divert", OVERFLOW_DIVERT_TO="+49731555")
    await bridge.take_slot("somebody", "", ROUTE, "inbound")
    table = Table(bridge, spec=dataclasses.replace(SPEC, takes_results=True)).offer()
    await until(lambda: table.carrier.closed)
    assert bridge.ended_counts == {"success/diverted": 1}
    record = table.records.last
    assert (record.admission, record.outputs) == ("capacity", {"transfer_to": "+49731555"})
    other = Table(bridge).offer(SECOND)  # whose carrier's fallback sends the caller on
    await until(lambda: other.carrier.closed)
    assert bridge.ended_counts == {"success/diverted": 1, "server_error/capacity": 1}
    assert other.records.last.outputs == {}


async def test_a_burst_call_is_marked() -> None:
    bridge = open_bridge(WORKSPACE_CONCURRENCY="1", BURST="on")
    first, second = await Table(bridge).activate(), await Table(bridge).activate(SECOND)
    assert [table.session.facts.admission for table in (first, second)] == ["granted", "burst"]
    assert [table.session.facts.is_burst for table in (first, second)] == [False, True]
    text = bridge.metrics.render().decode()
    assert 'bridge_calls_started_total{burst="yes",provider="twilio"} 1.0' in text
    first.hang_up()
    second.hang_up()


# --- the queue -------------------------------------------------------------------------------------------


async def one_waits(**settings: str) -> tuple[Table, Table]:
    """A call with the only slot, and one that waits for it."""
    bridge = open_bridge(BRIDGE_MAX_CALLS="1", OVERFLOW="queue", **settings)
    first, second = await Table(bridge).activate(), Table(bridge).offer(SECOND)
    await until(lambda: bridge.queued or bridge.ended_counts)
    return first, second


async def test_who_waits_is_on_the_line_and_gets_the_next_slot() -> None:
    first, second = await one_waits()
    bridge = first.bridge
    assert bridge.queued == {second.session.call_id}
    assert [call.state for call in bridge.live.here()] == ["active", "queued"]
    assert twilio.played(second.carrier.sent), "hold audio"
    assert second.agents.targets == []
    second.session.on_message(twilio.media(b"\x01" * 160))
    await asyncio.sleep(0.01)
    assert bridge.admission.active == 1
    first.hang_up()
    await until(lambda: second.agent.sent, "the slot was not taken")
    assert (bridge.queued, bridge.admission.active) == (set(), 1)
    assert second.session.facts.admission == "queued"
    assert second.session.facts.queue_wait_ms > 0
    second.session.from_agent(convai.metadata())
    assert convai.uploaded(second.agent.sent) == [], "what was said to the hold audio is not for the agent"
    second.hang_up()


async def test_the_queue_has_an_end() -> None:
    first, second = await one_waits(OVERFLOW_QUEUE_S="0.02")
    await until(lambda: second.carrier.closed)
    bridge = first.bridge
    assert bridge.ended_counts == {"server_error/queue_timeout": 1}
    assert bridge.queued == set()
    assert bridge.admission.usage().waiting == 0
    assert [call.state for call in bridge.live.here()] == ["active"]
    record = second.records.last
    assert (record.admission, record.detail) == ("queue_timeout", "still number 1 after 0.02 s")
    assert record.queue_wait_ms >= 15
    first.hang_up()


async def test_who_hangs_up_while_waiting_leaves_the_queue() -> None:
    first, second = await one_waits()
    bridge = first.bridge
    await asyncio.sleep(0.01)
    second.hang_up()
    await second.settled()
    assert bridge.ended_counts == {"success/caller_hangup": 1}
    await until(lambda: not bridge.queued)
    assert (bridge.admission.active, bridge.admission.usage().waiting) == (1, 0)
    assert [call.state for call in bridge.live.here()] == ["active"]
    record = second.records.last
    assert (record.call_sid, record.state, record.admission) == (SECOND, "ended", "queued")
    assert record.queue_wait_ms > 0
    assert second.records.events == []
    first.hang_up()
    await asyncio.sleep(0.01)
    assert (bridge.admission.active, second.agents.targets) == (0, [])


async def test_a_refusal_while_waiting_ends_the_wait() -> None:
    first, second = await one_waits()
    first.bridge.admission.draining = True
    await until(lambda: second.carrier.closed)
    assert first.bridge.ended_counts == {"server_error/draining": 1}
    first.hang_up()


async def test_a_bug_while_waiting_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Call, "hold", explode)
    first, second = await one_waits()
    await until(lambda: first.bridge.ended_counts)
    await until(lambda: not first.bridge.queued)
    assert first.bridge.ended_counts == {"server_error/bug": 1}
    assert first.bridge.admission.active == 1
    first.hang_up()
    await second.settled()


# --- the agent -------------------------------------------------------------------------------------------


async def test_an_agent_that_cannot_be_reached() -> None:
    table = Table(failure=AgentConnectError(outcome.AGENT_QUOTA, "HTTP 429"))
    table.offer()
    await until(lambda: table.carrier.closed)
    assert table.ends == {"upstream_error/agent_quota": 1}
    assert table.records.last.detail == "HTTP 429"
    assert table.bridge.admission.active == 0


async def test_the_agent_is_told_what_the_webhook_answered() -> None:
    data = {"dynamic_variables": {"name": "Ann"}, "user_id": "u1"}
    bridge = offline_bridge(
        answer=lambda _: httpx.Response(200, json=data),
        BRIDGE_AUTH="off",
        PERSONALIZATION_URL="https://crm.example/hook",
    )
    table = await Table(bridge).activate(tenant="a")
    sent = json.loads(table.agent.sent[0])
    assert sent["user_id"] == "u1"
    assert sent["dynamic_variables"] == {
        "tenant": "a",
        "name": "Ann",
        "caller_id": "",
        "called_number": "",
        "call_sid": twilio.CALL_SID,
    }
    assert table.records.last.variables == sent["dynamic_variables"]
    assert table.records.last.initiation == {"user_id": "u1"}
    table.hang_up()


@pytest.mark.parametrize(
    ("policy", "ends"), [("continue", {}), ("fallback", {"upstream_error/personalization_failed": 1})]
)
async def test_a_webhook_that_fails(policy: str, ends: dict[str, int], lines: list[dict[str, Any]]) -> None:
    settings = {"PERSONALIZATION_URL": "https://crm.example/hook", "PERSONALIZATION_ON_FAILURE": policy}
    bridge = open_bridge(**settings)
    table = Table(bridge).offer()
    await until(lambda: table.agent.sent or bridge.ended_counts)
    assert bridge.ended_counts == ends
    if ends:
        assert (table.agent.sent, table.agent.closed, table.carrier.closed) == ([], [1000], [1000])
        assert table.records.last.detail == "HTTP 503"
        assert bridge.admission.active == 0
    else:
        assert json.loads(table.agent.sent[0])["dynamic_variables"]["call_sid"] == twilio.CALL_SID
        table.hang_up()
    assert [line["detail"] for line in lines if line["event"] == "personalization_failed"] == ["HTTP 503"]


async def test_a_hang_up_while_connecting_stops_both() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"dynamic_variables": {}})

    bridge = offline_bridge(answer=answer, BRIDGE_AUTH="off", PERSONALIZATION_URL="https://crm.example/hook")
    table = Table(bridge)
    table.agents.go_on.clear()
    table.offer()
    await until(lambda: table.agents.targets)
    await until(lambda: asked, "the webhook is asked beside the connection")
    table.hang_up()
    await until(lambda: table.agents.cancelled)
    assert (bridge.admission.active, len(bridge.parts.personalizer), table.agent.sent) == (0, 0, [])
    assert records_of(bridge).states == ["connecting", "ended"]


# --- results ---------------------------------------------------------------------------------------------


async def test_results_are_fetched_for_carriers_that_take_them() -> None:
    body = {"status": "done", "analysis": {"data_collection_results": {"wish": {"value": "refund"}}}}
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=body)

    bridge = offline_bridge(answer=answer, BRIDGE_AUTH="off")
    table = await Table(bridge, spec=dataclasses.replace(SPEC, takes_results=True)).activate()
    table.session.agent_lost(1000, "")
    table.session.on_message(twilio.mark(twilio.marks(table.carrier.sent)[-1]))
    assert table.carrier.closed == [], "the caller waits for the results"
    await until(lambda: table.carrier.closed)
    await table.settled()
    assert asked == [f"/v1/convai/conversations/{convai.CONVERSATION_ID}"]
    assert bridge.ended_counts == {"success/agent_hangup": 1}
    assert table.records.last.outputs == {"wish": "refund", "conversation_id": convai.CONVERSATION_ID}
