"""From the URI of a next hop to ways there."""

from __future__ import annotations

import pytest

from bridge.sip.flow import Flow, Transport
from bridge.sip.hops import known_flows, literal_host, named_transport
from bridge.sip.uri import SipUri, parse_uri

UDP, TCP, TLS = Transport.UDP, Transport.TCP, Transport.TLS
UDP_PEER = Flow(UDP, "203.0.113.9", 5060)
PUBLIC_PEER = Flow(UDP, "8.8.8.8", 40000)
TCP_PEER = Flow(TCP, "203.0.113.9", 40000, connection=7)
TLS_PEER = Flow(TLS, "203.0.113.9", 5061, server_name="Trunk.example")


def sip(text: str) -> SipUri:
    uri = parse_uri(text)
    assert isinstance(uri, SipUri)
    return uri


@pytest.mark.parametrize(
    ("text", "transport"),
    [("sip:a", None), ("sip:a;transport=TCP", TCP), ("sip:a;transport=ws", None), ("sips:a;transport=tcp", TLS)],
)
def test_transports(text: str, transport: Transport | None) -> None:
    assert named_transport(sip(text)) is transport


@pytest.mark.parametrize(
    ("text", "host"),
    [("sip:192.0.2.1", "192.0.2.1"), ("sip:[2001:DB8:0::1]:5060", "2001:db8::1"), ("sip:a.example", "")],
)
def test_literal_hosts(text: str, host: str) -> None:
    assert literal_host(sip(text)) == host


@pytest.mark.parametrize(
    ("text", "peer", "flows"),
    [
        # Datagrams go where the URI says.
        ("sip:203.0.113.9", UDP_PEER, (UDP_PEER,)),
        ("sip:203.0.113.9:5080", UDP_PEER, (Flow(UDP, "203.0.113.9", 5080),)),
        ("sip:203.0.113.7", UDP_PEER, (Flow(UDP, "203.0.113.7", 5060),)),
        # Another transport than the peer's, and the peer's way as the last resort.
        ("sip:203.0.113.7;transport=tcp", UDP_PEER, (Flow(TCP, "203.0.113.7", 5060), UDP_PEER)),
        ("sip:203.0.113.9;transport=udp", TCP_PEER, (Flow(UDP, "203.0.113.9", 5060), TCP_PEER)),
        # An open connection first, then a new one.
        ("sip:203.0.113.9:5070;transport=tcp", TCP_PEER, (TCP_PEER, Flow(TCP, "203.0.113.9", 5070))),
        ("sip:203.0.113.9", TCP_PEER, (TCP_PEER, Flow(TCP, "203.0.113.9", 5060))),
        ("sip:203.0.113.7", TCP_PEER, (Flow(TCP, "203.0.113.7", 5060), TCP_PEER)),
        # The name that a certificate must be good for goes along.
        ("sip:203.0.113.9", TLS_PEER, (TLS_PEER,)),
        ("sips:203.0.113.7", TLS_PEER, (Flow(TLS, "203.0.113.7", 5061, server_name="Trunk.example"), TLS_PEER)),
        # Names.
        ("sip:other.example", UDP_PEER, ()),
        ("sip:trunk.example", TLS_PEER, (TLS_PEER,)),
        ("sip:trunk.example;transport=tcp", TLS_PEER, ()),
        # A private address behind a public one.
        ("sip:192.168.1.5:5070", PUBLIC_PEER, (PUBLIC_PEER,)),
        ("sip:10.0.0.1;transport=tcp", PUBLIC_PEER, (PUBLIC_PEER,)),
    ],
)
def test_ways(text: str, peer: Flow, flows: tuple[Flow, ...]) -> None:
    assert known_flows(sip(text), peer, is_direct=True) == flows


def test_a_private_proxy_is_a_route_of_our_own_network() -> None:
    assert known_flows(sip("sip:10.0.0.1;lr"), PUBLIC_PEER, is_direct=False) == (Flow(UDP, "10.0.0.1", 5060),)


def test_private_peers_reach_private_addresses() -> None:
    peer = Flow(UDP, "10.0.0.9", 5060)
    assert known_flows(sip("sip:192.168.1.5"), peer, is_direct=True) == (Flow(UDP, "192.168.1.5", 5060),)
