"""What is not supported is refused with the status and the headers that say so."""

from __future__ import annotations

import pytest

from bridge.sip.abilities import MAX_NAMED_TAGS, Abilities, find_objection
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.errors import Rejection
from bridge.sip.headers import Headers
from bridge.sip.message import Request

OURS = Abilities(("INVITE", "ACK", "CANCEL", "BYE", "INFO"), ("timer", "100rel"), ("application/sdp", "text/plain"))


def objection(
    method: str, *fields: tuple[str, str], uri: str = "sip:c@d", body: bytes = b"", ours: Abilities = OURS
) -> Rejection | None:
    base = [("Via", "SIP/2.0/UDP a"), ("From", "sip:a@b"), ("To", "sip:c@d"), ("Call-ID", "x"), ("CSeq", f"1 {method}")]
    request = Request(method, uri, Headers([*base, *fields]), body)
    envelope = read_request(request)
    assert isinstance(envelope, Envelope)
    return find_objection(request, envelope, ours)


def test_headers_that_say_what_we_do() -> None:
    assert OURS.allow == ("Allow", "INVITE, ACK, CANCEL, BYE, INFO")
    assert OURS.accept == ("Accept", "application/sdp, text/plain")
    assert OURS.supported == ("Supported", "timer, 100rel")


def test_methods() -> None:
    assert objection("INVITE") is None
    assert objection("SUBSCRIBE") == Rejection(405, "Method Not Allowed", (OURS.allow,))
    assert objection("invite") == Rejection(501, "Not Implemented", (OURS.allow,))


@pytest.mark.parametrize("uri", ["sip:a@b", "sips:a@b", "tel:+1"])
def test_schemes_that_are_taken(uri: str) -> None:
    assert objection("INVITE", uri=uri) is None


def test_unknown_schemes() -> None:
    assert objection("INVITE", uri="urn:service:sos") == Rejection(416, "Unsupported URI Scheme")


def test_extensions() -> None:
    assert objection("INVITE", ("Require", "Timer, 100REL"), ("Proxy-Require", "x"), ("Supported", "y")) is None
    assert objection("INVITE", ("Require", "timer"), ("Require", "a,b")) == Rejection(
        420, "Bad Extension", (("Unsupported", "a, b"),)
    )
    assert objection("INVITE", ("Require", 'a,"b')) == Rejection(400, "Malformed Require")
    many = objection("INVITE", ("Require", ",".join(f"t{number}" for number in range(50))))
    assert many is not None and many.fields[0][1].count(",") == MAX_NAMED_TAGS - 1


def test_bodies() -> None:
    assert objection("INVITE", ("Content-Type", "Application/SDP;charset=x"), body=b"x") is None
    assert objection("INVITE", ("Content-Type", "a/b")) is None  # of no body
    assert objection("INVITE", ("Content-Type", "a/b"), body=b"x") == Rejection(
        415, "Unsupported Media Type", (OURS.accept,)
    )
    assert objection("INVITE", body=b"x") == Rejection(400, "Missing Content-Type")
    zipped = [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")]
    assert objection("INVITE", *zipped, body=b"x") == Rejection(
        415, "Unsupported Media Type", (("Accept-Encoding", "identity"),)
    )
    assert objection("INVITE", ("Content-Type", "text/plain"), ("e", "Identity"), body=b"x") is None


@pytest.mark.parametrize(
    ("disposition", "optional"),
    [
        ("render;handling=optional", True), ("x; handling = Optional ;a", True), ("render", False),
        ("render;handling=required", False), ("render;;handling=optional", False), ("handling=optional", False),
    ],
)  # fmt: skip
def test_bodies_that_may_be_left_unread(disposition: str, optional: bool) -> None:
    found = objection("INFO", ("Content-Type", "a/b"), ("Content-Disposition", disposition), body=b"x")
    assert (found is None) is optional


def test_parts_that_must_be_read() -> None:
    kind = ("Content-Type", "multipart/mixed;boundary=b")
    for handling, expected in (("required", 415), ("optional", None)):
        body = f"--b\r\nContent-Disposition: signal;handling={handling}\r\n\r\nx\r\n--b--".encode()
        found = objection("INVITE", kind, body=body, ours=Abilities(("INVITE",), (), ("multipart/mixed",)))
        assert (found.status if found else None) == expected


def test_accept() -> None:
    for value in ("application/sdp", "*/*", "text/plain, application/*;q=0.5", "text/plain,,application/sdp"):
        assert objection("INVITE", ("Accept", value)) is None
    for value in ("text/plain", ""):
        assert objection("INVITE", ("Accept", value)) == Rejection(406, "Not Acceptable")
    assert objection("INVITE", ("Accept", "text/plain"), ("Accept", "application/sdp")) is None
    assert objection("INVITE", ("Accept", "nonsense")) == Rejection(400, "Malformed Accept")
    assert objection("INFO", ("Accept", "text/plain")) is None  # its answer has no body


def test_ack_and_cancel_are_never_objected_to() -> None:
    for method in ("ACK", "CANCEL"):
        assert objection(method, ("Require", "x"), uri="urn:a", body=b"x") is None
