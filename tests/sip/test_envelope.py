"""The headers that every message needs: read, or the reason why not."""

from __future__ import annotations

import pytest

from bridge.sip.envelope import Dropped, Envelope, read_request, read_response
from bridge.sip.errors import Rejection
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response
from bridge.sip.uri import TelUri
from bridge.sip.values import CSeq, MediaType

FIELDS = {
    "Via": "SIP/2.0/TLS a.example;branch=z9hG4bK1",
    "From": "<sip:a@b>;tag=f",
    "To": "<sip:c@d>;tag=t",
    "Call-ID": "x@y",
    "CSeq": "7 INVITE",
}


def request(changes: dict[str, str | None], *more: tuple[str, str], uri: str = "sip:c@d") -> Request:
    return Request("INVITE", uri, headers(changes, *more))


def headers(changes: dict[str, str | None], *more: tuple[str, str]) -> Headers:
    fields: dict[str, str | None] = {**FIELDS, **changes}
    return Headers([*((name, value) for name, value in fields.items() if value is not None), *more])


def test_everything_is_read() -> None:
    envelope = read_request(
        request(
            {"Max-Forwards": "12", "Content-Type": "application/sdp"},
            ("Contact", "<sip:c1>, <sip:c2>"),
            ("Route", "<sip:r1;lr>"),
            ("Route", "<sip:r2;lr>"),
            ("Record-Route", "<sip:p1;lr>,<sip:p2;lr>"),
            ("Via", "SIP/2.0/UDP b, SIP/2.0/UDP c"),
            uri="tel:+15550100",
        )
    )
    assert isinstance(envelope, Envelope)
    assert (envelope.via.host, envelope.via.branch, envelope.vias) == ("a.example", "z9hG4bK1", 3)
    assert (envelope.from_.tag, envelope.to.tag, envelope.call_id) == ("f", "t", "x@y")
    assert (envelope.cseq, envelope.max_forwards) == (CSeq(7, "INVITE"), 12)
    assert [str(address.uri) for address in envelope.contacts] == ["sip:c1", "sip:c2"]
    assert envelope.contact == envelope.contacts[0]
    assert [str(address.uri) for address in envelope.routes] == ["sip:r1;lr", "sip:r2;lr"]
    assert [str(address.uri) for address in envelope.record_routes] == ["sip:p1;lr", "sip:p2;lr"]
    assert envelope.content_type == MediaType("application", "sdp")
    assert envelope.uri == TelUri("+15550100")


def test_what_may_be_missing() -> None:
    envelope = read_request(request({"From": "sip:a@b", "To": "sip:c@d", "Via": "SIP/2.0/UDP a"}))
    assert isinstance(envelope, Envelope)
    assert (envelope.max_forwards, envelope.contact, envelope.contacts, envelope.routes) == (70, None, (), ())
    assert (envelope.content_type, envelope.from_.tag, envelope.via.branch) == (None, "", "")


def test_a_star_is_no_contact() -> None:
    envelope = read_request(request({"Contact": "*"}))
    assert isinstance(envelope, Envelope)
    assert (envelope.contact, envelope.contacts) == (None, ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Via": None}, "Missing Via"),
        ({"From": None}, "Missing From"),
        ({"To": None}, "Missing To"),
        ({"CSeq": None}, "Missing CSeq"),
        ({"Call-ID": None}, "Missing Call-ID"),
        ({"Call-ID": ""}, "Missing Call-ID"),
        ({"Via": "x"}, "Malformed Via: a Via is malformed"),
        ({"Via": "SIP/2.0/UDP a, "}, "Malformed Via: a Via is malformed"),
        ({"From": "x"}, "Malformed From: a URI has no scheme"),
        ({"To": ""}, "Malformed To: a URI has no scheme"),
        ({"CSeq": "x"}, "Malformed CSeq: the CSeq is malformed"),
        ({"CSeq": "7 BYE"}, "CSeq Method Differs from Request"),
        ({"CSeq": "7 invite"}, "CSeq Method Differs from Request"),
        ({"Max-Forwards": "256"}, "Malformed Max-Forwards: a number is too high"),
        ({"Max-Forwards": ""}, "Malformed Max-Forwards: a number is malformed"),
        ({"Contact": "*, <sip:a>"}, "Malformed Contact: a URI has no scheme"),
        ({"Contact": ""}, "Malformed Contact: a URI has no scheme"),
        ({"Route": "<sip:a"}, "Malformed Route: an angle bracket is not closed"),
        ({"Record-Route": "<sip:a>,,<sip:b>"}, "Malformed Record-Route: a URI has no scheme"),
        ({"Content-Type": "sdp"}, "Malformed Content-Type: a media type is malformed"),
    ],
)
def test_rejected_requests_and_dropped_responses(changes: dict[str, str | None], reason: str) -> None:
    assert read_request(request(changes)) == Rejection(400, reason)
    if "Differs" not in reason:
        dropped = read_response(Response(200, "OK", headers(changes)))
        assert dropped == Dropped(reason[0].lower() + reason[1:])


@pytest.mark.parametrize("name", ["To", "From", "CSeq", "Call-ID", "Max-Forwards", "Content-Type"])
def test_what_may_stand_once(name: str) -> None:
    value = FIELDS.get(name, "70" if name == "Max-Forwards" else "application/sdp")
    twice = request({name: value}, (name.lower(), value))
    assert read_request(twice) == Rejection(400, f"More than one {name}")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sip:", "A host is malformed"),
        ("c@d", "A URI has no scheme"),
        ("sip:c@d?x=y", "Headers in Request-URI"),
    ],
)
def test_request_uris_that_are_refused(uri: str, reason: str) -> None:
    assert read_request(request({}, uri=uri)) == Rejection(400, reason)


def test_a_flaw_comes_first() -> None:
    flaw = Rejection(513, "Message Too Large")
    assert read_request(Request("INVITE", "", Headers(), flaw=flaw)) == flaw


def test_responses() -> None:
    envelope = read_response(Response(200, "OK", headers({})))
    assert isinstance(envelope, Envelope)
    assert (envelope.uri, envelope.vias) == (None, 1)
    assert read_response(Response(200, "OK", headers({}, ("Via", "SIP/2.0/UDP z")))) == Dropped(
        "a response has more than one Via"
    )
    other = read_response(Response(200, "OK", headers({"CSeq": "7 BYE"})))
    assert isinstance(other, Envelope)  # the transaction compares it with its request
