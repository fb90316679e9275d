"""Where packets may be sent before any has come: the address of a description, made fit for use.

Public: ``media_target``. What it is not: symmetric RTP (``rtp_source``), which takes over with the first packet.

A description is written by the peer, often behind NAT: it may name an address that leads nowhere from here, or into
our own network. So an address of a narrower kind than the one that signalling came from (a private one from a public
peer, loopback from another machine) is replaced by signalling's host, where the NAT is. Names are not looked up.
"""

from __future__ import annotations

from bridge.sip.rtp_source import Address
from bridge.sip.sdp import AddressKind, address_kind

_REACH = {AddressKind.LOOPBACK: 0, AddressKind.LINK_LOCAL: 1, AddressKind.PRIVATE: 2, AddressKind.PUBLIC: 3}
"""Kinds that one host can be reached at, the narrowest first."""


def media_target(remote: Address | None, peer_host: str) -> Address | None:
    """The address to send to, or ``None`` to wait for the peer's first packet.

    ``remote`` is what the description names, ``peer_host`` the literal address that signalling came from; empty if
    that is not known.
    """
    if remote is None or not remote[1]:
        return None
    host, port = remote
    reach, peer_reach = _REACH.get(address_kind(host)), _REACH.get(address_kind(peer_host))
    if reach is None:  # multicast, 0.0.0.0, a name
        return None
    if peer_reach is not None and reach < peer_reach:
        return peer_host, port
    return host, port
