"""The rules that the simulated SIP ends hold their peer to: one doctored message for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.simulators.sip_leg_options import Dialog
from bridge.simulators.sip_rules import cancel_breaches, dialog_breaches, request_breaches, response_breaches
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.flow import Flow, Transport
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response, make_response

VIA = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;rport"
FIELDS = (
    ("Via", VIA),
    ("Max-Forwards", "70"),
    ("From", "<sip:a@192.0.2.1>;tag=one"),
    ("To", "<sip:b@192.0.2.2>"),
    ("Call-ID", "x"),
    ("CSeq", "7 INVITE"),
    ("Contact", "<sip:a@192.0.2.1:5060>"),
)
INVITE = Request("INVITE", "sip:b@192.0.2.2", Headers(FIELDS))
UDP = Flow(Transport.UDP, "192.0.2.1", 5060)
FOUNDING = (("Contact", "<sip:b@192.0.2.2>"), ("Allow", "INVITE"), ("Supported", "100rel"))


def answered(status: int = 200, *fields: tuple[str, str], tag: str = "two") -> Response:
    """A response as it should be, with more headers."""
    stamped = INVITE.stamped("192.0.2.1", 5060)
    return make_response(stamped, status, to_tag=tag, fields=(*(FOUNDING if status == 200 else ()), *fields))


def changed(response: Response, name: str, value: str | None) -> Response:
    """A response with another value in one header; None = without it."""
    headers = response.headers
    return replace(response, headers=headers.without(name) if value is None else headers.replacing_first(name, value))


def altered(request: Request, name: str, value: str | None) -> Request:
    """Likewise a request."""
    headers = request.headers
    return replace(request, headers=headers.without(name) if value is None else headers.replacing_first(name, value))


def texts(response: Response, request: Request = INVITE) -> list[str]:
    """What is wrong with it."""
    return [text for _, text in response_breaches(request, response)]


def test_good_responses() -> None:
    for status in (100, 180, 200, 486, 503):
        assert texts(answered(status)) == []
    assert texts(answered(401, ("WWW-Authenticate", "Digest"))) == []


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (changed(answered(), "Via", VIA), "200 to INVITE does not fill in rport and received"),
        (
            changed(answered(), "Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKno;rport=5060;received=192.0.2.1"),
            "200 changes Via",
        ),
        (changed(answered(), "From", "<sip:a@192.0.2.1>;tag=other"), "200 changes From"),
        (changed(answered(), "To", "<sip:c@192.0.2.2>;tag=two"), "200 changes To"),
        (changed(answered(), "To", "<sip:b@192.0.2.2>"), "200 to INVITE has no To tag"),
        (changed(answered(), "CSeq", "8 INVITE"), "200 changes Call-ID or CSeq"),
        (changed(answered(), "Contact", None), "200 to INVITE has no Contact"),
        (changed(answered(), "Allow", None), "200 to INVITE has no Allow"),
        (changed(answered(), "Supported", None), "200 to INVITE has no Supported"),
        (answered(200, ("Record-Route", "<sip:p;lr>")), "200 to INVITE does not copy Record-Route"),
        (answered(401), "401 to INVITE has no WWW-Authenticate"),
        (answered(420), "420 to INVITE has no Unsupported"),
        (replace(answered(), body=b"v=0"), "200 to INVITE has a body without Content-Type"),
        (answered(200, ("Content-Type", "application/sdp")), "200 to INVITE has Content-Type without a body"),
        (changed(answered(), "Call-ID", None), "a response cannot be read: missing Call-ID"),
    ],
)
def test_bad_responses(response: Response, said: str) -> None:
    assert texts(response) == [said]


def test_reliable_responses() -> None:
    reliable = answered(180, ("Require", "100rel"), ("RSeq", "1"), ("Contact", "<sip:b@192.0.2.2>"))
    assert texts(reliable) == ["180 to INVITE requires 100rel, which was not offered"]
    offered = replace(INVITE, headers=INVITE.headers.adding(("Supported", "100rel")))
    assert texts(reliable, offered) == []
    assert texts(changed(reliable, "RSeq", None), offered) == ["180 to INVITE requires 100rel and has no RSeq"]


def test_good_requests() -> None:
    assert list(request_breaches(INVITE, UDP, 600)) == []
    cancel = replace(altered(altered(INVITE, "CSeq", "7 CANCEL"), "Contact", None), method="CANCEL")
    assert list(request_breaches(cancel, UDP, 400)) == []
    assert list(cancel_breaches(cancel, INVITE)) == []


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            altered(INVITE, "Via", "SIP/2.0/UDP 192.0.2.1:5060;rport"),
            "INVITE needs one Via with a branch of z9hG4bK...",
        ),
        (
            altered(INVITE, "Via", "SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bKabc;rport"),
            "INVITE came by UDP and its Via says TCP",
        ),
        (altered(INVITE, "Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc"), "INVITE has no rport"),
        (altered(INVITE, "Max-Forwards", None), "INVITE has no Max-Forwards"),
        (altered(INVITE, "From", "<sip:a@192.0.2.1>"), "INVITE has no From tag"),
        (altered(INVITE, "Contact", None), "INVITE has no Contact with a SIP URI"),
        (altered(INVITE, "Contact", "<tel:+15550100>"), "INVITE has no Contact with a SIP URI"),
        (altered(INVITE, "To", None), "INVITE cannot be read: Missing To"),
        (replace(INVITE, body=b"v=0"), "INVITE has a body without Content-Type"),
    ],
)
def test_bad_requests(request_: Request, said: str) -> None:
    assert [text.lower() for _, text in request_breaches(request_, UDP, 600)] == [said.lower()]


def test_requests_too_long_for_udp() -> None:
    assert [text for _, text in request_breaches(INVITE, UDP, 1301)] == ["INVITE has 1301 bytes, too many for UDP"]


def test_refer_names_one_target() -> None:
    refer = replace(altered(INVITE, "CSeq", "7 REFER"), method="REFER")
    assert [text for _, text in request_breaches(refer, UDP, 600)] == ["REFER needs exactly one Refer-To"]
    good = replace(refer, headers=refer.headers.adding(("Refer-To", "<sip:c@192.0.2.3>")))
    assert list(request_breaches(good, UDP, 600)) == []
    bad = altered(good, "Refer-To", "<sip:c@192.0.2.3")
    assert len(list(request_breaches(bad, UDP, 600))) == 1


def test_a_cancel_is_like_its_invite() -> None:
    cancel = replace(altered(altered(INVITE, "CSeq", "7 CANCEL"), "Contact", None), method="CANCEL")
    with_credentials = replace(cancel, headers=cancel.headers.adding(("Authorization", "Digest x"), ("Require", "y")))
    assert [text for _, text in request_breaches(with_credentials, UDP, 400)] == [
        "CANCEL has Require",
        "CANCEL has credentials",
    ]
    assert [text for _, text in cancel_breaches(altered(cancel, "To", "<sip:z@h>"), INVITE)] == ["CANCEL changes To"]
    assert [text for _, text in cancel_breaches(altered(cancel, "Via", VIA + ";x"), INVITE)] == ["CANCEL changes Via"]
    other = replace(cancel, uri="sip:z@h")
    assert [text for _, text in cancel_breaches(other, INVITE)] == ["CANCEL changes the Request-URI"]


def inside(method: str, number: int, *, uri: str = "sip:me@192.0.2.2", routes: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with a request in a dialog whose last one had number 7."""
    dialog = Dialog("x", "", "", "", "<sip:me@192.0.2.2>", routes=("<sip:p1;lr>", "<sip:p2;lr>"), remote_sequence=7)
    fields = [*((n, v) for n, v in FIELDS if n != "CSeq"), ("CSeq", f"{number} {method}")]
    request = Request(method, uri, Headers((*fields, *(("Route", route) for route in routes))))
    envelope = read_request(request)
    assert isinstance(envelope, Envelope)
    return [text for _, text in dialog_breaches(dialog, request, envelope)]


def test_requests_within_a_dialog() -> None:
    routes = ("<sip:p2;lr>", "<sip:p1;lr>")
    assert inside("BYE", 8, routes=routes) == inside("ACK", 7, routes=routes) == []
    assert inside("BYE", 9, routes=routes) == ["CSeq goes from 7 to 9 with BYE"]
    assert inside("BYE", 7, routes=routes) == ["CSeq goes from 7 to 7 with BYE"]
    assert inside("ACK", 8, routes=routes) == ["ACK has a CSeq number of its own"]
    assert inside("BYE", 8, routes=routes[::-1]) == ["BYE does not follow the route set"]
    assert inside("BYE", 8) == ["BYE does not follow the route set"]
    assert inside("BYE", 8, uri="sip:you@h", routes=routes) == [
        "BYE goes to sip:you@h, not to our Contact <sip:me@192.0.2.2>"
    ]
