"""Whether the settings of SIP make sense together: trunks, the address that trunks are told, ports for calls. Pure.

Sources: RFC 3261 section 8.1.1.8 (Contact is where later requests go), RFC 4566 section 5.7 (where audio goes).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.config import Settings
from bridge.doctor.findings import Finding, failed, ok, warning
from bridge.doctor.tools import listed
from bridge.errors import ConfigError
from bridge.server.egress_addresses import address_allowed
from bridge.server.sip.media_ports import PortOptions
from bridge.server.sip.wiring import port_options
from bridge.sip.trunks import Inbound, IpAddress, Network, Trunk, parse_ip

TRUNKS_NAME, ADDRESS_NAME, RANGE_NAME = "SIP: trunks", "SIP: address", "SIP: RTP ports"

PORTS_PER_CALL = 2
"""RTP and RTCP."""
LAST_PORT = 65_535
OPEN_PREFIX = 1
"""Networks of this length or shorter are half of all addresses or more: nobody's signalling addresses."""


# --- trunks ----------------------------------------------------------------------------------------------


def judge_trunks(trunks: Sequence[Trunk], *, is_auth_on: bool) -> Finding:
    """Whether anybody can call, whether calls can go out, and whether everybody can call."""
    if not trunks:
        if not is_auth_on:
            return ok(TRUNKS_NAME, "none is set; BRIDGE_AUTH is off, so everybody on this machine can call")
        return failed(
            TRUNKS_NAME,
            "none is set: nobody can call, and no call can be placed",
            "Set SIP_ALLOWED_ADDRESSES to the carrier's signalling addresses, or SIP_USERNAME and SIP_PASSWORD; for "
            "several carriers make [trunks.NAME] tables.",
        )
    wide = [trunk.name for trunk in trunks if _is_open(trunk.inbound)]
    if wide:
        return warning(
            TRUNKS_NAME,
            f"{listed(wide)}: anybody on the internet can call, without a password",
            "Narrow the allowed addresses down to the carrier's, or set a user name and password besides.",
        )
    takes = sum(trunk.inbound is not None for trunk in trunks)
    places = sum(trunk.outbound is not None for trunk in trunks)
    seen = f"{len(trunks)} {'is' if len(trunks) == 1 else 'are'} set: {takes} for calls in, {places} for calls out"
    if not takes:
        return ok(TRUNKS_NAME, seen, "For calls in set SIP_ALLOWED_ADDRESSES, or SIP_USERNAME and SIP_PASSWORD.")
    if not places:
        return ok(TRUNKS_NAME, seen, "For calls out, and transfers by number, set SIP_OUTBOUND_ADDRESS.")
    return ok(TRUNKS_NAME, seen)


def _is_open(inbound: Inbound | None) -> bool:
    if inbound is None or inbound.username:
        return False
    return any(network.prefixlen <= OPEN_PREFIX for network in inbound.allowed_addresses)


# --- where we are, and where they are --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peers:
    """Where the trunks are, as far as settings and DNS tell."""

    public: tuple[str, ...] = ()
    """Names of trunks with addresses on the public internet."""
    elsewhere: tuple[str, ...] = ()
    """Names of trunks with an address of another machine, public or not."""
    anywhere: tuple[str, ...] = ()
    """Names of trunks of which no address is known: they may call from anywhere."""
    versions: frozenset[int] = frozenset()
    """4 and 6: of all of their addresses; empty = none are known."""


def peers_of(trunks: Sequence[Trunk], outbound: dict[str, tuple[IpAddress, ...]]) -> Peers:
    """``outbound``: by trunk, the addresses that its outbound address leads to."""
    public: list[str] = []
    elsewhere: list[str] = []
    anywhere: list[str] = []
    versions: set[int] = set()
    for trunk in trunks:
        networks = trunk.inbound.allowed_addresses if trunk.inbound else ()
        addresses = [*(network.network_address for network in networks), *outbound.get(trunk.name, ())]
        versions |= {address.version for address in addresses}
        if any(address_allowed(address) for address in addresses) or any(map(_holds_all, networks)):
            public.append(trunk.name)
        if any(not address.is_loopback for address in addresses):
            elsewhere.append(trunk.name)
        if not addresses:
            anywhere.append(trunk.name)
    return Peers(tuple(public), tuple(elsewhere), tuple(anywhere), frozenset(versions))


def _holds_all(network: Network) -> bool:
    return network.prefixlen <= OPEN_PREFIX


def judge_address(settings: Settings, peers: Peers, announced: str) -> Finding:
    """Whether trunks reach what is listened to, and what they are told. ``announced`` goes into SIP and SDP."""
    bound, told = ipaddress.ip_address(settings.sip_host), parse_ip(announced)
    assert told is not None, "the settings take nothing else"
    where = f"listens on {settings.sip_host}, tells trunks {announced}"
    if settings.bridge_auth == "off":
        return ok(ADDRESS_NAME, f"{where}: for trials on this machine, as BRIDGE_AUTH is off")
    if bound.is_loopback:
        return _judge_loopback(settings, peers, where)
    if peers.versions and bound.version not in peers.versions:
        mend = "0.0.0.0" if bound.version == 6 else "::"  # noqa: S104  # advice, nothing is opened
        return failed(
            ADDRESS_NAME,
            f"{where}, which is IPv{bound.version}; all trunks have IPv{10 - bound.version} addresses",
            f"Set SIP_HOST to {mend}, or to an address of this machine of that kind.",
        )
    if told.version != bound.version:
        return warning(
            ADDRESS_NAME,
            f"{where}: one is IPv4, the other IPv6",
            "Set SIP_EXTERNAL_IP and SIP_HOST to addresses of the same kind, unless something translates between.",
        )
    if not address_allowed(told) and peers.public:
        return warning(
            ADDRESS_NAME,
            f"{where}, which {listed(peers.public)} on the public internet cannot reach",
            "Set SIP_EXTERNAL_IP to the public address of this machine, and map the SIP and RTP ports there to the "
            "same numbers here: calls stay silent or break off without.",
        )
    return ok(ADDRESS_NAME, where)


def _judge_loopback(settings: Settings, peers: Peers, where: str) -> Finding:
    advice = "Set SIP_HOST to 0.0.0.0, or to an address of this machine that trunks reach."
    seen = f"{where}: only this machine reaches it"
    if peers.elsewhere:
        return failed(ADDRESS_NAME, f"{seen}, and {listed(peers.elsewhere)} is elsewhere", advice)
    if peers.anywhere and _is_public_url(settings.public_url):
        return failed(ADDRESS_NAME, f"{seen}, but PUBLIC_URL is for others", advice)
    if peers.anywhere:
        return warning(ADDRESS_NAME, f"{seen}, and where {listed(peers.anywhere)} calls from is not known", advice)
    return ok(ADDRESS_NAME, f"{where}: for trunks on this machine")


def _is_public_url(url: str | None) -> bool:
    return url is not None and not any(f"//{host}" in url for host in ("127.", "localhost", "[::1]"))


# --- ports for calls -------------------------------------------------------------------------------------


def options_of_range(settings: Settings) -> PortOptions | Finding:
    """The range as calls take their ports from it, or why it holds none."""
    try:
        return port_options(settings)
    except ConfigError as error:
        return failed(RANGE_NAME, str(error), "Set SIP_RTP_PORT_MIN and SIP_RTP_PORT_MAX further apart.")


def judge_range(calls: int, first_port: int, last_port: int, max_calls: int) -> Finding | None:
    """Whether the range has ports for so many calls; None = it has. ``calls`` are those that it holds."""
    if calls >= max_calls:
        return None
    wanted = first_port + PORTS_PER_CALL * max_calls - 1
    if wanted <= LAST_PORT:
        mend = f"Set SIP_RTP_PORT_MAX to {wanted} (and open it in the firewall), or BRIDGE_MAX_CALLS to {calls}."
    else:
        mend = f"Begin lower with SIP_RTP_PORT_MIN, or set BRIDGE_MAX_CALLS to {calls}."
    return warning(
        RANGE_NAME,
        f"{first_port} to {last_port} hold {calls} calls, two ports each; BRIDGE_MAX_CALLS is {max_calls}",
        mend,
    )
