"""What an answer webhook is told: the slot taken once, repetitions, and callers for whom there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.admission import Granted
from bridge.calls.routing import Resolved, parse_routing
from bridge.events import CallInfo
from bridge.server.answer import Busy, Connect, Divert, answer
from bridge.server.service import Bridge
from tests.kit import logs
from tests.kit.offline import offline_bridge, records_of
from tests.kit.server import until
from tests.kit.sessions import Table

INFO = CallInfo(
    provider="twilio",
    call_sid="CA1",
    account_id="AC1",
    caller="+15550100",
    called="+15550199",
    parameters={"tenant": "a"},
)
OTHER = msgspec.structs.replace(INFO, call_sid="CA2")
ROUTE = Resolved("agent_1")


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


async def full_bridge(**settings: str) -> Bridge:
    """A bridge whose only slot is taken."""
    bridge = offline_bridge(settings, BRIDGE_MAX_CALLS="1")
    await bridge.take_slot("somebody", "", ROUTE, "inbound")
    return bridge


async def test_an_answer_takes_the_slot_and_says_what_the_webhook_knew() -> None:
    bridge = offline_bridge()
    told = await answer(bridge, INFO)
    assert isinstance(told, Connect)
    assert bridge.admission.active == 1
    claims = await bridge.tokens.redeem(told.token, "CA1")
    assert isinstance(claims, CallClaims)
    assert len(claims.call_id) == 16
    assert (claims.caller, claims.called, claims.direction, claims.parameters) == (
        "+15550100",
        "+15550199",
        "inbound",
        {"tenant": "a"},
    )
    assert records_of(bridge).puts == [], "nobody has called yet"
    assert bridge.ended_counts == {}


async def test_a_repeated_webhook_gets_the_same_token_and_takes_no_second_slot() -> None:
    bridge = offline_bridge(BRIDGE_MAX_CALLS="1")
    first, again = await answer(bridge, INFO), await answer(bridge, INFO)
    assert isinstance(first, Connect)
    assert first == again
    assert bridge.admission.active == 1
    assert await answer(bridge, OTHER) == Busy(outcome.CAPACITY)


async def test_a_webhook_that_is_repeated_while_the_call_is_on_takes_nothing_from_it() -> None:
    bridge = offline_bridge()
    told = await answer(bridge, INFO)
    assert isinstance(told, Connect)
    table = await Table(bridge).activate("CA1", token=told.token)
    again = await answer(bridge, INFO)
    assert isinstance(again, Connect)
    assert again.token != told.token
    assert list(bridge.sessions) == [table.session.call_id]
    table.hang_up()


async def test_a_slot_whose_call_never_comes_is_free_again() -> None:
    bridge = offline_bridge(CALL_TOKEN_TTL_S="0.02", BRIDGE_MAX_CALLS="1")
    assert isinstance(await answer(bridge, INFO), Connect)
    assert bridge.admission.active == 1
    await until(lambda: bridge.admission.active == 0, "the slot is held for ever")
    assert isinstance(await answer(bridge, OTHER), Connect)


async def test_busy_is_counted_logged_and_written_down(lines: list[dict[str, Any]]) -> None:
    bridge = await full_bridge()
    assert await answer(bridge, INFO) == Busy(outcome.CAPACITY)
    assert bridge.admission.active == 1
    assert bridge.ended_counts == {"server_error/capacity": 1}
    [line] = lines
    assert (line["event"], line["call_sid"], line["reason"]) == ("call_refused", "CA1", "server_error/capacity")
    record = records_of(bridge).last
    assert (record.state, record.result, record.reason, record.admission) == (
        "ended",
        "server_error",
        "capacity",
        "capacity",
    )
    assert (record.provider, record.call_sid, record.account_id) == ("twilio", "CA1", "AC1")
    assert (record.caller, record.called, record.agent_id) == ("+15550100", "+15550199", "agent_1")
    assert (record.instance_id, record.detail) == (bridge.instance_id, "1 calls in progress, 0 waiting")
    assert record.created_at == record.ended_at
    assert records_of(bridge).events == [], "nobody is told of a call that never was"


async def test_who_was_refused_may_be_let_in_when_asked_again() -> None:
    """The end that was written down for the first question must not be the second one's."""
    bridge = await full_bridge()
    assert await answer(bridge, INFO) == Busy(outcome.CAPACITY)
    bridge.admission.give_back("somebody")
    told = await answer(bridge, INFO)
    assert isinstance(told, Connect)
    claims = await bridge.tokens.redeem(told.token, "CA1")
    assert isinstance(claims, CallClaims)
    assert records_of(bridge).last.id != claims.call_id


async def test_a_stopping_bridge_says_busy_and_begins_nothing(lines: list[dict[str, Any]]) -> None:
    bridge = offline_bridge(PERSONALIZATION_URL="https://crm.example/hook")
    bridge.admission.draining = True
    assert await answer(bridge, INFO) == Busy(outcome.DRAINING)
    assert (bridge.admission.active, len(bridge.parts.personalizer)) == (0, 0)
    assert [line["reason"] for line in lines] == ["server_error/draining"]
    assert bridge.ended_counts == {"server_error/draining": 1}


async def test_who_is_sent_on_is_counted_as_such() -> None:
    bridge = await full_bridge(OVERFLOW="divert", OVERFLOW_DIVERT_TO="+15550111")
    assert await answer(bridge, INFO) == Divert("+15550111")
    assert bridge.ended_counts == {"success/diverted": 1}
    record = records_of(bridge).last
    assert (record.result, record.reason, record.admission) == ("success", "diverted", "capacity")


async def test_who_may_wait_is_connected() -> None:
    bridge = await full_bridge(OVERFLOW="queue")
    assert isinstance(await answer(bridge, INFO), Connect)
    assert bridge.admission.active == 1


async def test_the_overflow_is_the_routes() -> None:
    routing = parse_routing(
        {
            "routes": [
                {"number": "+15550199", "overflow": "divert", "overflow_divert_to": "sip:desk@pbx.example"},
                {"number": "+15550198", "overflow": "queue"},
            ]
        }
    )
    bridge = offline_bridge(routing=routing, BRIDGE_MAX_CALLS="1")
    assert await bridge.take_slot("somebody", "", ROUTE, "inbound") == Granted(is_burst=False)
    assert await answer(bridge, INFO) == Divert("sip:desk@pbx.example")
    assert isinstance(await answer(bridge, msgspec.structs.replace(OTHER, called="+15550198")), Connect)
    assert await answer(bridge, msgspec.structs.replace(OTHER, call_sid="CA3", called="+1555")) == Busy(
        outcome.CAPACITY
    )


async def test_one_source_is_kept_from_taking_all_slots() -> None:
    bridge = offline_bridge(CALLS_PER_SECOND_PER_SOURCE="1")
    assert isinstance(await answer(bridge, INFO), Connect)
    assert await answer(bridge, OTHER) == Busy(outcome.RATE_LIMITED)
    elsewhere = msgspec.structs.replace(OTHER, call_sid="CA3", caller="+15550142")
    assert isinstance(await answer(bridge, elsewhere), Connect)


async def test_the_personalization_is_asked_while_the_line_connects() -> None:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"dynamic_variables": {"name": "Ann"}})

    bridge = offline_bridge(answer=reply, PERSONALIZATION_URL="https://crm.example/hook")
    told = await answer(bridge, INFO)
    await answer(bridge, INFO)
    await until(lambda: asked, "nobody was asked before the socket came")
    assert isinstance(told, Connect)
    table = await Table(bridge).activate("CA1", token=told.token)
    assert len(asked) == 1
    assert table.records.last.variables["name"] == "Ann"
    table.hang_up()
