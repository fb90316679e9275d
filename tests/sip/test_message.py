"""Writing messages, and answering requests."""

from __future__ import annotations

import pytest

from bridge.errors import LocalError
from bridge.sip.errors import Rejection
from bridge.sip.framing import parse_datagram
from bridge.sip.headers import Headers
from bridge.sip.message import REASONS, Request, Response, is_answerable, make_response, reject

INVITE = Request(
    "INVITE",
    "sip:bob@example.com",
    Headers(
        [
            ("v", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport, SIP/2.0/UDP up.example"),
            ("Record-Route", "<sip:p1.example;lr>"),
            ("Record-Route", "<sip:p2.example;lr>"),
            ("f", '"Al \\" B" <sip:al@example.com>;tag=1'),
            ("t", "sip:bob@example.com"),
            ("i", "id@example.com"),
            ("Via", "SIP/2.0/UDP down.example"),
            ("CSeq", "1 INVITE"),
            ("Timestamp", "54"),
            ("X-Other", "no"),
        ]
    ),
    b"v=0\r\n",
)


def test_a_request_on_the_wire() -> None:
    request = Request("OPTIONS", "sip:a@b", Headers([("v", "SIP/2.0/UDP c"), ("x-Own", "é"), ("Subject", "")]), b"\0")
    assert request.encode() == (
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c\r\nx-Own: \xc3\xa9\r\nSubject: \r\nContent-Length: 1\r\n\r\n\0"
    )


def test_a_response_on_the_wire() -> None:
    assert Response(200, "OK").encode() == b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert Response(100, "").encode() == b"SIP/2.0 100 \r\nContent-Length: 0\r\n\r\n"


def test_raw_bytes_of_a_peer_go_back_as_they_came() -> None:
    request = parse_datagram(b'OPTIONS sip:a@b SIP/2.0\r\nFrom: "\xff\xfe" <sip:\xe9@x>;tag=1\r\n\r\n')
    assert isinstance(request, Request)
    assert b'From: "\xff\xfe" <sip:\xe9@x>;tag=1\r\n' in make_response(request, 400).encode()


@pytest.mark.parametrize("evil", ["\r\n", "\n", "\r", "\r\n\r\n", "\n\r"])
def test_no_line_end_gets_out(evil: str) -> None:
    for value in (f"a{evil}b", evil, f"a{evil}"):
        with pytest.raises(LocalError, match="^a line end in the value of X-Own$"):
            Request("INFO", "sip:a@b", Headers([("X-Own", value)])).encode()
        with pytest.raises(LocalError, match="^a line end in the start line$"):
            Response(200, value).encode()
        with pytest.raises(LocalError, match="^a line end in the name of a header$"):
            Response(200, "OK", Headers([(value, "a")])).encode()
        with pytest.raises(LocalError):
            Request("INFO", "sip:" + value).encode()
        with pytest.raises(LocalError):
            Request("INFO" + value, "sip:a@b").encode()
    with pytest.raises(LocalError, match="^a line end in a header$"):
        Response(200, "OK", Headers([("a b", evil)])).encode()


BAD_NAME = "a header name is no token, or Content-Length was set by hand"


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (Request("", "sip:a"), "a request line needs a method and a URI without blanks"),
        (Request("A B", "sip:a"), "a request line needs a method and a URI without blanks"),
        (Request("INFO", ""), "a request line needs a method and a URI without blanks"),
        (Request("INFO", "sip:a b"), "a request line needs a method and a URI without blanks"),
        (Request("INFO", "<sip:a>"), "a request line needs a method and a URI without blanks"),
        (Request("INFO", "sip:a", Headers([("A B", "x")])), BAD_NAME),
        (Request("INFO", "sip:a", Headers([("", "x")])), BAD_NAME),
        (Request("INFO", "sip:a", Headers([("l", "7")])), BAD_NAME),
        (Request("INFO", "sip:a", Headers([("A", "\ud800")])), "a header value holds half a character"),
        (Response(99, "x"), "99 is no SIP status"),
        (Response(700, "x"), "700 is no SIP status"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent(request_: Request | Response, problem: str) -> None:
    with pytest.raises(LocalError, match=f"^{problem}$"):
        request_.encode()


def test_an_answer_repeats_its_request() -> None:
    response = make_response(INVITE, 180, to_tag="t1", fields=[("Contact", "<sip:us>")])
    assert list(response.headers) == [
        ("Via", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport, SIP/2.0/UDP up.example"),
        ("Via", "SIP/2.0/UDP down.example"),
        ("From", '"Al \\" B" <sip:al@example.com>;tag=1'),
        ("To", "sip:bob@example.com;tag=t1"),
        ("Call-ID", "id@example.com"),
        ("CSeq", "1 INVITE"),
        ("Record-Route", "<sip:p1.example;lr>"),
        ("Record-Route", "<sip:p2.example;lr>"),
        ("Contact", "<sip:us>"),
    ]
    assert (response.status, response.reason, response.body) == (180, "Ringing", b"")


def test_what_only_some_answers_repeat() -> None:
    trying = make_response(INVITE, 100)
    assert trying.headers.get("Timestamp") == "54"
    assert trying.headers.get("To") == "sip:bob@example.com"
    assert "Record-Route" not in trying.headers
    assert "Record-Route" not in make_response(INVITE, 486, to_tag="t").headers
    assert "Timestamp" not in make_response(INVITE, 200, to_tag="t", body=b"x").headers
    assert make_response(INVITE, 200, to_tag="t", body=b"x").body == b"x"
    assert make_response(INVITE, 299, "Fine").reason == "Fine"
    assert make_response(INVITE, 299).reason == "Unknown"
    assert REASONS[487] == "Request Terminated"


def test_a_to_that_has_a_tag_keeps_it_and_a_broken_one_is_left_alone() -> None:
    tagged = Request("BYE", "sip:a", Headers([("To", "<sip:a>;tag=old")]))
    assert make_response(tagged, 200, to_tag="new").headers.get("To") == "<sip:a>;tag=old"
    broken = Request("BYE", "sip:a", Headers([("To", '"a <sip:a>')]))
    assert make_response(broken, 400, to_tag="new").headers.get("To") == '"a <sip:a>'
    assert list(make_response(Request("BYE", "sip:a"), 400, to_tag="new").headers) == []


def test_a_rejection_becomes_a_response() -> None:
    response = reject(INVITE, Rejection(420, "Bad Extension", (("Unsupported", "x"),)), "t")
    assert (response.status, response.reason, response.headers.get("Unsupported")) == (420, "Bad Extension", "x")
    assert response.headers.get("To") == "sip:bob@example.com;tag=t"


def test_what_may_be_answered() -> None:
    assert is_answerable(INVITE)
    assert not is_answerable(Request("ACK", "sip:a", INVITE.headers))
    assert not is_answerable(Request("INVITE", "sip:a"))


def test_stamping_touches_the_top_via_alone() -> None:
    stamped = INVITE.stamped("192.0.2.9", 6000)
    assert stamped.headers.all("Via") == (
        "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport=6000;received=192.0.2.9, SIP/2.0/UDP up.example",
        "SIP/2.0/UDP down.example",
    )
    assert (stamped.method, stamped.body, len(stamped.headers)) == ("INVITE", b"v=0\r\n", len(INVITE.headers))


@pytest.mark.parametrize("via", [None, "", "garbage", 'SIP/2.0/UDP a;x="1, b'])
def test_a_top_via_that_cannot_be_read_stays(via: str | None) -> None:
    request = Request("BYE", "sip:a", Headers([] if via is None else [("Via", via)]))
    assert request.stamped("192.0.2.9", 6000) == request
