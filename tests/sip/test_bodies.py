"""Session descriptions, alone and in multipart bodies."""

from __future__ import annotations

import pytest

from bridge.sip.bodies import find_sdp, has_unread_part
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.headers import Headers
from bridge.sip.message import Request


def taken(content_type: str, body: bytes) -> tuple[Request, Envelope]:
    fields = (
        ("Via", "SIP/2.0/UDP a;branch=z9hG4bK1"),
        ("From", "<sip:a@x>;tag=f"),
        ("To", "<sip:us@y>"),
        ("Call-ID", "c"),
        ("CSeq", "7 INVITE"),
    )
    kind = (("Content-Type", content_type),) if content_type else ()
    request = Request("INVITE", "sip:a", Headers((*fields, *kind)), body)
    envelope = read_request(request)
    assert isinstance(envelope, Envelope)
    return request, envelope


PARTS = (
    b"preamble\r\n--b\r\nContent-Type: application/isup;version=x\r\n\r\nxx\r\n"
    b"--b\r\nContent-Disposition: session\r\nc : application/sdp\r\n\r\nv=0\r\ns=-\r\n\r\n--b--\r\nepilogue"
)


@pytest.mark.parametrize(
    ("content_type", "body", "sdp"),
    [
        ("application/sdp", b"v=0\r\n", b"v=0\r\n"),
        ("Application/SDP;charset=x", b"v=0\r\n", b"v=0\r\n"),
        ("application/sdp", b"", None),
        ("", b"v=0", None),
        ("text/plain", b"v=0", None),
        ("multipart/mixed;boundary=b", PARTS, b"v=0\r\ns=-\r\n"),
        ('multipart/mixed;boundary="b"', PARTS, b"v=0\r\ns=-\r\n"),
        ("multipart/mixed", PARTS, None),
        ("multipart/mixed;boundary=" + "b" * 71, PARTS, None),
        ("multipart/mixed;boundary=c", PARTS, None),
        ("multipart/mixed;boundary=b", b"--b\r\nContent-Type: \r\n\r\nv=0\r\n--b--", None),
        ("multipart/mixed;boundary=b", b"--b\r\nContent-Type: application/sdp", None),
        ("multipart/mixed;boundary=b", b"--b\r\nX: y\r\n\r\nv=0", None),
        ("multipart/mixed;boundary=b", b"--b--\r\nContent-Type: application/sdp\r\n\r\nv=0", None),
        ("multipart/mixed;boundary=b", b"--b\r\n\r\nx\r\n" * 40 + PARTS, None),
    ],
)
def test_what_is_found(content_type: str, body: bytes, sdp: bytes | None) -> None:
    assert find_sdp(*taken(content_type, body)) == sdp


@pytest.mark.parametrize(
    ("part", "unread"),
    [
        ("Content-Type: application/isup\r\nContent-Disposition: signal;handling=required", True),
        ("Content-Disposition: signal; handling = Required", True),
        ("Content-Type: application/isup\r\nContent-Disposition: signal;handling=optional", False),
        ("Content-Type: application/isup\r\nContent-Disposition: signal", False),
        ("Content-Type: application/isup\r\nContent-Disposition: signal;;handling=required", False),
        ("Content-Type: application/isup", False),
        ("Content-Type: application/sdp\r\nContent-Disposition: session;handling=required", False),
    ],
)
def test_parts_that_may_not_be_left_unread(part: str, unread: bool) -> None:
    body = b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\n" + part.encode() + b"\r\n\r\nx\r\n--b--\r\n"
    assert has_unread_part(*taken("multipart/mixed;boundary=b", body)) is unread
    assert not has_unread_part(*taken("text/plain;boundary=b", body))
