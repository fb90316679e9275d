"""How refusals are worded: with status, code, field, and what to do."""

from __future__ import annotations

import pytest

from bridge import outcome
from bridge.calls.admission import Refused, Verdict, Waiting
from bridge.calls.outbound_request import Mistake, RequestError
from bridge.outcome import EndReason
from bridge.server.carrier_control import ControlError, ControlFault
from bridge.server.outbound_parts import bad_request, no_agent, no_slot, refused_by_carrier


def test_a_request_that_is_wrong() -> None:
    mistakes = [Mistake("to_number", "is missing; give it"), Mistake("agent_id", "is none")]
    refusal = bad_request(RequestError(mistakes))
    assert (refusal.status, refusal.code, refusal.field) == (422, "invalid_request", "to_number")
    assert refusal.message == "to_number is missing; give it; agent_id is none"
    assert bad_request(RequestError([Mistake("", "no JSON")], is_json=False)).status == 400


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (Refused(outcome.CAPACITY), 429, outcome.CAPACITY),
        (Refused(outcome.AGENT_CAPACITY), 429, outcome.AGENT_CAPACITY),
        (Refused(outcome.AGENT_DAILY_LIMIT), 429, outcome.AGENT_DAILY_LIMIT),
        (Refused(outcome.DRAINING), 503, outcome.DRAINING),
        (Refused(outcome.LIMITS_UNKNOWN), 503, outcome.LIMITS_UNKNOWN),
        (Waiting(1), 429, outcome.CAPACITY),
    ],
)
def test_no_slot(verdict: Verdict, status: int, reason: EndReason) -> None:
    refusal, counted = no_slot(verdict)
    assert counted is reason
    assert (refusal.status, refusal.code, refusal.message) == (status, reason.reason, reason.advice)
    assert refusal.retry_after_s > 0
    assert not refusal.stays


def test_no_agent() -> None:
    assert no_agent("no route names an agent").message == "agent_id: no route names an agent; give one"


@pytest.mark.parametrize(
    ("code", "field"),
    [(21211, "to_number"), (21215, "to_number"), (21219, "to_number"), (21210, "from_number"), (21606, "from_number")],
)
def test_numbers_that_the_carrier_does_not_take(code: int, field: str) -> None:
    refusal = refused_by_carrier(ControlError(ControlFault.REFUSED, "secret words", code=code))
    assert (refusal.status, refusal.field) == (422, field)
    assert f"its error {code}" in refusal.message
    assert "secret" not in refusal.message


@pytest.mark.parametrize("fault", ControlFault)
def test_every_fault_has_its_refusal(fault: ControlFault) -> None:
    refusal = refused_by_carrier(ControlError(fault, "words"))
    assert refusal.status == (429 if fault is ControlFault.BUSY else 502)
    assert refusal.stays == (fault is not ControlFault.BUSY)
