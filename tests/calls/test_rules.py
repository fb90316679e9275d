"""What operators write about numbers and agents: every member, every mistake with its place and mend."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.calls.keypad import KeypadMode
from bridge.calls.machine import MachineAction
from bridge.calls.rules import Overflow, Route, Rules, is_agent_id, parse_route, parse_rules

CARRIERS = ("twilio", "genesys")

EVERYTHING: dict[str, Any] = {
    "number": "+49 30 *",
    "provider": "Twilio",
    "agent": "agent_1",
    "environment": "staging",
    "branch": "agtbrch_1",
    "language": "pt-br",
    "concurrency": 5,
    "daily_limit": 100,
    "burst": True,
    "overflow": "Queue",
    "overflow_queue_s": 30,
    "overflow_divert_to": "0049 30 999999",
    "recording": "on",
    "personalization": "off",
    "transfer_allow": ["+49 30 *", "sip:*@PBX.example.com", "Sales", " "],
    "fallback_to": "sip:desk@pbx.example.com",
    "voicemail_action": "Leave_Message",
    "voicemail_message": " Please call back. ",
    "dtmf_to_agent": "Update",
    "dtmf_pause_s": 3,
    "dtmf_length": 4,
    "dtmf_end_key": "NONE",
    "dtmf_inband": True,
    "redact_dtmf": "on",
}


def route_and_mistakes(**members: Any) -> tuple[Route | None, list[str]]:
    mistakes: list[str] = []
    return parse_route(members, "routes[2]", CARRIERS, mistakes), mistakes


def test_every_member() -> None:
    route, mistakes = route_and_mistakes(**EVERYTHING)
    assert mistakes == []
    assert route == Route(
        number="+4930*", provider="twilio", agent="agent_1", environment="staging", branch="agtbrch_1",
        language="pt-br", concurrency=5, daily_limit=100, burst=True, overflow=Overflow.QUEUE, overflow_queue_s=30.0,
        overflow_divert_to="+4930999999", recording=True, personalization=False,
        transfer_allow=("+4930*", "sip:*@pbx.example.com", "sales"), fallback_to="sip:desk@pbx.example.com",
        voicemail_action=MachineAction.LEAVE_MESSAGE, voicemail_message="Please call back.",
        dtmf_to_agent=KeypadMode.UPDATE, dtmf_pause_s=3.0, dtmf_length=4, dtmf_end_key="none", dtmf_inband=True,
        redact_dtmf=True,
    )  # fmt: skip
    assert route.key == ("+4930*", "twilio")


def test_members_may_be_in_capitals_and_blank_or_null() -> None:
    route, mistakes = route_and_mistakes(
        NUMBER="*", agent="", provider="", recording=None, fallback_to="", voicemail_message="", dtmf_end_key=""
    )
    assert mistakes == []
    assert route == Route(number="*")


@pytest.mark.parametrize("nothing", ["", [], " , "])
def test_an_empty_list_of_targets_closes_every_way_out(nothing: object) -> None:
    route, mistakes = route_and_mistakes(number="*", transfer_allow=nothing)
    assert mistakes == []
    assert route == Route(number="*", transfer_allow=())
    assert route_and_mistakes(number="*", transfer_allow="+49*, sales")[0] == Route(
        number="*", transfer_allow=("+49*", "sales")
    )


def test_off_may_be_written_without_quotes() -> None:
    route, _ = route_and_mistakes(number="*", dtmf_to_agent=False)
    assert route == Route(number="*", dtmf_to_agent=KeypadMode.OFF)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("number", "", "number is empty; give a number such as +4930*, a SIP user such as sip:sales@*, or * for all"),
        ("number", 4930, "number is 4930; give a text such as +4930*, sip:sales@* or *"),
        ("provider", "telnyx", "provider is 'telnyx'; give one of genesys, twilio"),
        ("provider", 1, "provider is 1; give one of genesys, twilio"),
        ("agent", "../x", "agent is '../x'; give an agent's id, such as agent_01abc"),
        ("branch", " ", "branch is ' '; give a name of up to 128 characters"),
        ("branch", "b" * 129, f"branch is '{'b' * 59}...; give a name of up to 128 characters"),
        ("environment", "a\nb", "environment is 'a\\nb'; give a name of up to 128 characters"),
        ("language", "German", "language is 'German'; give a language code such as de or pt-br"),
        ("concurrency", -2, "concurrency is -2; give a whole number from -1 to 100000"),
        ("concurrency", True, "concurrency is True; give a whole number from -1 to 100000"),
        ("daily_limit", "9", "daily_limit is '9'; give a whole number from 0 to 10000000"),
        ("burst", "yes", "burst is 'yes'; give true or false"),
        ("burst", 1, "burst is 1; give true or false"),
        ("overflow", "qeue", "overflow is 'qeue'; give one of reject, queue, divert"),
        ("overflow_queue_s", 0, "overflow_queue_s is 0; give seconds above 0, up to 3600"),
        ("overflow_queue_s", float("nan"), "overflow_queue_s is nan; give seconds above 0, up to 3600"),
        ("overflow_queue_s", True, "overflow_queue_s is True; give seconds above 0, up to 3600"),
        ("overflow_divert_to", "sales", "overflow_divert_to is no international number; give it with + and country "
         "code, such as +49301234567"),
        ("overflow_divert_to", 110, "overflow_divert_to is 110; give a number such as +49301234567, or a sip: address"),
        ("recording", [], "recording is []; give true or false"),
        ("transfer_allow", 49, "transfer_allow is 49; give a list of patterns such as +4930*, sip:*@pbx.example.com, "
         "sales"),
        ("transfer_allow", [49], "transfer_allow is 49; give a list of patterns such as +4930*, "
         "sip:*@pbx.example.com, sales"),
        ("transfer_allow", "*1*2*3*4*", "transfer_allow has more than 4 stars; use fewer"),
        ("transfer_allow", ["+49*"] * 1001, "transfer_allow has 1001 patterns; there may be 1000"),
        ("fallback_to", "help", "fallback_to is no international number; give it with + and country code, such as "
         "+49301234567"),
        ("voicemail_action", "leave", "voicemail_action is 'leave'; give one of continue, hang_up, leave_message"),
        ("voicemail_message", "a\nb", "voicemail_message is 'a\\nb'; give a text of up to 1000 printable characters"),
        ("voicemail_message", "x" * 1001, f"voicemail_message is '{'x' * 59}...; give a text of up to 1000 printable "
         "characters"),
        ("dtmf_to_agent", True, "dtmf_to_agent is True; give one of off, each, message, update"),
        ("dtmf_pause_s", 31, "dtmf_pause_s is 31; give seconds above 0, up to 30"),
        ("dtmf_length", 65, "dtmf_length is 65; give a whole number from 0 to 64"),
        ("dtmf_end_key", "0", "dtmf_end_key is '0'; give one of #, *, none"),
        ("dtmf_end_key", 0, "dtmf_end_key is 0; give one of #, *, none"),
        ("dtmf_inband", "yes", "dtmf_inband is 'yes'; give true or false"),
        ("redact_dtmf", 1, "redact_dtmf is 1; give true or false"),
        ("agnet", "a", "agnet is no member of it; did you mean agent?"),
        ("a\nb", "a", "'a\\nb' is no member of it; there are number, agent, environment, branch, language, "
         "concurrency, daily_limit, burst, overflow, overflow_queue_s, overflow_divert_to, recording, "
         "personalization, transfer_allow, fallback_to, voicemail_action, voicemail_message, dtmf_to_agent, "
         "dtmf_pause_s, dtmf_length, dtmf_end_key, dtmf_inband, redact_dtmf, provider"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_named_with_its_mend(name: str, value: Any, problem: str) -> None:
    route, mistakes = route_and_mistakes(**{"number": "*", name: value})
    assert route is None
    assert mistakes == [f"routes[2].{problem}"]


def test_all_mistakes_of_a_route_come_at_once() -> None:
    _, mistakes = route_and_mistakes(agent="-", overflow=3)
    assert mistakes == [
        "routes[2].agent is '-'; give an agent's id, such as agent_01abc",
        "routes[2].overflow is 3; give one of reject, queue, divert",
        "routes[2].number is missing; give one such as +4930*, sip:sales@* or *",
    ]


@pytest.mark.parametrize(("place", "problem"), [("routes[1]", "routes[1] is no table"), ("", "the route is no table")])
def test_a_route_is_a_table(place: str, problem: str) -> None:
    mistakes: list[str] = []
    assert parse_route(["*"], place, CARRIERS, mistakes) is None
    assert mistakes == [problem]


def test_an_agent_has_rules_but_no_number() -> None:
    mistakes: list[str] = []
    assert parse_rules({"concurrency": 2, "burst": False}, "agents.a", mistakes) == Rules(concurrency=2, burst=False)
    assert mistakes == []
    parse_rules({"number": "*"}, "agents.a", mistakes)
    assert len(mistakes) == 1
    assert mistakes[0].startswith("agents.a.number is no member of it; there are environment, branch, ")


@pytest.mark.parametrize("text", ["agent_01jv", "J3Pbu5gP6NNKBscdCdwB", "sim_close_1011_2000", "a-b"])
def test_what_looks_like_an_agents_id(text: str) -> None:
    assert is_agent_id(text)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a&b=c", "-a", "a" * 129, "agent_1\n", "agent%20"])
def test_what_does_not(text: str) -> None:
    assert not is_agent_id(text)
