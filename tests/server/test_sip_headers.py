"""SIP headers of a webhook as variables."""

from __future__ import annotations

from bridge.server.sip_headers import MAX_HEADERS, MAX_VALUE_CHARS, header_variables, one_line


def test_headers_become_variables_of_their_own_names() -> None:
    fields = {"SipHeader_X-Contact-ID": "12", "SipHeader_User-to-User": "a b", "SipHeader_Via": "x", "From": "1"}
    assert header_variables(fields) == {"sip_contact_id": "12", "sip_user_to_user": "a b"}


def test_credentials_empty_and_overlong_ones_are_dropped() -> None:
    fields = {"SipHeader_X-Auth-Token": "s", "SipHeader_X-Empty": " ", "SipHeader_X-" + "a" * 70: "1"}
    assert header_variables(fields) == {}


def test_the_first_of_a_name_counts_and_there_are_not_too_many() -> None:
    assert header_variables({"SipHeader_X-A": "1", "SipHeader_x-a": "2"}) == {"sip_a": "1"}
    assert len(header_variables({f"SipHeader_X-A{number}": "1" for number in range(99)})) == MAX_HEADERS


def test_one_line() -> None:
    assert one_line(" a\r\nb\t") == "a  b"
    assert len(one_line("x" * 9000)) == MAX_VALUE_CHARS
