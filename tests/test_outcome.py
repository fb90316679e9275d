"""The catalogue of ends: closed, named once, and with advice for the operator."""

from __future__ import annotations

import re

import pytest

from bridge import outcome
from bridge.outcome import CATALOGUE, EndReason, Result

CONSTANTS = {name: value for name, value in vars(outcome).items() if isinstance(value, EndReason)}


def test_every_constant_is_in_the_catalogue_under_its_own_name() -> None:
    assert {name.lower(): value for name, value in CONSTANTS.items()} == CATALOGUE
    assert all(name == end.reason for name, end in CATALOGUE.items())


def test_who_answers_for_what() -> None:
    by_result = {result: [end.reason for end in CATALOGUE.values() if end.result is result] for result in Result}
    assert by_result == {
        Result.SUCCESS: [
            "caller_hangup",
            "agent_hangup",
            "max_duration",
            "operator_hangup",
            "probe",
            "transferred",
            "diverted",
            "voicemail",
            "fax",
            "call_canceled",
        ],
        Result.CLIENT_ERROR: [
            "bad_message",
            "message_too_big",
            "no_start",
            "bad_token",
            "unsupported_media",
            "bad_variables",
            "rate_limited",
            "line_busy",
            "no_answer",
            "line_failed",
            "control_failed",
        ],
        Result.SERVER_ERROR: [
            "draining",
            "capacity",
            "agent_capacity",
            "agent_daily_limit",
            "queue_timeout",
            "limits_unknown",
            "instance_lost",
            "bug",
        ],
        Result.UPSTREAM_ERROR: [
            "personalization_failed",
            "agent_unreachable",
            "agent_unauthorized",
            "agent_not_found",
            "agent_refused",
            "agent_quota",
            "agent_config",
            "agent_operational",
            "agent_crashed",
            "agent_lost",
            "agent_silent",
            "agent_not_ready",
            "agent_format",
            "agent_garbage",
        ],
        Result.INDETERMINATE: ["carrier_lost", "carrier_silent", "no_media"],
    }


@pytest.mark.parametrize("end", CATALOGUE.values(), ids=str)
def test_every_end_has_a_label_and_advice(end: EndReason) -> None:
    assert re.fullmatch(r"[a-z_]{3,40}", end.reason)
    assert re.fullmatch(r"[A-Z].*\.", end.advice)
    assert str(end) == f"{end.result.value}/{end.reason}"


def test_the_reason_of_a_close_frame_has_room_for_every_name() -> None:
    assert max(len(reason.encode()) for reason in CATALOGUE) <= 123  # RFC 6455, 5.5: 125 bytes with the code


def test_an_end_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        outcome.BUG.reason = "feature"  # type: ignore[misc]


def test_the_words_of_an_end() -> None:
    assert str(outcome.AGENT_QUOTA) == "upstream_error/agent_quota"
