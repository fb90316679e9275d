"""Whatever a peer sends: nothing but ``SipError`` comes out, work grows with the bytes, what is written reads back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.abilities import Abilities, find_objection
from bridge.sip.envelope import Envelope, read_request, read_response
from bridge.sip.errors import NotSip, Rejection, SipError
from bridge.sip.framing import Lost, StreamFramer, parse_datagram
from bridge.sip.grammar import parse_params, split_list, take_quoted
from bridge.sip.headers import Headers
from bridge.sip.message import Message, Request, Response, make_response, reject
from bridge.sip.parse import Limits
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.values import (
    parse_address,
    parse_cseq,
    parse_media_type,
    parse_number,
    parse_seconds,
    parse_via,
    parse_vias,
)

SEEDS = tuple(path.read_bytes() for path in sorted((Path(__file__).parents[1] / "vectors/sip/rfc4475").glob("*.dat")))
SPICE = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"\0", b'"', b"<", b">", b";", b",", b"=", b":", b"@", b"%", b"%00", b"\xff", b"\\", b" ",
     b"\t", b"*", b"sip:", b"[::1]", b"SIP/2.0", b"\r\n ", b"\r\nVia: ", b"\r\nContent-Length: 1", b"\r\n\r\n",
     b"9" * 40]
)  # fmt: skip
ABILITIES = Abilities(("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER"))
READERS: list[Callable[[str], object]] = [
    parse_uri, parse_address, parse_via, parse_cseq, parse_media_type, parse_params, parse_seconds, split_list,
    take_quoted, lambda text: parse_number(text, 255),
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message of RFC 4475, cut and spoilt in up to four places."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 30)))
        data = data[:start] + draw(SPICE | st.binary(max_size=8)) + data[stop:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


def use(message: Message | None) -> None:
    """Go the way that every message goes; nothing of it may raise."""
    if isinstance(message, Request):
        message = message.stamped("192.0.2.1", 5060)
        envelope = read_request(message)
        rejection = find_objection(message, envelope, ABILITIES) if isinstance(envelope, Envelope) else envelope
        answer = make_response(message, 200) if rejection is None else reject(message, rejection, "tag")
        assert isinstance(parse_datagram(answer.encode()), Response)
        if isinstance(envelope, Envelope):
            assert parse_datagram(message.encode()) == message
            assert parse_uri(str(envelope.uri)) == envelope.uri
            assert parse_address(str(envelope.from_)) == envelope.from_
            assert parse_via(str(envelope.via)) == envelope.via
    elif message is not None:
        read_response(message)
        assert parse_datagram(message.encode()) == message


@given(st.binary(max_size=400) | mutated())
def test_datagrams(data: bytes) -> None:
    try:
        message = parse_datagram(data)
    except NotSip:
        return
    use(message)


@given(st.lists(mutated() | st.binary(max_size=60), max_size=3), st.integers(1, 400))
def test_streams_come_to_the_same_however_they_are_cut(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    whole, pieces = StreamFramer(), StreamFramer()
    at_once = [event for event in whole.receive(data) if isinstance(event, Request | Response | Lost)]
    in_pieces = [
        event
        for place in range(0, len(data), size)
        for event in pieces.receive(data[place : place + size])
        if isinstance(event, Request | Response | Lost)
    ]
    assert at_once == in_pieces
    for event in at_once:
        if isinstance(event, Request | Response):
            use(event)


@given(st.text(max_size=80) | mutated().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_values(text: str) -> None:
    for read in READERS:
        try:
            read(text)
        except SipError:
            continue


TOKENS = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=12)
LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30) | st.binary(
    max_size=20
).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"").decode("utf-8", "surrogateescape"))
VALUES = LINES.map(lambda text: text.strip(" \t"))
NAMES = (TOKENS | st.sampled_from(["Via", "v", "X-Own", "m", "CALL-ID"])).filter(
    lambda name: name.lower() not in ("l", "content-length")
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(Headers)
URIS = st.text(st.characters(min_codepoint=0x21, exclude_characters='<>"\x7f', exclude_categories=["Cs"]), min_size=1)


@given(st.builds(Request, TOKENS, URIS, HEADERS, st.binary(max_size=50)))
def test_requests_read_back(request: Request) -> None:
    assert parse_datagram(request.encode()) == request
    assert StreamFramer().receive(request.encode() * 2) == [request, request]


@given(st.builds(Response, st.integers(100, 699), LINES, HEADERS, st.binary(max_size=50)))
def test_responses_read_back(response: Response) -> None:
    assert parse_datagram(response.encode()) == response
    assert StreamFramer().receive(response.encode() * 2) == [response, response]


@given(st.text(max_size=20), st.sampled_from(["example.com", "192.0.2.1", "[::1]"]), st.none() | st.integers(1, 65535))
def test_any_user_fits_a_uri_of_ours(user: str, host: str, port: int | None) -> None:
    user = user.encode("utf-8", "replace").decode()
    uri = SipUri.of(user, host, port)
    assert uri.user == user
    assert parse_uri(str(uri)) == uri


ATTACKS = {
    "blanks in a value": lambda n: b"OPTIONS sip:a SIP/2.0\r\nTo: a" + b" " * n + b"b\r\n\r\n",
    "blanks before a colon": lambda n: b"OPTIONS sip:a SIP/2.0\r\nTo" + b" " * n + b": b\r\n\r\n",
    "folds": lambda n: b"OPTIONS sip:a SIP/2.0\r\nTo: a" + b"\r\n " * (n // 3) + b"b\r\n\r\n",
    "a quote without end": lambda n: b'OPTIONS sip:a SIP/2.0\r\nTo: "' + b'\\"' * (n // 2) + b"\r\n\r\n",
    "blanks in the request line": lambda n: b"OPTIONS " + b" " * n + b"SIP/2.0\r\n\r\n",
    "many short fields": lambda n: b"OPTIONS sip:a SIP/2.0\r\n" + b"a:b\r\n" * (n // 5) + b"\r\n",
    "many hops": lambda n: b"OPTIONS sip:a SIP/2.0\r\nVia: " + b"SIP/2.0/UDP a;b=c," * (n // 18) + b"\r\n\r\n",
    "quotes and commas": lambda n: b"OPTIONS sip:a SIP/2.0\r\nContact: " + b'"",' * (n // 3) + b'"\r\n\r\n',
    "many parameters": lambda n: b"OPTIONS sip:a SIP/2.0\r\nTo: <sip:a>" + b";a=b" * (n // 4) + b";\r\n\r\n",
    "URI parameters": lambda n: b"OPTIONS sip:a" + b";a=b" * (n // 4) + b"%% SIP/2.0\r\n\r\n",
    "digits": lambda n: b"OPTIONS sip:a SIP/2.0\r\nCSeq: " + b"9" * n + b" OPTIONS\r\n\r\n",
    "a telephone number": lambda n: b"OPTIONS tel:" + b"1" * n + b"! SIP/2.0\r\n\r\n",
    "brackets": lambda n: b"OPTIONS sip:a SIP/2.0\r\nRoute: " + b"<" * n + b"\r\n\r\n",
}
WIDE = Limits(header_bytes=10**6, fields=10**6, line_chars=10**6, uri_chars=10**6)
REQUIRED = b"Via: SIP/2.0/UDP a\r\nFrom: sip:a\r\nCall-ID: x\r\n"


def seconds_for(data: bytes) -> float:
    data = data.replace(b"SIP/2.0\r\n", b"SIP/2.0\r\n" + (REQUIRED if b"Via" not in data else b""), 1)
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        message = parse_datagram(data, WIDE)
        assert isinstance(message, Request)
        read_request(message.stamped("192.0.2.1", 5060))
        for value in {value for _, value in message.headers}:
            for read in READERS:
                try:
                    read(value)
                except SipError:
                    continue
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_work_grows_no_faster_than_the_bytes(name: str) -> None:
    """Six times what the limits let in, in processor time: a quadratic reader would take minutes for that."""
    assert seconds_for(ATTACKS[name](200_000)) < 5.0


def test_a_stream_byte_by_byte_is_no_quadratic_work() -> None:
    framer = StreamFramer()
    start = time.process_time()
    for _ in range(32_000):
        assert framer.receive(b"A") == []
    assert time.process_time() - start < 2.0


def test_a_flaw_is_always_a_final_answer() -> None:
    for seed in SEEDS:
        try:
            message = parse_datagram(seed)
        except NotSip:
            continue
        if isinstance(message, Request) and isinstance(rejection := read_request(message), Rejection):
            assert 400 <= rejection.status <= 699


def test_repeated_hops_are_bounded() -> None:
    with pytest.raises(SipError, match="^a list is too long$"):
        parse_vias([",".join(["SIP/2.0/UDP a"] * 1000)])
