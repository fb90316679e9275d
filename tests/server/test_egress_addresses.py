"""Which addresses are public, which are wrapped, and what the operator's networks open."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.server.egress_addresses import address_allowed, parse_networks


def allowed(address: str, *allow: str) -> bool:
    return address_allowed(ipaddress.ip_address(address), parse_networks(allow))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",  # IPv4-compatible, withdrawn
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",  # Teredo
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::",
        "2002:c0a8:101::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not allowed(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2606:4700:4700::1111",
        "2a00:1450:4001:829::200e",
    ],
)
def test_what_is_public_is_let_through(address: str) -> None:
    assert allowed(address)


@pytest.mark.parametrize(
    ("address", "network", "opened"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("::ffff:127.0.0.1", "127.0.0.0/8", True),
        ("64:ff9b::a00:1", "10.0.0.0/8", True),
        ("64:ff9b::a00:1", "64:ff9b::/96", True),
        ("::1", "127.0.0.0/8", False),
        ("::1", "::1", True),
        ("fd12::7", "fd12::/16", True),
        ("10.0.0.1", "fd12::/16", False),
        ("10.0.0.1", "0.0.0.0/0", True),
    ],
)
def test_the_operators_networks_open_what_they_hold(address: str, network: str, opened: bool) -> None:
    assert allowed(address, network) is opened


def test_networks_are_read_with_blanks() -> None:
    assert parse_networks([" 10.1.0.0/16", "", "::1 "]) == (
        ipaddress.ip_network("10.1.0.0/16"),
        ipaddress.ip_network("::1/128"),
    )


@pytest.mark.parametrize("text", ["10.1.0.1/16", "localhost", "10.0.0.0/33"])
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is no network: "):
        parse_networks([text])


@given(st.ip_addresses(v=4))
def test_wrapping_changes_nothing(address: ipaddress.IPv4Address) -> None:
    plain = address_allowed(address)
    assert address_allowed(ipaddress.IPv6Address(f"::ffff:{address}")) is plain
    assert address_allowed(ipaddress.IPv6Address(f"64:ff9b::{address}")) is plain


@given(st.ip_addresses(v=4))
def test_no_private_ipv4_address_is_let_through(address: ipaddress.IPv4Address) -> None:
    """The standard library's own lists as a second opinion."""
    private = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    assert not (private and address_allowed(address))


@given(st.ip_addresses(v=6))
def test_no_private_ipv6_address_is_let_through(address: ipaddress.IPv6Address) -> None:
    private = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    # Newer Pythons call all 6to4 addresses private; ours count by what they wrap, which has tests of its own.
    wraps = address.ipv4_mapped is not None or address.sixtofour is not None
    assert wraps or not (private and address_allowed(address))
