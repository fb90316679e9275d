"""Placed calls until their media comes: reports in any order, ends exactly once, slots never lost, two processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import outcome
from bridge.auth.tokens import CallClaims, TokenProblem
from bridge.calls.machine import MachineAction
from bridge.convai.messages import InitiationData
from bridge.outcome import EndReason
from bridge.server import outbound as module
from bridge.server.answer import Busy, Connect
from bridge.server.api.ports import PlacementRefused
from bridge.server.carrier_control import ControlError, ControlFault
from tests.kit import logs
from tests.kit.outbound import OURS, SID, THEIRS, UNIX_S, Office, SharedByTwo, answer_info, end_name
from tests.kit.server import until


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


def two() -> tuple[Office, Office]:
    """Two processes with one Redis."""
    first = Office(shared=SharedByTwo())
    return first, first.other()


async def placed(office: Office, **members: Any) -> str:
    return (await office.place(**members)).call_id


async def answered(office: Office, call_id: str) -> str:
    told = await office.outbound.answered(call_id, answer_info())
    assert isinstance(told, Connect)
    return told.token


async def joined(office: Office, call_id: str, token: str) -> None:
    """The media socket comes to this process."""
    claims = await office.tokens.redeem(token, SID)
    assert isinstance(claims, CallClaims)
    assert claims.call_id == call_id
    office.lines.call_ids.add(call_id)
    office.lines.call_sids.add(SID)
    office.outbound.joined(call_id)
    await asyncio.sleep(0)


def is_over(office: Office) -> bool:
    return office.slots == 0 and len(office.outbound) == 0 and office.live.here() == []


# --- answered --------------------------------------------------------------------------------------------


async def test_who_answers_is_connected_under_the_same_id() -> None:
    office = Office()
    call_id = await placed(office)
    told = await office.outbound.answered(call_id, answer_info(stir_verstat="A"))
    assert isinstance(told, Connect)
    claims = await office.tokens.redeem(told.token, SID)
    assert claims == CallClaims(
        caller=OURS,
        called=THEIRS,
        direction="outbound",
        call_id=call_id,
        agent_id="agent_1",
        parameters={"stir_verstat": "A"},
    )
    assert office.slots == 1
    [asked] = office.personalized
    assert (asked.caller, asked.called, asked.agent_id, asked.call_sid) == (OURS, THEIRS, "agent_1", SID)


async def test_a_repeated_answer_webhook_gets_the_same_token() -> None:
    office = Office()
    call_id = await placed(office)
    assert await answered(office, call_id) == await answered(office, call_id)
    assert office.slots == 1


async def test_data_of_the_request_takes_the_place_of_the_personalization_webhook() -> None:
    office = Office()
    data = {"dynamic_variables": {"name": "Ann"}, "user_id": "u1"}
    call_id = await placed(office, conversation_initiation_client_data=data)
    await answered(office, call_id)
    assert office.personalized == []
    expected = InitiationData(dynamic_variables={"name": "Ann"}, user_id="u1")
    assert await office.outbound.initiation(call_id) == expected
    assert await office.other().outbound.initiation(call_id) == expected
    order = await office.other().outbound.placed(call_id)
    assert order is not None
    assert (order.to_number, order.detection, order.initiation) == (THEIRS, "off", expected)
    assert await office.outbound.initiation(await placed(office)) is None
    assert await office.outbound.placed("0123456789abcdef") is None
    assert await office.outbound.initiation("0123456789abcdef") is None


@pytest.mark.parametrize("call_id", ["0123456789abcdef", "", "x" * 5000, "../.."])
async def test_a_call_that_nobody_has_placed(call_id: str, lines: list[dict[str, Any]]) -> None:
    office = Office()
    assert await office.outbound.answered(call_id, answer_info()) == Busy(outcome.LINE_FAILED)
    assert not await office.status(call_id, "completed")
    assert not await office.outbound.machine(call_id, SID, "human")
    assert not await office.outbound.hang_up(call_id)
    assert [line["event"] for line in lines] == ["outbound_call_unknown"]
    assert office.ends == []


async def test_another_line_cannot_take_a_placed_call() -> None:
    office = Office()
    call_id = await placed(office)
    assert await office.outbound.answered(call_id, answer_info("CAother")) == Busy(outcome.LINE_FAILED)
    assert not await office.status(call_id, "busy", sid="CAother")
    assert not await office.outbound.machine(call_id, "CAother", "human")
    assert office.slots == 1


# --- status: the call does not come about ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "end", "reason"),
    [
        ("busy", outcome.LINE_BUSY, "busy"),
        ("no-answer", outcome.NO_ANSWER, "no-answer"),
        ("failed", outcome.LINE_FAILED, "unknown"),
        ("canceled", outcome.CALL_CANCELED, "unknown"),
        ("completed", outcome.NO_MEDIA, "unknown"),
    ],
)
async def test_a_call_that_fails(status: str, end: EndReason, reason: str, lines: list[dict[str, Any]]) -> None:
    office = Office()
    call_id = await placed(office)
    assert await office.status(call_id, status, 3, SipResponseCode="500", CallerCity="")
    assert is_over(office)
    record = office.records.last
    assert (record.id, record.state, record.result, record.reason) == (call_id, "ended", end.result.value, end.reason)
    assert (record.call_sid, record.account_id, record.ended_at) == (SID, "AC1", UNIX_S)
    assert record.detail == f"{status} 500"
    assert [step.event for step in record.journal.steps] == [f"carrier_{status}"]
    [failure] = office.failures
    assert (failure["agent_id"], failure["conversation_id"]) == ("agent_1", call_id)
    assert failure["failure_reason"] == reason
    assert failure["metadata"] == {
        "type": "twilio",
        "body": {
            "CallSid": SID,
            "CallStatus": status,
            "To": THEIRS,
            "SipResponseCode": "500",
            "CallerCity": "",
        },
    }
    [line] = [line for line in lines if line["event"] == "call_ended"]
    assert (line["call_id"], line["advice"]) == (call_id, record_advice(record.reason))
    assert len(office.counted) == 1
    assert THEIRS not in str(lines)
    assert office.control.hung_up == [], "the carrier said so itself"
    assert office.lines.over == []


def record_advice(reason: str) -> str:
    return outcome.CATALOGUE[reason].advice


async def test_an_end_is_told_once_however_often_it_is_reported() -> None:
    first, second = two()
    call_id = await placed(first)
    reports = [office.status(call_id, "no-answer", 2) for office in (first, second, first, second)]
    assert await asyncio.gather(*reports) == [True] * 4
    assert await first.status(call_id, "failed", 3)
    assert len(first.failures) + len(second.failures) == 1
    assert first.ends + second.ends == ["no_answer"]


async def test_reports_in_the_wrong_order() -> None:
    office = Office()
    call_id = await placed(office)
    for status, sequence in (("in-progress", 2), ("ringing", 1), ("initiated", 0), ("in-progress", 2)):
        assert await office.status(call_id, status, sequence)
    assert len(office.outbound) == 1
    assert await office.status(call_id, "failed", 3)
    assert [step.event for step in office.records.last.journal.steps] == ["carrier_in-progress", "carrier_failed"]
    assert await office.status(call_id, "ringing", 1)
    assert office.ends == ["line_failed"]
    assert office.control.hung_up == [], "the carrier has ended it, there is nothing to hang up on"


async def test_reports_without_a_number() -> None:
    office = Office()
    call_id = await placed(office)
    for status in ("ringing", "ringing", "busy"):
        assert await office.status(call_id, status)
    assert [step.event for step in office.records.last.journal.steps] == ["carrier_ringing", "carrier_busy"]


async def test_completed_may_come_before_the_answer_webhook() -> None:
    office = Office()
    call_id = await placed(office)
    assert await office.status(call_id, "completed", 3)
    assert await office.outbound.answered(call_id, answer_info()) == Busy(outcome.NO_MEDIA)
    assert is_over(office)
    assert office.personalized == []


async def test_answered_and_over_before_the_media_came() -> None:
    office = Office()
    call_id = await placed(office)
    token = await answered(office, call_id)
    assert await office.status(call_id, "completed", 3)
    assert is_over(office)
    assert office.ends == ["no_media"]
    assert await office.tokens.redeem(token, SID) is TokenProblem.USED, "no media socket may come any more"


async def test_the_end_comes_while_the_answer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment between the first look for an end and the token."""
    office = Office()
    call_id = await placed(office)
    issue = office.tokens.issue

    async def late(call_sid: str, claims: CallClaims) -> Any:
        await office.status(call_id, "completed", 3)
        return await issue(call_sid, claims)

    monkeypatch.setattr(office.tokens, "issue", late)
    assert await office.outbound.answered(call_id, answer_info()) == Busy(outcome.NO_MEDIA)
    assert (office.ends, len(office.failures)) == (["no_media"], 1)


async def test_an_end_that_this_version_does_not_know() -> None:
    office = Office()
    call_id = await placed(office)
    await office.shared.put(f"outbound:{call_id}:over", b'{"reason":"of_tomorrow","ours":false}', 60.0)
    assert await office.outbound.answered(call_id, answer_info()) == Busy(outcome.LINE_FAILED)


# --- status: the call came about -------------------------------------------------------------------------


async def test_once_the_media_is_there_the_end_is_the_sessions() -> None:
    office = Office()
    call_id = await placed(office)
    await joined(office, call_id, await answered(office, call_id))
    assert (office.slots, len(office.outbound)) == (1, 0)
    assert await office.status(call_id, "completed", 3)
    assert office.lines.over == [SID]
    assert (office.slots, office.ends, office.failures) == (1, [], [])
    await office.outbound.close()


async def test_the_token_tells_that_the_media_came_when_nobody_has_said_so() -> None:
    """The report is as quick as the process that has the media socket."""
    first, second = two()
    call_id = await placed(first)
    token = await answered(second, call_id)
    assert isinstance(await first.tokens.redeem(token, SID), CallClaims)
    assert await second.status(call_id, "completed", 3)
    assert second.lines.over == [SID]
    assert first.ends + second.ends == []
    assert await second.status(call_id, "in-progress", 2)
    assert second.control.hung_up == []


async def test_an_unknown_call_can_still_be_over() -> None:
    office = Office()
    office.lines.call_sids.add("CA2")
    assert office.outbound.line_over("CA2")
    assert not office.outbound.line_over("CA3")
    assert office.outbound.remark("CA2", "stream_error")
    assert office.lines.remarks == [("CA2", "stream_error")]


# --- time ------------------------------------------------------------------------------------------------


async def test_a_carrier_that_reports_nothing() -> None:
    """As Twilio does for a list of events that it cannot read: the call is made, its reports never come."""
    office = Office()
    await placed(office, ring_timeout_s=30)
    office.clock.advance(44.9)
    await office.outbound.look()
    assert office.slots == 1
    office.clock.advance(0.2)
    await office.outbound.look()
    assert is_over(office)
    assert office.control.hung_up == [SID]
    assert (office.ends, office.records.last.detail) == (["line_failed"], "the carrier reported nothing")
    [failure] = office.failures
    assert (failure["failure_reason"], failure["metadata"]["body"]["CallStatus"]) == ("unknown", "failed")
    assert failure["metadata"]["body"]["CallSid"] == SID


async def test_a_call_that_rings_for_ever() -> None:
    office = Office()
    call_id = await placed(office, ring_timeout_s=30)
    await office.status(call_id, "ringing", 1)
    office.clock.advance(45.0)
    await office.outbound.look()
    assert is_over(office)
    assert (office.ends, office.control.hung_up) == (["no_answer"], [SID])
    assert office.failures[0]["failure_reason"] == "no-answer"


async def test_media_that_never_comes() -> None:
    office = Office()
    call_id = await placed(office, ring_timeout_s=600)
    await answered(office, call_id)
    office.clock.advance(19.0)
    await answered(office, call_id)  # repeated: it does not begin anew
    await office.outbound.look()
    assert office.slots == 1
    office.clock.advance(1.0)
    await office.outbound.look()
    assert is_over(office)
    assert (office.ends, office.control.hung_up) == (["no_media"], [SID])
    assert office.failures[0]["metadata"]["body"]["CallStatus"] == "completed"


async def test_media_that_never_comes_and_a_token_that_ran_out() -> None:
    office = Office(token_ttl_s=5.0)
    await answered(office, await placed(office))
    office.clock.advance(8.0)
    assert await office.status(office.control.placed[0].call_id, "completed", 3)
    assert office.ends == ["no_media"]


async def test_hanging_up_may_fail(lines: list[dict[str, Any]]) -> None:
    office = Office()
    await placed(office)
    office.control.hang_up_error = ControlError(ControlFault.DOWN, "no answer within 5 s")
    office.clock.advance(100.0)
    await office.outbound.look()
    assert is_over(office)
    [line] = [line for line in lines if line["event"] == "control_failed"]
    assert (line["order"], line["fault"]) == ("hang_up", "down")


async def test_hanging_up_without_credentials() -> None:
    office = Office()
    await placed(office)
    office.controls.clear()
    office.clock.advance(100.0)
    await office.outbound.look()
    assert is_over(office)


# --- two processes ---------------------------------------------------------------------------------------


async def test_the_process_that_placed_a_call_learns_of_its_end_from_others() -> None:
    first, second = two()
    call_id = await placed(first)
    assert await second.status(call_id, "busy", 2)
    assert (second.ends, first.slots) == (["line_busy"], 1)
    await first.outbound.look()
    assert is_over(first)
    assert first.ends == []
    assert second.records.last.id == call_id


async def test_answer_and_media_at_other_processes() -> None:
    first, second = two()
    call_id = await placed(first)
    await joined(second, call_id, await answered(second, call_id))
    await until(lambda: len(second.outbound._jobs) == 0)
    await first.outbound.look()
    assert is_over(first), "slot and entry are the other process's now"
    assert first.ends + second.ends == []


async def test_media_that_came_elsewhere_without_a_word() -> None:
    first, second = two()
    call_id = await placed(first)
    token = await answered(second, call_id)
    await first.outbound.look()
    assert isinstance(await second.tokens.redeem(token, SID), CallClaims)
    first.clock.advance(20.0)
    await first.outbound.look()
    assert is_over(first)
    assert (first.ends, first.control.hung_up) == ([], [])


async def test_one_process_never_takes_the_slot_from_its_own_session() -> None:
    office = Office()
    call_id = await placed(office)
    token = await answered(office, call_id)
    assert isinstance(await office.tokens.redeem(token, SID), CallClaims)
    office.clock.advance(20.0)
    await office.outbound.look()
    assert (office.slots, len(office.outbound)) == (1, 0)
    assert len(office.live.here()) == 1


async def test_an_end_while_the_calls_are_looked_at() -> None:
    """A look goes through many calls, and waits in between."""
    office = Office()
    first, second = await placed(office), await placed(office)
    over = office.outbound._book.over

    async def slow(call_id: str) -> Any:
        if call_id == first:
            office.outbound._ringing.here.pop(second)
        return await over(call_id)

    office.outbound._book.over = slow  # type: ignore[method-assign]
    office.clock.advance(100.0)
    await office.outbound.look()
    assert [record.id for record, _ in office.records.puts if record.state == "ended"] == [first]


# --- who answered ----------------------------------------------------------------------------------------

DETECTION = {"mode": "enable", "rules": {"machine": "leave_message"}, "message": "Call us."}


async def test_each_verdict_reaches_the_session_once() -> None:
    office = Office()
    call_id = await placed(office, machine_detection=DETECTION)
    await joined(office, call_id, await answered(office, call_id))
    for verdict in ("machine_start", "machine_start", "machine_end_beep", "machine_start"):
        assert await office.outbound.machine(call_id, SID, verdict)
    assert office.lines.detected == [
        (call_id, "machine_start", MachineAction.LEAVE_MESSAGE, "Call us."),
        (call_id, "machine_end_beep", MachineAction.LEAVE_MESSAGE, "Call us."),
    ]
    office.outbound.left(call_id)
    office.outbound.left(call_id)
    await office.outbound.close()


async def test_a_verdict_that_is_quicker_than_the_media() -> None:
    office = Office()
    call_id = await placed(office, machine_detection=DETECTION)
    token = await answered(office, call_id)
    assert await office.outbound.machine(call_id, SID, "fax")
    assert office.lines.detected == []
    await joined(office, call_id, token)
    await until(lambda: office.lines.detected)
    assert office.lines.detected == [(call_id, "fax", MachineAction.CONTINUE, "Call us.")]
    await office.outbound.close()


async def test_a_verdict_that_comes_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERDICT_POLL_S", 0.01)
    first, second = two()
    call_id = await placed(first, machine_detection=DETECTION)
    await joined(second, call_id, await answered(first, call_id))
    assert await first.outbound.machine(call_id, SID, "human")
    await until(lambda: second.lines.detected)
    assert second.lines.detected == [(call_id, "human", MachineAction.CONTINUE, "Call us.")]
    assert first.lines.detected == []
    await second.outbound.close()


async def test_nobody_looks_for_a_verdict_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERDICT_POLL_S", 0.01)
    first, second = two()
    call_id = await placed(first, machine_detection=DETECTION)
    await joined(second, call_id, await answered(first, call_id))
    second.outbound.joined(call_id)  # twice is no mistake
    assert len(second.outbound._jobs) == 1
    second.clock.advance(121.0)
    await until(lambda: not second.outbound._jobs, "it still looks")
    other = await placed(first, machine_detection={"mode": "off"})
    second.outbound.joined(other)
    await until(lambda: not second.outbound._jobs, "nobody listens for machines in this call")


async def test_a_call_that_is_over_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two()
    call_id = await placed(first, machine_detection=DETECTION)
    await joined(second, call_id, await answered(first, call_id))
    second.outbound.left(call_id)
    await until(lambda: not second.outbound._jobs)


async def test_a_watch_that_breaks_is_told_in_the_log(lines: list[dict[str, Any]]) -> None:
    office = Office()
    call_id = await placed(office, machine_detection=DETECTION)
    await office.shared.put(f"outbound:{call_id}:verdict:0", b"\xff", 60.0)
    office.outbound.joined(call_id)
    await until(lambda: not office.outbound._jobs)
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["bug"]


# --- the operator, and the end of the process ------------------------------------------------------------


async def test_the_operator_takes_a_ringing_call_back() -> None:
    first, second = two()
    call_id = await placed(first)
    assert await second.outbound.hang_up(call_id)
    assert not await second.outbound.hang_up(call_id)
    assert (second.ends, second.control.hung_up) == (["operator_hangup"], [SID])
    assert second.failures[0]["metadata"]["body"]["CallStatus"] == "canceled"
    assert second.counted == [end_name(outcome.OPERATOR_HANGUP)]
    await first.outbound.look()
    assert is_over(first)


async def test_a_call_with_its_media_is_not_ringing() -> None:
    office = Office()
    call_id = await placed(office)
    token = await answered(office, call_id)
    assert isinstance(await office.tokens.redeem(token, SID), CallClaims)
    assert not await office.outbound.hang_up(call_id), "its token is used up"
    office.outbound.joined(call_id)
    await until(lambda: not office.outbound._jobs)
    assert not await office.outbound.hang_up(call_id)
    assert (office.ends, office.control.hung_up) == ([], [])


async def test_a_bridge_that_stops_takes_back_what_rings() -> None:
    office = Office()
    for _ in range(3):
        await placed(office)
    await office.outbound.drain()
    assert is_over(office)
    assert office.ends == ["draining"] * 3
    assert len(office.failures) == 3
    assert len(office.control.hung_up) == 3


async def test_a_bridge_that_stops_waits_for_a_carrier_that_is_being_asked() -> None:
    office = Office()
    office.control.go_on.clear()
    asking = asyncio.create_task(office.place())
    await until(lambda: office.control.placed)
    stopping = asyncio.create_task(office.outbound.drain())
    await until(lambda: office.ends)
    assert (office.ends, office.control.hung_up) == (["draining"], []), "its line is not known yet"
    office.control.go_on.set()
    await stopping
    assert office.control.hung_up == [SID]
    with pytest.raises(PlacementRefused):
        await asking


async def test_it_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    office = Office()
    await office.outbound.start()
    await placed(office)
    office.clock.advance(100.0)
    await until(lambda: office.ends, "nobody looked")
    await office.outbound.close()
