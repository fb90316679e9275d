"""Vonage's answer webhook and reports: which NCCO comes back, and what becomes of calls whose socket is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bridge import outcome
from bridge.auth.tokens import CallClaims, TokenProblem
from bridge.calls.machine import MachineAction
from bridge.calls.outbound import RequestRules
from bridge.calls.routing import Resolved, parse_routing
from bridge.outcome import EndReason
from bridge.server import vonage_fallback, vonage_media
from bridge.server.outbound_parts import OutboundOptions
from bridge.server.vonage_control import VonageControl, VonageControlOptions
from bridge.server.vonage_hooks import VonageHooks
from bridge.server.vonage_http import VonageWebhooks
from tests.kit import logs
from tests.kit.offline import offline_bridge
from tests.kit.outbound import OURS, THEIRS, Office
from tests.kit.vonage_api import FakeApi
from tests.kit.vonage_webhooks import (
    CALL,
    LEG,
    PUBLIC,
    REGION,
    SETTINGS,
    SOCKET_LEG,
    Vonage,
    report,
    socket_of,
    vonage,
)

EVENTS = f"/vonage/events?leg={LEG}"
PLACED = {"uuid": SOCKET_LEG, "status": "started", "direction": "outbound", "conversation_uuid": "CON-2"}
SERVER_FAULTS = [httpx.Response(status) for status in (401, 404, 409, 429, 500, 503)]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


@pytest.fixture(autouse=True)
def nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vonage_fallback, "END_WAIT_S", 0.0)


def talk_of(response: httpx.Response) -> str:
    [talk] = response.json()
    assert talk["action"] == "talk"
    return f"{talk['language']}: {talk['text']}"


SORRY = "en-US: We are sorry, a technical problem came up. Please call again later."


# --- the answer ----------------------------------------------------------------------------------------------


async def test_the_answer_word_for_word() -> None:
    async with vonage() as at:
        told = await at.answered()
        token = socket_of(told)["headers"]["token"]
        claims = await at.bridge.tokens.redeem(token, LEG)
        assert at.bridge.admission.active == 1
        assert at.api.asked == []
    assert told == [
        {
            "action": "connect",
            "endpoint": [
                {
                    "type": "websocket",
                    "uri": "wss://bridge.example.com/vonage/media",
                    "content-type": "audio/l16;rate=16000",
                    "headers": {"token": token, "uuid": LEG, "region_url": REGION},
                    "authorization": {"type": "vonage"},
                }
            ],
            "from": "447700900001",
            "eventType": "synchronous",
            "eventUrl": [f"{PUBLIC}/vonage/events?leg={LEG}"],
            "eventMethod": "POST",
        }
    ]
    assert isinstance(claims, CallClaims)
    assert (claims.caller, claims.called, claims.direction) == ("+447700900000", "+447700900001", "inbound")
    assert (claims.control_url, len(claims.call_id)) == (REGION, 16)


async def test_get_and_post_say_the_same() -> None:
    async with vonage(VONAGE_RATE_HZ="8000") as at:
        by_post = await at.answered()
        by_get = (await at.get("/vonage/answer", CALL)).json()
    assert by_get == by_post, "and a repetition with another token of Vonage's finds the first one's"
    assert socket_of(by_get)["content-type"] == "audio/l16;rate=8000"


async def test_a_path_prefix_in_the_public_url() -> None:
    async with vonage(PUBLIC_URL=f"{PUBLIC}/calls/eu") as at:
        told = await at.answered()
    assert socket_of(told)["uri"] == "wss://bridge.example.com/calls/eu/vonage/media"
    assert told[0]["eventUrl"] == [f"{PUBLIC}/calls/eu/vonage/events?leg={LEG}"]


async def test_fields_that_are_missing() -> None:
    async with vonage() as at:
        assert (await at.post("/vonage/answer", {"from": "1", "to": "2"})).status_code == 400
        response = await at.post("/vonage/answer", {"uuid": LEG})
    [connect] = response.json()
    assert connect["randomFromNumber"] is True, "Vonage picks one of ours"
    assert socket_of(response.json())["headers"].keys() == {"token", "uuid"}


async def test_the_old_connectors_parameters_go_with_the_call() -> None:
    path = "/vonage/answer?webhook_url=https%3A%2F%2Fapp.example%2Fresults&peer_uuid=u-1&participant=p&evil=1"
    async with vonage() as at:
        told = await at.answered(path)
        claims = await at.bridge.tokens.redeem(socket_of(told)["headers"]["token"], LEG)
    assert isinstance(claims, CallClaims)
    assert claims.parameters == {
        "webhook_url": "https://app.example/results",
        "peer_uuid": "u-1",
        "participant": "p",
    }


async def test_busy_is_said_in_the_language_of_the_route() -> None:
    routing = parse_routing({"routes": [{"number": "+447700900001", "agent": "agent_2", "language": "de"}]})
    bridge = offline_bridge({**SETTINGS, "BRIDGE_MAX_CALLS": "1"}, routing=routing)
    async with vonage(bridge=bridge) as at:
        await bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
        german = await at.post("/vonage/answer", CALL)
        english = await at.post("/vonage/answer", {**CALL, "uuid": "leg-2", "to": "447700900002"})
        bridge.admission.give_back("somebody")
        bridge.admission.draining = True
        draining = await at.post("/vonage/answer", {**CALL, "uuid": "leg-3", "to": "447700900002"})
    assert talk_of(german).startswith("de-DE: Zurzeit sind alle Leitungen belegt")
    assert talk_of(english) == talk_of(draining) == "en-US: All our lines are busy. Please call again later."


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [
        ("+15550111222", {"type": "phone", "number": "15550111222"}),
        ("sip:desk@pbx.example", {"type": "sip", "uri": "sip:desk@pbx.example"}),
    ],
)
async def test_who_is_diverted_is_connected_at_once(target: str, endpoint: dict[str, str]) -> None:
    async with vonage(BRIDGE_MAX_CALLS="1", OVERFLOW="divert", OVERFLOW_DIVERT_TO=target) as at:
        await at.bridge.take_slot("somebody", "", Resolved("agent_1"), "inbound")
        [connect] = await at.answered()
    assert (connect["endpoint"], connect["from"]) == ([endpoint], "447700900001")
    assert connect["eventUrl"] == [f"{PUBLIC}/vonage/events"]


# --- a conversation and a leg of its own -----------------------------------------------------------------------


async def test_caller_and_socket_meet_in_a_conversation() -> None:
    async with vonage(httpx.Response(201, json=PLACED), VONAGE_TOPOLOGY="conversation") as at:
        told = await at.answered()
        again = await at.answered()
        assert told == again == [{"action": "conversation", "name": f"call-{LEG}", "endOnExit": True}]
        [(method, url, body)] = at.api.asked
        assert (method, url) == ("POST", f"{REGION}/v1/calls")
        [socket] = body["to"]
        assert socket["uri"] == "wss://bridge.example.com/vonage/media"
        assert socket["authorization"] == {"type": "vonage"}
        assert socket["headers"]["uuid"] == LEG
        assert isinstance(await at.bridge.tokens.redeem(socket["headers"]["token"], LEG), CallClaims)
    assert body["ncco"] == [{"action": "conversation", "name": f"call-{LEG}"}]
    assert body["from"] == {"type": "phone", "number": "447700900001"}
    assert body["event_url"] == [f"{PUBLIC}/vonage/events?leg={LEG}&apart=1"]


@pytest.mark.parametrize("fault", [*SERVER_FAULTS, httpx.ConnectError("x"), httpx.Response(201, json={})], ids=str)
async def test_where_no_leg_can_be_called_the_caller_is_connected_directly(
    fault: httpx.Response | Exception, lines: list[dict[str, Any]]
) -> None:
    async with vonage(fault, VONAGE_TOPOLOGY="conversation") as at:
        told = await at.answered()
        assert socket_of(told)
        assert await at.answered() == told, "and it is not tried a second time"
        assert len(at.api.requests) == 1
    assert [line["event"] for line in lines].count("topology_direct") == 1


async def test_a_request_that_takes_too_long_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(vonage_media, "CALL_WAIT_S", 0.01)

    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with vonage(VONAGE_TOPOLOGY="conversation") as at:
        at.bridge.parts.controls["vonage"] = VonageControl(FakeApi().rest(handle=never), VonageControlOptions(PUBLIC))
        assert socket_of(await at.answered())
    assert [line["detail"] for line in lines if line["event"] == "topology_direct"] == ["no answer in 0.01 s"]


async def test_without_credentials_there_is_only_the_direct_way() -> None:
    async with vonage(VONAGE_TOPOLOGY="conversation") as at:
        at.bridge.parts.controls.clear()
        assert socket_of(await at.answered())


async def test_a_socket_apart_that_breaks_moves_the_caller_once() -> None:
    path = f"{EVENTS}&apart=1"
    async with vonage(httpx.Response(201, json=PLACED), VONAGE_TOPOLOGY="conversation") as at:
        await at.answered()
        for status in ("started", "ringing", "answered"):
            assert (await at.post(path, report(status, SOCKET_LEG))).status_code == 204
        at.bridge.shared.remember_end(LEG, outcome.AGENT_NOT_FOUND)
        for status in ("disconnected", "completed"):
            assert (await at.post(path, report(status, SOCKET_LEG))).status_code == 204
        method, url, body = at.api.asked[-1]
        assert (len(at.api.asked), method, url) == (2, "PUT", f"{REGION}/v1/calls/{LEG}")
    assert body["destination"]["ncco"][0]["text"].startswith("We are sorry")


@pytest.mark.parametrize(
    ("end", "asked"),
    [(outcome.AGENT_HANGUP, [{"action": "hangup"}]), (outcome.TRANSFERRED, [])],
)
async def test_a_socket_apart_after_a_proper_end(end: EndReason, asked: list[Any]) -> None:
    async with vonage() as at:
        await at.answered()
        at.bridge.shared.remember_end(LEG, end)
        await at.post(f"{EVENTS}&apart=1", report("completed", SOCKET_LEG))
        assert [body for _, _, body in at.api.asked] == asked


async def test_a_caller_who_cannot_be_moved_is_logged(lines: list[dict[str, Any]]) -> None:
    async with vonage(httpx.Response(404)) as at:
        await at.answered()
        at.bridge.shared.remember_end(LEG, outcome.AGENT_NOT_FOUND)
        assert (await at.post(f"{EVENTS}&apart=1", report("completed", SOCKET_LEG))).status_code == 204
    assert "caller_not_moved" in [line["event"] for line in lines]


# --- after the socket ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", [outcome.AGENT_HANGUP, outcome.CALLER_HANGUP, outcome.MAX_DURATION, outcome.TRANSFERRED]
)
async def test_an_intentional_close_is_followed_by_nothing(end: EndReason) -> None:
    async with vonage() as at:
        await at.answered()
        at.bridge.shared.remember_end(LEG, end)
        response = await at.post(EVENTS, report("disconnected", SOCKET_LEG))
    assert (response.status_code, response.content) == (204, b"")


async def test_who_was_told_already_hears_nothing_more() -> None:
    async with vonage() as at:
        await at.answered()
        at.bridge.shared.remember_end(LEG, outcome.AGENT_LOST, {"apologised": "yes"})
        assert (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).status_code == 204


@pytest.mark.parametrize("status", ["disconnected", "failed", "unanswered"])
async def test_when_the_agent_failed_vonage_apologises_in_the_calls_language(status: str) -> None:
    async with vonage() as at:
        await at.answered()
        at.bridge.shared.remember_end(LEG, outcome.AGENT_NOT_FOUND, {"language": "nl"})
        response = await at.post(EVENTS, report(status, SOCKET_LEG, to="wss://bridge.example.com/vonage/media"))
    assert talk_of(response).startswith("nl-NL: ")


async def test_or_another_number_takes_the_caller() -> None:
    async with vonage() as at:
        await at.answered()
        at.bridge.shared.remember_end(LEG, outcome.AGENT_LOST, {"divert_to": "+15550111222"})
        [connect] = (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).json()
    assert connect["endpoint"] == [{"type": "phone", "number": "15550111222"}]


@pytest.mark.parametrize("end", [None, outcome.CARRIER_LOST, outcome.BUG])
async def test_a_broken_line_is_connected_again_once(end: EndReason | None) -> None:
    async with vonage(INSTANCE_URL="https://one.example.com") as at:
        first = socket_of(await at.answered())["headers"]["token"]
        assert isinstance(await at.bridge.tokens.redeem(first, LEG), CallClaims)
        if end is not None:
            at.bridge.shared.remember_end(LEG, end, {"conversation_id": "conv_1"})
        told = (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).json()
        socket = socket_of(told)
        assert socket["uri"] == "wss://one.example.com/vonage/media"
        claims = await at.bridge.tokens.redeem(socket["headers"]["token"], LEG)
        again = await at.post(EVENTS, report("disconnected", SOCKET_LEG))
    assert isinstance(claims, CallClaims)
    assert (claims.called, claims.control_url) == ("+447700900001", REGION)
    previous = {"bridge_previous_conversation_id": "conv_1"} if end is not None else {}
    assert claims.parameters == {"bridge_resumed": "true", **previous}
    assert talk_of(again) == SORRY


async def test_no_slot_is_left_to_connect_again() -> None:
    async with vonage(BRIDGE_MAX_CALLS="1") as at:
        first = socket_of(await at.answered())["headers"]["token"]
        claims = await at.bridge.tokens.redeem(first, LEG)
        assert isinstance(claims, CallClaims)
        assert talk_of(await at.post(EVENTS, report("disconnected", SOCKET_LEG))) == SORRY


async def test_reports_of_a_socket_that_is_not_over_or_of_nobody() -> None:
    async with vonage() as at:
        await at.answered()
        for path, status in (
            (EVENTS, "started"),
            (EVENTS, "answered"),
            (EVENTS, "completed"),
            ("/vonage/events?leg=unknown-leg", "disconnected"),
            ("/vonage/events?leg=..%2F..", "disconnected"),
        ):
            assert (await at.post(path, report(status, SOCKET_LEG))).status_code == 204
        assert at.bridge.admission.active == 1


async def test_a_leg_that_is_kept_by_another_version_is_nobodys() -> None:
    async with vonage() as at:
        await at.bridge.shared.put(f"vonage-call:{LEG}", b"{}", 60.0)
        assert (await at.post(EVENTS, report("disconnected", SOCKET_LEG))).status_code == 204


# --- reports on callers' legs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "cancelled", "failed", "busy", "unanswered", "timeout", "rejected"])
async def test_a_line_that_is_over_before_its_media_came_frees_its_slot(status: str) -> None:
    async with vonage() as at:
        token = socket_of(await at.answered())["headers"]["token"]
        await at.post("/vonage/events", report("ringing"))
        assert at.bridge.admission.active == 1
        for _ in range(2):
            assert (await at.post("/vonage/events", report(status))).status_code == 204
            assert at.bridge.admission.active == 0
        assert await at.bridge.tokens.redeem(token, LEG) is TokenProblem.USED


async def test_a_line_that_is_over_while_its_media_is_here_takes_no_slot_from_it() -> None:
    async with vonage() as at:
        token = socket_of(await at.answered())["headers"]["token"]
        assert isinstance(await at.bridge.tokens.redeem(token, LEG), CallClaims)
        await at.get("/vonage/events", {"status": "completed", "uuid": LEG})
        assert at.bridge.admission.active == 1, "it is the session's"


async def test_reports_are_logged_without_numbers(lines: list[dict[str, Any]]) -> None:
    async with vonage() as at:
        await at.post("/vonage/events", report("ringing", **{"from": "447700900000", "to": "447700900001"}))
        await at.post("/vonage/events", report("x" * 100))
    told = [line for line in lines if line["event"] == "vonage_report"]
    assert [line["status"] for line in told] == ["ringing", "x" * 64]
    assert "447700900000" not in str(lines)


# --- placed calls --------------------------------------------------------------------------------------------


class Desk:
    """Placed calls on fakes, and the routes of Vonage."""

    def __init__(self, at: Vonage, office: Office) -> None:
        self.at, self.office = at, office

    async def place(self, **members: Any) -> str:
        """A call to ``THEIRS`` that rings; its leg is ``LEG``."""
        return (await self.office.place(provider="vonage", **members)).call_id

    async def post(self, path: str, status: str = "", **fields: object) -> httpx.Response:
        """A signed webhook of the placed call."""
        told = {"from": OURS.strip("+"), "to": THEIRS.strip("+"), "region_url": REGION, **report(status), **fields}
        return await self.at.post(path, told)


@contextlib.asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    rules = RequestRules(providers=frozenset({"vonage"}), owned_numbers={"vonage": (OURS,)})
    office = Office(OutboundOptions(rules, unknown_wait_s=0.0))
    office.controls["vonage"] = VonageControl(
        FakeApi([httpx.Response(201, json={"uuid": LEG})]).rest(), VonageControlOptions(PUBLIC)
    )
    bridge = offline_bridge(SETTINGS)
    app = FastAPI()
    app.include_router(VonageWebhooks(bridge, VonageHooks(bridge), office.outbound).router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as client:
        yield Desk(Vonage(bridge, client, FakeApi()), office)
    await office.outbound.close()


async def test_a_placed_call_is_connected_under_its_own_id() -> None:
    async with desk() as our:
        call_id = await our.place()
        told = (await our.post(f"/vonage/answer?call={call_id}")).json()
        assert (await our.post(f"/vonage/answer?call={call_id}")).json() == told
        claims = await our.office.tokens.redeem(socket_of(told)["headers"]["token"], LEG)
    assert isinstance(claims, CallClaims)
    assert (claims.call_id, claims.direction, claims.agent_id) == (call_id, "outbound", "agent_1")
    assert (claims.caller, claims.called, claims.control_url) == (OURS, THEIRS, REGION)
    assert told[0]["from"] == OURS.strip("+")
    assert our.at.bridge.admission.active == 0, "it has its slot already"


async def test_a_call_that_was_not_placed_here_or_is_over_is_hung_up_on() -> None:
    async with desk() as our:
        assert (await our.post("/vonage/answer?call=0123456789abcdef")).json() == []
        call_id = await our.place()
        assert (await our.post(f"/vonage/events?call={call_id}", "busy")).status_code == 204
        assert (await our.post(f"/vonage/answer?call={call_id}")).json() == []


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("busy", "line_busy"),
        ("rejected", "line_busy"),
        ("unanswered", "no_answer"),
        ("timeout", "no_answer"),
        ("cancelled", "call_canceled"),
        ("failed", "line_failed"),
        ("completed", "no_media"),
    ],
)
async def test_how_a_placed_call_came_to_nothing(status: str, end: str) -> None:
    async with desk() as our:
        call_id = await our.place()
        path = f"/vonage/events?call={call_id}"
        for each in ("started", "ringing", status, "ringing", status):
            assert (await our.post(path, each)).status_code == 204
        assert our.office.ends == [end]
        assert our.office.slots == 0
        [failure] = our.office.failures
    assert failure["metadata"]["body"]["status"] == status


async def test_a_report_of_another_line_is_not_the_calls() -> None:
    async with desk() as our:
        call_id = await our.place()
        await our.post(f"/vonage/events?call={call_id}", "failed", uuid="another-leg")
        assert our.office.ends == []
        assert our.office.lines.over == ["another-leg"]


async def test_verdicts_reach_the_call(lines: list[dict[str, Any]]) -> None:
    async with desk() as our:
        detection = {"mode": "detect_message_end", "rules": {"machine": "leave_message"}}
        call_id = await our.place(machine_detection=detection)
        our.office.lines.call_ids.add(call_id)
        path = f"/vonage/events?call={call_id}"
        told = {"call_uuid": LEG, "uuid": None}
        await our.post(path, "machine", **told)
        await our.post(path, "machine", sub_state="beep_start", **told)
        await our.post("/vonage/events?call=0123456789abcdef", "human")
        assert our.office.lines.detected == [
            (call_id, "machine_start", MachineAction.LEAVE_MESSAGE, ""),
            (call_id, "machine_end_beep", MachineAction.LEAVE_MESSAGE, ""),
        ]
    told_of = [line["detail"] for line in lines if line["event"] == "vonage_report"]
    assert told_of == ["", "", "of no call that is known"]


async def test_the_session_of_a_line_that_is_over_is_told() -> None:
    async with desk() as our:
        our.office.lines.call_sids.add(LEG)
        await our.post("/vonage/events", "completed")
        await our.post("/vonage/events", "answered")
    assert our.office.lines.over == [LEG]
