"""URIs: what they say, that they come back unchanged, and what is none."""

from __future__ import annotations

import pytest

from bridge.errors import LocalError
from bridge.sip.errors import HeaderError
from bridge.sip.uri import OtherUri, SipUri, TelUri, parse_host_port, parse_uri


def sip(text: str) -> SipUri:
    uri = parse_uri(text)
    assert isinstance(uri, SipUri)
    return uri


def test_every_part_of_a_sip_uri() -> None:
    uri = sip("sips:alice:pw%20d@Example.COM:5061;transport=TCP;lr;method=INVITE?Subject=a%20b&Priority=urgent")
    assert uri == SipUri(
        "example.com", 5061, "sips", "alice", "pw%20d", ";transport=TCP;lr;method=INVITE",
        "Subject=a%20b&Priority=urgent",
    )  # fmt: skip
    assert (uri.user, uri.loose, uri.param("transport"), uri.param("none")) == ("alice", True, "TCP", None)
    assert str(uri) == (
        "sips:alice:pw%20d@example.com:5061;transport=TCP;lr;method=INVITE?Subject=a%20b&Priority=urgent"
    )


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com",
        "sip:+49301234@203.0.113.9:5060;user=phone",
        "sip:a%40b;x=1@host_1.example.",
        "sip:123#456@trunk.example",
        "sip:grün@example.com",
        "sip:u:@h",
        "sip:[2001:db8::10]:5070;maddr=[::1]",
        "sip:u@[::ffff:192.0.2.1]",
        "sip:h;a=b=c",
        "tel:+1-201-555-0123",
        "tel:7042;phone-context=example.com",
        "tel:*#06",
        "urn:service:sos",
        "http://www.example.com/?a=b#c",
    ],
)
def test_uris_come_back_unchanged(text: str) -> None:
    uri = parse_uri(text)
    assert str(uri) == text
    assert parse_uri(str(uri)) == uri


def test_scheme_and_host_have_no_case() -> None:
    assert parse_uri("SIP:Bob@EXAMPLE.com") == parse_uri("sip:Bob@example.com")
    assert parse_uri("sip:bob@example.com") != parse_uri("sip:Bob@example.com")
    assert parse_uri("TEL:123") == TelUri("123")
    assert parse_uri("Weird+1:x") == OtherUri("weird+1", "x")


def test_ipv6_hosts() -> None:
    assert (sip("sip:[2001:DB8::1]:5060").host, sip("sip:[2001:DB8::1]:5060").bare_host) == (
        "[2001:db8::1]",
        "2001:db8::1",
    )
    assert sip("sip:192.0.2.1").bare_host == "192.0.2.1"


def test_telephone_parameters() -> None:
    uri = parse_uri("tel:7042;phone-context=%2B1")
    assert isinstance(uri, TelUri)
    assert (uri.number, uri.param("phone-context"), uri.param("ext")) == ("7042", "+1", None)


def test_bytes_that_are_no_utf_8_survive() -> None:
    raw = b"sip:\xff%ff@example.com".decode("utf-8", "surrogateescape")
    assert str(sip(raw)) == raw
    assert sip(raw).user.encode("utf-8", "surrogateescape") == b"\xff\xff"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a URI has no scheme"),
        ("example.com", "a URI has no scheme"),
        (" sip:a@b", "a URI has no scheme"),
        ("1sip:a@b", "a URI has no scheme"),
        ("sip:", "a host is malformed"),
        ("sip:@example.com", "the user part of a URI is malformed"),
        ("sip:a b@example.com", "the user part of a URI is malformed"),
        ("sip:a%4@example.com", "the user part of a URI is malformed"),
        ('sip:"a"@example.com', "the user part of a URI is malformed"),
        ("sip:a:b:c@example.com", "the user part of a URI is malformed"),
        ("sip:a@b@c", "a host is malformed"),
        ("sip:a@-b", "a host is malformed"),
        ("sip:a@b c", "a host is malformed"),
        ("sip:a@b/c", "a host is malformed"),
        ("sip:[::1", "a host is malformed"),
        ("sip:[::1]x", "a host is malformed"),
        ("sip:[::g]", "a host is no IPv6 address"),
        ("sip:[fe80::1%25eth0]", "a host is no IPv6 address"),
        ("sip:[1.2.3.4]", "a host is no IPv6 address"),
        ("sip:a:", "a port is malformed"),
        ("sip:a:0", "a port is malformed"),
        ("sip:a:65536", "a port is malformed"),
        ("sip:a:５060", "a port is malformed"),
        ("sip:a:1_0", "a port is malformed"),
        ("sip:a:" + "9" * 5000, "a port is malformed"),
        ("sip:a;", "the parameters of a URI are malformed"),
        ("sip:a;;b", "the parameters of a URI are malformed"),
        ("sip:a;b c", "the parameters of a URI are malformed"),
        ("sip:a;b=%zz", "the parameters of a URI are malformed"),
        ("sip:a?", "the headers of a URI are malformed"),
        ("sip:a?b c", "the headers of a URI are malformed"),
        ("tel:", "a telephone URI is malformed"),
        ("tel:+", "a telephone URI is malformed"),
        ("tel:-.()", "a telephone URI is malformed"),
        ("tel:1+2", "a telephone URI is malformed"),
        ("tel:12;a b", "a telephone URI is malformed"),
        ("x:", "a URI is malformed"),
        ("x:a b", "a URI is malformed"),
        ("x:a\r\nb", "a URI is malformed"),
    ],
)
def test_what_is_no_uri(text: str, problem: str) -> None:
    with pytest.raises(HeaderError, match=f"^{problem}$"):
        parse_uri(text)


def test_uris_of_our_own() -> None:
    assert (
        str(SipUri.of("+15550100", "Trunk.example", 5060, ";user=phone"))
        == "sip:+15550100@trunk.example:5060;user=phone"
    )
    assert str(SipUri.of("a b@\r\n", "h")) == "sip:a%20b%40%0D%0A@h"
    assert SipUri.of("a b@\r\n", "h").user == "a b@\r\n"
    assert str(SipUri.of("", "[::1]")) == "sip:[::1]"
    for host in ("", "a b", "[::1", "a\r\nb"):
        with pytest.raises(LocalError, match="no SIP URI can be made"):
            SipUri.of("u", host)


def test_host_and_port() -> None:
    assert parse_host_port("A.example:5061") == ("a.example", 5061)
    assert parse_host_port("[::1]") == ("[::1]", None)
