"""Placing calls: what the carrier is asked, that no slot is lost on any way out, and that nothing is placed twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import outcome
from bridge.calls.admission import AgentLimits
from bridge.calls.outbound import RequestRules, decode_call
from bridge.calls.routing import Resolved
from bridge.convai.messages import InitiationData
from bridge.server.answer import Busy, Connect
from bridge.server.api.ports import PlacedCall, PlacementRefused, Refusal
from bridge.server.carrier_control import ControlError, ControlFault, OutboundOrder
from bridge.server.outbound_parts import OutboundOptions
from tests.kit import logs
from tests.kit.outbound import OURS, SID, THEIRS, UNIX_S, Office, answer_info, end_name
from tests.kit.server import until


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


async def refused(office: Office, key: str = "", **members: Any) -> Refusal:
    with pytest.raises(PlacementRefused) as caught:
        await office.place(key, **members)
    assert str(caught.value) == caught.value.refusal.message
    return caught.value.refusal


def nothing_left(office: Office) -> bool:
    return office.slots == 0 and len(office.outbound) == 0 and office.live.here() == []


# --- a call that is placed -------------------------------------------------------------------------------


async def test_what_the_carrier_is_asked_and_what_is_written_down() -> None:
    office = Office()
    placed = await office.place()
    assert placed == PlacedCall(call_id=placed.call_id, call_sid=SID, status="queued")
    assert len(placed.call_id) == 16
    assert office.control.placed == [OutboundOrder(placed.call_id, THEIRS, OURS, ring_s=60)]
    assert (office.slots, len(office.outbound)) == (1, 1)
    assert office.asked_routes == [("twilio", OURS, "")]
    first, second = [record for record, _ in office.records.puts]
    assert (first.id, first.call_sid, second.call_sid) == (placed.call_id, "", SID)
    assert (second.state, second.direction, second.provider) == ("waiting", "outbound", "twilio")
    assert (second.caller, second.called, second.agent_id) == (OURS, THEIRS, "agent_1")
    assert (second.environment, second.route, second.admission) == ("staging", OURS, "granted")
    assert (second.created_at, second.ended_at, second.instance_id) == (UNIX_S, None, "instance1")
    [live] = office.live.here()
    assert (live.call_id, live.state, live.direction) == (placed.call_id, "waiting", "outbound")
    assert office.failures == []


async def test_everything_that_can_be_asked_for() -> None:
    office = Office()
    placed = await office.place(
        agent_id="agent_2",
        ring_timeout_s=20,
        max_duration_s=300,
        machine_detection={"mode": "detect_message_end", "rules": {"fax": "hang_up"}, "message": "Call us."},
        conversation_initiation_client_data={"dynamic_variables": {"name": "Ann"}},
    )
    assert office.control.placed == [
        OutboundOrder(placed.call_id, THEIRS, OURS, ring_s=20, detect_machine="detect_message_end", max_duration_s=300)
    ]
    assert office.asked_routes == [("twilio", OURS, "agent_2")]
    assert office.records.last.variables == {"name": "Ann"}
    kept = await office.shared.get(f"outbound:{placed.call_id}:call")
    assert kept is not None
    call = decode_call(kept)
    assert (call.detection, call.actions["fax"], call.message) == ("detect_message_end", "hang_up", "Call us.")
    assert call.initiation == InitiationData(dynamic_variables={"name": "Ann"})


async def test_keys_are_handed_on_and_the_settings_hold_where_nothing_is_said() -> None:
    office = Office(OutboundOptions(RequestRules(owned_numbers={"twilio": (OURS,)}, ring_s=15)))
    await office.place(send_digits="ww1#")
    assert (office.control.placed[0].send_digits, office.control.placed[0].ring_s) == ("ww1#", 15)
    office.outbound.options = OutboundOptions(
        RequestRules(owned_numbers={"twilio": (OURS,)}, ring_s=25, detection="enable")
    )
    assert office.outbound.options.rules.ring_s == 25
    await office.place()
    assert (office.control.placed[1].ring_s, office.control.placed[1].detect_machine) == (25, "enable")


async def test_the_call_is_in_the_book_before_the_carrier_is_asked() -> None:
    """Its webhooks may come before the answer to the request, and to another process."""
    office = Office()

    async def webhooks(order: OutboundOrder) -> None:
        assert await office.status(order.call_id, "initiated", 0)
        assert await office.status(order.call_id, "in-progress", 2)
        assert isinstance(await office.outbound.answered(order.call_id, answer_info()), Connect)

    office.control.meanwhile = webhooks
    placed = await office.place()
    assert (placed.call_sid, placed.status) == (SID, "in-progress")
    assert office.slots == 1


async def test_a_call_may_be_over_before_the_carrier_answers() -> None:
    office = Office()

    async def busy(order: OutboundOrder) -> None:
        assert await office.status(order.call_id, "busy", 2)

    office.control.meanwhile = busy
    placed = await office.place()
    assert (placed.call_sid, placed.status) == (SID, "busy")
    assert nothing_left(office)
    assert office.ends == ["line_busy"]
    assert office.records.last.state == "ended", "what comes late must not open the record again"


async def test_media_may_come_before_the_carrier_answers() -> None:
    office = Office()

    async def media(order: OutboundOrder) -> None:
        told = await office.outbound.answered(order.call_id, answer_info())
        assert isinstance(told, Connect)
        await office.tokens.redeem(told.token, SID)
        office.outbound.joined(order.call_id)

    office.control.meanwhile = media
    await office.place()
    assert office.slots == 1, "it is the session's now"
    assert len(office.outbound) == 0
    assert len(office.records.puts) == 1
    await office.outbound.close()


async def test_a_call_that_waits_for_its_turn_keeps_nobody_waiting() -> None:
    """A carrier takes one call a second: with many at once, the last must wait for longer than a client does."""
    office = Office(
        OutboundOptions(RequestRules(owned_numbers={"twilio": (OURS,)}), answer_within_s=0.02, unknown_wait_s=0.0)
    )
    office.control.go_on.clear()
    placed = await office.place(ring_timeout_s=5)
    assert (placed.call_sid, placed.status) == ("", "queued")
    assert placed.call_id == office.control.placed[0].call_id
    office.clock.advance(50.0)
    await office.outbound.look()
    assert (office.slots, office.ends) == (1, []), "it does not ring yet, so its time has not begun"
    office.control.go_on.set()
    await until(lambda: office.records.last.call_sid == SID)
    office.clock.advance(20.0)
    await office.outbound.look()
    assert office.ends == ["line_failed"]


async def test_whoever_asks_may_go_away() -> None:
    office = Office()
    office.control.go_on.clear()
    asking = asyncio.create_task(office.place("key"))
    await until(lambda: office.control.placed)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    office.control.go_on.set()
    again = await office.place("key")
    assert (again.call_sid, len(office.control.placed)) == (SID, 1)


# --- refusals before the carrier is asked ----------------------------------------------------------------


async def test_a_request_that_is_wrong() -> None:
    office = Office()
    refusal = await refused(office, to_number="911", ring_timeout_s=0)
    assert (refusal.status, refusal.code, refusal.field) == (422, "invalid_request", "to_number")
    assert "ring_timeout_s is no whole number from 1 to 600" in refusal.message
    with pytest.raises(PlacementRefused) as caught:
        await office.outbound.place(b"{", "")
    assert (caught.value.refusal.status, caught.value.refusal.code) == (400, "invalid_body")
    assert nothing_left(office) and not office.control.placed


async def test_a_carrier_without_credentials() -> None:
    office = Office()
    office.controls.clear()
    refusal = await refused(office)
    assert (refusal.status, refusal.code, refusal.field) == (503, "carrier_not_set_up", "provider")
    assert nothing_left(office)


async def test_a_number_for_which_there_is_no_agent() -> None:
    office = Office()
    office.resolved = Resolved("", problem="no route names an agent, and ELEVENLABS_AGENT_ID is not set")
    refusal = await refused(office)
    assert (refusal.status, refusal.code, refusal.field) == (422, "no_agent", "agent_id")
    assert refusal.message.startswith("agent_id: no route names an agent")
    assert nothing_left(office)


async def test_no_slot(lines: list[dict[str, Any]]) -> None:
    office = Office(max_calls=1)
    await office.place()
    refusal = await refused(office)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (429, "capacity", 5)
    assert office.counted == [end_name(outcome.CAPACITY)]
    assert [line["reason"] for line in lines if line["event"] == "call_refused"] == ["server_error/capacity"]
    assert (office.slots, len(office.control.placed)) == (1, 1)
    assert office.ends == [], "a call that never was leaves no record"


async def test_an_agents_own_limit() -> None:
    office = Office()
    office.resolved = Resolved("agent_1", limits=AgentLimits(daily=0))
    assert (await refused(office)).code == "agent_daily_limit"
    office.admission.draining = True
    refusal = await refused(office)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "draining", 5)


# --- the carrier refuses or fails ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "field", "retry_after_s", "stays"),
    [
        (ControlError(ControlFault.REFUSED, "no", code=21211), 422, "carrier_refused_number", "to_number", 0, True),
        (ControlError(ControlFault.REFUSED, "no", code=21212), 422, "carrier_refused_number", "from_number", 0, True),
        (ControlError(ControlFault.REFUSED, "no", code=20003), 502, "carrier_refused", "", 0, True),
        (ControlError(ControlFault.REFUSED, "no"), 502, "carrier_refused", "", 0, True),
        (ControlError(ControlFault.GONE, "no"), 502, "carrier_refused", "", 0, True),
        (ControlError(ControlFault.BUSY, "no", code=20429), 429, "carrier_busy", "", 2, False),
        (ControlError(ControlFault.DOWN, "no answer within 5 s"), 502, "carrier_down", "", 0, True),
    ],
)
async def test_a_control_error_ends_the_call(
    error: ControlError, status: int, code: str, field: str, retry_after_s: int, stays: bool
) -> None:
    office = Office()
    office.control.error = error
    refusal = await refused(office)
    assert (refusal.status, refusal.code, refusal.field) == (status, code, field)
    assert (refusal.retry_after_s, refusal.stays) == (retry_after_s, stays)
    assert nothing_left(office)
    assert office.counted == [end_name(outcome.CONTROL_FAILED)]
    record = office.records.last
    assert (record.state, record.result, record.reason) == ("ended", "client_error", "control_failed")
    assert record.detail == f"{error.fault.value} {error.code or ''}".strip()
    [failure] = office.failures
    assert failure["failure_reason"] == "unknown"
    assert failure["metadata"] == {
        "type": "twilio",
        "body": {
            "CallSid": "",
            "CallStatus": "failed",
            "Direction": "outbound-api",
            "From": OURS,
            "To": THEIRS,
            "ErrorCode": str(error.code or ""),
            "ErrorMessage": error.fault.value,
        },
    }
    assert THEIRS not in refusal.message


async def test_a_call_that_was_placed_although_the_carrier_did_not_answer() -> None:
    """The request timed out, and the carrier's first report says that it was heard."""
    office = Office(OutboundOptions(RequestRules(owned_numbers={"twilio": (OURS,)}), unknown_wait_s=5.0))
    office.control.error = ControlError(ControlFault.DOWN, "no answer within 5 s")
    asking = asyncio.create_task(office.place("key"))
    await until(lambda: office.control.placed)
    assert await office.status(office.control.placed[0].call_id, "ringing", 1)
    placed = await asking
    assert (placed.call_sid, placed.status) == (SID, "ringing")
    assert office.slots == 1
    assert office.failures == []
    assert await office.place("key") == placed
    assert len(office.control.placed) == 1


@pytest.mark.parametrize("status", ["initiated", "ringing", "in-progress"])
async def test_a_call_that_was_given_up_and_rings_all_the_same_is_hung_up_on(status: str) -> None:
    office = Office()
    office.control.error = ControlError(ControlFault.DOWN, "no answer within 5 s")
    await refused(office)
    call_id = office.control.placed[0].call_id
    assert await office.status(call_id, status, 1)
    assert await office.status(call_id, "ringing", 2)
    await until(lambda: office.control.hung_up)
    assert await office.outbound.answered(call_id, answer_info()) == Busy(outcome.CONTROL_FAILED)
    assert await office.status(call_id, "completed", 3)
    assert office.control.hung_up == [SID]
    assert (len(office.failures), office.ends) == (1, ["control_failed"])


async def test_a_bug_frees_the_slot_and_closes_the_record(lines: list[dict[str, Any]]) -> None:
    office = Office()
    office.control.error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        await office.place("key")
    assert nothing_left(office)
    assert office.ends == ["bug"]
    assert len(office.failures) == 1
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["bug"]
    assert (await refused(office, "key")).code == "placement_unknown"


async def test_a_stop_in_the_middle_frees_the_slot() -> None:
    office = Office()
    office.control.go_on.clear()
    asking = asyncio.create_task(office.place("key"))
    await until(lambda: office.control.placed)
    await office.outbound.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert nothing_left(office)
    other = office.other()
    refusal = await refused(other, "key")
    assert (refusal.status, refusal.code) == (409, "placement_unknown")
    assert office.control.placed[0].call_id in refusal.message
    assert other.control.placed == []


async def test_a_call_that_is_taken_back_while_the_carrier_is_asked() -> None:
    office = Office()
    office.control.go_on.clear()
    asking = asyncio.create_task(office.place())
    await until(lambda: office.control.placed)
    assert await office.outbound.hang_up(office.control.placed[0].call_id)
    assert office.slots == 0
    office.control.go_on.set()
    with pytest.raises(PlacementRefused) as caught:
        await asking
    assert (caught.value.refusal.status, caught.value.refusal.code) == (502, "call_over")
    assert office.control.hung_up == [SID]
    assert office.ends == ["operator_hangup"]


async def test_a_line_that_was_named_otherwise_is_told_in_the_log(lines: list[dict[str, Any]]) -> None:
    office = Office()

    async def odd(order: OutboundOrder) -> None:
        await office.status(order.call_id, "ringing", sid="CAodd")

    office.control.meanwhile = odd
    await office.place()
    assert [line["call_sid"] for line in lines if line["event"] == "outbound_line_differs"] == [SID]


# --- idempotency -----------------------------------------------------------------------------------------


async def test_the_same_key_places_one_call() -> None:
    office = Office()
    first = await office.place("key", ring_timeout_s=30)
    assert await office.place("key", ring_timeout_s=30) == first
    assert await office.other().place("key", ring_timeout_s=30) == first
    assert (len(office.control.placed), office.slots) == (1, 1)


async def test_requests_that_race_place_one_call() -> None:
    office = Office()
    office.control.go_on.clear()
    asking = [asyncio.create_task(office.place("key")) for _ in range(5)]
    await until(lambda: office.control.placed)
    office.control.go_on.set()
    placed = await asyncio.gather(*asking)
    assert len(set(map(repr, placed))) == 1
    assert (len(office.control.placed), office.slots) == (1, 1)


async def test_a_race_without_a_key_places_as_many_calls() -> None:
    office = Office()
    placed = await asyncio.gather(*(office.place() for _ in range(3)))
    assert len({call.call_id for call in placed}) == 3
    assert (len(office.control.placed), office.slots) == (3, 3)


async def test_a_key_of_another_request() -> None:
    office = Office()
    await office.place("key")
    refusal = await refused(office, "key", ring_timeout_s=5)
    assert (refusal.status, refusal.code, refusal.field) == (422, "idempotency_key_reused", "Idempotency-Key")


async def test_a_refusal_after_which_a_call_may_ring_stays() -> None:
    office = Office()
    office.control.error = ControlError(ControlFault.DOWN, "no answer within 5 s")
    first = await refused(office, "key")
    office.control.error = None
    assert await refused(office, "key") == first
    assert len(office.control.placed) == 1


async def test_a_refusal_before_anything_happened_can_be_tried_again() -> None:
    office = Office(max_calls=1)
    await office.place()
    assert (await refused(office, "key")).code == "capacity"
    await office.status(office.control.placed[0].call_id, "busy")
    assert (await office.place("key")).call_sid
    office.admission.limits = type(office.admission.limits)(5)
    office.control.error = ControlError(ControlFault.BUSY, "slow down", code=20429)
    assert (await refused(office, "other")).code == "carrier_busy"
    office.control.error = None
    assert (await office.place("other")).call_sid
