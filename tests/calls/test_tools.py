"""What an agent's tool call comes to: a transfer that may be made, or words that the agent understands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.tools import NO_TARGET, NOT_ALLOWED, Transfer, allowed_patterns, plan_transfer

ALLOW = allowed_patterns(["+4930*", "sip:*@pbx.example.com", "Sales"])


@pytest.mark.parametrize(
    ("parameters", "target"),
    [
        ({"transfer_number": "+49 30 1234567"}, "+49 30 1234567"),
        ({"transfer_number": "0049301234567"}, "0049301234567"),
        ({"sip_uri": "sip:desk@PBX.example.com"}, "sip:desk@PBX.example.com"),
        ({"destination": "sales"}, "sales"),
        ({"destination": " SALES "}, "SALES"),
        ({"transfer_number": "", "destination": "sales"}, "sales"),
    ],
)
def test_what_may_be(parameters: dict[str, object], target: str) -> None:
    assert plan_transfer({**parameters, "reason": "asked for it"}, ALLOW) == Transfer(target, "asked for it")


@pytest.mark.parametrize(
    "target", ["+4940123456", "sip:desk@pbx.example.com.evil.example", "sales2", "sip:x@evil.example", "*", "+4930"]
)
def test_what_may_not_be(target: str) -> None:
    allow = allowed_patterns(["+4930?", "sip:*@pbx.example.com", "sales"])
    assert plan_transfer({"transfer_number": target}, allow) == NOT_ALLOWED


@pytest.mark.parametrize(
    "parameters",
    [{}, {"transfer_number": None}, {"transfer_number": 49}, {"sip_uri": "a\nb"}, {"destination": "x" * 999}],
)
def test_what_names_no_target(parameters: dict[str, object]) -> None:
    assert plan_transfer(parameters, ALLOW) == NO_TARGET


def test_without_a_list_nothing_may_be() -> None:
    assert plan_transfer({"transfer_number": "+4930123456"}, ()) == NOT_ALLOWED


def test_a_reason_that_is_no_text_is_none() -> None:
    assert plan_transfer({"destination": "sales", "reason": ["x"]}, ALLOW) == Transfer("sales", "")


@given(st.dictionaries(st.sampled_from(["transfer_number", "sip_uri", "destination", "reason"]), st.text() | st.none()))
def test_whatever_an_agent_asks_it_gets_an_answer(parameters: dict[str, object]) -> None:
    answer = plan_transfer(parameters, ALLOW)
    assert isinstance(answer, Transfer | str)
