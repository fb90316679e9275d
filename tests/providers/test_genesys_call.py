"""What a Genesys session tells of its call, and what its end tells the flow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge import outcome
from bridge.errors import RemoteError
from bridge.events import CallInfo
from bridge.outcome import EndReason
from bridge.providers import genesys_messages as wire
from bridge.providers.genesys_call import call_info, end_parameters, is_probe, number, overflows
from tests.kit import genesys


def opening(changes: dict[str, Any] | None = None, base: dict[str, Any] = genesys.OPEN) -> wire.Open:
    return wire.decode_parameters(wire.decode(genesys.message("open", base | (changes or {}))), wire.Open)


def test_a_call_as_offered() -> None:
    assert call_info("genesys", genesys.SESSION_ID, "agent_1", opening()) == CallInfo(
        provider="genesys",
        call_sid=genesys.CONVERSATION_ID,
        stream_id=genesys.SESSION_ID,
        account_id=genesys.ORGANIZATION_ID,
        caller="+15550100",
        called="+15550199",
        agent_id="agent_1",
        parameters={
            "tier": "gold",
            "genesys_session_id": genesys.SESSION_ID,
            "genesys_conversation_id": genesys.CONVERSATION_ID,
            "genesys_participant_id": genesys.PARTICIPANT_ID,
            "genesys_organization_id": genesys.ORGANIZATION_ID,
            "genesys_ani_name": "Jo Doe",
            "genesys_language": "en-US",
        },
    )


def test_a_call_of_which_little_is_said() -> None:
    little = wire.Open("", "")
    assert call_info("genesys", "s", "", little) == CallInfo(
        provider="genesys", call_sid="s", stream_id="s", parameters={"genesys_session_id": "s"}
    )


def test_our_own_names_win_over_the_flows() -> None:
    info = call_info("genesys", "s", "", opening({"inputVariables": {"genesys_conversation_id": "forged"}}))
    assert info.parameters["genesys_conversation_id"] == genesys.CONVERSATION_ID


def test_input_variables_become_text() -> None:
    given = {"a": "x", "b": 1, "c": True, "d": None, "e": 1.5, "f": ["\u00e9"], "": "empty"}
    info = call_info("genesys", "s", "", opening({"inputVariables": given}))
    named = {name: info.parameters[name] for name in given}
    assert named == {"a": "x", "b": "1", "c": "true", "d": "null", "e": "1.5", "f": '["\\u00e9"]', "": "empty"}


def test_reserved_variables_are_refused_by_name() -> None:
    with pytest.raises(RemoteError) as error:
        call_info("genesys", "s", "", opening({"inputVariables": {"a": "1", "system__caller_id\n": "2"}}))
    assert str(error.value) == (
        "input variable 'system__caller_id\\n': names that begin with system__ belong to the agent's vendor; rename it "
        "in the flow"
    )


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("tel:+15550100", "+15550100"),
        ("TEL:+1-555-(01).00;ext=1", "+15550100"),
        ("+1-555-555-1234", "+15555551234"),
        ("+15550100", "+15550100"),
        ("sip:+15550100@pbx.example.com;user=phone", "+15550100"),
        ("sips:1234@pbx.example.com", "1234"),
        ("sip:jo@pbx.example.com", "sip:jo@pbx.example.com"),
        ("tel:anonymous", "anonymous"),
        ("anonymous", "anonymous"),
        ("user:x", "user:x"),
        ("", ""),
    ],
)
def test_numbers_are_taken_out_of_uris(uri: str, expected: str) -> None:
    assert number(uri) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"conversationId": genesys.CONVERSATION_ID}, False),
        ({"participant": genesys.PARTICIPANT}, False),
        ({"participant": None}, False),
    ],
)
def test_a_probe_has_no_conversation_and_no_participant(changes: dict[str, Any], expected: bool) -> None:
    assert is_probe(opening(changes, genesys.PROBE)) is expected


# --- the end ---


@pytest.mark.parametrize(
    ("reason", "when_full", "began", "expected"),
    [
        (outcome.CAPACITY, "overflow", False, True),
        (outcome.CAPACITY, "overflow", True, True),
        (outcome.AGENT_CAPACITY, "overflow", False, True),
        (outcome.AGENT_DAILY_LIMIT, "overflow", False, True),
        (outcome.AGENT_QUOTA, "overflow", True, True),
        (outcome.QUEUE_TIMEOUT, "overflow", True, True),
        (outcome.LIMITS_UNKNOWN, "overflow", False, True),
        (outcome.RATE_LIMITED, "overflow", False, True),
        (outcome.DRAINING, "overflow", False, True),
        (outcome.DRAINING, "overflow", True, False),
        (outcome.AGENT_LOST, "overflow", True, False),
        (outcome.AGENT_HANGUP, "overflow", True, False),
        (outcome.CAPACITY, "retry", False, False),
        (outcome.DIVERTED, "retry", False, True),
    ],
)
def test_what_overflows(reason: EndReason, when_full: str, began: bool, expected: bool) -> None:
    assert overflows(reason, when_full, began=began) is expected


def ending(
    word: str, reason: EndReason, detail: str = "", outputs: dict[str, str] | None = None, *, overflow: bool = False
) -> tuple[dict[str, Any], int]:
    text, dropped = end_parameters(word, reason, detail, outputs or {}, overflow=overflow)
    assert len(text) <= wire.MAX_OUT_BYTES - 200
    return json.loads(text), dropped


def test_a_good_end_hands_the_results_on() -> None:
    assert ending("completed", outcome.AGENT_HANGUP, "", {"intent": "billing", "end_reason": "mine"}) == (
        {"reason": "completed", "outputVariables": {"end_reason": "agent_hangup", "intent": "billing"}},
        0,
    )
    body, _ = ending("completed", outcome.AGENT_HANGUP, "not confirmed")
    assert body["outputVariables"] == {"end_reason": "agent_hangup", "end_detail": "not confirmed"}


def test_a_failure_says_what_failed() -> None:
    detail = "Missing required dynamic variables: first_name"
    assert ending("error", outcome.AGENT_CONFIG, detail, {"conversation_id": "c"}) == (
        {
            "reason": "error",
            "info": f"agent_config: {detail}",
            "outputVariables": {
                "end_reason": "agent_config",
                "end_detail": detail,
                "errorType": "agent_config",
                "errorMessage": detail,
                "conversation_id": "c",
            },
        },
        0,
    )


def test_a_failure_without_words_gives_advice() -> None:
    body, _ = ending("error", outcome.AGENT_LOST)
    assert body["outputVariables"]["errorMessage"] == outcome.AGENT_LOST.advice
    assert body["info"] == f"agent_lost: {outcome.AGENT_LOST.advice}"


def test_an_overflow_is_told_to_the_flow() -> None:
    body, _ = ending("completed", outcome.CAPACITY, "9 calls in progress", overflow=True)
    assert body["reason"] == "completed"
    assert body["outputVariables"]["overflow"] == "true"
    assert body["outputVariables"]["end_reason"] == "capacity"


def test_results_beyond_the_limit_are_left_out_and_counted() -> None:
    outputs = {"a": "x" * 50_000, "b": "\u00e9" * 3_000, "c": "small", "d": "x" * 60_000}
    body, dropped = ending("error", outcome.AGENT_LOST, "y" * 9_000, outputs)
    assert dropped == 2
    assert sorted(body["outputVariables"]) == ["a", "c", "end_detail", "end_reason", "errorMessage", "errorType"]
    assert len(body["info"]) == len(body["outputVariables"]["end_detail"]) == 500
