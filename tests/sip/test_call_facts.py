"""What an INVITE says of a call: numbers in all their spellings, ids, variables, and nothing without a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.call_facts import MAX_VARIABLES, SipCallFacts, call_facts, header_variables, number_of
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.headers import Headers
from bridge.sip.message import Request
from bridge.sip.trunks import Trunk
from bridge.sip.uri import parse_uri

TRUNK = Trunk("carrier")


def facts(
    *fields: tuple[str, str],
    uri: str = "sip:+4930111@bridge.example;user=phone",
    from_: str = "<sip:+4915112345@carrier.example>",
    to: str = "",
    trunk: Trunk = TRUNK,
) -> SipCallFacts:
    headers = Headers(
        [
            ("Via", "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa1"),
            ("From", f"{from_};tag=1"),
            ("To", to or f"<{uri}>"),
            ("Call-ID", "a84b4c76e66710@192.0.2.10"),
            ("CSeq", "1 INVITE"),
            *fields,
        ]
    )
    request = Request("INVITE", uri, headers)
    envelope = read_request(request)
    assert isinstance(envelope, Envelope)
    return call_facts(request, envelope, trunk)


def test_a_plain_call() -> None:
    assert facts() == SipCallFacts(
        caller="+4915112345",
        called="+4930111",
        call_id="a84b4c76e66710@192.0.2.10",
        call_sid="a84b4c76e66710@192.0.2.10",
    )


@pytest.mark.parametrize(
    ("from_", "caller"),
    [
        ('"Bob" <sip:+49-151-12345@carrier.example;user=phone>', "+4915112345"),
        ("<sip:%2B4915112345@carrier.example>", "+4915112345"),
        ("<sip:+49(151)12345;phone-context=x@carrier.example>", "+4915112345"),
        ("<sip:4915112345@carrier.example>", "4915112345"),
        ("<sip:004915112345@carrier.example>", "004915112345"),
        ("<tel:+49-151-12345>", "+4915112345"),
        ("<tel:12345;phone-context=+49151>", "+4915112345"),
        ("<tel:12345;phone-context=example.com>", "12345"),
        ("<sip:alice@carrier.example:5070;transport=tcp>", "sip:alice@carrier.example"),
        ("<sip:bad1@carrier.example>", "sip:bad1@carrier.example"),
        ("<sip:a%0d%0aVia@carrier.example>", "sip:a��Via@carrier.example"),
        ("Anonymous <sip:anonymous@anonymous.invalid>", "anonymous"),
        ("<sip:Anonymous@carrier.example>", "anonymous"),
        ("<sip:unknown@anonymous.invalid>", "anonymous"),
        ("<sip:carrier.example>", ""),
        ("<urn:service:sos>", ""),
    ],
)
def test_callers(from_: str, caller: str) -> None:
    assert facts(from_=from_).caller == caller


@pytest.mark.parametrize(
    ("uri", "to", "called"),
    [
        ("sip:+4930111@bridge.example", "<sip:+4930222@bridge.example>", "+4930111"),
        ("sip:bridge.example", "<sip:+4930222@bridge.example>", "+4930222"),
        ("tel:+4930111", "<sip:x@y.example>", "+4930111"),
        ("sip:sales@bridge.example", "", "sip:sales@bridge.example"),
        ("sip:bridge.example", "<sip:bridge.example>", ""),
    ],
)
def test_called(uri: str, to: str, called: str) -> None:
    assert facts(uri=uri, to=to).called == called


def test_the_asserted_identity() -> None:
    asserted = ("P-Asserted-Identity", '"Bob" <sip:bob@carrier.example>, <tel:+4917000>')
    assert facts(asserted).caller == "+4917000"
    assert facts(asserted, trunk=Trunk("x", trusts_identity=False)).caller == "+4915112345"
    assert facts(asserted, ("Privacy", "id;critical")).caller == "+4915112345"
    assert facts(asserted, ("Privacy", "none")).caller == "+4917000"
    assert facts(asserted, ("Privacy", ";".join(["id"] * 200))).caller == "+4917000"  # nobody's header
    anonymous = "<sip:anonymous@anonymous.invalid>"
    assert facts(asserted, from_=anonymous).caller == "+4917000"
    assert facts(asserted, ("Privacy", "id"), from_=anonymous).caller == "anonymous"
    assert facts(("P-Asserted-Identity", "<broken"), asserted).caller == "+4917000"
    assert facts(("P-Asserted-Identity", "<sip:bob@carrier.example>")).caller == "+4915112345"
    nameless = ("P-Asserted-Identity", "<sip:bob@carrier.example>")
    assert facts(nameless, from_="<sip:al@carrier.example>").caller == "sip:bob@carrier.example"


@pytest.mark.parametrize("spelling", ["X-CALLER-ID", "x-caller-id", "X-Caller-Id"])
@pytest.mark.parametrize(
    ("value", "caller"),
    [
        ("+49 151 999", "+49151999"),
        ("%2B49151999", "+49151999"),
        ("<sip:+49151999@x.example>", "+49151999"),
        ("sip:bob@x.example", "sip:bob@x.example"),
        ("customer 7", "customer 7"),
        ("a: b", "a: b"),
        ("x\x00y", "x�y"),
        ("   ", "+4915112345"),
    ],
)
def test_the_caller_that_the_sender_names(spelling: str, value: str, caller: str) -> None:
    assert facts((spelling, value)).caller == caller


def test_ids_in_the_vendors_order() -> None:
    own, twilio, literal = ("x-call-id", "own-1"), ("x-twilio-callsid", "CA1"), ("sip.twilio.callSid", "CA2")
    assert facts(literal, twilio, own).call_sid == "own-1"
    assert facts(literal, twilio).call_sid == "CA1"
    assert facts(literal).call_sid == "CA2"
    assert facts(("X-CALL-ID", " "), literal).call_sid == "CA2"
    assert facts(("X-Twilio-AccountSid", "AC1")).account_id == "AC1"


def test_headers_become_variables() -> None:
    found = facts(
        ("X-Contact-ID", "42"),
        ("x-contact-id", "43"),
        ("X-Empty", " "),
        ("X-Auth-Token", "secret"),
        ("X-", "nameless"),
        ("User-to-User", "00abc;encoding=hex"),
        ("X-Two_Words", "a  b\tc"),
    ).variables
    assert found == {"sip_contact_id": "42", "sip_two_words": "a b c"}


def test_headers_that_were_asked_for() -> None:
    headers = Headers(
        [("X-Auth-Level", "3"), ("X-Other", "1"), ("User-To-User", "00abc"), ("Authorization", "Digest x")]
    )
    assert header_variables(headers, ()) == {}
    assert header_variables(headers, ("x-auth-level", "user-to-user", "Authorization")) == {
        "sip_auth_level": "3",
        "sip_user_to_user": "00abc",
    }
    assert header_variables(headers, ("x-*",)) == {"sip_other": "1"}
    assert header_variables(Headers([("s", "hello")]), ("Subject",)) == {"sip_subject": "hello"}


def test_everything_is_bounded() -> None:
    many = [(f"X-{number}", "v" * 10_000) for number in range(100)]
    found = facts(
        *many,
        ("X-" + "a" * 63, "long name"),
        ("X-Call-ID", "i" * 10_000),
        from_=f"<sip:{'1' * 1500}@carrier.example>",
        uri=f"sip:{'a' * 1500}@bridge.example",
    )
    assert len(found.variables) == MAX_VARIABLES
    assert header_variables(Headers([("X-" + "a" * 63, "1"), ("X-" + "a" * 62, "2")]), ("X-*",)) == {
        "sip_" + "a" * 62: "2"
    }
    assert max(map(len, found.variables.values())) == 500
    assert (len(found.caller), len(found.called), len(found.call_sid)) == (256, 256, 255)


def test_uris_without_a_number() -> None:
    assert number_of(parse_uri("urn:service:sos")) == ""
    assert number_of(parse_uri("sip:***@x.example")) == ""
    assert number_of(parse_uri("sip:*21#123@x.example")) == "*21#123"


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_header_value_is_taken(one: str, two: str, three: str) -> None:
    found = facts(("X-CALLER-ID", one), ("P-Asserted-Identity", two), ("Privacy", three), ("X-Any", one))
    for text in (found.caller, found.called, found.call_sid, *found.variables.values()):
        assert text.isprintable() or all(char == " " or char.isprintable() or char >= "\xa0" for char in text)
        text.encode("utf-8")
