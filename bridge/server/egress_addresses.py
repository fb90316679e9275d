"""Which addresses outgoing requests may connect to: the public ones, and those that the operator allows.

Pure; what it is not: the guard itself, which asks this for every connection (``bridge.server.egress``).

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (read 2026-11-21), RFC 4291 (mapped addresses),
RFC 6052 (NAT64), RFC 3056 (6to4). The lists are written out here rather than taken from ``ipaddress.is_global``,
whose answer differs between the Python versions that we support.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; Linux takes 0.0.0.0 for loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service too
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent: public by number, local by nature
        "169.254.0.0/16",  # link-local: the metadata services of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service too
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is allocated as public; whatever is outside (loopback, link-local, unique local, multicast, ...) is not."""
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "3fff::/20",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks (``10.1.0.0/16``) and single addresses, as ``EGRESS_ALLOW`` lists them.

    Raises ``ValueError`` that quotes the entry that is neither, or that has bits set beyond its prefix.
    """
    networks = []
    for text in (text.strip() for text in texts):
        if not text:
            continue
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f"{text!r} is no network: {error}") from None
    return tuple(networks)


def address_allowed(address: Address, allow: Iterable[Network] = ()) -> bool:
    """Whether a connection may go there: public, or in one of the networks that the operator allows.

    An IPv6 address that only wraps an IPv4 one (mapped, NAT64, 6to4) stands for what it wraps.
    """
    wrapped = _wrapped_v4(address)
    if any(_within(candidate, network) for candidate in (address, wrapped) if candidate for network in allow):
        return True
    candidate = wrapped if wrapped is not None else address
    if isinstance(candidate, ipaddress.IPv4Address):
        return not any(candidate in network for network in _REFUSED_V4)
    return candidate in _GLOBAL_V6 and not any(candidate in network for network in _REFUSED_V6)


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _wrapped_v4(address: Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _6TO4:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return None
