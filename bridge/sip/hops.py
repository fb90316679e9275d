"""From the URI of a next hop to a way there, as far as that takes no look-up of names.

Decisions where RFC 3261 section 18 and RFC 3263 leave trunks unreachable: a URI without a transport keeps the one the
peer uses already (RFC 3263 section 4.1 would have UDP for an address); an open connection from the hop's own address
is used whatever port the URI names, and the URI's port is the second choice; a private address in the Contact of a
peer whose messages come from a public one is behind a NAT: its messages' source is the way; and where a failure can be
noticed, the way the peer's messages come is the last resort. A new TLS connection to an address wants the name that
the old one was good for.
"""

from __future__ import annotations

import ipaddress

from bridge.sip.flow import Flow, Transport
from bridge.sip.sdp import AddressKind, address_kind
from bridge.sip.uri import SipUri

_TRANSPORTS = {"udp": Transport.UDP, "tcp": Transport.TCP, "tls": Transport.TLS}


def named_transport(uri: SipUri) -> Transport | None:
    """The transport that a URI asks for; None = it leaves it open, or asks for one that nobody here knows."""
    if uri.scheme == "sips":
        return Transport.TLS
    return _TRANSPORTS.get((uri.param("transport") or "").lower())


def literal_host(uri: SipUri) -> str:
    """The address in a URI in its normal form, without brackets; empty if it is a name."""
    try:
        return str(ipaddress.ip_address(uri.bare_host))
    except ValueError:
        return ""


def known_flows(hop: SipUri, peer: Flow, *, is_direct: bool) -> tuple[Flow, ...]:
    """The ways to a hop, best first; none if its name must be looked up.

    ``peer`` is the way the peer's messages came or the INVITE took; ``is_direct`` says that no Record-Route stands
    between us and the peer.
    """
    transport = named_transport(hop) or peer.transport
    host = literal_host(hop)
    if not host:
        is_same = bool(peer.server_name) and hop.host == peer.server_name.lower() and transport is peer.transport
        return (peer,) if is_same else ()
    if is_direct and host != peer.host and _is_behind_nat(host, peer.host):
        return (peer,)
    name = peer.server_name if transport is Transport.TLS else ""
    flow = Flow(transport, host, hop.port or transport.default_port, server_name=name)
    if flow == peer or (transport is Transport.UDP and peer.transport is Transport.UDP):
        return (flow,)
    if transport is peer.transport and host == peer.host:
        return peer, flow
    return flow, peer


def _is_behind_nat(host: str, source: str) -> bool:
    return address_kind(host) is AddressKind.PRIVATE and address_kind(source) is AddressKind.PUBLIC
