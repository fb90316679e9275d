"""Requests for outbound calls: what is taken, and the field, problem and mend of what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.outbound import MachineDetection, OutboundRequest, RequestRules
from bridge.calls.outbound_request import Mistake, RequestError, parse_request, read_request
from bridge.convai.messages import InitiationData

OWNED = {"twilio": ("+15551234567", "+4930123456"), "vonage": ("+390612345678",)}
RULES = RequestRules(owned_numbers=OWNED)
TO = "+393331234567"


def read(rules: RequestRules = RULES, **members: Any) -> OutboundRequest:
    return read_request({"to_number": TO, **members}, rules)


def mistakes(rules: RequestRules = RULES, **members: Any) -> list[tuple[str, str]]:
    with pytest.raises(RequestError) as caught:
        read(rules, **members)
    return [(mistake.field, mistake.words) for mistake in caught.value.mistakes]


# --- what is taken ---------------------------------------------------------------------------------------


def test_the_least_that_is_needed() -> None:
    assert read() == OutboundRequest(to_number=TO, from_number="+15551234567", ring_timeout_s=60)


def test_everything_at_once() -> None:
    body = {
        "to_number": "+39 333 123-4567",
        "from_number": "+49 (30) 123.456",
        "agent_id": "agent_2",
        "provider": "twilio",
        "conversation_initiation_client_data": {"dynamic_variables": {"name": "Ann", "gone": None}, "user_id": "u1"},
        "ring_timeout_s": 600,
        "machine_detection": {"mode": "detect_message_end", "rules": {"machine": "leave_message"}, "message": " Hi. "},
        "max_duration_s": 300,
    }
    assert parse_request(json.dumps(body).encode(), RULES) == OutboundRequest(
        to_number=TO,
        from_number="+4930123456",
        agent_id="agent_2",
        conversation_initiation_client_data=InitiationData(dynamic_variables={"name": "Ann"}, user_id="u1"),
        ring_timeout_s=600,
        machine_detection=MachineDetection(
            mode="detect_message_end", rules={"machine": "leave_message"}, message="Hi."
        ),
        max_duration_s=300,
    )


def test_null_is_left_out() -> None:
    nulls: dict[str, Any] = dict.fromkeys(
        ("from_number", "agent_id", "provider", "ring_timeout_s", "send_digits", "machine_detection", "max_duration_s")
    )
    assert read(**nulls, conversation_initiation_client_data=None) == read()
    assert read(conversation_initiation_client_data={"user_id": None}) == read()
    assert read(machine_detection={"mode": None}).machine_detection == MachineDetection()


def test_the_operators_ringing_time_and_carriers() -> None:
    rules = RequestRules(owned_numbers=OWNED, ring_s=20, providers=frozenset({"twilio", "vonage"}))
    assert read(rules).ring_timeout_s == 20
    request = read(rules, provider="vonage")
    assert (request.provider, request.from_number) == ("vonage", "+390612345678")
    words = "is none of the numbers that are set as yours; give one of those, or leave it out"
    assert mistakes(rules, provider="vonage", from_number="+15551234567") == [("from_number", words)]


def test_keys_are_pressed_where_nobody_listens_for_machines() -> None:
    digits = "ww123#*ABCDW"
    assert read(send_digits=digits).send_digits == digits
    listening = RequestRules(owned_numbers=OWNED, detection="enable")
    assert read(listening, send_digits="1", machine_detection={"mode": "off"}).send_digits == "1"


def test_without_a_list_the_carrier_decides_which_number_is_ours() -> None:
    assert read(RequestRules(), from_number="+15557654321").from_number == "+15557654321"


# --- numbers ---------------------------------------------------------------------------------------------

NO_NUMBER = "is no international number; give it with + and country code, such as +49301234567"
WRONG_LENGTH = "is too short or too long for its country; give it with + and country code, such as +49301234567"
SHORT = "is an emergency number or a short code, which this bridge does not call"
EMERGENCY = "is an emergency number, which this bridge does not call; give a subscriber's number"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("", NO_NUMBER),
        ("030 123456", NO_NUMBER),
        ("sip:ann@example.com", NO_NUMBER),
        ("+39333123456x", NO_NUMBER),
        ("+" + "1" * 40, NO_NUMBER),
        ("+٣٩٣٣٣١٢٣٤٥٦٧", NO_NUMBER),
        (393331234567, NO_NUMBER),
        ([], NO_NUMBER),
        ("+999123456", "is of no country that there is; give it with + and country code, such as +49301234567"),
        ("+---", "is of no country that there is; give it with + and country code, such as +49301234567"),
        ("+1555010", WRONG_LENGTH),
        ("+155501000000", WRONG_LENGTH),
        ("+1 234 567", WRONG_LENGTH),
        ("911", SHORT),
        ("+112", SHORT),
        ("72345", SHORT),
        ("+44 999", "x"),
        ("+49 110", "x"),
        ("+33 112", "x"),
    ],
)
def test_numbers_that_are_not_called(number: Any, words: str) -> None:
    [(field, said)] = mistakes(to_number=number)
    assert field == "to_number"
    assert said == (EMERGENCY if words == "x" else words)
    assert not isinstance(number, str) or len(number) < 7 or number not in said


@pytest.mark.parametrize("number", ["+15551234567", "+441111111111", "+3545551234", "+4930123456", "+819012345678"])
def test_numbers_of_a_possible_length_are_called_although_the_tables_may_not_know_them(number: str) -> None:
    assert read(to_number=number).to_number == number


def test_only_numbers_that_exist_where_the_operator_wants_that() -> None:
    strict = RequestRules(owned_numbers=OWNED, existing_only=True)
    assert read(strict).to_number == TO
    words = "does not exist in its country's numbering plan; give it with + and country code, such as +49301234567"
    assert mistakes(strict, to_number="+441111111111") == [("to_number", words)]


def test_a_number_that_is_not_ours() -> None:
    words = "is none of the numbers that are set as yours; give one of those, or leave it out"
    assert mistakes(from_number="+15557654321") == [("from_number", words)]
    assert mistakes(from_number="ann") == [("from_number", NO_NUMBER)]
    assert mistakes(RequestRules()) == [("from_number", "is missing, and no number is set; give one of yours")]


# --- other members ---------------------------------------------------------------------------------------


NO_AGENT = "is no agent's id; copy it again from the agent's page, such as agent_01abc"


@pytest.mark.parametrize(
    ("member", "value", "field", "words"),
    [
        ("agent_id", "no agent", "agent_id", NO_AGENT),
        ("agent_id", 7, "agent_id", NO_AGENT),
        ("ring_timeout_s", "60", "ring_timeout_s", "is no whole number from 1 to 600"),
        ("ring_timeout_s", 0, "ring_timeout_s", "is no whole number from 1 to 600"),
        ("ring_timeout_s", 601, "ring_timeout_s", "is no whole number from 1 to 600"),
        ("ring_timeout_s", 2.5, "ring_timeout_s", "is no whole number from 1 to 600"),
        ("ring_timeout_s", True, "ring_timeout_s", "is no whole number from 1 to 600"),
        ("max_duration_s", 9, "max_duration_s", "is no whole number from 10 to 86400"),
        ("send_digits", "12x", "send_digits", "are not 1 to 32 of 0-9 A-D # * w W; w waits 0.5 s, W 1 s"),
        ("send_digits", "1" * 33, "send_digits", "are not 1 to 32 of 0-9 A-D # * w W; w waits 0.5 s, W 1 s"),
        ("send_digits", "", "send_digits", "are not 1 to 32 of 0-9 A-D # * w W; w waits 0.5 s, W 1 s"),
        ("send_digits", 5, "send_digits", "are not 1 to 32 of 0-9 A-D # * w W; w waits 0.5 s, W 1 s"),
        ("machine_detection", {"mode": "on"}, "machine_detection.mode", "is none of off, enable, detect_message_end"),
        ("machine_detection", {"rules": {"robot": "hang_up"}}, "machine_detection.rules",
         "has robot, which is no verdict; there are human, fax, unknown, machine_start, machine_end_beep, "
         "machine_end_silence, machine_end_other, machine"),
        ("machine_detection", {"rules": {"fax": "sing"}}, "machine_detection.rules",
         "does not say what follows from fax; give one of continue, hang_up, leave_message"),
        ("machine_detection", {"rules": []}, "machine_detection.rules",
         'is no object; give one such as {"machine": "hang_up"}'),
        ("machine_detection", {"message": " "}, "machine_detection.message", "is no text of 1 to 1000 characters"),
        ("machine_detection", {"message": "x" * 1001}, "machine_detection.message",
         "is no text of 1 to 1000 characters"),
        ("machine_detection", {"mode": "off", "message": "Hi"}, "machine_detection.mode",
         "is off, so nothing follows from rules or message; leave them out"),
        ("machine_detection", {"actions": []}, "machine_detection.actions",
         "is no member; there are mode, rules, message"),
        ("machine_detection", "enable", "machine_detection",
         'is no object; give one such as {"mode": "enable", "rules": {"machine": "hang_up"}}'),
        ("conversation_initiation_client_data", [], "conversation_initiation_client_data",
         "is no object; give one with dynamic_variables, conversation_config_override or user_id"),
        ("conversation_initiation_client_data", {"dynamic_variables": {"system__time": "1"}},
         "conversation_initiation_client_data",
         ": dynamic_variables.system__time has a reserved name; names that begin with system__ are the vendor's"),
        ("conversation_initiation_client_data", {"colour": "red"}, "conversation_initiation_client_data",
         ": it has none of the members of conversation_initiation_client_data"),
        ("tonumber", TO, "tonumber", "is no member; did you mean to_number?"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_mend(member: str, value: Any, field: str, words: str) -> None:
    assert mistakes(**{member: value}) == [(field, words)]


@pytest.mark.parametrize("how", ["request", "settings"])
def test_keys_and_machine_detection_exclude_each_other(how: str) -> None:
    words = (
        "cannot go with machine detection at the carrier; leave send_digits out, or send "
        '"machine_detection": {"mode": "off"}'
    )
    rules = RequestRules(owned_numbers=OWNED, detection="enable" if how == "settings" else "off")
    given: dict[str, Any] = {"machine_detection": {"mode": "enable"}} if how == "request" else {}
    assert mistakes(rules, send_digits="1", **given) == [("send_digits", words)]


@pytest.mark.parametrize("provider", ["genesys", 7, []])
def test_a_carrier_that_places_no_calls(provider: Any) -> None:
    assert ("provider", "is none of twilio") in mistakes(provider=provider)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        read_request({"ring_timeout_s": 0, "x\n": 1, 7: 1, "machine_detection": {"mode": "x", "message": 1}}, RULES)
    fields = [mistake.field for mistake in caught.value.mistakes]
    assert fields == [
        "ring_timeout_s",
        "'x\\n'",
        "7",
        "machine_detection.mode",
        "machine_detection.message",
        "to_number",
    ]
    assert "to_number is missing; give the number to call, such as +49301234567" in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(body, RULES)
    assert not caught.value.is_json
    assert caught.value.mistakes == (Mistake("", "the body is no JSON; send an object with to_number"),)
    assert str(caught.value) == "the body is no JSON; send an object with to_number"


@pytest.mark.parametrize("document", [[], "x", 1, None, True])
def test_what_is_no_object(document: object) -> None:
    with pytest.raises(RequestError, match="the body is no object") as caught:
        read_request(document, RULES)
    assert caught.value.is_json


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*OutboundRequest.__struct_fields__, "other"]), _JSON))
def test_arbitrary_documents_are_taken_or_refused_in_words(document: dict[str, Any]) -> None:
    try:
        request = read_request(document, RULES)
    except RequestError as error:
        assert error.mistakes and all(mistake.words for mistake in error.mistakes)
    else:
        assert request.to_number.startswith("+")
