"""Session descriptions, alone and in multipart bodies."""

from __future__ import annotations

import pytest

from bridge.sip.bodies import find_sdp
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.headers import Headers
from bridge.sip.message import Request


def found(content_type: str, body: bytes) -> bytes | None:
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
    return find_sdp(request, envelope)


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
    assert found(content_type, body) == sdp
