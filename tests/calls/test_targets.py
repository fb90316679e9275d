"""Where an agent may send a caller: the spelling that is dialled, the allow-list, and what never gets through."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.targets import Shape, Target, Wrong, allowed_patterns, find_target

ALLOW = allowed_patterns(["+4930*", "+1*", "sip:*@pbx.example.com", "sips:desk@secure.example.com", "Sales"])
EVERYTHING = ("*",)


@pytest.mark.parametrize(
    ("written", "shape", "address"),
    [
        ("+49 30 1234-5", Shape.NUMBER, "+493012345"),
        (" +49 (0)30 1234567 ", Shape.NUMBER, "+49301234567"),
        ("0049301234567", Shape.NUMBER, "+49301234567"),
        ("tel:+49-30-1234567", Shape.NUMBER, "+49301234567"),
        ("TEL:+49301234567;phone-context=x", Shape.NUMBER, "+49301234567"),
        ("(+1) 415 555-0100", Shape.NUMBER, "+14155550100"),
        ("+1\u00a0415\u2011555\u20110100", Shape.NUMBER, "+14155550100"),
        ("\uff0b14155550100", Shape.NUMBER, "+14155550100"),
        ("sip:desk@PBX.example.com", Shape.SIP, "sip:desk@pbx.example.com"),
        ("SIP:+4930123@pbx.example.com:5061", Shape.SIP, "sip:+4930123@pbx.example.com:5061"),
        ("sips:desk@pbx.example.com;transport=TLS", Shape.SIP, "sips:desk@pbx.example.com;transport=tls"),
        ("sip:Desk@secure.example.com", Shape.SIP, "sip:Desk@secure.example.com"),
        ("sales", Shape.WORD, "sales"),
        ("SALES", Shape.WORD, "SALES"),
    ],
)
def test_what_may_be(written: str, shape: Shape, address: str) -> None:
    assert find_target(written, ALLOW) == Target(shape, address)


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("+4940123456", Wrong.NOT_ALLOWED),
        ("+33140205050", Wrong.NOT_ALLOWED),
        ("sales2", Wrong.NOT_ALLOWED),
        ("*", Wrong.NOT_ALLOWED),
        ("sip:x@evil.example", Wrong.NOT_ALLOWED),
        ("sip:desk@pbx.example.com.evil.example", Wrong.NOT_ALLOWED),
        ("sip:+4930123456@evil.example", Wrong.NOT_ALLOWED),  # the number is allowed, this address is not
        ("sip:101@evil.example", Wrong.NOT_ALLOWED),
        ("sip:a@pbx.example.com@evil.example", Wrong.UNREADABLE),
        ("sip:a%40pbx.example.com@evil.example", Wrong.UNREADABLE),
        ("sip:a:secret@pbx.example.com", Wrong.UNREADABLE),
        ("sip:a@pbx.example.com;maddr=192.0.2.1", Wrong.UNREADABLE),
        ("sip:a@pbx.example.com;x@evil.example", Wrong.UNREADABLE),
        ("sip:a@pbx.example.com?Route=%3Csip:evil.example%3E", Wrong.UNREADABLE),
        ("sip:a@pbx.example.com:99999", Wrong.UNREADABLE),
        ("sip:pbx.example.com", Wrong.UNREADABLE),
        ("sip:", Wrong.UNREADABLE),
        ("", Wrong.UNREADABLE),
        ("  ", Wrong.UNREADABLE),
        ("+4930\x07123456", Wrong.UNREADABLE),
        ("+" + "4" * 300, Wrong.UNREADABLE),
        ("030 1234567", Wrong.NATIONAL),
        ("14155550100", Wrong.NATIONAL),
        ("+999123456789012345", Wrong.NATIONAL),
        ("+4930*", Wrong.UNREADABLE),
        ("+4930 FLOWERS", Wrong.UNREADABLE),
        ("99999999999", Wrong.NATIONAL),
        ("112", Wrong.NOT_ALLOWED),
    ],
)
def test_what_may_not_be(written: str, wrong: Wrong) -> None:
    assert find_target(written, ALLOW) is wrong


@pytest.mark.parametrize(
    "written",
    ["112", "911", "999", "000", "1 1 2", "+112", "+911", "+49112", "10111", "0112", "9911", "tel:911", "22456"],
)
def test_short_numbers_need_to_be_listed_literally(written: str) -> None:
    assert find_target(written, EVERYTHING) is Wrong.EMERGENCY
    listed = find_target(written, allowed_patterns([written]))
    assert isinstance(listed, Target)
    assert listed.shape is Shape.NUMBER


@pytest.mark.parametrize("user", ["112", "911", "+112", "0112", "9911", "10111", "100", "9-1-1", "(911)", "*911"])
def test_so_do_emergency_numbers_behind_a_telephone_system(user: str) -> None:
    address = f"sip:{user}@pbx.example.com"
    assert find_target(address, ALLOW) is Wrong.EMERGENCY
    assert find_target(address, allowed_patterns([address])) == Target(Shape.SIP, address)


def test_an_extension_behind_a_telephone_system_is_none() -> None:
    assert find_target("sip:2001@pbx.example.com", ALLOW) == Target(Shape.SIP, "sip:2001@pbx.example.com")


def test_a_national_number_that_is_listed_literally_is_dialled_as_it_is() -> None:
    assert find_target("030 1234567", allowed_patterns(["0301234567"])) == Target(Shape.NUMBER, "0301234567")


def test_a_number_without_its_plus_is_known_where_the_list_has_it_literally() -> None:
    assert find_target("1 (415) 555-0100", allowed_patterns(["+14155550100"])) == Target(Shape.NUMBER, "+14155550100")


def test_without_a_list_nothing_may_be() -> None:
    for written in ("+49301234567", "sip:desk@pbx.example.com", "sales", "112"):
        assert find_target(written, ()) is Wrong.NOT_ALLOWED


def test_a_word_of_nothing_but_brackets_is_none() -> None:
    assert find_target("<>", EVERYTHING) is Wrong.NOT_ALLOWED


def test_a_pattern_that_does_not_work_is_named() -> None:
    with pytest.raises(ValueError, match="^is empty; give a number such as"):
        allowed_patterns(["+49", " "])


@given(st.text(max_size=300) | st.from_regex(r"(sips?:|tel:)?[+0-9@:;. ()*a-c-]{0,30}", fullmatch=True))
def test_whatever_is_written_only_what_the_list_has_is_dialled(written: str) -> None:
    found = find_target(written, ALLOW)
    if isinstance(found, Target):
        assert re.fullmatch(
            r"\+(4930|1)[0-9]{3,14}|sips?:[^@?%]+@(pbx|secure)\.example\.com(:[0-9]+)?(;[a-z=;]+)?|sales",
            found.address if found.shape is not Shape.WORD else found.address.lower(),
        )
        assert find_target(found.address, ALLOW) == found
    else:
        assert isinstance(found, Wrong)


@given(st.text(max_size=40) | st.from_regex(r"[+0-9 ().*-]{0,12}", fullmatch=True))
def test_whatever_is_written_and_everything_is_allowed_no_short_number_is_dialled(written: str) -> None:
    found = find_target(written, EVERYTHING)
    if isinstance(found, Target) and found.shape is Shape.NUMBER:
        assert re.fullmatch(r"\+[1-9][0-9]{6,14}", found.address)
