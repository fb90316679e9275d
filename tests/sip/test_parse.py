"""Start lines and header lines: what is taken, what leaves a flaw, what is no SIP."""

from __future__ import annotations

import pytest

from bridge.sip.errors import NotSip, Rejection
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response
from bridge.sip.parse import Head, Limits, RequestLine, StatusLine, parse_head

START = b"INFO sip:a@b SIP/2.0"


def flaw(data: bytes, limits: Limits | None = None) -> Rejection | None:
    return parse_head(data, limits or Limits()).flaw


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (b"INVITE sip:a@b SIP/2.0", RequestLine("INVITE", "sip:a@b")),
        (b"invite sip:a@b sip/2.0", RequestLine("invite", "sip:a@b")),
        (b"SIP/2.0 200 OK", StatusLine(200, "OK")),
        (b"sip/2.0 180 Ringing  twice", StatusLine(180, "Ringing  twice")),
        (b"SIP/2.0 699 ", StatusLine(699, "")),
        (b"SIP/2.0 100", StatusLine(100, "")),
    ],
)
def test_start_lines(line: bytes, start: RequestLine | StatusLine) -> None:
    assert parse_head(line) == Head(start, Headers(), None, None)


@pytest.mark.parametrize(
    "line",
    [
        b"", b" ", b"INVITE", b"INVITE sip:a@b", b"INVITE sip:a@b SIP", b"INVITE sip:a@b SIP/2",
        b"INVITE sip:a@b HTTP/1.1",
        b" INVITE sip:a@b SIP/2.0", b"IN(VITE sip:a@b SIP/2.0", b"GET / HTTP/1.0", b"INVITE\tsip:a@b\tSIP/2.0",
        b"INVITE sip:a@b SIP/2.0 x", b"INVITE sip:a\r SIP/2.0", b"INVITE sip:a\n SIP/2.0", b"\xff\xfe SIP/2.0",
        b"INVITE sip:a@b SIP/2.0\r\n folded", b"\x16\x03\x01\x02\x00\x01", b"\x00\x01\x00\x00\x21\x12\xa4\x42",
    ],
)  # fmt: skip
def test_what_is_no_start_line(line: bytes) -> None:
    with pytest.raises(NotSip, match="^no start line$"):
        parse_head(line)


@pytest.mark.parametrize(
    "line",
    [
        b"SIP/2.0", b"SIP/2.0 ", b"SIP/2.0 20 OK", b"SIP/2.0 2000 OK", b"SIP/2.0 099 x", b"SIP/2.0 700 x",
        b"SIP/2.0  200 OK",
        b"SIP/3.0 200 OK", b"SIP/2.0 200\tOK", "SIP/2.0 ２００ OK".encode(),
    ],
)  # fmt: skip
def test_what_is_no_status_line(line: bytes) -> None:
    with pytest.raises(NotSip, match="^a status line is malformed$"):
        parse_head(line)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"INFO sip:a@b SIP/1.0", 505), (b"INFO  sip:a@b SIP/2.1", 505), (b"INFO sip:a@b SIP/2.00", 505),
        (b"INFO sip:a@b SIP/2.0 ", 400), (b"INFO sip:a@b SIP/2.0\t", 400), (b"INFO  sip:a@b SIP/2.0", 400),
        (b"INFO sip:a@b  SIP/2.0", 400), (b"INFO sip:a b SIP/2.0", 400), (b"INFO sip:a\tb SIP/2.0", 400),
        (b"INFO <sip:a> SIP/2.0", 400), (b'INFO sip:"a" SIP/2.0', 400), (b"INFO sip:a\0b SIP/2.0", 400),
        (b"INFO  SIP/2.0", 400), (b"INFO sip:" + b"a" * 2044 + b" SIP/2.0", None),
        (b"INFO sip:" + b"a" * 2045 + b" SIP/2.0", 414),
    ],
)  # fmt: skip
def test_request_lines_that_are_answered(line: bytes, status: int | None) -> None:
    found = flaw(line)
    assert (None if found is None else found.status) == status


def test_fields() -> None:
    head = parse_head(
        START + b"\r\nv:a\r\nTo \t :  b \t\r\nSubject:\r\n\t folded\r\n  twice\r\nX-\xc3\xa9: no\r\nX: \xff\r\nl: 7"
    )
    assert list(head.headers) == [
        ("Via", "a"), ("To", "b"), ("Subject", "folded twice"), ("Session-Expires", "\udcff"),
    ]  # fmt: skip
    assert head.length == 7
    assert head.flaw == Rejection(400, "Malformed Header Line")


def test_a_fold_is_one_blank() -> None:
    assert parse_head(START + b"\r\nSubject: a  \r\n \t  b").headers.get("Subject") == "a   b"


@pytest.mark.parametrize("line", [b"no colon", b": no name", b"a b: c", b"(): x", b"", b"a\0: b"])
def test_header_lines_that_leave_a_flaw(line: bytes) -> None:
    head = parse_head(START + b"\r\nTo: a\r\n" + line + b"\r\nFrom: b")
    assert head.flaw == Rejection(400, "Malformed Header Line")
    assert list(head.headers) == [("To", "a"), ("From", "b")]


@pytest.mark.parametrize("line_end", [b"\r", b"\n", b"\n\r"])
def test_bare_line_ends_are_refused_and_do_not_survive(line_end: bytes) -> None:
    head = parse_head(START + b"\r\nTo: a" + line_end + b"Via: smuggled\r\nFrom: b")
    assert head.flaw == Rejection(400, "Bare CR or LF in Header Section")
    assert head.headers.get("Via") is None
    assert head.headers.get("To") == "a" + " " * len(line_end) + "Via: smuggled"


@pytest.mark.parametrize(
    ("values", "length", "status"),
    [
        ([], None, None), ([b"0"], 0, None), ([b"00042"], 42, None), ([b"2147483647"], 2**31 - 1, None),
        ([b"2147483648"], None, 400), ([b"9" * 5000], None, 400), ([b"-1"], None, 400), ([b"+1"], None, 400),
        ([b""], None, 400), ([b"1 2"], None, 400), ([b"1,1"], None, 400), ([b"1", b"1"], None, 400),
        (["５".encode()], None, 400),
    ],
)  # fmt: skip
def test_content_length(values: list[bytes], length: int | None, status: int | None) -> None:
    head = parse_head(START + b"".join(b"\r\nContent-Length: " + value for value in values))
    assert head.length == length
    assert (None if head.flaw is None else head.flaw.status) == status
    assert "Content-Length" not in head.headers


def test_limits() -> None:
    limits = Limits(fields=2, line_chars=30, uri_chars=10)
    assert flaw(START + b"\r\nA: b\r\nC: d", limits) is None
    assert flaw(START + b"\r\nA: b\r\nC: d\r\nE: f", limits) == Rejection(513, "Message Too Large")
    assert len(parse_head(START + b"\r\nA: b\r\nC: d\r\nE: f", limits).headers) == 2
    assert flaw(START + b"\r\nA: " + b"b" * 27, limits) is None
    assert flaw(START + b"\r\nA: " + b"b" * 28, limits) == Rejection(513, "Message Too Large")
    assert flaw(b"INFO sip:abcdefg SIP/2.0", limits) == Rejection(414, "Request-URI Too Long")


def test_the_first_flaw_is_told() -> None:
    assert flaw(b"INFO sip:a SIP/9.0\r\nbroken\r\nl: x") == Rejection(505, "Version Not Supported")
    assert flaw(START + b"\r\nbroken\r\nl: x") == Rejection(400, "Malformed Header Line")
    assert flaw(START + b"\r\na: b\nc\r\nbroken") == Rejection(400, "Bare CR or LF in Header Section")


def test_bodies() -> None:
    extra = Rejection(400, "extra")
    assert parse_head(START).with_body(b"x") == Request("INFO", "sip:a@b", Headers(), b"x")
    flawed = parse_head(START).with_body(b"", extra)
    assert isinstance(flawed, Request) and flawed.flaw == extra
    assert flawed == Request("INFO", "sip:a@b")  # a flaw is what is said about a request, not part of it
    own = parse_head(START + b"\r\nbroken").with_body(b"", extra)
    assert isinstance(own, Request) and own.flaw == Rejection(400, "Malformed Header Line")
    assert parse_head(b"SIP/2.0 200 OK").with_body(b"x") == Response(200, "OK", Headers(), b"x")
    with pytest.raises(NotSip, match="^a response is broken: extra$"):
        parse_head(b"SIP/2.0 200 OK").with_body(b"", extra)
