"""Addresses, Via, CSeq, numbers and media types."""

from __future__ import annotations

import pytest

from bridge.sip.errors import HeaderError
from bridge.sip.grammar import Params
from bridge.sip.uri import OtherUri, SipUri
from bridge.sip.values import (
    Address,
    CSeq,
    MediaType,
    Via,
    parse_address,
    parse_addresses,
    parse_cseq,
    parse_media_type,
    parse_number,
    parse_seconds,
    parse_via,
    parse_vias,
)


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ("sip:a@b;tag=1", "", "sip:a@b", ";tag=1"),
        (" <sip:a@b;lr> ;tag=1 ", "", "sip:a@b;lr", ";tag=1"),
        ('"A, \\"B\\"" <sip:a@b>', 'A, "B"', "sip:a@b", ""),
        ('"no space"<sip:a@b>', "no space", "sip:a@b", ""),
        ('"" <sip:a@b>', "", "sip:a@b", ""),
        ("John \t Q. Public, Jr. <sip:a@b>", "John Q. Public, Jr.", "sip:a@b", ""),
        ("Jürgen <sip:a@b>", "Jürgen", "sip:a@b", ""),
        ("<tel:+15550100>;x", "", "tel:+15550100", ";x"),
        ('sip:a@b;x="<sip:c@d>"', "", "sip:a@b", ';x="<sip:c@d>"'),
        ("sip:a@b ;tag=1", "", "sip:a@b", ";tag=1"),
        ("\tsip:a@b ", "", "sip:a@b", ""),
        ("<sip:a@b?Replaces=1%3Bto-tag%3D2>", "", "sip:a@b?Replaces=1%3Bto-tag%3D2", ""),
        ("<anonymous:x>", "", "anonymous:x", ""),
    ],
)
def test_addresses(text: str, display: str, uri: str, params: str) -> None:
    address = parse_address(text)
    assert (address.display, str(address.uri), str(address.params)) == (display, uri, params)
    assert parse_address(str(address)) == address


def test_a_display_name_of_raw_bytes_survives() -> None:
    raw = b'"\xe9\xff" <sip:a@b>'.decode("utf-8", "surrogateescape")
    assert str(parse_address(raw)) == raw


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a URI has no scheme"),
        ('"a" sip:a@b', "an address has a name and no URI in angle brackets"),
        ('"a', "a quoted string does not end"),
        ("<sip:a@b", "an angle bracket is not closed"),
        ("<>", "a URI has no scheme"),
        ("<sip:a@b> x", "a parameter is malformed"),
        ("<sip:a@b>;;", "a parameter is malformed"),
        ("sip:a@b?c=d", "an address needs angle brackets"),
        ("sip:a,b@c", "an address needs angle brackets"),
        ("x;y <sip:a@b>", "a URI has no scheme"),
        ("< sip:a@b>", "a URI has no scheme"),
        ("<sip:a@b >", "a host is malformed"),
        ("*", "a URI has no scheme"),
    ],
)
def test_what_is_no_address(text: str, problem: str) -> None:
    with pytest.raises(HeaderError, match=f"^{problem}$"):
        parse_address(text)


def test_tags() -> None:
    address = parse_address("<sip:a@b>;x=1")
    assert address.tag == ""
    assert str(address.tagged("t1")) == "<sip:a@b>;x=1;tag=t1"
    assert address.tagged("t1").tagged("t2").tag == "t2"


def test_an_address_is_written_so_that_nothing_leaks_out_of_its_name() -> None:
    address = Address(SipUri("b", raw_user="a"), 'x" <sip:evil>', Params((("q", "a;b"),)))
    assert str(address) == '"x\\" <sip:evil>" <sip:a@b>;q="a;b"'
    assert parse_address(str(address)) == address


def test_several_addresses() -> None:
    found = parse_addresses(['<sip:a>, "x, y" <sip:b>;lr', "<isbn:1>"])
    assert [str(address) for address in found] == ["<sip:a>", '"x, y" <sip:b>;lr', "<isbn:1>"]
    assert found[2].uri == OtherUri("isbn", "1")
    with pytest.raises(HeaderError):
        parse_addresses(["<sip:a>,,<sip:b>"])


def test_via() -> None:
    via = parse_via("sip / 2.0 / udp  First.example : 4000 ;ttl=16;branch=z9hG4bKa7c6;rport")
    assert via == Via("UDP", "first.example", 4000, Params((("ttl", "16"), ("branch", "z9hG4bKa7c6"), ("rport", None))))
    assert str(via) == "SIP/2.0/UDP first.example:4000;ttl=16;branch=z9hG4bKa7c6;rport"
    assert (via.branch, via.branch_is_unique, via.wants_rport, via.rport, via.received) == (
        "z9hG4bKa7c6", True, True, None, "",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "host", "received"),
    [
        ("SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255]", "[2001:db8::9:1]", "2001:db8::9:255"),
        ("SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255", "[2001:db8::9:1]", "2001:db8::9:255"),
    ],
)  # fmt: skip
def test_ipv6_in_via(text: str, host: str, received: str) -> None:
    """RFC 5118 section 4.5: with and without brackets."""
    assert (parse_via(text).host, parse_via(text).received) == (host, received)


@pytest.mark.parametrize(
    "text",
    ["", "SIP/2.0/UDP", "SIP/2.0 a", "SIP/2.0/UDP a:0", "SIP/2.0/UDP a:99999", "SIP/2.0/UDP a:x", "SIP/2.0/UDP a b",
     "SIP/3.0/UDP a", "HTTP/2.0/UDP a", "SIP/2.0/UDP [::g]", "SIP/2.0/UDP a;;", "SIP/2.0/UDP ;branch=1",
     "SIP/2.0/UDP [::1", "SIP/2.0/UDP -a"],
)  # fmt: skip
def test_what_is_no_via(text: str) -> None:
    with pytest.raises(HeaderError):
        parse_via(text)


def test_rport_is_read_where_it_is_a_port() -> None:
    assert parse_via("SIP/2.0/UDP a;rport=5062").rport == 5062
    assert parse_via("SIP/2.0/UDP a;rport=no").rport is None
    assert parse_via("SIP/2.0/UDP a").rport is None
    assert not parse_via("SIP/2.0/UDP a").wants_rport


def test_branches_that_identify_nothing() -> None:
    for branch in ("z9hG4bK", "1", ""):
        assert not Via("UDP", "a", None, Params((("branch", branch),))).branch_is_unique


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=b", "SIP/2.0/UDP 192.0.2.1:5060;branch=b"),
        ("SIP/2.0/UDP 10.0.0.1;branch=b", "SIP/2.0/UDP 10.0.0.1;branch=b;received=192.0.2.1"),
        ("SIP/2.0/UDP host.example", "SIP/2.0/UDP host.example;received=192.0.2.1"),
        ("SIP/2.0/UDP 10.0.0.1;rport;branch=b", "SIP/2.0/UDP 10.0.0.1;rport=5062;branch=b;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;rport", "SIP/2.0/UDP 192.0.2.1;rport=5062;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;received=203.0.113.66", "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;rport=1;received=6.6.6.6", "SIP/2.0/UDP 192.0.2.1;rport=5062;received=192.0.2.1"),
    ],
)
def test_a_via_is_stamped_with_its_source(before: str, after: str) -> None:
    assert str(parse_via(before).stamped("192.0.2.1", 5062)) == after


def test_an_ipv6_source_is_compared_without_brackets() -> None:
    assert str(parse_via("SIP/2.0/UDP [::1]:5060").stamped("::1", 5060)) == "SIP/2.0/UDP [::1]:5060"


def test_several_vias() -> None:
    hops = parse_vias(["SIP/2.0/UDP a , SIP/2.0/TCP b", "SIP/2.0/TLS c"])
    assert [hop.host for hop in hops] == ["a", "b", "c"]
    with pytest.raises(HeaderError):
        parse_vias(["SIP/2.0/UDP a,"])


def test_cseq() -> None:
    assert parse_cseq(" 0009 \t INVITE ") == CSeq(9, "INVITE")
    assert str(CSeq(2147483647, "BYE")) == "2147483647 BYE"
    for text in (
        "",
        "1",
        "INVITE",
        "1INVITE",
        "-1 INVITE",
        "1 A B",
        "2147483648 INVITE",
        "9" * 9999 + " INVITE",
        "１ A",
    ):
        with pytest.raises(HeaderError):
            parse_cseq(text)


def test_numbers() -> None:
    assert [parse_number(text, 255) for text in ("0", "00070", "255")] == [0, 70, 255]
    for text in ("", "-1", "+1", "1_0", "１", " 1", "256", "1000"):
        with pytest.raises(HeaderError):
            parse_number(text, 255)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1800;refresher=uac", 1800), ("120 (in a meeting)", 120), ("18000;duration=3600", 18000), ("5", 5),
        (" 007", 7), ("1" + "0" * 100, 4294967295), ("90\t;x", 90), ("30(x)", 30),
    ],
)  # fmt: skip
def test_seconds(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", ";5", "1.5"])
def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(HeaderError):
        parse_seconds(text)


def test_media_types() -> None:
    kind = parse_media_type(' Multipart / Mixed ;boundary="a b"')
    assert kind == MediaType("multipart", "mixed", Params((("boundary", "a b"),)))
    assert (kind.essence, str(kind)) == ("multipart/mixed", 'multipart/mixed;boundary="a b"')
    for text in ("", "text", "text/", "/plain", "text/plain x", "a/b;;"):
        with pytest.raises(HeaderError):
            parse_media_type(text)


def test_ranges_of_media_types() -> None:
    for text in ("*/*", "application/*", "application/sdp", "application/sdp;level=1"):
        assert parse_media_type(text).covers("application/sdp")
    for text in ("text/*", "application/isup", "text/plain"):
        assert not parse_media_type(text).covers("application/sdp")
