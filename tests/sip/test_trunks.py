"""Trunks by name and by source address: the most specific network counts, in either spelling of an address."""

from __future__ import annotations

import ipaddress

import pytest

from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.sip.trunks import LOOPBACK, Inbound, Outbound, Trunk, Trunks, loopback_trunk, parse_ip, parse_network


def at(name: str, *networks: str, **inbound: object) -> Trunk:
    return Trunk(name, Inbound(tuple(parse_network(text) for text in networks), **inbound))  # type: ignore[arg-type]


def names(found: tuple[Trunk, ...]) -> list[str]:
    return [trunk.name for trunk in found]


def test_a_source_is_found_by_the_most_specific_network() -> None:
    trunks = Trunks([at("wide", "192.0.2.0/24"), at("host", "192.0.2.7"), at("other", "192.0.2.7/32")])
    assert names(trunks.at("192.0.2.7")) == ["host", "other"]
    assert names(trunks.at("192.0.2.8")) == ["wide"]
    assert trunks.at("198.51.100.1") == ()
    assert trunks.at("not an address") == ()


def test_ipv6_and_ipv4_in_ipv6() -> None:
    trunks = Trunks([at("six", "2001:db8:1::/48"), at("four", "192.0.2.0/24"), at("all", "::/0")])
    assert names(trunks.at("2001:db8:1::5")) == ["six"]
    assert names(trunks.at("2001:db8:2::5%eth0")) == ["all"]
    assert names(trunks.at("::ffff:192.0.2.5")) == ["four"]
    assert trunks.at("198.51.100.1") == ()  # ::/0 is all of IPv6 only


def test_a_network_of_ipv4_may_be_written_in_ipv6() -> None:
    assert parse_network("::ffff:192.0.2.0/120") == ipaddress.ip_network("192.0.2.0/24")
    assert parse_network("2001:db8::/32") == ipaddress.ip_network("2001:db8::/32")
    with pytest.raises(ValueError, match="host bits"):
        parse_network("192.0.2.1/24")


def test_addresses_in_their_one_spelling() -> None:
    assert parse_ip("::ffff:192.0.2.1") == ipaddress.ip_address("192.0.2.1")
    assert parse_ip("fe80::1%eth0") == ipaddress.ip_address("fe80::1")
    assert parse_ip("sip.example.com") is None


def test_trunks_that_may_call_from_anywhere() -> None:
    trunks = Trunks(
        [
            at("bound", "192.0.2.1", username="a", passwords=("x",)),
            at("roaming", username="b", passwords=("y", "z")),
            at("named", remote_domains=("sip.example.com",)),
            at("nobody"),
            Trunk("out", outbound=Outbound("sip.example.com")),
        ]
    )
    assert names(trunks.anywhere) == ["roaming", "named"]
    assert trunks.most_passwords == 2
    assert names(trunks.callable()) == ["out"]
    assert len(trunks) == 5
    assert trunks.named("out") is not None
    assert trunks.named("no") is None


def test_with_authentication_off_this_machine_is_a_trunk() -> None:
    trunks = Trunks([], trust_loopback=True)
    assert names(trunks.at("127.0.0.1")) == names(trunks.at("127.8.9.10")) == names(trunks.at("::1")) == [LOOPBACK]
    assert names(trunks.at("::ffff:127.0.0.1")) == [LOOPBACK]
    assert trunks.at("192.0.2.1") == ()
    assert Trunks([]).at("127.0.0.1") == ()
    # an operator's trunk at one address of it comes first
    assert names(Trunks([at("mine", "127.0.0.1")], trust_loopback=True).at("127.0.0.1")) == ["mine"]
    assert list(Trunks([loopback_trunk()], trust_loopback=True)) == [loopback_trunk()]


def test_names_are_unique() -> None:
    with pytest.raises(LocalError, match="two trunks have the same name"):
        Trunks([Trunk("a"), Trunk("a")])


def test_codecs_of_placed_calls() -> None:
    both = (Encoding.ULAW, Encoding.ALAW)
    assert Trunk("a").outbound_codecs == both
    assert Trunk("a", outbound=Outbound("h")).outbound_codecs == both
    assert Trunk("a", outbound=Outbound("h", codecs=(Encoding.ALAW,))).outbound_codecs == (Encoding.ALAW,)


def test_passwords_and_header_values_are_not_shown() -> None:
    trunk = Trunk("a", Inbound(username="u", passwords=("hunter2",)), Outbound("h", headers=(("X-T", "hunter3"),)))
    assert "hunter" not in repr(trunk)
