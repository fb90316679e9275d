"""The personalization webhook's contract: the vendor's example to the letter, every rule, and who wins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.personalization import (
    MAX_ANSWER_BYTES,
    MAX_PROBLEMS,
    AnswerError,
    PersonalizationRequest,
    encode_request,
    facts_of,
    initiation_for,
    parse_answer,
    variable_problems,
)
from bridge.convai.messages import InitiationData, initiation
from bridge.events import CallInfo

VENDORS_EXAMPLE = b"""{
  "type": "conversation_initiation_client_data",
  "dynamic_variables": {
    "customer_name": "John Doe",
    "account_status": "premium",
    "last_interaction": "2024-01-15"
  },
  "conversation_config_override": {
    "agent": {
      "prompt": {
        "prompt": "The customer's bank account balance is $100. They are based in San Francisco."
      },
      "first_message": "Hi, how can I help you today?",
      "language": "en"
    },
    "tts": {
      "voice_id": "new-voice-id"
    }
  }
}"""
"""ElevenLabs docs, "Twilio personalization"."""


def problems(document: Any) -> tuple[str, ...]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(AnswerError) as caught:
        parse_answer(body)
    assert "hunter2" not in str(caught.value)
    return caught.value.problems


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth - 1):
        document = {"a": document}
    return document


# --- the request ---------------------------------------------------------------------------------------------


def test_the_request_has_the_vendors_four_parameters() -> None:
    request = PersonalizationRequest(
        caller_id="+15550100", agent_id="agent_1", called_number="+15550199", call_sid="CA1"
    )
    assert encode_request(request) == (
        b'{"caller_id":"+15550100","agent_id":"agent_1","called_number":"+15550199","call_sid":"CA1"}'
    )


# --- good answers --------------------------------------------------------------------------------------------


def test_the_vendors_example() -> None:
    assert parse_answer(VENDORS_EXAMPLE) == InitiationData(
        dynamic_variables={
            "customer_name": "John Doe",
            "account_status": "premium",
            "last_interaction": "2024-01-15",
        },
        conversation_config_override={
            "agent": {
                "prompt": {"prompt": "The customer's bank account balance is $100. They are based in San Francisco."},
                "first_message": "Hi, how can I help you today?",
                "language": "en",
            },
            "tts": {"voice_id": "new-voice-id"},
        },
    )


def test_every_member_and_every_kind_of_variable() -> None:
    document = {
        "type": "conversation_initiation_client_data",
        "dynamic_variables": {"text": "a", "number": 1.5, "integer": 3, "boolean": True, "secret__token": "x"},
        "custom_llm_extra_body": {"temperature": 0.7, "stop": ["a", None]},
        "conversation_config_override": {"tts": {"stability": 0.5, "speed": 1}, "conversation": {"text_only": False}},
        "user_id": "customer-7",
        "source_info": {"source": "crm", "version": "1"},
        "branch_id": "skipped",
    }
    data = parse_answer(json.dumps(document).encode())
    assert data.dynamic_variables == document["dynamic_variables"]
    assert data.custom_llm_extra_body == document["custom_llm_extra_body"]
    assert data.conversation_config_override == document["conversation_config_override"]
    assert (data.user_id, data.source_info) == ("customer-7", {"source": "crm", "version": "1"})


def test_null_is_the_same_as_left_out() -> None:
    body = (
        b'{"dynamic_variables":{"a":null,"b":1},"user_id":null,"custom_llm_extra_body":null,"source_info":null,'
        b'"conversation_config_override":{"agent":{"prompt":null,"language":"de"},"tts":null}}'
    )
    assert parse_answer(body) == InitiationData(
        dynamic_variables={"b": 1}, conversation_config_override={"agent": {"language": "de"}}
    )


def test_an_answer_may_have_nothing_to_say() -> None:
    assert parse_answer(b'{"type":"conversation_initiation_client_data"}') == InitiationData()
    assert parse_answer(b'{"dynamic_variables":{}}') == InitiationData()


def test_what_an_agent_may_nest_may_be_nested() -> None:
    assert parse_answer(json.dumps({"custom_llm_extra_body": nested(12)}).encode()).custom_llm_extra_body


# --- bad answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the answer is no JSON"),
        (b"<html>hunter2</html>", "the answer is no JSON"),
        (b'{"user_id":"\xff"}', "the answer is no JSON"),
        (b'{"user_id":"\\ud800"}', "the answer is no JSON"),
        (b'{"dynamic_variables":{"a":NaN}}', "the answer is no JSON"),
        (b"[" * 100_000, "the answer is nested too deeply"),
        (b'"hunter2"', "the answer is a text, not an object"),
        (b"[]", "the answer is a list, not an object"),
        (b"7", "the answer is a number, not an object"),
        (b"null", "the answer is null, not an object"),
        (b'{"error":"hunter2"}', "the answer has none of the members of conversation_initiation_client_data"),
        (b"{}", "the answer has none of the members of conversation_initiation_client_data"),
        (b'{"type":"hunter2","dynamic_variables":{}}', "type is not conversation_initiation_client_data"),
        (b" " * (MAX_ANSWER_BYTES + 1), "the answer is longer than 262144 bytes"),
    ],
)
def test_a_body_that_is_no_answer(body: bytes, problem: str) -> None:
    assert problems(body) == (problem,)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"dynamic_variables": ["hunter2"]}, "dynamic_variables is a list, not an object"),
        (
            {"dynamic_variables": {"a": {"b": 1}}},
            "dynamic_variables.a is an object; give a text, a number, or true or false",
        ),
        (
            {"dynamic_variables": {"system__caller_id": "hunter2"}},
            "dynamic_variables.system__caller_id has a reserved name; names that begin with system__ are the vendor's",
        ),
        (
            {"dynamic_variables": {"": 1}},
            "dynamic_variables.'' has no usable name; give 1 to 128 printable characters",
        ),
        (
            {"dynamic_variables": {"a\n": 1}},
            "dynamic_variables.'a\\n' has no usable name; give 1 to 128 printable characters",
        ),
        (
            {"dynamic_variables": {"n" * 129: 1}},
            f"dynamic_variables.{'n' * 60}... has no usable name; give 1 to 128 printable characters",
        ),
        ({"dynamic_variables": {"a": "x" * 16_385}}, "dynamic_variables.a is longer than 16384 characters"),
        (
            {"dynamic_variables": {f"v{number}": 1 for number in range(201)}},
            "dynamic_variables has 201 members; there may be 200",
        ),
        ({"user_id": 7}, "user_id is a number, not a text"),
        ({"user_id": "x" * 513}, "user_id is longer than 512 characters"),
        ({"source_info": {"source": 1}}, "source_info holds something else than texts of up to 128 characters"),
        ({"custom_llm_extra_body": "hunter2"}, "custom_llm_extra_body is a text, not an object"),
        ({"custom_llm_extra_body": nested(13)}, "custom_llm_extra_body is nested deeper than 12"),
        ({"custom_llm_extra_body": {"a": [[nested(11)]]}}, "custom_llm_extra_body is nested deeper than 12"),
        ({"conversation_config_override": 1}, "conversation_config_override is a number, not an object"),
        (
            {"conversation_config_override": {"agent": "hunter2"}},
            "conversation_config_override.agent is a text, not an object",
        ),
        (
            {"conversation_config_override": {"agent": {"prompt": "hunter2"}}},
            "conversation_config_override.agent.prompt is a text, not an object",
        ),
        (
            {"conversation_config_override": {"agent": {"first_message": True}}},
            "conversation_config_override.agent.first_message is a truth value, not a text",
        ),
        (
            {"conversation_config_override": {"tts": {"speed": True}}},
            "conversation_config_override.tts.speed is a truth value, not a number",
        ),
        (
            {"conversation_config_override": {"conversation": {"text_only": True}}},
            "conversation_config_override.conversation.text_only is true, which would leave the caller in silence",
        ),
    ],
)
def test_a_wrong_member_is_named(members: dict[str, Any], problem: str) -> None:
    assert problems(members) == (problem,)


def test_all_that_is_wrong_is_named_at_once() -> None:
    found = problems({"user_id": [], "dynamic_variables": {"a": [], "system__x": 1}})
    assert found == (
        "dynamic_variables.a is a list; give a text, a number, or true or false",
        "dynamic_variables.system__x has a reserved name; names that begin with system__ are the vendor's",
        "user_id is a list, not a text",
    )


def test_a_long_list_of_problems_is_cut() -> None:
    found = problems({"dynamic_variables": {f"v{number}": [] for number in range(30)}})
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "and 20 more"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_mistake(body: bytes) -> None:
    try:
        data = parse_answer(body)
    except AnswerError:
        return
    initiation(data)


@given(
    st.dictionaries(
        st.sampled_from(["type", "dynamic_variables", "conversation_config_override", "custom_llm_extra_body",
                         "user_id", "source_info"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["agent", "tts", "prompt", "a"]), inner, max_size=3),
            max_leaves=10,
        ),
    )
)  # fmt: skip
def test_any_answer_can_be_sent_or_is_a_mistake(document: dict[str, Any]) -> None:
    try:
        data = parse_answer(json.dumps(document).encode())
    except AnswerError:
        return
    sent = json.loads(initiation(data))
    assert sent["type"] == "conversation_initiation_client_data"
    assert None not in sent.values()
    assert None not in sent.get("dynamic_variables", {}).values()


# --- merge ---------------------------------------------------------------------------------------------------

INFO = CallInfo(
    provider="twilio",
    call_sid="CA1",
    caller="+15550100",
    called="+15550199",
    parameters={"shop": "12", "name": "carrier", "caller_id": "spoofed", "system__time": "now", "bad\n": "x"},
)
FACTS = {"caller_id": "+15550100", "called_number": "+15550199", "call_sid": "CA1"}


def test_without_an_answer_the_agent_is_told_the_facts_and_the_carriers_parameters() -> None:
    assert initiation_for(INFO) == InitiationData(
        dynamic_variables={"shop": "12", "name": "carrier", **FACTS}, source_info={"source": "telephony-bridge"}
    )


def test_the_answer_wins_over_the_carrier_and_the_facts_over_both() -> None:
    answer = InitiationData(
        dynamic_variables={"name": "webhook", "vip": True, "call_sid": "other"},
        conversation_config_override={"tts": {"voice_id": "v"}},
        custom_llm_extra_body={"a": 1},
        user_id="u",
        source_info={"source": "crm"},
    )
    assert initiation_for(INFO, answer) == InitiationData(
        dynamic_variables={"shop": "12", "name": "webhook", "vip": True, **FACTS},
        conversation_config_override={"tts": {"voice_id": "v"}},
        custom_llm_extra_body={"a": 1},
        user_id="u",
        source_info={"source": "crm"},
    )


def test_the_facts_are_there_even_when_the_carrier_says_nothing() -> None:
    info = CallInfo(provider="twilio", call_sid="CA1")
    assert facts_of(info) == {"caller_id": "", "called_number": "", "call_sid": "CA1"}
    assert initiation_for(info).dynamic_variables == facts_of(info)


def test_a_route_chooses_the_language_unless_the_answer_does() -> None:
    assert initiation_for(INFO, None, "de").conversation_config_override == {"agent": {"language": "de"}}
    answer = InitiationData(conversation_config_override={"agent": {"first_message": "Hi"}, "tts": {"speed": 1.1}})
    assert initiation_for(INFO, answer, "de").conversation_config_override == {
        "agent": {"first_message": "Hi", "language": "de"},
        "tts": {"speed": 1.1},
    }
    answer = InitiationData(conversation_config_override={"agent": {"language": "fr"}})
    assert initiation_for(INFO, answer, "de").conversation_config_override == {"agent": {"language": "fr"}}


def test_what_a_carrier_must_not_pass_is_named() -> None:
    assert variable_problems({"system__x": "1", "ok": "2", "": "3"}, "inputVariables") == [
        "inputVariables.system__x has a reserved name; names that begin with system__ are the vendor's",
        "inputVariables.'' has no usable name; give 1 to 128 printable characters",
    ]
