"""Placed calls: what follows from who answered, how failures are told, and that nothing is lost between processes."""

from __future__ import annotations

import msgspec
import pytest

from bridge import outcome
from bridge.calls.machine import MachineAction
from bridge.calls.outbound import (
    VERDICTS,
    MachineDetection,
    OutboundCall,
    OutboundRequest,
    RequestRules,
    StatusReport,
    action_for,
    actions_for,
    decode_call,
    encode_call,
    failure_of,
    request_digest,
)
from bridge.convai.messages import InitiationData
from bridge.outcome import EndReason

CALL = OutboundCall(
    call_id="9f86d081884c7d65",
    provider="twilio",
    to_number="+4930123456",
    from_number="+15551234567",
    agent_id="agent_1",
    created_at=1_700_000_000.5,
    ring_s=45,
)


def report(status: str, sip_code: int = 0) -> StatusReport:
    return StatusReport(call_sid="CA1", status=status, sip_code=sip_code)


# --- who answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("default", "machine", "fax"),
    [
        (MachineAction.CONTINUE, "continue", "continue"),
        (MachineAction.HANG_UP, "hang_up", "hang_up"),
        (MachineAction.LEAVE_MESSAGE, "leave_message", "hang_up"),
    ],
)
def test_without_rules_the_operators_choice_holds(default: MachineAction, machine: str, fax: str) -> None:
    for detection in (None, MachineDetection()):
        assert actions_for(detection, RequestRules(machine_action=default)) == {
            "human": "continue",
            "unknown": "continue",
            "fax": fax,
            "machine_start": machine,
            "machine_end_beep": machine,
            "machine_end_silence": machine,
            "machine_end_other": machine,
        }


def test_a_rule_of_its_own_goes_before_the_one_for_all_machines() -> None:
    detection = MachineDetection(rules={"machine": "hang_up", "machine_end_beep": "leave_message", "human": "hang_up"})
    actions = actions_for(detection, RequestRules())
    assert actions["machine_start"] == actions["machine_end_silence"] == actions["machine_end_other"] == "hang_up"
    assert (actions["machine_end_beep"], actions["human"], actions["fax"]) == ("leave_message", "hang_up", "continue")


def test_every_verdict_has_an_action_and_an_unknown_one_is_unknown() -> None:
    rules = {"unknown": "hang_up", "fax": "leave_message"}
    call = msgspec.structs.replace(CALL, actions=actions_for(MachineDetection(rules=rules), RequestRules()))  # type: ignore[arg-type]
    assert set(call.actions) == set(VERDICTS)
    assert action_for(call, "human") is MachineAction.CONTINUE
    assert action_for(call, "fax") is MachineAction.LEAVE_MESSAGE
    for verdict in ("unknown", "", "android", "machine_"):
        assert action_for(call, verdict) is MachineAction.HANG_UP
    rules = {"machine_start": "hang_up", "machine_end_beep": "leave_message"}
    call = msgspec.structs.replace(CALL, actions=actions_for(MachineDetection(rules=rules), RequestRules()))  # type: ignore[arg-type]
    assert action_for(call, "machine") is MachineAction.HANG_UP, "Vonage's words"
    assert action_for(call, "beep_start") is MachineAction.LEAVE_MESSAGE
    assert action_for(CALL, "machine_start") is MachineAction.CONTINUE, "a call without detection is gone on with"


# --- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "sip_code", "end", "reason"),
    [
        ("busy", 0, outcome.LINE_BUSY, "busy"),
        ("busy", 487, outcome.LINE_BUSY, "busy"),
        ("no-answer", 0, outcome.NO_ANSWER, "no-answer"),
        ("canceled", 0, outcome.CALL_CANCELED, "unknown"),
        ("completed", 200, outcome.NO_MEDIA, "unknown"),
        ("failed", 0, outcome.LINE_FAILED, "unknown"),
        ("failed", 404, outcome.LINE_FAILED, "unknown"),
        ("failed", 486, outcome.LINE_BUSY, "busy"),
        ("failed", 603, outcome.LINE_BUSY, "busy"),
        ("failed", 480, outcome.NO_ANSWER, "no-answer"),
        ("failed", 408, outcome.NO_ANSWER, "no-answer"),
    ],
)
def test_what_a_final_report_means(status: str, sip_code: int, end: EndReason, reason: str) -> None:
    found = failure_of(report(status, sip_code))
    assert (found.end, found.reason) == (end, reason)


@pytest.mark.parametrize("status", ["completed", "busy", "no-answer", "failed", "canceled"])
def test_final_statuses(status: str) -> None:
    assert report(status).is_final


@pytest.mark.parametrize("status", ["queued", "initiated", "ringing", "in-progress", "", "Busy"])
def test_statuses_that_something_follows(status: str) -> None:
    assert not report(status).is_final


def test_a_report_does_not_show_its_numbers() -> None:
    assert "4930" not in repr(StatusReport(call_sid="CA1", status="busy", fields={"To": "+4930123456"}))


# --- between processes -----------------------------------------------------------------------------------


def test_a_call_survives_the_wire() -> None:
    call = msgspec.structs.replace(
        CALL,
        initiation=InitiationData(
            dynamic_variables={"name": "Ann", "age": 40, "vip": True, "score": 0.5},
            conversation_config_override={"agent": {"language": "de"}},
            user_id="u1",
        ),
        detection="enable",
        actions={"fax": "hang_up"},
        message="Call us back.",
    )
    assert decode_call(encode_call(call)) == call
    assert decode_call(encode_call(CALL)) == CALL


def test_what_is_no_call() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_call(b'{"call_id": 1}')


def test_the_digest_is_of_what_is_asked_for() -> None:
    request = OutboundRequest(to_number="+4930123456", machine_detection=MachineDetection(rules={"fax": "hang_up"}))
    same = OutboundRequest(to_number="+4930123456", machine_detection=MachineDetection(rules={"fax": "hang_up"}))
    other = OutboundRequest(to_number="+4930123457", machine_detection=MachineDetection(rules={"fax": "hang_up"}))
    assert request_digest(request) == request_digest(same)
    assert request_digest(request) != request_digest(other)
    assert "4930" not in request_digest(request)


def test_the_order_of_members_does_not_matter_to_the_digest() -> None:
    def asked(variables: dict[str, str | int | float | bool]) -> str:
        data = InitiationData(dynamic_variables=variables)
        return request_digest(OutboundRequest(to_number="+4930123456", conversation_initiation_client_data=data))

    assert asked({"a": 1, "b": 2}) == asked({"b": 2, "a": 1})
