"""Numbers and SIP addresses: their spellings, patterns, and where callers may be sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.numbers import MAX_ADDRESS_CHARS, matches, normal_pattern, parse_target, spellings


@pytest.mark.parametrize(
    ("address", "known_as"),
    [
        ("+4930123456", ("+4930123456",)),
        ("+49 30 / 12-34.56", ("+4930123456",)),
        ("+49 (0)30 123456", ("+4930123456", "+49030123456")),
        ("0049 30 123456", ("+4930123456",)),
        ("tel:+49-30-123456;phone-context=x", ("+4930123456",)),
        ("4930123456", ("4930123456", "+4930123456")),
        ("030 123456", ("030123456",)),
        ("110", ("110",)),
        ("+15550100", ("+15550100",)),
        ("+999123", ("+999123",)),
        ("sip:+4930123456@Trunk.example:5060;transport=tcp", ("sip:+4930123456@trunk.example", "+4930123456")),
        ("sip:%2B4930123456;tag=a@h?b=c", ("sip:+4930123456@h", "+4930123456")),
        ("SIPS:Sales:secret@PBX.example", ("sip:sales@pbx.example",)),
        ('"Sales" <sip:sales@pbx.example;lr>;tag=1', ('"sales" <sip:sales@pbx.example;lr>;tag=1',)),
        ('"Sales" <sip:sales@pbx.example;lr>', ("sip:sales@pbx.example",)),
        ("sip:sales@[::1]:5060", ("sip:sales@[::1]",)),
        ("sip:sales", ("sip:sales@",)),
        ("client:Alice", ("client:alice",)),
        ("anonymous", ("anonymous",)),
        ("", ("",)),
        (" + ", ("+",)),
    ],
)
def test_the_spellings_of_an_address(address: str, known_as: tuple[str, ...]) -> None:
    assert spellings(address) == known_as


@given(st.text(max_size=300))
def test_any_text_has_a_spelling(text: str) -> None:
    assert spellings(text)


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("+49 30 *", "+4930*"),
        ("0049*", "+49*"),
        ("tel:+49-30*", "+4930*"),
        ("+49 (0)30 123456", "+4930123456"),
        ("110", "110"),
        ("*", "*"),
        ("***", "*"),
        ("sip:Sales@*", "sip:sales@*"),
        ("sips:sales", "sip:sales@*"),
        ("sip:*@PBX.example:5060", "sip:*@pbx.example"),
        ("Client:*", "client:*"),
    ],
)
def test_a_pattern_has_one_spelling(written: str, pattern: str) -> None:
    assert normal_pattern(written) == pattern
    assert normal_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (" ", "is empty; give a number such as +4930*, a SIP user such as sip:sales@*, or * for all"),
        ("x" * 257, "is longer than 256 characters; shorten it"),
        ("1*2*3*4*5*", "has more than 4 stars; use fewer"),
    ],
)
def test_what_is_no_pattern(written: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("*", r"\*").replace("+", r"\+")):
        normal_pattern(written)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("+4930", "+4930", True),
        ("+4930", "+49301", False),
        ("+4930*", "+4930", True),
        ("+4930*", "+49301", True),
        ("+4930*", "+4931", False),
        ("*", "", True),
        ("*@pbx", "sip:a@pbx", True),
        ("*@pbx", "sip:a@pbx2", False),
        ("ab*ba", "aba", False),
        ("ab*ba", "abba", True),
        ("a*b*c", "axxbyyc", True),
        ("a*b*c", "axxcyyb", False),
        ("a*b*b*c", "abc", False),
        ("a*bb*b*c", "abbbc", True),
    ],
)
def test_stars_stand_for_any_characters(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_a_pattern_cannot_be_made_slow() -> None:
    for _ in range(1000):  # with backtracking, one of them would take minutes
        assert not matches("a*a*a*a*b", "a" * MAX_ADDRESS_CHARS + "c")
        assert not matches("*a*a*a*bb", "a" * MAX_ADDRESS_CHARS + "bcb")


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("+49 30 123456", "+4930123456"),
        ("0049 (0)30 123456", "+4930123456"),
        (" sip:sales@pbx.example.com ", "sip:sales@pbx.example.com"),
        ("sip:+4930@10.0.0.1:5070;transport=tcp", "sip:+4930@10.0.0.1:5070;transport=tcp"),
        ("sips:desk@[::1]", "sips:desk@[::1]"),
    ],
)
def test_where_a_caller_may_be_sent(written: str, target: str) -> None:
    assert parse_target(written) == target


@pytest.mark.parametrize(
    "written",
    ["", "030123456", "+1", "+49301234567890123", "+", "tel:+4930123456", "sales", "4930123456", "110"],
)
def test_what_is_no_international_number(written: str) -> None:
    with pytest.raises(ValueError, match="^is no international number; give it with "):
        parse_target(written)


@pytest.mark.parametrize(
    "written",
    [
        "sip:pbx", "sip:@pbx", "sip:a@", "sip:a b@pbx", "sip:a@pbx<x>", 'sip:a"@pbx', "sip:a@pbx:99999",
        "sip:a@" + "x" * 300, "sip:a@pbx;x=\n",
    ],
)  # fmt: skip
def test_what_is_no_sip_address(written: str) -> None:
    with pytest.raises(ValueError, match="^is no SIP address; give one such as ") as caught:
        parse_target(written + "x" if written.endswith("\n") else written)
    assert "pbx<x>" not in str(caught.value)
