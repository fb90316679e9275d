"""Trunks in the TOML file: what they become, and a sentence for every mistake that never shows a secret."""

from __future__ import annotations

import ipaddress
import tomllib

import pytest

from bridge.auth.sip_digest_client import SipAccount
from bridge.calls.trunk_checks import domains, dtmf, headers, numbers, outbound_address, split_address, switch
from bridge.calls.trunks_file import MAX_TRUNKS, TrunkMembers, TrunksError, parse_trunks
from bridge.media.format import Encoding
from bridge.sip.flow import Transport
from bridge.sip.trunks import AnswerWhen, DtmfWay, Inbound, Outbound, Trunk


def parse(text: str, default: Trunk | None = None) -> tuple[Trunk, ...]:
    return parse_trunks(tomllib.loads(text).get("trunks", {}), default)


def mistakes(text: str, default: Trunk | None = None) -> list[str]:
    with pytest.raises(TrunksError) as caught:
        parse(text, default)
    return list(caught.value.mistakes)


def mistake(member: str) -> str:
    """What is said about one member of a trunk that is fine otherwise."""
    (found,) = mistakes(f'[trunks.a]\nallowed_addresses = "192.0.2.1"\noutbound_address = "h"\n{member}')
    return found.removeprefix("trunks.a.")


def test_everything_at_once() -> None:
    (trunk,) = parse(
        """
        [trunks.carrier]
        allowed_addresses = ["192.0.2.0/24", "2001:db8::1", "192.0.2.0/24"]
        allowed_numbers = "+49 30*, +33 1 23"
        numbers = ["+4930111"]
        remote_domains = ["SIP.Example.com.", "*.example.net", "[2001:db8::5]"]
        username = "bridge@example.com"
        password = "new, old"
        codecs = ["G711a", "PCMU/8000"]
        answer = "at_once"
        dtmf = "INFO"
        inband_dtmf = true
        variable_headers = ["X-Contact-ID", "User-to-User"]
        trust_identity = false
        max_calls = 12
        outbound_address = "Sip.Example.com:5070"
        outbound_transport = "tls"
        outbound_username = "us"
        outbound_password = "with, comma"
        outbound_headers = { X-Token = "t0" }
        outbound_caller_id = "+49 (30) 111"
        outbound_asserted_identity = true
        outbound_codecs = "alaw"
        """
    )
    assert trunk == Trunk(
        "carrier",
        Inbound(
            (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::1/128")),
            ("+4930*", "+33123"),
            ("+4930111",),
            ("sip.example.com", "*.example.net", "2001:db8::5"),
            "bridge@example.com",
            ("new", "old"),
        ),
        Outbound(
            "sip.example.com",
            5070,
            Transport.TLS,
            SipAccount("us", "with, comma"),
            (("X-Token", "t0"),),
            "+4930111",
            True,
            (Encoding.ALAW,),
        ),
        codecs=(Encoding.ALAW, Encoding.ULAW),
        answer_when=AnswerWhen.AT_ONCE,
        dtmf=DtmfWay.INFO,
        detects_tones=True,
        variable_headers=("X-Contact-ID", "User-to-User"),
        trusts_identity=False,
        max_calls=12,
    )


def test_a_trunk_of_one_direction() -> None:
    inbound, outbound = parse('[trunks.in]\nallowed_addresses="192.0.2.1"\n[trunks.out]\noutbound_address="h"')
    assert (inbound.outbound, outbound.inbound) == (None, None)
    assert inbound.codecs == (Encoding.ULAW, Encoding.ALAW)
    assert inbound.variable_headers == ("X-*",)
    assert parse('[trunks.a]\noutbound_address="h"\nvariable_headers="none"')[0].variable_headers == ()
    assert parse("") == ()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("203.0.113.7", "203.0.113.7", None),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]:5070", "2001:db8::1", 5070),
        ("sip.example.com:5061", "sip.example.com", 5061),
    ],
)
def test_addresses_to_call(text: str, host: str, port: int | None) -> None:
    assert split_address(outbound_address(text)) == (host, port)
    assert outbound_address(outbound_address(text)) == outbound_address(text)


def test_checks_take_what_they_give() -> None:
    for value in (numbers("+49*,+1"), domains("a.example, *.b.example")):
        assert (numbers if value[0].startswith("+") else domains)(value) == value
    assert headers(headers({"X-A": "1"})) == (("X-A", "1"),)
    assert (dtmf(DtmfWay.INFO), switch("ON"), switch("off")) == (DtmfWay.INFO, True, False)
    members = TrunkMembers(allowed_addresses=(ipaddress.ip_network("192.0.2.1/32"),))
    assert parse_trunks({"a": {"allowed_addresses": members.allowed_addresses, "codecs": members.codecs}})


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (
            'allowed_addresses = "192.0.2.1/24"',
            "allowed_addresses has '192.0.2.1/24', which has host bits set, so it is no block; give a list of "
            "addresses and CIDR blocks such as 203.0.113.7, 198.51.100.0/24",
        ),
        (
            'allowed_addresses = ["sip.example.com"]',
            "allowed_addresses has 'sip.example.com', which is no address or block; give a list of addresses and CIDR "
            "blocks such as 203.0.113.7, 198.51.100.0/24",
        ),
        ("allowed_addresses = 7", "allowed_addresses is 7; give a list of addresses and CIDR blocks such as "),
        ("allowed_numbers = [7]", "allowed_numbers is 7; give a list of patterns such as +4930*, +15551234567"),
        (
            f'allowed_numbers = "{"+1," * 10_001}"',
            "allowed_numbers has 10002 entries; there may be 10000",
        ),
        ('remote_domains = "exa mple"', "remote_domains has 'exa mple', which is no domain; give a list of domains"),
        ('codecs = "PCMU, G729"', "codecs is 'PCMU, G729'; give PCMU, PCMA or both, the preferred one first"),
        ('codecs = "PCMU, PCMU"', "codecs is 'PCMU, PCMU'; give PCMU, PCMA or both, the preferred one first"),
        ("codecs = []", "codecs is []; give PCMU, PCMA or both, the preferred one first"),
        ('answer = "never"', "answer is 'never'; give one of ready, at_once"),
        ('dtmf = "x"', "dtmf is 'x'; give one of auto, rfc4733, info, inband"),
        ('inband_dtmf = "maybe"', "inband_dtmf is 'maybe'; give true or false"),
        ('variable_headers = "X Y"', "variable_headers is 'X Y'; give a list of header names such as X-Contact-ID"),
        ('variable_headers = "Foo-*"', "variable_headers is 'Foo-*'; give a list of header names"),
        ("max_calls = 0", "max_calls is 0; give a whole number from 1 to 100000"),
        ("max_calls = true", "max_calls is True; give a whole number from 1 to 100000"),
        ('username = " "', "username is ' '; give a user name of up to 128 characters"),
        (f'username = "{"u" * 129}"', "username is '" + "u" * 59 + "...; give a user name of up to 128 characters"),
        ('outbound_transport = "sctp"', "outbound_transport is 'sctp'; give one of auto, udp, tcp, tls"),
        ('outbound_caller_id = "a b"', "outbound_caller_id is 'a b'; give a number such as +15551234567"),
        ("outbound_headers = 7", 'outbound_headers is no table of texts; give one such as { "X-Token" = "..." }'),
        ("outbound_headers = { X-A = 7 }", "outbound_headers is no table of texts; give one such as"),
        (
            'outbound_headers = { v = "hunter2" }',
            "outbound_headers cannot be sent: header Via cannot be set: it carries the call",
        ),
        (
            'outbound_headers = { X-A = "hunter2\\r\\nVia: x" }',
            "outbound_headers cannot be sent: header X-A: the value has a line end or another control character",
        ),
        ('outbound_headers = { s = "1", Subject = "2" }', "outbound_headers has a header twice; take one out"),
        ("outbound_password = 7", "outbound_password is none that works; give up to 256 printable characters"),
        ('alowed_numbers = "+1"', "alowed_numbers is no member of it; did you mean allowed_numbers?"),
        ("zzz = 1", "zzz is no member of it; there are allowed_addresses, allowed_numbers, numbers, "),
    ],
)
def test_mistakes_of_one_member(member: str, said: str) -> None:
    key = member.partition(" ")[0]
    lines = f'allowed_numbers = "+1"\n{member}' if key != "allowed_numbers" else member
    base = "" if key == "allowed_addresses" else 'allowed_addresses = "192.0.2.1"\n'
    found = mistakes(f"[trunks.a]\n{base}{lines}")
    assert found[0].removeprefix("trunks.a.").startswith(said)
    assert "hunter2" not in found[0]


def test_too_many_headers() -> None:
    many = ", ".join(f'X-{number} = "1"' for number in range(33))
    assert mistake(f"outbound_headers = {{ {many} }}") == "outbound_headers has 33 headers; there may be 32"


@pytest.mark.parametrize("password", ['"a\\nb"', '""', "7", '["a", 7]', '"1,2,3,4,5"', f'"{"x" * 257}"'])
def test_passwords_that_do_not_work(password: str) -> None:
    assert mistake(f'username = "u"\npassword = {password}') == (
        "password is none that works; give up to 256 printable characters, or up to 4 passwords with commas between "
        "them"
    )


def test_a_password_with_a_comma_is_given_in_a_list() -> None:
    (trunk,) = parse('[trunks.a]\nusername = "u"\npassword = ["a,b"]')
    assert trunk.inbound is not None
    assert trunk.inbound.passwords == ("a,b",)


def test_an_address_that_cannot_be_called() -> None:
    for wrong in ("sip:sip.example.com", "h:99999", "a b", "", 7):
        (found,) = mistakes(f"[trunks.a]\noutbound_address = {wrong!r}")
        assert "give a host name or address such as sip.example.com, 203.0.113.7:5070 or [2001:db8::1]" in found


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('username = "u"', "password is missing; trunks.a.username is of no use without it"),
        ('password = "p"', "username is missing; trunks.a.password is of no use without it"),
        (
            'allowed_numbers = "+1"',
            "allowed_numbers alone lets nobody call, since numbers prove nothing; give trunks.a.allowed_addresses, "
            "trunks.a.username and trunks.a.password, or both",
        ),
        ('outbound_caller_id = "+1"', "outbound_address is missing; trunks.a.outbound_caller_id is of no use without"),
        (
            'outbound_address = "h"\noutbound_asserted_identity = true',
            "outbound_caller_id is missing; there is no identity to assert without it",
        ),
        ('outbound_address = "h"\noutbound_username = "u"', "outbound_password is missing; trunks.a.outbound_username"),
    ],
)
def test_members_that_do_not_fit_together(table: str, said: str) -> None:
    assert mistakes(f"[trunks.a]\n{table}")[0].removeprefix("trunks.a.").startswith(said)


def test_mistakes_of_the_whole() -> None:
    assert mistakes('[trunks."a b"]\nx = 1\n[trunks.loopback]\n[trunks.empty]\n[trunks]\nflat = 1') == [
        "trunks.a b is no trunk's name; use up to 64 letters, digits, underscores and hyphens",
        "trunks.loopback has the name of the bridge's own trunk for this machine; give it another",
        "trunks.empty takes and places no calls; give allowed_addresses, username, or outbound_address",
        "trunks.flat is no table",
    ]
    with pytest.raises(TrunksError, match=r"trunks must be tables such as \[trunks.twilio\]"):
        parse_trunks([])
    with pytest.raises(TrunksError, match=f"trunks are {MAX_TRUNKS + 1}; there may be {MAX_TRUNKS}"):
        parse_trunks({str(number): {} for number in range(MAX_TRUNKS + 1)})


def test_trunks_that_nothing_tells_apart() -> None:
    text = """
    [trunks.a]
    allowed_addresses = "192.0.2.1"
    [trunks.b]
    allowed_addresses = "192.0.2.1/32, 192.0.2.2"
    [trunks.c]
    allowed_addresses = "192.0.2.1"
    numbers = "+49*"
    [trunks.d]
    username = "u"
    password = "p"
    [trunks.e]
    username = "u"
    password = "q"
    """
    assert mistakes(text) == [
        "trunks.b.allowed_addresses has 192.0.2.1/32, as trunks.a has; tell them apart by numbers, or by username and "
        "password",
        "trunks.e.username is that of trunks.d; give each its own",
    ]


def test_the_trunk_of_the_settings_comes_first() -> None:
    default = Trunk("default", Inbound(allowed_addresses=(ipaddress.ip_network("192.0.2.1/32"),)))
    assert [trunk.name for trunk in parse('[trunks.a]\noutbound_address = "h"', default)] == ["default", "a"]
    assert mistakes("[trunks.default]", default) == [
        "trunks.default is the trunk that the SIP_ settings make; give it another name, or unset them"
    ]
    assert mistakes('[trunks.a]\nallowed_addresses = "192.0.2.1"', default)[0].startswith(
        "trunks.a.allowed_addresses has 192.0.2.1/32, as trunks.default has"
    )
